"""Do samples show training identities? Always beside what unrelated, held-out identities give.

The nearest of many training images is an extreme value: identities that were never seen have a near
neighbour too. What counts is the excess over held-out identities, with an interval over identities.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import stats

from metrics import NotMeasuredError
from metrics.estimates import (
    Estimate,
    Floats,
    check_finite,
    clustered,
    clustered_share,
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

_STATISTICS = {
    "mean": weighted_mean,
    "median": weighted_quantile(0.5),
    "p95": weighted_quantile(0.95),
    "p99": weighted_quantile(0.99),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Images of one kind: training identities, held-out identities or samples.

    Attributes:
        vectors: [N, E] embeddings, none missing.
        identities: the identity of each.
    """

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
    """A number of samples beside that of held-out identities.

    Attributes:
        samples: of the samples.
        heldout: of held-out identities; None without any.
        excess: difference of the two, which is the leak; None without held-out identities.
    """

    samples: Estimate
    heldout: Estimate | None
    excess: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Above(Compared):
    """Shares of images at or above a threshold of the recogniser.

    Attributes:
        fmr: false match rate at which the threshold was set.
        threshold: cosine.
    """

    fmr: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class CopyTest:
    """Meehan's test of whether samples are nearer to training images than held-out ones are.

    Attributes:
        c_t: z value of Mann-Whitney's U; well below 0 says that training images were copied.
        p_value: one-sided, for independent images.
        chance: probability that a sample is nearer than a held-out image; 0.5 is no difference.
    """

    c_t: float
    p_value: float
    chance: Estimate


@dataclass(frozen=True, kw_only=True)
class PrivacyScore:
    """What `score_privacy` finds.

    Attributes:
        nearest: of each sample.
        heldout_similarity: [H] float32 of each held-out image; empty without any.
        statistics: "mean", "median", "p95", "p99" of the nearest similarity.
        maximum: of the samples; of held-out identities.
        above: shares above thresholds.
        copies: C_T; None without held-out identities.
        authentic: share of samples further from their nearest training image than that one is
            from its nearest other training image (AuthPct).
        authentic_person: the same with the nearest training image of another identity; None where
            there is one identity only.
        membership_auc: of telling training images from held-out ones by their similarity to the
            nearest sample; None without held-out identities.
    """

    nearest: Nearest
    heldout_similarity: np.ndarray
    statistics: Mapping[str, Compared]
    maximum: tuple[float, float | None]
    above: tuple[Above, ...]
    copies: CopyTest | None
    authentic: Estimate
    authentic_person: Estimate | None
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
) -> PrivacyScore:
    """Measure by one recogniser how much nearer samples are to training identities than others are.

    Args:
        samples: of the generator or data set in question.
        training: all images of all training identities.
        heldout: real identities that the generator never saw; None leaves out what needs them.
        thresholds: FMR -> cosine.
        device: of the nearest neighbours.
    Raises: ValueError for an identity in both real groups, other widths, NaN or zero vectors.
    Source: nearest and thresholds: Beyond-Real-Faces (arXiv:2510.17372); membership by retrieval:
        Otroshi & Marcel 2024 (arXiv:2410.24015).
    """
    if heldout is not None:
        check_strangers(heldout.identities, training.identities)
    known = References(training.vectors, device=device)
    nearest = known.nearest(samples.vectors)
    own = nearest.scores.astype(np.float64)
    sides = [(own, samples.identities)]
    if heldout is not None:
        other = known.nearest(heldout.vectors).scores.astype(np.float64)
        sides.append((other, heldout.identities))
    if len(training.vectors) < 2:
        raise NotMeasuredError("privacy needs at least two training images, got 1")
    identities, count = group_numbers(training.identities)
    images = np.arange(len(identities))
    authentic = partial(_authentic, nearest, samples, training, device=device, seed=seed)
    membership = None
    if heldout is not None:
        membership = membership_auc(training, heldout, samples, device=device, seed=seed)
    levels = sorted(thresholds.items())[::-1]
    return PrivacyScore(
        nearest=nearest,
        heldout_similarity=sides[1][0].astype(np.float32) if heldout else np.empty(0, np.float32),
        statistics={name: _compared(sides, s, seed) for name, s in _STATISTICS.items()},
        maximum=(float(own.max()), float(sides[1][0].max()) if heldout else None),
        above=tuple(_above(sides, fmr, threshold, seed) for fmr, threshold in levels),
        copies=copy_test(*sides[0], *sides[1], seed=seed) if heldout else None,
        authentic=authentic(images),
        authentic_person=authentic(identities) if count > 1 else None,
        membership_auc=membership,
    )


