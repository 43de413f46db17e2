"""Do samples show training identities? Always beside what unrelated, held-out identities give.

The nearest of many training images is an extreme value: identities that were never seen have a near
neighbour too. What counts is the excess over held-out identities, with an interval over identities.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from metrics import NotMeasuredError
from metrics.estimates import (
    REPLICATES,
    Z95,
    Estimate,
    Floats,
    bounded_share,
    clustered,
    estimate_of,
    group_numbers,
    multiplicities,
    weighted_mean,
    weighted_quantile,
)
from metrics.nearest import Nearest, References

Side = tuple[np.ndarray, Sequence[str]]  # values, and the identity of each
Statistic = Callable[[Floats, Floats], float]  # values, weights
TwoSided = Callable[[Floats, Floats, Floats, Floats], float]  # the same of two groups

ALARM_RATE = 0.05
_NEAR_IDENTICAL = 0.9995
_IDENTICAL = 1 - 1e-6  # equal pixels, up to the rounding of float32
_SMALLEST_DISTANCE = 1e-7  # of float32 cosines
_MIN_STRANGERS = 10
_MIN_TAIL, _TAIL_SHARE = 5, 0.2
_STATISTICS = {
    "mean": weighted_mean,
    "median": weighted_quantile(0.5),
    "p95": weighted_quantile(0.95),
    "p99": weighted_quantile(0.99),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Embeddings [N, E], none missing, of images of one kind, and the identity of each."""

    vectors: np.ndarray
    identities: Sequence[str]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not 0 < len(self.vectors) == len(self.identities):
            raise ValueError(
                "a group needs embeddings [N, E] with N >= 1 and as many identities, got "
                f"{list(self.vectors.shape)} and {len(self.identities)}"
            )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A number of samples beside that of held-out identities; None without any.

    Attributes:
        samples, heldout: of the two.
        excess: their difference, a leak where samples are as sharp and varied as held-out images.
    """

    samples: Estimate
    heldout: Estimate | None
    excess: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Above(Compared):
    """Shares of images at or above a cosine, which is the recogniser's threshold at an FMR."""

    fmr: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class CopyTest:
    """Meehan's test of whether samples are nearer to training images than held-out ones are.

    Attributes:
        c_t: 0.5 - chance, in units of its deviation where identities change sides at random (as
            images of one identity are not independent); below -3 says that images were copied.
        chance: probability that a sample is nearer than a held-out image; 0.5 is no difference.
    """

    c_t: float
    chance: Estimate


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Samples that are nearer to a training image than strangers come.

    Attributes:
        threshold: cosine at or above which a sample counts as a copy.
        rows: of those samples, the nearest first.
    """

    threshold: float
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PrivacyScore:
    """What `score_privacy` finds; None for what needs held-out identities, without any.

    Attributes:
        nearest: of each sample.
        heldout_similarity: [H] float32 of each held-out image; empty without any.
        statistics: "mean", "median", "p95", "p99" of the nearest similarity.
        maximum: of the samples; of held-out identities.
        above: shares above thresholds.
        copies: single samples that are copies.
        copy_test: C_T.
        authentic: share of images further from their nearest training image than that one is
            from its nearest other training image (AuthPct).
        authentic_identity: the same with the nearest training image of another identity; None where
            there is one identity only.
        nearer_training: share of samples nearer to training than to held-out identities.
        membership_auc: of telling training images from held-out ones by their similarity to the
            nearest sample.
    """

    nearest: Nearest
    heldout_similarity: np.ndarray
    statistics: Mapping[str, Compared]
    maximum: tuple[float, float | None]
    above: tuple[Above, ...]
    copies: Copies
    copy_test: CopyTest | None
    authentic: Compared
    authentic_identity: Compared | None
    nearer_training: Estimate | None
    membership_auc: Estimate | None


def check_strangers(heldout: Iterable[str], training: Iterable[str]) -> None:
    """Refuse held-out identities that are training identities. Raises: ValueError."""
    shared = sorted(set(heldout) & set(training))
    if shared:
        raise ValueError(
            f"held-out identities must not be training identities; {len(shared)} are both, "
            f"the first is {shared[0]!r}"
        )


def score_privacy(
    samples: Group,
    training: Group,
    heldout: Group | None,
    thresholds: Mapping[float, float],
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    alarm_rate: float = ALARM_RATE,
) -> PrivacyScore:
    """Measure by one recogniser how much nearer samples are to training identities than others are.

    Args:
        samples: of the generator or data set in question.
        training: all images of all training identities.
        heldout: real identities that the generator never saw; None leaves out what needs them.
        thresholds: FMR -> cosine.
        device: of the nearest neighbours.
        seed: of resampling.
        alarm_rate: of `find_copies`.
    Raises: ValueError for an identity in both real groups, other widths, NaN or zero vectors.
    Source: nearest and thresholds: Beyond-Real-Faces (arXiv:2510.17372).
    """
    groups = [samples]
    if heldout is not None:
        check_strangers(heldout.identities, training.identities)
        groups.append(heldout)
    known = References(training.vectors, device=device)
    found = [known.nearest(group.vectors) for group in groups]
    sides = [
        (nearest.scores.astype(np.float64), group.identities)
        for nearest, group in zip(found, groups, strict=True)
    ]
    if len(training.vectors) < 2:
        raise NotMeasuredError("privacy needs at least two training images, got 1")
    identities, count = group_numbers(training.identities)
    authentic = partial(_authentic, found, groups, training, device=device, seed=seed)
    nearer = membership = None
    if heldout is not None:
        nearer = nearer_training(samples, training, heldout, device=device, seed=seed)
        membership = membership_auc(training, heldout, samples, device=device, seed=seed)
    levels = sorted(thresholds.items())[::-1]
    highest = [float(values.max()) for values, _ in sides]
    return PrivacyScore(
        nearest=found[0],
        heldout_similarity=found[1].scores if heldout else np.empty(0, np.float32),
        statistics={name: _compared(sides, s, seed) for name, s in _STATISTICS.items()},
        maximum=(highest[0], highest[1] if heldout else None),
        above=tuple(_above(sides, fmr, threshold, seed) for fmr, threshold in levels),
        copies=find_copies(*sides, alarm_rate=alarm_rate),
        copy_test=copy_test(*sides, seed=seed) if heldout else None,
        authentic=authentic(np.arange(len(identities))),
        authentic_identity=authentic(identities) if count > 1 else None,
        nearer_training=nearer,
        membership_auc=membership,
    )


def find_copies(
    samples: Side, heldout: Side | None = None, *, alarm_rate: float = ALARM_RATE
) -> Copies:
    """Return the samples that are nearer to a training image than strangers are expected to come.

    Near its nearest neighbour, the distance 1 - cosine of strangers falls like a power law, whose
    exponent the nearest fifth of the held-out identities gives (each by its nearest image). The
    threshold is where one false alarm among all samples has the probability `alarm_rate`; samples
    count as if all of them were independent, in units of the images of a held-out identity. Equal
    pixels are a copy whatever strangers do.

    Args:
        samples: cosine to the nearest training image, and identity, of each sample.
        heldout: the same of held-out images; with fewer than 10 identities the threshold is fixed.
        alarm_rate: probability that a set without any copy has one named.
    Source: peaks over threshold with an exponential tail of -log(1 - cosine), Pickands 1975; the
        power law of nearest neighbours, Levina & Bickel 2004 (their estimator of dimension).
    """
    values = np.asarray(samples[0], np.float64)
    numbers, count = group_numbers(heldout[1]) if heldout is not None else (np.empty(0), 0)
    threshold = _NEAR_IDENTICAL
    if heldout is not None and count >= _MIN_STRANGERS:
        nearest = np.full(count, -1.0)
        np.maximum.at(nearest, numbers, np.asarray(heldout[0], np.float64))
        tail = -np.log(np.maximum(1 - np.sort(nearest)[::-1], _SMALLEST_DISTANCE))
        k = max(_MIN_TAIL, round(count * _TAIL_SHARE))
        slope = float((tail[:k] - tail[k]).mean())
        expected = len(values) / (len(numbers) / count) * k / count
        # exp(-t) would take the slope for known; with one of k distances it is (1 + t / k)^-k.
        reach = tail[k] + slope * k * (max(expected / alarm_rate, 1.0) ** (1 / k) - 1)
        threshold = min(1 - math.exp(-reach), _IDENTICAL)
    order = np.argsort(-values, kind="stable")
    rows = tuple(order[values[order] >= threshold].tolist())
    return Copies(threshold=threshold, rows=rows)


def copy_test(samples: Side, heldout: Side, *, seed: int = 0) -> CopyTest:
    """Compare similarities to the nearest training image, of samples and of held-out images.

    The test is over the whole space, not over cells of it.

    Source: Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675), C_T with one cell.
    """
    chance = _difference((samples, heldout), _chance_above, seed)
    error = _null_deviation((samples, heldout), seed)
    return CopyTest(c_t=(0.5 - chance.value) / error if error > 0 else 0.0, chance=chance)


def membership_auc(
    training: Group,
    heldout: Group,
    samples: Group,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Estimate:
    """Return how well nearness to the samples tells training images from held-out ones.

    0.5 is chance. Identities, not images, are resampled.

    Source: Otroshi & Marcel 2024 (arXiv:2410.24015).
    """
    known = References(samples.vectors, device=device)
    members, others = (
        known.nearest(group.vectors).scores.astype(np.float64) for group in (training, heldout)
    )
    sides = (members, training.identities), (others, heldout.identities)
    return attack_auc(*sides, seed=seed)


def attack_auc(members: Side, others: Side, *, seed: int = 0) -> Estimate:
    """Return how well a score tells members from others: the chance that a member's is higher.

    0.5 is chance; ties count half. Identities, not images, are resampled.
    """
    return _difference((members, others), _chance_above, seed)


def nearer_training(
    samples: Group,
    training: Group,
    heldout: Group,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Estimate:
    """Return the share of samples that are nearer to a training than to a held-out identity.

    0.5 is chance: as many identities of each side count, with as many images, so that a generator
    that has seen neither cannot tell them apart, however blurred, typical or selected its samples
    are. Numbers that compare samples with held-out images, such as C_T, cannot say that. The width
    of the interval is that of the share where pairs of a training and a held-out identity change
    sides at random.

    Source: share of records nearer to training than to holdout data, Platzer & Reutterer 2021
        (arXiv:2104.00635), here over identities.
    """
    known, others, pair = _matched_rows(training.identities, heldout.identities, seed)
    gallery = np.concatenate([training.vectors[known], heldout.vectors[others]])
    nearest = References(gallery, device=device).nearest(samples.vectors).indices
    is_training, pairs = nearest < len(known), np.tile(pair, 2)[nearest]
    # What a pair adds to the share changes its sign where the pair changes sides.
    parts = np.bincount(pairs, np.where(is_training, 0.5, -0.5)) / len(pairs)
    value, reach = float(is_training.mean()), Z95 * math.sqrt(parts @ parts)
    return Estimate(
        value=value,
        low=max(value - reach, 0.0),
        high=min(value + reach, 1.0),
        n=len(pairs),
        clusters=len(np.unique(pairs)),
    )


def _matched_rows(
    training: Sequence[str], heldout: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair identities of both sides at random, and as many images of each.

    Returns: rows of training images, as many of held-out images, and the pair that each is of.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(training)])))
    sides = []
    for names in (training, heldout):
        numbers, count = group_numbers(names)
        order = rng.permutation(len(numbers))
        order = order[np.argsort(numbers[order], kind="stable")]
        of_identity = np.split(order, np.bincount(numbers, minlength=count).cumsum()[:-1])
        sides.append([of_identity[number] for number in rng.permutation(count)])
    least = min(len(side) for side in sides)
    # Those with many images are paired with each other, so that few are left out.
    known, others = (sorted(side[:least], key=len) for side in sides)
    images = [min(len(a), len(b)) for a, b in zip(known, others, strict=True)]
    rows = [
        np.concatenate([own[:n] for own, n in zip(side, images, strict=True)])
        for side in (known, others)
    ]
    return rows[0], rows[1], np.repeat(np.arange(least), images)


def _compared(sides: Sequence[Side], statistic: Statistic, seed: int) -> Compared:
    estimates = [
        clustered(values, identities, statistic, seed=seed) for values, identities in sides
    ]
    if len(sides) < 2:
        return Compared(samples=estimates[0], heldout=None, excess=None)

    def difference(a: Floats, wa: Floats, b: Floats, wb: Floats) -> float:
        return statistic(a, wa) - statistic(b, wb)

    excess = _difference((sides[0], sides[1]), difference, seed)
    return Compared(samples=estimates[0], heldout=estimates[1], excess=excess)


def _above(sides: Sequence[Side], fmr: float, threshold: float, seed: int) -> Above:
    flags = [((values >= threshold) * 1.0, identities) for values, identities in sides]
    return Above(fmr=fmr, threshold=threshold, **vars(_compared_shares(flags, seed)))


def _compared_shares(flags: Sequence[Side], seed: int) -> Compared:
    found = _compared(flags, weighted_mean, seed)
    heldout = None if found.heldout is None else bounded_share(found.heldout)
    return replace(found, samples=bounded_share(found.samples), heldout=heldout)


def _authentic(
    found: Sequence[Nearest],
    groups: Sequence[Group],
    training: Group,
    numbers: np.ndarray,
    *,
    device: torch.device | str,
    seed: int,
) -> Compared:
    """Return AuthPct, where training images of equal numbers are not each other's neighbours.

    Source: Alaa et al. 2022 (arXiv:2102.08921), with cosines instead of distances.
    """
    known = References(training.vectors, numbers, device=device)
    flags = []
    for nearest, group in zip(found, groups, strict=True):
        used, rows = np.unique(nearest.indices, return_inverse=True)
        around = known.nearest(training.vectors[used], groups=numbers[used])
        flags.append(((nearest.scores < around.scores[rows]) * 1.0, group.identities))
    return _compared_shares(flags, seed)


def _chance_above(a: Floats, wa: Floats, b: Floats, wb: Floats) -> float:
    """Return the weighted probability that a value of `a` is above one of `b`; ties count half."""
    if wa.sum() <= 0 or wb.sum() <= 0:
        return math.nan
    order = np.argsort(b, kind="stable")
    heaped = np.concatenate([[0.0], np.cumsum(wb[order])])
    below = heaped[np.searchsorted(b[order], a, side="left")]
    up_to = heaped[np.searchsorted(b[order], a, side="right")]
    return float(wa @ (below + up_to) / 2 / (wa.sum() * wb.sum()))


def _null_deviation(sides: tuple[Side, Side], seed: int) -> float:
    """Return the deviation of `_chance_above` from 0.5 where whole identities change sides."""
    values = np.concatenate([side[0] for side in sides])
    (rows, count), (others, other_count) = (group_numbers(side[1]) for side in sides)
    numbers = np.concatenate([rows, others + count])
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(values)])))
    found = []
    for _ in range(REPLICATES):
        is_first = np.zeros(count + other_count)
        is_first[rng.permutation(count + other_count)[:count]] = 1.0
        weights = is_first[numbers]
        found.append(_chance_above(values, weights, values, 1 - weights) - 0.5)
    return float(np.sqrt(np.mean(np.square(found))))


def _difference(sides: tuple[Side, Side], statistic: TwoSided, seed: int) -> Estimate:
    """Return a statistic of two independent groups; the identities of each are resampled apart."""
    (a, first), (b, second) = sides
    (rows, count), (others, other_count) = group_numbers(first), group_numbers(second)
    whole = statistic(a, np.ones(len(a)), b, np.ones(len(b)))
    draws = zip(multiplicities(count, seed), multiplicities(other_count, seed + 1), strict=True)
    drawn = [statistic(a, draw[rows], b, other[others]) for draw, other in draws]
    n = len(a) + len(b)
    return estimate_of(whole, drawn, n=n, clusters=min(count, other_count))
