"""Mixups: their shares, labels and images, and that they depend on seed and position alone."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from biometrics.embedding import Preprocessing
from data.pixels import to_float
from identities.identity_sources import MixupSource, RandomSource
from networks.snapshot import Snapshot
from recognition.conditions import condition_scale, read_conditions
from recognition.face_sets import FaceSet, Target
from recognition.face_sources import open_faces
from recognition.heads import MarginHead
from recognition.mixup import DomainMixup, IdentityMixup, draw_mixture
from recognition.options import HeadConfig, MarginKind, TrainingConfig
from recognition.task import RecognitionTask
from recognition.training_items import TrainingItems, make_batch, read_steps
from tests.helpers.images import random_pixels, write_image, write_json, write_pairs
from tests.helpers.people import clustered_features
from tests.recognition.test_face_sets import write_manifest
from torch_utils.distributed import World

CPU = torch.device("cpu")
SHARES = [step / 20 for step in range(21)]


class DirectGenerator:
    """Draws images that show their condition: constant planes of its numbers, and the latent's."""

    z_dim, c_dim, resolution, modalities = 2, 3, 8, ("rgb", "nir")

    def __init__(self):
        self.drawn = 0

    def map(self, z, c):
        return torch.cat([z, c], dim=1)

    def pixels(self, ws):
        z, c = ws.split([2, 3], dim=1)
        self.drawn += len(z)
        rgb = ((c + 4) * 25).byte()[:, :, None, None].expand(-1, -1, 8, 8)
        nir = ((z[:, :1].clamp(-2, 2) + 2) * 50).byte()[:, :, None, None].expand(-1, -1, 8, 8)
        return {"rgb": rgb, "nir": nir}


def mixup(**changes):
    arguments = {
        "modalities": ("rgb", "nir"),
        "is_joint": False,
        "scale": 4.0,
        "seed": 1,
    }
    return IdentityMixup(
        changes.pop("generator", DirectGenerator()), np.eye(3), **arguments | changes
    )


@pytest.fixture
def sets(tmp_path):
    """Three generated people of 16 pixels, and two real ones of 24."""
    write_pairs(tmp_path / "new", [f"{p}_{i}" for p in range(3) for i in range(2)])
    write_pairs(tmp_path / "real", ["a_0", "a_1", "b_0"], size=24)
    return [FaceSet([open_faces(tmp_path / n)], ["rgb", "nir"]) for n in ("new", "real")]


def test_shares_are_all_steps_of_a_twentieth():
    drawn = [draw_mixture(torch.Generator().manual_seed(seed)) for seed in range(2000)]
    assert sorted({phi for _, phi in drawn}) == SHARES
    assert np.mean([chance for chance, _ in drawn]) == pytest.approx(0.5, abs=0.03)
    assert min(Counter(phi for _, phi in drawn).values()) > 50


# Domain mixup


def test_domain_mixup_mixes_images_and_labels_alike(sets):
    new, real = sets
    items = TrainingItems(new, 0, DomainMixup(real))
    found = [items[position] for position in range(24)]
    batch = make_batch(found, Preprocessing(size=16), CPU)
    assert batch.identities.shape == (24, 2)
    torch.testing.assert_close(batch.weights.sum(1), torch.ones(24))
    for row, item in enumerate(found):
        others = functional.interpolate(
            to_float(item.real[None]), [16, 16], mode="bilinear", antialias=True
        )
        expected = item.psi * to_float(item.image) + (1 - item.psi) * others[0]
        torch.testing.assert_close(batch.images[row], expected)
        first, second = item.target.identities
        assert first < 3 <= second < 5
        assert item.target.weights == (item.psi, 1 - item.psi)
        shown = [i for i in range(len(real)) if torch.equal(real.image(i), item.real)]
        assert second - 3 in real.labels[shown]
    assert len({item.psi for item in found}) > 8


def test_partners_are_of_the_same_modality_and_go_round(sets):
    new, real = sets
    items = TrainingItems(new, 0, DomainMixup(real))
    found = [items[position] for position in range(60)]
    for item in found:
        is_grey = torch.equal(item.real[0], item.real[1])
        assert is_grey == (item.column == 1)
    met = {item.real.numpy().tobytes() for item in found}
    assert len(met) == len(real)


