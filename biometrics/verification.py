"""Biometric verification: error rates, operating points and curves, with intervals.

Terms of ISO/IEC 19795-1:2021: FMR(t) is the share of non-mated scores at or above t, FNMR(t) the
share of mated scores below t. FAR and FRR also count comparisons that could not be made, which no
threshold accepts. Intervals resample identities, not comparisons.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from biometrics.comparisons import RULE_OF_3, Comparisons, Tally
from metrics.estimates import (
    REPLICATES,
    Estimate,
    Floats,
    bounded_share,
    estimate_of,
    multiplicities,
)

FAR_LEVELS = (0.1, 0.01, 0.001, 0.0001)
_CURVE_POINTS = 60
_HISTOGRAM_BINS = 80
_SHARES = ("eer", "zero_fmr", "fnmr", "tar")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Error rates, [V + 1] each, at all thresholds that differ, which ascend; the last is infinite.

    FMR and FNMR are of the comparisons that were made, FAR and FRR of all.
    """

    thresholds: Floats
    fmr: Floats
    fnmr: Floats
    far: Floats
    frr: Floats


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Where at most a share `level` of non-mated comparisons is accepted.

    Attributes:
        level: highest FMR (of `fnmr`) and FAR (of `tar`).
        threshold: lowest edge of the bins with FMR <= level, as the filter's (Scores.lowest_edge);
            with exact scores up to a bin's width from where `fnmr` is taken.
        fnmr: at the lowest threshold with FMR <= level.
        tar: 1 - FRR at the lowest threshold with FAR <= level.
        is_supported: whether there are at least 3 / level non-mated comparisons (rule of 3).
    """

    level: float
    threshold: float
    fnmr: Estimate
    tar: Estimate
    is_supported: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """FNMR against FMR (DET), [P] each; 1 - FNMR against FMR is the ROC.

    Attributes:
        fmr: ascending levels.
        fnmr: lowest FNMR with FMR <= level.
        low, high: pointwise 95 % interval; NaN where there are too few identities.
    """

    fmr: Floats
    fnmr: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True)
class ScoreHistogram:
    """Shares of mated and of non-mated scores in equal bins, [B] that sum to 1; edges [B + 1]."""

    edges: Floats
    mated: Floats
    non_mated: Floats


@dataclass(frozen=True, kw_only=True)
class VerificationScore:
    """What `score_comparisons` finds.

    Attributes:
        clusters: identities, or groups of them, that were resampled.
        mated, non_mated: number of scores.
        failed: comparisons that could not be made.
        eer, eer_threshold: equal error rate, interpolated, and where it is.
        points: one a FAR level, FMR100 and FMR1000 among them.
        zero_fmr: lowest FNMR without any false match.
        fdr: Fisher's discriminant ratio.
        d_prime: sensitivity index.
        auc: area under the ROC.
        mated_mean, non_mated_mean: of the scores.
        curve, histogram: for plots.
        resolution: of thresholds; None where scores are exact.
    """

    clusters: int = field(metadata={"json": "people"})
    mated: int
    non_mated: int
    failed: int
    eer: Estimate
    eer_threshold: float
    points: tuple[OperatingPoint, ...]
    zero_fmr: Estimate
    fdr: Estimate
    d_prime: Estimate
    auc: Estimate
    mated_mean: Estimate
    non_mated_mean: Estimate
    curve: Curve
    histogram: ScoreHistogram
    resolution: float | None


def error_rates(tally: Tally) -> Rates:
    """Return error rates at every threshold at which one of them changes.

    Raises: ValueError where there is no weight on mated or on non-mated scores.
    """
    mated, non_mated = tally.mated, tally.non_mated
    if not (mated.number > 0 and non_mated.number > 0):
        raise ValueError("error rates need mated and non-mated scores")
    missed = np.concatenate([[0.0], np.cumsum(mated.weights)])
    passed = np.concatenate([np.cumsum(non_mated.weights[::-1])[::-1], [0.0]])
    return Rates(
        thresholds=np.append(mated.values, math.inf),
        fmr=passed / passed[0],
        fnmr=missed / missed[-1],
        far=passed / (passed[0] + non_mated.failed),
        frr=(missed + mated.failed) / (missed[-1] + mated.failed),
    )


def equal_error_rate(rates: Rates) -> tuple[float, float]:
    """Return the EER and its threshold, on the straight line between the two nearest thresholds.

    Source: ISO/IEC 19795-1 (FMR = FNMR); the interpolation is along the line of the ROC.
    """
    gap = rates.fmr - rates.fnmr
    k = int(np.argmax(gap <= 0))
    if gap[k] == 0 or k == 0:
        return float(rates.fmr[k]), float(rates.thresholds[k])
    part = gap[k - 1] / (gap[k - 1] - gap[k])
    rate = rates.fmr[k - 1] + part * (rates.fmr[k] - rates.fmr[k - 1])
    before, after = rates.thresholds[k - 1], rates.thresholds[k]
    threshold = before if math.isinf(after) else before + part * (after - before)
    return float(rate), float(threshold)


def fnmr_at(rates: Rates, level: float) -> float:
    """Return the lowest FNMR with FMR <= level; level 0 is ZeroFMR.

    Source: FVC2002 (FMR100 is level 0.01, FMR1000 level 0.001, ZeroFMR level 0).
    """
    return float(rates.fnmr[int(np.argmax(rates.fmr <= level))])


def tar_at(rates: Rates, level: float) -> float:
    """Return 1 - FRR at the lowest threshold with FAR <= level."""
    return float(1 - rates.frr[int(np.argmax(rates.far <= level))])


def area_under_roc(tally: Tally) -> float:
    """Return the chance that a mated score is above a non-mated one; ties count half."""
    mated, non_mated = tally.mated.weights, tally.non_mated.weights
    below = np.cumsum(non_mated) - non_mated / 2
    return float(mated @ below / (mated.sum() * non_mated.sum()))


def score_comparisons(
    comparisons: Comparisons,
    *,
    levels: Sequence[float] = FAR_LEVELS,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> VerificationScore:
    """Summarise verification scores, with 95 % intervals from resampling identities.

    Args:
        comparisons: of images.
        levels: FAR levels, each in (0, 1).
        replicates: bootstrap draws; 0 leaves the intervals out.
        seed: of the draws.
    Raises: ValueError for levels out of range, or no scores of one kind.
    """
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"FAR levels must be between 0 and 1, got {level}")
    tally = comparisons.tally()
    lowest = min(math.log10(max(comparisons.num_non_mated, 10)), 6)
    grid = np.logspace(-lowest, 0, _CURVE_POINTS)
    whole, threshold, curve = _measure(tally, levels, grid)
    draws = [_measure(drawn, levels, grid) for drawn in _resample(comparisons, replicates, seed)]
    curves = [drawn for *_, drawn in draws] if len(draws) > 1 else np.full((1, len(grid)), np.nan)
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)

    def estimate(name: str, n: int) -> Estimate:
        drawn = [numbers[name] for numbers, *_ in draws]
        found = estimate_of(whole[name], drawn, n=n, clusters=comparisons.clusters)
        return bounded_share(found) if name.startswith(_SHARES) and draws else found

    mated, non_mated = comparisons.num_mated, comparisons.num_non_mated
    return VerificationScore(
        clusters=comparisons.clusters,
        mated=mated,
        non_mated=non_mated,
        failed=round(tally.mated.failed + tally.non_mated.failed),
        eer=estimate("eer", mated + non_mated),
        eer_threshold=threshold,
        points=tuple(
            OperatingPoint(
                level=level,
                threshold=tally.non_mated.lowest_edge(level),
                fnmr=estimate(f"fnmr {level}", mated),
                tar=estimate(f"tar {level}", mated + round(tally.mated.failed)),
                is_supported=non_mated * level >= RULE_OF_3,
            )
            for level in levels
        ),
        zero_fmr=estimate("zero_fmr", mated),
        fdr=estimate("fdr", mated + non_mated),
        d_prime=estimate("d_prime", mated + non_mated),
        auc=estimate("auc", mated + non_mated),
        mated_mean=estimate("mated_mean", mated),
        non_mated_mean=estimate("non_mated_mean", non_mated),
        curve=Curve(fmr=grid, fnmr=curve, low=low, high=high),
        histogram=_histogram(tally),
        resolution=comparisons.resolution,
    )


def _resample(comparisons: Comparisons, replicates: int, seed: int) -> Iterator[Tally]:
    """Yield the scores of bootstrap draws that have both kinds; nothing for one identity."""
    if comparisons.clusters < 2:
        return
    for draw in multiplicities(comparisons.clusters, seed, replicates):
        tally = comparisons.tally(draw)
        if tally.mated.number > 0 and tally.non_mated.number > 0:
            yield tally


def _measure(
    tally: Tally, levels: Sequence[float], grid: Floats
) -> tuple[dict[str, float], float, Floats]:
    """Return all numbers, the EER's threshold, and the lowest FNMR with FMR <= level on a grid."""
    rates = error_rates(tally)
    eer, threshold = equal_error_rate(rates)
    apart = abs(tally.mated.mean - tally.non_mated.mean)
    variances = tally.mated.variance + tally.non_mated.variance
    numbers = {
        "eer": eer,
        "zero_fmr": fnmr_at(rates, 0.0),
        # Boutros et al. 2023 (IDiff-Face), Poh & Bengio 2004; Daugman 2000, "Biometric decision
        # landscapes".
        "fdr": _ratio(apart**2, variances),
        "d_prime": _ratio(apart, math.sqrt(variances / 2)),
        "auc": area_under_roc(tally),
        "mated_mean": tally.mated.mean,
        "non_mated_mean": tally.non_mated.mean,
        **{f"fnmr {level}": fnmr_at(rates, level) for level in levels},
        **{f"tar {level}": tar_at(rates, level) for level in levels},
    }
    places = np.searchsorted(rates.fmr[::-1], grid * (1 + 1e-12), side="right")
    return numbers, threshold, rates.fnmr[::-1][np.maximum(places - 1, 0)]


def _histogram(tally: Tally) -> ScoreHistogram:
    kinds = tally.mated, tally.non_mated
    used = tally.mated.values[np.flatnonzero(kinds[0].weights + kinds[1].weights)]
    ends = (used[0], used[-1]) if used[0] < used[-1] else (used[0] - 0.5, used[0] + 0.5)
    edges = np.linspace(*ends, _HISTOGRAM_BINS + 1)
    mated, non_mated = (
        np.histogram(kind.values, edges, weights=kind.weights)[0] / kind.number for kind in kinds
    )
    return ScoreHistogram(edges=edges, mated=mated, non_mated=non_mated)


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0:
        return math.nan if numerator == 0 else math.inf
    return numerator / denominator
