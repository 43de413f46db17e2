"""Calibration against counts of all pairs."""

import dataclasses
import json

import numpy as np
import pytest

from biometrics.comparisons import BINS, Side, compare, exact_comparisons
from biometrics.features import IdentityFeatures
from biometrics.thresholds import DIVERSITY, FNMR, calibrate, read_thresholds, write_thresholds
from biometrics.verification import score_comparisons
from metrics.estimates import group_numbers
from metrics.nearest import unit_rows
from tests.helpers.people import clustered_features


@pytest.fixture(scope="module")
def features():
    return clustered_features(people=90, images=3)


def plain_scores(features):
    """All pairs, each once: mated and non-mated, and the nearest ones of each image."""
    rows, groups = unit_rows(features.vectors), group_numbers(features.identities)[0]
    cosines = rows @ rows.T
    same = groups[:, None] == groups[None]
    upper = np.triu(np.ones(same.shape, bool), 1)
    others = ~np.eye(len(rows), dtype=bool)
    nearest = [np.where(k & others, cosines, -np.inf).max(1) for k in (same, ~same)]
    return cosines[upper & same], cosines[upper & ~same], *nearest


@pytest.mark.parametrize("exact_limit", [0, 10**6])
def test_filter_and_evaluation_have_the_same_threshold(features, exact_limit):
    side = Side(vectors=features.vectors, identities=features.identities)
    evaluated = score_comparisons(
        compare(side, exact_limit=exact_limit), levels=(0.2, 0.01, 0.001), replicates=0
    )
    for point in evaluated.points:
        found = calibrate(features, fmr=point.level)
        assert found.privacy == point.threshold
        assert found.measured_fnmr == pytest.approx(point.fnmr.value, abs=4e-3)  # one comparison
    mated, non_mated, *_ = plain_scores(features)
    for summary, scores in ((found.mated, mated), (found.non_mated, non_mated)):
        assert (summary.number, summary.counts.sum()) == (len(scores), len(scores))
        assert summary.mean == pytest.approx(scores.mean(), abs=1e-6)
        assert summary.std == pytest.approx(scores.std(), abs=1e-6)


@pytest.mark.parametrize("fmr", [0.001, 0.01, 0.2])
def test_the_threshold_is_the_lowest_with_that_rate(features, fmr):
    found = calibrate(features, fmr=fmr)
    mated, non_mated, own, others = plain_scores(features)
    step = 2 / BINS
    assert (non_mated >= found.privacy).mean() <= fmr
    assert (non_mated >= found.privacy - 1.01 * step).mean() > fmr
    assert found.measured_fmr == pytest.approx((non_mated >= found.privacy).mean(), abs=1e-4)
    assert found.measured_fnmr == pytest.approx((mated < found.privacy).mean(), abs=5e-3)
    assert found.refused_new_people == pytest.approx((others >= found.privacy).mean(), abs=5e-3)
    assert found.missed_training_people == pytest.approx((own < found.privacy).mean(), abs=5e-3)
    assert [point.fmr for point in found.choices] == [0.01, 0.001]  # 4005 pairs of people
    for point in found.choices:
        again = calibrate(features, fmr=point.fmr)
        assert (again.privacy, again.measured_fnmr) == (point.privacy, point.fnmr)


def test_people_of_one_image_say_nothing_about_further_images(features):
    single = [row for row in range(270) if row < 135 or row % 3 == 0]
    some = dataclasses.replace(
        features,
        stems=tuple(features.stems[row] for row in single),
        vectors=features.vectors[single],
    )
    found = calibrate(some, fmr=0.01)
    own = plain_scores(some)[2]
    assert np.isneginf(own).sum() == 45
    expected = (own[np.isfinite(own)] < found.privacy).mean()
    assert found.missed_training_people == pytest.approx(expected, abs=5e-3)


def test_thresholds_of_one_person(features):
    found = calibrate(features, fmr=0.2)
    mated, *_ = plain_scores(features)
    assert (mated < found.same_identity).mean() <= FNMR
    assert (mated < found.same_identity + 2 / BINS).mean() == pytest.approx(FNMR, abs=0.005)
    assert (mated >= found.too_similar).mean() <= 1 - DIVERSITY
    assert found.published_same_identity == pytest.approx(mated.mean() - 2 * mated.std(), abs=1e-5)
    assert found.published_too_similar == pytest.approx(mated.mean() + mated.std(), abs=1e-5)