def test_a_share_of_the_images_is_mixed(sets):
    new, real = sets
    items = TrainingItems(new, 3, DomainMixup(real, share=0.25))
    mixed = [items[position].real is not None for position in range(800)]
    assert np.mean(mixed) == pytest.approx(0.25, abs=0.05)
    assert TrainingItems(new, 3, DomainMixup(real, share=0.0))[0].real is None


def test_order_is_that_of_positions_whatever_the_workers_and_processes(sets):
    new, real = sets
    items = TrainingItems(new, 0, DomainMixup(real))

    def firsts(start, world=None, workers=0, count=3):
        world = world or World()
        steps = read_steps(items, batch=4, start=start, world=world, workers=workers)
        return [[item.position for item in step] for step in itertools.islice(steps, count)]

    assert firsts(2) == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert firsts(2, workers=2) == firsts(2)
    assert firsts(0, World(rank=1, size=2), count=2) == [[1, 3], [5, 7]]
    steps = read_steps(items, batch=4, start=1, world=World(), workers=2)
    for item in next(steps):
        again = items[item.position]
        assert torch.equal(item.image, again.image)
        assert torch.equal(item.real, again.real)
        assert item.target == again.target


# Identity mixup


def test_conditions_lie_between_two_people_at_their_length():
    mixed = mixup()
    for number in range(40):
        target, latent, condition = mixed.mixture(number)
        (first, second), (phi, _) = target.identities, target.weights
        assert first != second
        direction = phi * np.eye(3)[first] + (1 - phi) * np.eye(3)[second]
        expected = 4 * direction / np.linalg.norm(direction)
        assert condition.numpy() == pytest.approx(expected, abs=1e-6)
        assert latent.shape == (2,)
    pairs = {mixed.mixture(number)[0].identities for number in range(100)}
    assert pairs == set(itertools.permutations(range(3), 2))


def test_images_are_drawn_from_the_condition_in_the_wanted_modality():
    drawn = mixup().sample([5, 6], [0, 1])
    _, _, condition = mixup().mixture(5)
    assert drawn[0][0][:, 0, 0].tolist() == ((condition + 4) * 25).byte().tolist()
    assert drawn[1][0].shape == (3, 8, 8)
    joint = mixup(is_joint=True).sample([5, 6], [0, 0])
    assert joint[1][0].shape == (4, 8, 8)
    assert torch.equal(joint[0][0][:3], drawn[0][0])


def test_images_depend_on_their_position_alone():
    whole = mixup().sample([3, 4, 5], [0, 0, 0])
    alone = mixup().sample([4], [0])
    assert torch.equal(whole[1][0], alone[0][0])
    assert whole[1][1] == alone[0][1]
    assert not torch.equal(mixup(seed=2).sample([4], [0])[0][0], alone[0][0])


def test_a_limited_number_of_images_is_drawn_once():
    generator = DirectGenerator()
    mixed = mixup(generator=generator, images=4)
    first = mixed.sample([0, 1, 4, 5], [0, 0, 0, 0])
    assert generator.drawn == 2
    again = mixed.sample([8, 2], [0, 0])
    assert generator.drawn == 3
    assert torch.equal(first[0][0], again[0][0])
    assert first[0][1] == first[2][1] == again[0][1]


def test_a_share_of_the_images_is_replaced():
    mixed = mixup(share=0.3)
    rows = mixed.rows(range(1000))
    assert len(rows) == pytest.approx(300, abs=45)
    assert rows == mixed.rows(range(1000))
    assert mixup(share=0.0).rows(range(50)) == []
    assert mixup(share=1.0).rows(range(50)) == list(range(50))


def test_modalities_must_agree():
    with pytest.raises(ValueError, match="the generator makes no thermal images"):
        mixup(modalities=("thermal",))


def test_mixed_people_keep_the_real_ones_that_are_mixed_in(sets):
    new, real = sets
    domain, identity_mixup = DomainMixup(real, share=0.5), mixup(share=0.5)
    config = TrainingConfig(backbone="r18", width=0.0625, embedding=8, size=16, batch=4)
    before = [TrainingItems(new, 0, domain)[position] for position in range(40)]
    task = RecognitionTask(new, config, CPU, domain=domain, identity_mixup=identity_mixup)
    after = task._with_mixed_identities(before)
    rows = identity_mixup.rows(range(40))
    for row, (old, item) in enumerate(zip(before, after, strict=True)):
        weights = dict.fromkeys(range(5), 0.0)
        for person, weight in zip(item.target.identities, item.target.weights, strict=True):
            weights[person] += weight
        assert sum(weights.values()) == pytest.approx(1)
        assert weights[3] + weights[4] == pytest.approx(1 - item.psi)
        assert (item.target != old.target) == (row in rows)
    assert len({(old.real is None, row in rows) for row, old in enumerate(before)}) == 4


