"""Who is a training person, and what the filter of single samples says."""

import numpy as np
import pytest
import torch

from biometrics.embedding import load_embedder
from biometrics.faces import FaceReason, FaceVerdict
from biometrics.features import IdentityFeatures, read_identity_features
from identities.filter_loading import LoadedFilter
from identities.filtering import PairScorer, TrainingIdentities, check_features
from identities.rules import FilterRules, Reason, Which, published_rules, strict_rules
from tests.helpers.images import random_pixels
from tests.helpers.people import PixelEmbedder, save_recogniser, write_people

RULES = strict_rules(0.9, 0.5, 0.99)


def pixels(*seeds, channels=3):
    images = [random_pixels(seed, 16, channels) for seed in seeds]
    stack = np.stack(images) if channels == 3 else np.stack(images)[..., None]
    return torch.from_numpy(stack.transpose(0, 3, 1, 2).copy())


def features_of(images, stems, embedder=None):
    vectors = (embedder or PixelEmbedder()).embed(images).numpy()
    return IdentityFeatures(stems=tuple(stems), vectors=vectors)


class FaceCheckOf:
    """Refuses images by their first pixel, as given."""

    def __init__(self, reasons):
        self._reasons = reasons

    def __call__(self, images):
        keys = [int(image[0, 0, 0]) for image in images]
        return [FaceVerdict(reasons=self._reasons.get(key, ())) for key in keys]

    def describe(self):
        return {"kind": "by pixel"}


def scorer_of(features, rules=RULES, embedder=None, face_check=None):
    people = TrainingIdentities(features, rules.training)
    return PairScorer(embedder or PixelEmbedder(), people, rules, face_check)


def filter_of(scorer, hashes="f"):
    return LoadedFilter(scorer=scorer, features=None, features_sha256=hashes, thresholds=None)


def as_samples(images, nir=None):
    names = {"rgb": images} if nir is None else {"rgb": images, "nir": nir}
    return [
        {name: stack[index].numpy() for name, stack in names.items()}
        for index in range(len(images))
    ]


# Which images of a person are compared


def test_every_image_of_every_person_is_compared():
    stems = ["7_0", "7_1", "8_0", "8_1"]
    features = features_of(pixels(0, 1, 2, 3), stems)
    people = TrainingIdentities(features, Which.ALL)
    found = people.nearest(features.vectors, is_absolute=False)
    assert [people.stems[row] for row in found.indices] == stems
    np.testing.assert_allclose(found.scores, 1)
    assert people.num_identities == 2


def test_published_rules_know_the_first_image_only():
    features = features_of(pixels(0, 1, 2, 3), ["8_1", "7_1", "8_0", "7_0"])
    people = TrainingIdentities(features, Which.FIRST)
    assert people.stems == ("8_1", "7_1")
    found = people.nearest(features.vectors[2:], is_absolute=False)
    assert (found.scores < 0.99).all()


def test_a_copy_of_any_training_image_is_refused_by_ours_but_not_by_the_published_rules():
    """Defect of the seed: a copy of a person's second image passes."""
    images = pixels(0, 1, 2, 3)
    features = features_of(images, ["7_0", "7_1", "8_0", "8_1"])
    ours = filter_of(scorer_of(features))
    assert ours(as_samples(images)) == [Reason.TRAINING_PERSON] * 4
    published = filter_of(scorer_of(features, published_rules(0.999, 0.9999)))
    reasons = published(as_samples(images))
    assert (reasons[0], reasons[2]) == (Reason.TRAINING_PERSON, Reason.TRAINING_PERSON)
    assert (reasons[1], reasons[3]) == (None, None)


def test_opposite_vectors_are_alike_in_the_published_rules_only():
    image = pixels(5)
    features = features_of(255 - image, ["7_0"])
    assert filter_of(scorer_of(features))(as_samples(image)) == [None]
    published = scorer_of(features, published_rules())
    assert filter_of(published)(as_samples(image)) == [Reason.TRAINING_PERSON]