def test_recognisers_whose_strangers_have_high_cosines(features):
    aside = np.eye(features.vectors.shape[1], dtype=np.float32)[0] * 2.5
    shifted = dataclasses.replace(features, vectors=features.vectors + aside)
    found = calibrate(shifted, fmr=0.01)
    mated, non_mated, *_ = plain_scores(shifted)
    assert found.privacy > non_mated.mean() > 0.85
    assert (non_mated >= found.privacy).mean() <= 0.01
    assert (mated < found.privacy).mean() < 0.05
    assert found.published_same_identity > 0.85


def test_a_strict_rate_between_identities_costs_no_mated_pairs():
    blurred = clustered_features(people=90, images=3, spread=0.9)
    found = calibrate(blurred, fmr=0.001)
    assert found.measured_fnmr > FNMR
    assert found.same_identity == found.privacy > found.mated_same_identity
    assert found.mated.share_below(found.mated_same_identity) == pytest.approx(FNMR, abs=0.01)
    assert found.mated.share_below(found.privacy) == pytest.approx(found.measured_fnmr, abs=0.01)


def test_stricter_rates_give_higher_thresholds(features):
    thresholds = [calibrate(features, fmr=rate) for rate in (0.1, 0.01, 0.001)]
    assert thresholds[0].privacy < thresholds[1].privacy < thresholds[2].privacy


def test_edges_of_scores():
    scores = np.array([-1.0, 0.0, 0.5, 0.5, 0.50005, 1.0])
    names, is_mated = [str(number) for number in range(12)], np.repeat([True, False], 6)
    found = exact_comparisons(np.tile(scores, 2), is_mated, names, names).tally().mated
    assert found.number == 6
    assert found.share_from(0.5) == pytest.approx(4 / 6)
    assert found.share_below(0.5) == pytest.approx(2 / 6)
    assert found.lowest_edge(0.5) == 0.5001
    assert found.lowest_edge(4 / 6) == pytest.approx(1e-4)
    assert found.lowest_edge(1.0) == -1.0
    assert found.highest_edge(2 / 6) == 0.5
    assert found.highest_edge(0.0) == -1.0
    assert found.highest_edge(1.0) == 1.0


@pytest.mark.parametrize(
    ("people", "images", "changes", "message"),
    [
        (
            40,
            3,
            {},
            r"3000 pairs of identities, which is 78 identities \(rule of 3\); got 40",
        ),
        (90, 1, {}, "needs at least 132 mated comparisons, got 0"),
        (90, 3, {"fmr": 0.0}, "FMR must be between 0 and 1, got 0.0"),
    ],
)
def test_too_few_comparisons_are_refused(people, images, changes, message):
    with pytest.raises(ValueError, match=message):
        calibrate(clustered_features(people=people, images=images), **changes)


def test_enough_people_for_the_rule_of_3():
    features = clustered_features(people=78, images=3)
    assert calibrate(features).identities == 78


def test_a_recogniser_that_tells_nobody_apart_is_refused():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((270, 4)).astype(np.float32)
    stems = tuple(f"{i // 3}_{i % 3}" for i in range(270))
    with pytest.raises(ValueError, match="does not separate these identities"):
        calibrate(IdentityFeatures(stems=stems, vectors=vectors))


def test_the_file_gives_the_same_thresholds(features, tmp_path):
    found = calibrate(features, recogniser="abc")
    write_thresholds(tmp_path / "t.json", found)
    assert read_thresholds(tmp_path / "t.json", "abc") == found
    histogram = [int(count) for count in found.mated.histogram.split()]
    assert sum(histogram) == found.mated.number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a file of thresholds"),
        ({"privacy": "high"}, "privacy"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"recogniser": "f" * 64}, "for the recogniser ffffffffffff, but the given one is abc"),
    ],
)
def test_other_files_are_refused(features, tmp_path, change, message):
    path = tmp_path / "t.json"
    write_thresholds(path, calibrate(features, recogniser="abc"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        read_thresholds(path, "abc")


def test_a_cut_file_is_named_with_its_line(tmp_path):
    (tmp_path / "t.json").write_text('{\n "format": ')
    with pytest.raises(ValueError, match=r"t\.json: not valid JSON.*line 2"):
        read_thresholds(tmp_path / "t.json")