def copy_test(
    samples: np.ndarray,
    sample_identities: Sequence[str],
    heldout: np.ndarray,
    heldout_identities: Sequence[str],
    *,
    seed: int = 0,
) -> CopyTest:
    """Compare similarities to the nearest training image, of samples and of held-out images.

    The test is over the whole space, not over cells of it.

    Raises: ValueError for no images or NaN.
    Source: Meehan, Chaudhuri & Dasgupta 2020 (arXiv:2004.05675), C_T with one cell.
    """
    a, b = check_finite(samples, "samples"), check_finite(heldout, "held-out")
    if len(a) == 0 or len(b) == 0:
        raise NotMeasuredError(
            f"the test needs samples and held-out images, got {len(a)}, {len(b)}"
        )
    ranks = stats.rankdata(np.concatenate([a, b]))
    u = float(ranks[: len(a)].sum()) - len(a) * (len(a) + 1) / 2
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    total = len(a) + len(b)
    correction = float((ties**3 - ties).sum()) / (total * max(total - 1, 1))
    deviation = math.sqrt(len(a) * len(b) / 12 * (total + 1 - correction))
    z = (len(a) * len(b) / 2 - u) / deviation if deviation > 0 else 0.0
    chance = _difference(
        ((a, sample_identities), (b, heldout_identities)), _chance_above, seed, len(a) + len(b)
    )
    return CopyTest(c_t=z, p_value=float(stats.norm.cdf(z)), chance=chance)


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
    return _difference(sides, _chance_above, seed, len(members) + len(others))


def _compared(sides: Sequence[Side], statistic: Statistic, seed: int) -> Compared:
    estimates = [
        clustered(values, identities, statistic, seed=seed) for values, identities in sides
    ]
    if len(sides) < 2:
        return Compared(samples=estimates[0], heldout=None, excess=None)

    def difference(a: Floats, wa: Floats, b: Floats, wb: Floats) -> float:
        return statistic(a, wa) - statistic(b, wb)

    excess = _difference((sides[0], sides[1]), difference, seed, len(sides[0][0]))
    return Compared(samples=estimates[0], heldout=estimates[1], excess=excess)


def _above(sides: Sequence[Side], fmr: float, threshold: float, seed: int) -> Above:
    flags = [((values >= threshold) * 1.0, identities) for values, identities in sides]
    shares = [clustered_share(values, identities, seed=seed) for values, identities in flags]
    excess = _compared(flags, weighted_mean, seed).excess
    heldout = shares[1] if len(sides) > 1 else None
    return Above(fmr=fmr, threshold=threshold, samples=shares[0], heldout=heldout, excess=excess)


def _authentic(
    nearest: Nearest,
    samples: Group,
    training: Group,
    numbers: np.ndarray,
    *,
    device: torch.device | str,
    seed: int,
) -> Estimate:
    """Return AuthPct, where training images of equal numbers are not each other's neighbours.

    Source: Alaa et al. 2022 (arXiv:2102.08921), with cosines instead of distances.
    """
    used, rows = np.unique(nearest.indices, return_inverse=True)
    known = References(training.vectors, numbers, device=device)
    around = known.nearest(training.vectors[used], groups=numbers[used])
    is_authentic = nearest.scores < around.scores[rows]
    return clustered_share(is_authentic, samples.identities, seed=seed)


def _chance_above(a: Floats, wa: Floats, b: Floats, wb: Floats) -> float:
    """Return the weighted probability that a value of `a` is above one of `b`; ties count half."""
    if wa.sum() <= 0 or wb.sum() <= 0:
        return math.nan
    order = np.argsort(b, kind="stable")
    heaped = np.concatenate([[0.0], np.cumsum(wb[order])])
    below = heaped[np.searchsorted(b[order], a, side="left")]
    up_to = heaped[np.searchsorted(b[order], a, side="right")]
    return float(wa @ (below + up_to) / 2 / (wa.sum() * wb.sum()))


def _difference(sides: tuple[Side, Side], statistic: TwoSided, seed: int, n: int) -> Estimate:
    """Return a statistic of two independent groups; the identities of each are resampled apart."""
    (a, first), (b, second) = sides
    (rows, count), (others, other_count) = group_numbers(first), group_numbers(second)
    whole = statistic(a, np.ones(len(a)), b, np.ones(len(b)))
    draws = zip(multiplicities(count, seed), multiplicities(other_count, seed + 1), strict=True)
    drawn = [statistic(a, draw[rows], b, other[others]) for draw, other in draws]
    return estimate_of(whole, drawn, n=n, clusters=min(count, other_count))