def test_a_lower_threshold_refuses_more():
    features = features_of(pixels(*range(30)), [f"{i}_0" for i in range(30)])
    samples = as_samples(pixels(*range(100, 140)))
    counts = []
    for threshold in (1.0, 0.8, 0.6, 0.4, 0.2):
        scorer = scorer_of(features, strict_rules(threshold, 0.0, 1.01))
        counts.append(sum(reason is not None for reason in filter_of(scorer)(samples)))
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]


# A real recogniser


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    model = save_recogniser(root / "rec.pth")
    path = write_people(root / "data", model)
    return load_embedder(model), read_identity_features(path)


@pytest.mark.parametrize("others", [0, 1, 40])
def test_a_planted_copy_never_passes(real, others):
    """Alone, beside others, first or last: a training image saved by the generator is noticed."""
    embedder, features = real
    scorer = PairScorer(
        embedder, TrainingIdentities(features, Which.ALL), strict_rules(0.999, 0.0, 1.01)
    )
    order = [3 * int(stem[0]) + int(stem[2]) for stem in features.stems]  # seeds of write_pairs
    for planted in range(len(features.stems)):
        copy = pixels(order[planted])
        batch = torch.cat([copy, pixels(*range(900, 900 + others))]) if others else copy
        for images, place in ((batch, 0), (batch.flip(0), others)):
            scores = scorer.score({"rgb": images})
            assert scores.training["rgb"].scores[place] >= 0.9999
            assert scores.training["rgb"].indices[place] == planted
            assert filter_of(scorer)(as_samples(images))[place] == Reason.TRAINING_PERSON


def test_what_is_said_of_a_sample_does_not_depend_on_its_neighbours(real):
    embedder, features = real
    scorer = PairScorer(embedder, TrainingIdentities(features, Which.ALL), RULES)
    images = pixels(*range(300, 340))
    whole = scorer.score({"rgb": images})
    for index in (0, 17, 39):
        alone = scorer.score({"rgb": images[index : index + 1]})
        np.testing.assert_array_equal(alone.vectors[0], whole.vectors[index])
        np.testing.assert_allclose(
            alone.training["rgb"].scores[0], whole.training["rgb"].scores[index], atol=2e-6
        )


def test_features_of_another_recogniser_are_refused(real, tmp_path):
    _, features = real
    other = load_embedder(save_recogniser(tmp_path / "b.pth", seed=1))
    with pytest.raises(ValueError, match="features of the recogniser .* cannot be compared"):
        check_features(features, tmp_path / "f.json", other, "--training_ids")
    wide = load_embedder(save_recogniser(tmp_path / "c.pth", width=8))
    unknown = IdentityFeatures(stems=features.stems, vectors=features.vectors)
    with pytest.raises(ValueError, match="features of 6 numbers, but --rec-model gives 8"):
        check_features(unknown, tmp_path / "f.json", wide, "--training_ids")


# NIR and faces


def test_agreement_is_the_cosine_of_the_pair():
    rgb, nir = pixels(1, 2), pixels(3, 4, channels=1)
    scorer = scorer_of(features_of(pixels(9), ["1_0"]))
    scores = scorer.score({"rgb": rgb, "nir": nir})
    embed = PixelEmbedder().embed
    expected = (embed(rgb) * embed(nir)).sum(1).numpy()
    np.testing.assert_allclose(scores.agreement, expected, atol=1e-6)
    assert np.isnan(scorer.score({"rgb": rgb}).agreement).all()
    assert list(scores.training) == ["rgb"]
    same = scorer.score({"rgb": nir.expand(-1, 3, -1, -1), "nir": nir})
    np.testing.assert_allclose(same.agreement, 1, atol=1e-6)