# Labels


def test_the_loss_is_interpolated_like_the_labels():
    torch.manual_seed(0)
    head = MarginHead(4, 5, HeadConfig(kind=MarginKind.ARCFACE, margin=0.3, scale=8.0))
    x = torch.randn(3, 4)
    people = torch.tensor([[0, 1], [2, 2], [3, 4]])
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    losses, hits = head(x, people, weights)
    alone = torch.ones(3, 1)
    (first, first_hits), (second, second_hits) = (head(x, p, alone) for p in people.split(1, 1))
    torch.testing.assert_close(losses, weights[:, 0] * first + weights[:, 1] * second)
    assert hits.tolist() == [second_hits[0], first_hits[1], first_hits[2]]


# Conditions of people


def test_conditions_of_new_people_are_drawn_again(tmp_path):
    write_manifest(tmp_path)
    rows = read_conditions(tmp_path, ["id_2", "id_0"], 7)
    source = RandomSource(7)
    assert rows[0] == pytest.approx(source.vector(0, 2, 0)[0])
    assert rows[1] == pytest.approx(source.vector(0, 0, 0)[0])


def test_conditions_of_mixed_people_come_from_their_parents(tmp_path):
    from biometrics.features import FeatureInfo, IdentityFeatures, write_identity_features  # noqa: PLC0415

    features = clustered_features(4, 2, width=6)
    info = FeatureInfo(
        recogniser="0" * 64,
        preprocessing=Preprocessing(size=16),
        vectors="all",
        modality="rgb",
        count=8,
    )
    path = tmp_path / "identity_features.json"
    named = IdentityFeatures(stems=features.stems, vectors=features.vectors, info=info)
    write_identity_features(path, named, [f"{stem}.png" for stem in features.stems])
    source = MixupSource(features)

    def mix(entry):
        return {**entry, "origin": entry["origin"] | source.vector(0, entry["identity"], 0)[1]}

    write_manifest(tmp_path / "made", mix)
    rows = read_conditions(tmp_path / "made", ["id_0", "id_1"], 6, path)
    assert rows[1] == pytest.approx(source.vector(0, 1, 0)[0], abs=1e-6)
    with pytest.raises(ValueError, match="mixed identities need the features"):
        read_conditions(tmp_path / "made", ["id_0"], 6)
    means = read_conditions(path, ["3", "0"], 6)
    expected = features.vectors[6:8].sum(0)
    assert means[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    with pytest.raises(ValueError, match="no vector for 1 of 2 identities, such as x"):
        read_conditions(path, ["0", "x"], 6)
    with pytest.raises(ValueError, match="vectors must have 5 numbers, got 6"):
        read_conditions(path, ["0"], 5)


def test_the_length_of_conditions_is_the_recorded_one(tmp_path):
    features = tmp_path / "identity_features.json"
    raw = Snapshot(networks={}, options={"data": {"feature_scale": None}})
    with pytest.raises(ValueError, match="--feature-scale"):
        condition_scale(features, raw)
    write_json(features, {"a_0.png": [3.0, 4.0], "b_0.png": [0.0, 7.0]})
    assert condition_scale(features, raw) == 6.0
    assert condition_scale(features, Snapshot(networks={})) == 4.0
    write_json(tmp_path / "summary.json", {"identity": {"people": {"scale": 3.5}}})
    assert condition_scale(tmp_path, raw) == 3.5


def test_batches_of_several_sizes(tmp_path):
    for person, size in ((1, 16), (2, 24)):
        write_image(tmp_path / f"{person}/a.png", random_pixels(person, size))
    faces = FaceSet([open_faces(tmp_path)])
    items = TrainingItems(faces, 0, None)
    found = [items[position] for position in range(2)]
    batch = make_batch(found, Preprocessing(size=16), CPU)
    for row, item in enumerate(found):
        alone = make_batch([item], Preprocessing(size=16), CPU)
        torch.testing.assert_close(batch.images[row], alone.images[0])
        assert item.target == Target((int(batch.identities[row, 0]),), (1.0,))
