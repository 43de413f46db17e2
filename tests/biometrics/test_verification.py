import math

import numpy as np
import pytest
from scipy import stats

from biometrics.comparisons import BINS, Side, compare, count_comparisons, exact_comparisons
from biometrics.verification import (
    area_under_roc,
    equal_error_rate,
    error_rates,
    fnmr_at,
    score_comparisons,
    tar_at,
)
from metrics import NotMeasuredError


def of_scores(mated, non_mated):
    """Every score of identities of its own."""
    names = [f"{i}" for i in range(len(mated) + len(non_mated))]
    is_mated = np.arange(len(names)) < len(mated)
    others = [f"other {name}" for name in names]
    return exact_comparisons(np.array([*mated, *non_mated], float), is_mated, names, others)


def rates_of(mated, non_mated):
    return error_rates(of_scores(mated, non_mated).tally())


def faces(identities=30, images=4, noise=1.0, width=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, 1, width))
    vectors = centres + noise * rng.standard_normal((identities, images, width))
    vectors = vectors.reshape(-1, width).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, [f"p{i // images}" for i in range(identities * images)]


@pytest.mark.parametrize("d_prime", [1.0, 2.0, 3.0])
def test_eer_of_two_normals(d_prime):
    quantiles = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    comparisons = of_scores(quantiles + d_prime, quantiles)
    score = score_comparisons(comparisons, replicates=0)
    assert score.eer.value == pytest.approx(stats.norm.cdf(-d_prime / 2), abs=2e-4)
    assert score.eer_threshold == pytest.approx(d_prime / 2, abs=2e-3)
    assert score.d_prime.value == pytest.approx(d_prime, rel=2e-3)
    assert score.fdr.value == pytest.approx(d_prime**2 / 2, rel=4e-3)
    assert score.auc.value == pytest.approx(stats.norm.cdf(d_prime / math.sqrt(2)), abs=2e-4)


def test_eer_is_interpolated_between_thresholds():
    # From 0.5 to 0.6 FMR stays at 1/3 and FNMR rises from 0 to 1/2: they meet after 2/3 of it.
    rates = rates_of([0.5, 0.9], [0.1, 0.4, 0.6])
    assert equal_error_rate(rates) == pytest.approx((1 / 3, 0.5 + 0.1 * 2 / 3))
    # From 0.4 to 0.5 FMR falls from 1/2 to 0 and FNMR rises from 1/4 to 1/2.
    rates = rates_of([0.3, 0.4, 0.6, 0.7], [0.1, 0.4])
    assert equal_error_rate(rates)[0] == pytest.approx(1 / 3)
    assert equal_error_rate(rates_of([2, 3], [0, 1])) == (0, 2)
    assert equal_error_rate(rates_of([0, 1], [2, 3]))[0] == 1


def test_fmr_points_by_hand():
    mated = [0.2, 0.5, 0.7, 0.9]
    non_mated = np.linspace(0, 0.6, 200)
    rates = rates_of(mated, non_mated)
    assert fnmr_at(rates, 0.01) == 0.5  # two of 200 may pass
    assert fnmr_at(rates, 0.0) == 0.5
    assert fnmr_at(rates, 0.5) == 0.25
    assert fnmr_at(rates, 1.0) == 0.0


def test_ties_count_as_matches_of_both_kinds():
    rates = rates_of([0.5, 0.5], [0.5, 0.1])
    assert dict(zip(rates.thresholds, rates.fmr, strict=True)) == {0.1: 1, 0.5: 0.5, math.inf: 0}
    assert dict(zip(rates.thresholds, rates.fnmr, strict=True)) == {0.1: 0, 0.5: 0, math.inf: 1}


def test_rates_against_a_naive_count():
    rng = np.random.default_rng(4)
    mated, non_mated = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 90).round(1)
    rates = rates_of(mated, non_mated)
    for k, threshold in enumerate(rates.thresholds):
        assert rates.fmr[k] == np.mean(non_mated >= threshold)
        assert rates.fnmr[k] == np.mean(mated < threshold)