def test_pairs_that_disagree_can_be_refused():
    features = features_of(pixels(9), ["1_0"])
    rules = FilterRules(
        privacy=1.0, uniqueness=1.0, same_identity=0.0, too_similar=None, min_agreement=0.99
    )
    nir = pixels(3, 4, channels=1)
    rgb = torch.cat([nir[:1].expand(-1, 3, -1, -1), pixels(5)])
    reasons = filter_of(scorer_of(features, rules))(as_samples(rgb, nir))
    assert reasons == [None, Reason.DISAGREEMENT]


def test_the_nir_image_is_checked_where_asked():
    nir = pixels(3, channels=1)
    features = features_of(nir, ["1_0"])
    sample = as_samples(pixels(5), nir)
    assert filter_of(scorer_of(features))(sample) == [None]
    rules = strict_rules(0.9, 0.5, 0.99)
    rules = FilterRules(**{**rules.__dict__, "check_nir": True})
    assert filter_of(scorer_of(features, rules))(sample) == [Reason.TRAINING_PERSON_NIR]


def test_a_copy_of_a_training_nir_image_is_refused_where_its_features_are_given():
    nir = pixels(3, 4, 5, channels=1)
    rgb = features_of(pixels(9), ["1_0"])
    known = TrainingIdentities(features_of(nir[:2], ["1_0", "1_1"]), Which.ALL)
    rules = FilterRules(**{**RULES.__dict__, "check_nir": True, "privacy_nir": 0.9999})
    people = TrainingIdentities(rgb, Which.ALL)
    scorer = PairScorer(PixelEmbedder(), people, rules, training_nir=known)
    samples = as_samples(pixels(20, 21, 22), nir)
    assert filter_of(scorer)(samples) == [
        Reason.TRAINING_PERSON_NIR,
        Reason.TRAINING_PERSON_NIR,
        None,
    ]
    scores = scorer.score({"rgb": pixels(20), "nir": nir[1:2]})
    assert scorer.training_of("nir").stems[scores.training["nir"].indices[0]] == "1_1"
    assert scorer.training_of("rgb").stems == ("1_0",)


def test_images_without_a_face_are_refused():
    images = pixels(1, 2, 3)
    for index in range(3):
        images[index, 0, 0, 0] = index
    check = FaceCheckOf({1: (FaceReason.NO_FACE,), 2: (FaceReason.SEVERAL_FACES,)})
    scorer = scorer_of(features_of(pixels(9), ["1_0"]), face_check=check)
    assert filter_of(scorer)(as_samples(images)) == [
        None,
        "face: no face",
        "face: several faces",
    ]


def test_the_record_names_everything_that_decides():
    features = features_of(pixels(9), ["1_0"])
    one = filter_of(scorer_of(features)).identity()
    assert one["recogniser"] == "pixels"
    assert one["face_check"] == {"kind": "none"}
    others = [
        filter_of(scorer_of(features), "g"),
        filter_of(scorer_of(features, strict_rules(0.8, 0.5, 0.99))),
        filter_of(scorer_of(features, published_rules())),
        filter_of(scorer_of(features, face_check=FaceCheckOf({}))),
    ]
    assert all(other.identity() != one for other in others)


# Rules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": 1.5}, "privacy must be a cosine, from -1 to 1, got 1.5"),
        ({"same_identity": float("nan")}, "same_identity must be a cosine"),
        ({"too_similar": 0.5}, r"too_similar \(0.5\) must be above same_identity \(0.5\)"),
    ],
)
def test_rules_that_nobody_can_meet_are_refused(changes, message):
    values = {"privacy": 0.6, "uniqueness": 0.6, "same_identity": 0.5, "too_similar": 0.9}
    with pytest.raises(ValueError, match=message):
        FilterRules(**{**values, **changes})


def test_published_constants():
    rules = published_rules()
    assert (rules.privacy, rules.same_identity, rules.uniqueness) == (0.622, 0.622, 0.622)
    assert (rules.too_similar, rules.max_attempts) == (0.853, 2500)
    assert rules.is_absolute
    assert {rules.training, rules.own, rules.others, rules.faces} == {Which.FIRST}
