"""Intervals of numbers that need many samples at once, from random halves of the samples.

Bootstrap draws would repeat samples, which nearest neighbours and kernels take for copies; halves
of groups of people repeat nothing.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from evaluation.image_features import GROUPS
from metrics.estimates import LEVEL, Estimate
from metrics.statistics import Floats

REPLICATES = 20
_MIN_GROUPS = 4


def half_samples(
    sets: Sequence[np.ndarray], *, replicates: int, seed: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield random halves of the groups of each set.

    Args:
        sets: the group number of each sample, [N] int64 a set.
        replicates: how many times; none where a set has fewer than 4 groups.
        seed: of the choice.
    Yields: sorted group numbers, half of those of each set.
    """
    present = [np.unique(groups) for groups in sets]
    if min(len(groups) for groups in present) < _MIN_GROUPS:
        return
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    for _ in range(replicates):
        yield tuple(
            np.sort(rng.choice(groups, len(groups) // 2, replace=False)) for groups in present
        )


def interval_estimate(
    value: float,
    replicates: Sequence[float],
    *,
    n: int,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Return a value with the 95 % interval that the spread of half-samples gives.

    The variance of a number over random halves is, to first order, its variance over samples of
    full size. With 10 groups, Student's t of 9 degrees of freedom takes the normal's place.

    Args:
        value: of all samples.
        replicates: values of halves; without at least two there is no interval.
        n: samples behind the value.
        bounds: that no value can leave, and the interval neither.
    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation", delete-d with
        d half of the sample.
    """
    spread = float(np.std(replicates, ddof=1)) if len(replicates) > 1 else math.nan
    if not math.isfinite(spread):
        return Estimate(value=value, n=n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, GROUPS - 1)) * spread
    low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
    return Estimate(value=value, low=low, high=high, n=n)


def subset_estimate(
    value: float, subsets: Floats, *, subset_size: int, drawn_from: int, n: int
) -> Estimate:
    """Return a mean over random subsets with the 95 % interval that their spread gives.

    Subsets of b of N samples spread less than fresh ones would, by 1 - b / N, and N samples b / N
    times as much as b.

    Args:
        value: the mean.
        subsets: [S] float64, the values of subsets.
        subset_size: b, samples in a subset.
        drawn_from: N, samples that subsets are drawn from.
        n: samples behind the value.
    Source: Politis, Romano and Wolf 1999, "Subsampling", section 2.2.
    """
    share = subset_size / drawn_from
    if len(subsets) < 2 or share >= 1:
        return Estimate(value=value, n=n)
    spread = float(np.std(subsets, ddof=1)) * math.sqrt(share / (1 - share))
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * spread
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)