def test_auc_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(5)
    mated, non_mated = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 120).round(1)
    scores, labels = np.concatenate([mated, non_mated]), np.repeat([1, 0], [80, 120])
    tally = of_scores(mated, non_mated).tally()
    assert area_under_roc(tally) == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-12)
    fpr, tpr, thresholds = sklearn.roc_curve(labels, scores, drop_intermediate=False)
    rates = error_rates(tally)
    ours = {t: (f, 1 - m) for t, f, m in zip(rates.thresholds, rates.fmr, rates.fnmr, strict=True)}
    for t, f, m in zip(thresholds, fpr, tpr, strict=True):
        assert ours[t] == pytest.approx((f, m))


def test_failed_comparisons_are_missed_but_not_false_matches():
    comparisons = of_scores([0.9, 0.8, -np.inf, -np.inf], [0.1, 0.2, -np.inf])
    rates = error_rates(comparisons.tally())
    assert fnmr_at(rates, 0.0) == 0
    assert tar_at(rates, 0.01) == 0.5
    assert rates.far[0] == pytest.approx(2 / 3)
    score = score_comparisons(comparisons, replicates=0)
    assert (score.mated, score.non_mated, score.failed) == (2, 2, 3)


def test_all_pairs_against_naive_loops():
    vectors, identities = faces(identities=6, images=3)
    found = compare(Side(vectors=vectors, identities=identities))
    mated = [
        float(vectors[i] @ vectors[j])
        for i in range(18)
        for j in range(i + 1, 18)
        if identities[i] == identities[j]
    ]
    assert (found.num_mated, found.num_non_mated) == (18, 18 * 17 // 2 - 18)
    tally = found.tally()
    assert tally.mated.mean == pytest.approx(np.mean(mated), abs=1e-6)


def test_across_spectra_the_two_images_of_a_pair_are_not_compared():
    vectors, identities = faces(identities=5, images=3)
    captures = [str(i) for i in range(15)]
    gallery, probes = (
        Side(vectors=v, identities=identities, captures=captures)
        for v in (vectors, vectors[:, ::-1])
    )
    found = compare(gallery, probes)
    assert (found.num_mated, found.num_non_mated) == (5 * 3 * 2, 15 * 12)
    side = Side(vectors=vectors, identities=identities)
    whole = compare(side, side)
    assert whole.num_mated == 5 * 9


@pytest.mark.parametrize("is_across", [False, True])
def test_streamed_counts_are_those_of_all_scores(is_across):
    vectors, identities = faces(identities=12, images=3)
    vectors[4] = np.nan
    captures = [str(i) for i in range(36)]
    sides = [Side(vectors=vectors, identities=identities, captures=captures)]
    if is_across:
        sides.append(
            Side(vectors=vectors[:, ::-1].copy(), identities=identities, captures=captures)
        )
    exact = compare(*sides)
    stream = count_comparisons(*sides, groups=64, block=7)
    assert (stream.num_mated, stream.num_non_mated) == (exact.num_mated, exact.num_non_mated)
    for kind in ("mated", "non_mated"):
        a, b = (getattr(found.tally(), kind) for found in (exact, stream))
        assert (b.failed, b.number) == (a.failed, a.number)
        assert (b.mean, b.variance) == pytest.approx((a.mean, a.variance), abs=1e-6)
        for edge in b.values[::250]:
            assert b.share_from(edge) == a.share_from(edge)
    assert stream.resolution == pytest.approx(2 / BINS)


def test_streams_weigh_people_as_exact_scores_do():
    vectors, identities = faces(identities=8, images=2)
    side = Side(vectors=vectors, identities=identities)
    exact, stream = compare(side), count_comparisons(side, groups=8, block=5)
    assert exact.clusters == stream.clusters == 8
    draw = np.array([2.0, 0, 1, 1, 3, 0, 1, 0])
    twice = [exact.tally(draw), exact.tally(2 * draw)]
    assert twice[1].mated.number == 2 * twice[0].mated.number
    assert twice[1].non_mated.number == 4 * twice[0].non_mated.number
    assert stream.tally(draw).mated.number == twice[0].mated.number


def test_rotation_scale_and_order_change_nothing():
    vectors, identities = faces(identities=10, images=3)
    rng = np.random.default_rng(8)
    turn = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    order = rng.permutation(30)
    first = score_comparisons(compare(Side(vectors=vectors, identities=identities)), replicates=0)
    changed = (vectors @ turn).astype(np.float32)[order]
    second = score_comparisons(
        compare(Side(vectors=changed, identities=[identities[i] for i in order])), replicates=0
    )
    for name in ("eer", "auc", "fdr", "d_prime", "zero_fmr"):
        a, b = (getattr(score, name).value for score in (first, second))
        assert a == pytest.approx(b, abs=1e-4), name


def test_large_sets_are_streamed():
    vectors, identities = faces(identities=6, images=2)
    side = Side(vectors=vectors, identities=identities)
    assert compare(side).resolution is None
    assert compare(side, exact_limit=10).resolution == pytest.approx(1e-4)


def test_intervals_cover_the_truth_and_shrink_with_people():
    truth = score_comparisons(compare(Side(**sides(400))), replicates=0).eer.value
    found = [
        score_comparisons(compare(Side(**sides(25, seed=seed))), replicates=60).eer
        for seed in range(1, 21)
    ]
    assert sum(eer.low <= truth <= eer.high for eer in found) >= 16
    many = score_comparisons(compare(Side(**sides(100, seed=1))), replicates=60).eer
    assert many.high - many.low < 0.7 * np.mean([eer.high - eer.low for eer in found])
    assert (found[0].clusters, many.clusters) == (25, 100)


def sides(identities, seed=0):
    vectors, names = faces(identities=identities, images=3, noise=1.3, seed=seed)
    return {"vectors": vectors, "identities": names}


def test_too_few_comparisons_are_marked():
    score = score_comparisons(of_scores([0.9] * 5, np.linspace(0, 0.5, 200)), replicates=0)
    assert [point.is_supported for point in score.points] == [True, False, False, False]
    assert score.points[0].level == 0.1


def test_a_perfect_recogniser_still_has_an_upper_bound():
    score = score_comparisons(of_scores([0.9] * 30, [0.1] * 30))
    assert (score.eer.value, score.eer.low) == (0, 0)
    assert score.eer.high > 0.01


@pytest.mark.parametrize(
    ("identities", "message"),
    [(["a"] * 4, "6 mated and 0 non-mated"), (list("abcd"), "0 mated and 6 non-mated")],
)
def test_one_person_or_one_image_each_is_refused(identities, message):
    vectors, _ = faces(identities=4, images=1)
    for limit in (0, 100):
        with pytest.raises(NotMeasuredError, match=message):
            compare(Side(vectors=vectors, identities=identities), exact_limit=limit)


@pytest.mark.parametrize("limit", [0, 100])
def test_comparisons_that_all_failed_are_not_measured(limit):
    vectors, identities = faces(identities=3, images=2)
    vectors[::2] = np.nan
    with pytest.raises(NotMeasuredError, match="got 0 mated and 3 non-mated"):
        compare(Side(vectors=vectors, identities=identities), exact_limit=limit)


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="scores: numbers must be finite"):
        of_scores([np.nan], [0.1])
    with pytest.raises(ValueError, match="FAR levels must be between 0 and 1, got 2"):
        score_comparisons(of_scores([0.9], [0.1]), levels=(2,))
    with pytest.raises(ValueError, match="N >= 1"):
        Side(vectors=np.zeros((0, 3), np.float32), identities=[])
