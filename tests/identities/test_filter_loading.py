"""Filters put together from files."""

import dataclasses
import json

import numpy as np
import pytest

from biometrics.detection import FaceCheck
from biometrics.thresholds import calibrate, write_thresholds
from identities import filter_loading as setup
from identities.filter_loading import load_filter
from identities.options import FilterOptions, IdentityFilterOptions
from identities.reports import describe_thresholds
from identities.rules import Preset, Which
from tests.helpers.images import write_json
from tests.helpers.people import clustered_features, save_recogniser

PEOPLE = 90


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A recogniser, features as if it had made them, and thresholds."""
    folder = tmp_path_factory.mktemp("shop")
    save_recogniser(folder / "rec.pth")
    for name, seed in (("rgb.json", 0), ("nir.json", 1)):
        features = clustered_features(PEOPLE, 3, width=6, spread=0.15, seed=seed)
        content = dict(zip(features.stems, features.vectors.tolist(), strict=True))
        (folder / name).write_text(json.dumps(content))
    write_thresholds(folder / "limits.json", thresholds_of(0))
    return folder


def thresholds_of(seed, fmr=0.01):
    features = clustered_features(PEOPLE, 3, width=6, spread=0.15, seed=seed)
    rows = np.array(features.vectors.tolist(), np.float32)
    return calibrate(dataclasses.replace(features, vectors=rows), fmr=fmr)


def load(shop, **changes):
    values = {
        "rec_model": shop / "rec.pth",
        "training_ids": shop / "rgb.json",
        "thresholds": shop / "limits.json",
        **changes,
    }
    return load_filter(IdentityFilterOptions(**values))


def test_strict_rules_come_from_the_thresholds(shop):
    loaded, expected = load(shop), thresholds_of(0)
    rules = loaded.scorer.rules
    assert (rules.privacy, rules.uniqueness) == (expected.privacy, expected.privacy)
    assert (rules.same_identity, rules.too_similar) == (
        expected.same_identity,
        expected.too_similar,
    )
    assert {rules.training, rules.others, rules.faces} == {Which.ALL}
    assert not rules.is_absolute
    assert len(loaded.scorer.training.stems) == 3 * PEOPLE


def test_varied_rules_let_samples_differ_as_real_ones_do(shop, tmp_path):
    strict, varied = (
        load(shop, rules=rules).scorer.rules for rules in (Preset.STRICT, Preset.VARIED)
    )
    assert varied.same_identity == thresholds_of(0).mated_same_identity
    assert dataclasses.replace(varied, same_identity=strict.same_identity) == strict
    assert load(shop, rules=Preset.VARIED, same_identity=0.2).scorer.rules.same_identity == 0.2
    before = json.loads((shop / "limits.json").read_text())
    del before["mated_same_identity"]
    (tmp_path / "before.json").write_text(json.dumps(before))
    assert load(shop, thresholds=tmp_path / "before.json").scorer.rules == strict
    with pytest.raises(ValueError, match="--rules=varied.*--calibrate"):
        load(shop, rules=Preset.VARIED, thresholds=tmp_path / "before.json")


def test_published_rules_take_the_same_quantities_of_the_thresholds(shop):
    rules = load(shop, rules=Preset.PUBLISHED).scorer.rules
    expected = thresholds_of(0)
    assert rules.privacy == rules.same_identity == expected.published_same_identity
    assert rules.too_similar == expected.published_too_similar
    constants = load(shop, rules=Preset.PUBLISHED, thresholds=None).scorer.rules
    assert (constants.privacy, constants.too_similar) == (0.622, 0.853)
    assert len(load(shop, rules=Preset.PUBLISHED).scorer.training.stems) == PEOPLE


@pytest.mark.parametrize(("offset", "warns"), [(3.0, True), (0.0, False)])
def test_constants_that_would_call_strangers_known(shop, tmp_path, caplog, offset, warns):
    features = clustered_features(20, 2, width=6, spread=0.1)
    rows = np.eye(6)[np.arange(40) // 2 % 6] + 0.01 * features.vectors + offset
    write_json(
        tmp_path / "x.json",
        {f"{s}.png": row.tolist() for s, row in zip(features.stems[:12], rows, strict=False)},
    )
    load(shop, rules=Preset.PUBLISHED, thresholds=None, training_ids=tmp_path / "x.json")
    assert ("not calibrated for this recogniser" in caplog.text) == warns


def test_changes_replace_single_rules(shop):
    changes = {"privacy": 0.9, "too_similar": 0.99, "max_attempts": 7}
    rules, other = load(shop, **changes).scorer.rules, load(shop).scorer.rules
    assert (rules.privacy, rules.uniqueness, rules.too_similar) == (0.9, 0.9, 0.99)
    assert (rules.max_attempts, rules.same_identity) == (7, other.same_identity)
    assert rules.check_nir == other.check_nir


def test_where_all_limits_are_given_nothing_is_calibrated(shop, tmp_path):
    few = dict(list(json.loads((shop / "rgb.json").read_text()).items())[:6])
    (tmp_path / "few.json").write_text(json.dumps(few))
    limits = {"privacy": 0.9, "same_identity": 0.5, "too_similar": 0.95}
    options = {"training_ids": tmp_path / "few.json", "thresholds": None}
    assert load(shop, **limits, **options).thresholds is None
    del limits["too_similar"]
    with pytest.raises(ValueError, match="needs at least 3000 pairs of identities"):
        load(shop, **limits, **options)


def test_nir_images_get_a_threshold_of_their_own(shop):
    loaded = load(shop, training_ids_nir=shop / "nir.json")
    rules = loaded.scorer.rules
    assert rules.check_nir
    assert rules.privacy_nir == thresholds_of(1).privacy != rules.privacy
    assert set(loaded.describe()["features_sha256"]) == {"rgb", "nir"}
    assert loaded.scorer.training_of("nir") is not loaded.scorer.training_of("rgb")
    without = load(shop).scorer
    assert without.training_of("nir") is without.training_of("rgb")


def test_a_limit_that_is_given_holds_for_nir_images_too(shop):
    rules = load(shop, training_ids_nir=shop / "nir.json", privacy=0.3).scorer.rules
    assert rules.check_nir
    assert (rules.privacy, rules.privacy_nir) == (0.3, None)


@pytest.mark.parametrize(("kind", "is_said"), [("none", True), ("mtcnn", False)])
def test_faces_that_may_not_be_found_are_said(shop, caplog, monkeypatch, kind, is_said):
    features, embedder = setup.load_identities(shop / "rgb.json", shop / "rec.pth", "cpu")
    embedder.aligner = lambda _image: "no face"
    monkeypatch.setattr(setup, "load_identities", lambda *_: (features, embedder))
    monkeypatch.setattr(setup, "build_face_check", lambda *_args, **_kwargs: FaceCheck())
    load(shop, face_check=kind)
    assert ("may pass: --face-check=mtcnn rejects it" in caplog.text) == is_said


@pytest.mark.parametrize(("changes", "is_warned"), [({}, False), ({"same_identity": 0.98}, True)])
def test_what_the_rules_cost_of_mated_pairs_is_said(shop, caplog, changes, is_warned):
    with caplog.at_level("INFO"):
        load(shop, **changes)
    (record,) = (r for r in caplog.records if "images of one training identity" in r.message)
    assert (record.levelname == "WARNING") == is_warned
    limit = load(shop, **changes).scorer.rules.same_identity
    assert f"same_identity {limit:.4f}" in record.message


def test_samples_that_stand_alone_have_no_identity_to_vary(shop, caplog):
    paths = {"rec_model": shop / "rec.pth", "training_ids": shop / "rgb.json"}
    with caplog.at_level("INFO"):
        load_filter(FilterOptions(**paths, thresholds=shop / "limits.json"))
    assert "same_identity" not in caplog.text
    assert load_filter(FilterOptions(**paths, privacy=0.9)).thresholds is None


def test_a_rate_that_refuses_most_new_people_is_said(shop, caplog):
    load(shop)
    assert "of images of new identities would be rejected" in caplog.text
    caplog.clear()
    thresholds = dataclasses.replace(thresholds_of(0), refused_new_people=0.1)
    write_thresholds(shop / "easy.json", thresholds)
    load(shop, thresholds=shop / "easy.json")
    assert "rejected" not in caplog.text


def test_the_table_of_choices_has_a_row_a_rate(shop):
    thresholds = thresholds_of(0)
    lines = describe_thresholds(thresholds).splitlines()
    assert len(lines) == 2 + len(thresholds.choices) == 4
    assert lines[2].split()[:2] == ["1e-02", f"{thresholds.choices[0].privacy:.4f}"]
