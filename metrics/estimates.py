"""A number with its interval and the count behind it, and resampling of identities."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
REPLICATES = 200
_MIN_REPLICATES = 20
Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
_MIN_GROUPS = 4  # of half-samples
_DEGREES = 9  # of freedom, of the ten groups that half-samples are made of

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured number with its 95 % interval, None where none can be given.

    Attributes:
        value, low, high: the number and the ends of the interval.
        n: observations behind it: images, comparisons or pixels, as the name beside it says.
        clusters: independent ones that were resampled, mostly identities; None where the interval
            is Wilson's.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int
    clusters: int | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """Return plain values for a JSON file; what is not finite becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite = {k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()}
        return {**finite, "n": self.n, "people": self.clusters}


def wilson(hits: float, n: int) -> Estimate:
    """Return a share of `n` independent observations with Wilson's score interval.

    >>> wilson(0, 100).high < 0.04
    True

    Raises: ValueError where n is 0 or hits are not within 0..n.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"a share needs 0 <= hits <= n and n >= 1, got {hits} of {n}")
    share = hits / n
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    low = (centre - spread) / scale if hits else 0.0
    high = (centre + spread) / scale if hits < n else 1.0
    return Estimate(value=share, low=low, high=high, n=n)


def multiplicities(clusters: int, seed: int, replicates: int = REPLICATES) -> Iterator[Floats]:
    """Yield how often each cluster occurs in bootstrap draws with replacement: [clusters]."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, clusters])))
    for _ in range(replicates):
        drawn = rng.integers(0, clusters, clusters)
        yield np.bincount(drawn, minlength=clusters).astype(np.float64)


def percentile_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 2.5 % and 97.5 % quantile of the finite replicates, None where too few are."""
    finite = np.array([v for v in values if math.isfinite(v)])
    if len(finite) < _MIN_REPLICATES:
        return None, None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate_of(value: float, replicates: Sequence[float], *, n: int, clusters: int) -> Estimate:
    """Return a value with the percentile interval of its bootstrap replicates."""
    low, high = percentile_interval(replicates) if clusters > 1 else (None, None)
    return Estimate(value=value, low=low, high=high, n=n, clusters=clusters)


def bounded_share(share: Estimate) -> Estimate:
    """Return a share with its bootstrap interval, or Wilson's where all replicates are alike.

    No error in any replicate does not mean that there are none: where a share is 0 or 1 in all of
    them, identities take the place of observations, as those of one identity may err together.
    """
    if share.value not in (0.0, 1.0) or share.low != share.high or share.clusters is None:
        return share
    bounds = wilson(share.value * share.clusters, share.clusters)
    return dataclasses.replace(share, low=bounds.low, high=bounds.high)


def group_numbers(groups: Sequence[str] | np.ndarray) -> tuple[np.ndarray, int]:
    """Return each observation's cluster number 0.. and how many clusters there are."""
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return numbers.reshape(-1), len(names)


def clustered(
    values: np.ndarray,
    groups: Sequence[str],
    statistic: Callable[[Floats, Floats], float],
    *,
    seed: int = 0,
) -> Estimate:
    """Return a weighted statistic of values [N] with an interval from resampling whole clusters.

    Args:
        values: float.
        groups: the identity of each value; identities, not images, are drawn.
        statistic: (values [N], weights [N]) -> number; weights are counts of draws.
        seed: of the draws.
    Raises: ValueError where there are no values, other numbers of groups, or NaN.
    """
    values = check_finite(values, "values")
    if len(values) == 0 or len(values) != len(groups):
        raise ValueError(f"one group a value is needed, got {len(values)} and {len(groups)}")
    numbers, count = group_numbers(groups)
    whole = statistic(values, np.ones(len(values)))
    draws = multiplicities(count, seed) if count > 1 else iter(())
    drawn = [statistic(values, draw[numbers]) for draw in draws]
    return estimate_of(whole, drawn, n=len(values), clusters=count)


def clustered_share(flags: np.ndarray, groups: Sequence[str], *, seed: int = 0) -> Estimate:
    """Return the share of true flags [N] with an interval from resampling identities.

    Raises: ValueError where there are no flags or other numbers of groups.
    """
    return bounded_share(clustered(np.asarray(flags, bool), groups, weighted_mean, seed=seed))


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Return the mean, NaN without weight."""
    total = weights.sum()
    return float(values @ weights / total) if total > 0 else math.nan


def weighted_quantile(share: float) -> Callable[[Floats, Floats], float]:
    """Return the statistic "smallest value with at least `share` of the weight at or below it"."""

    def quantile(values: Floats, weights: Floats) -> float:
        order = np.argsort(values, kind="stable")
        heaped = np.cumsum(weights[order])
        if heaped[-1] <= 0:
            return math.nan
        place = int(np.searchsorted(heaped, share * heaped[-1] * (1 - 1e-12)))
        return float(values[order][min(place, len(values) - 1)])

    return quantile


def half_samples(
    sets: Sequence[np.ndarray], *, replicates: int, seed: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield random halves of the groups of each set, as sorted numbers of groups.

    Bootstrap replicates would repeat samples, which nearest neighbours and kernels take for copies;
    halves of groups of identities repeat nothing.

    Args:
        sets: the group number of each sample, [N] int64 a set.
        replicates: how many times; none where a set has fewer than 4 groups.
        seed: of the choice.
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
    reach = float(stats.t.ppf((1 + LEVEL) / 2, _DEGREES)) * spread
    low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
    return Estimate(value=value, low=low, high=high, n=n)


def check_finite(values: np.ndarray, name: str) -> Floats:
    """Return the values as float64. Raises: ValueError naming how many are NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(f"{name}: numbers must be finite, {bad} of {array.size} are not")
    return array
