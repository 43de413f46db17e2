"""Mated and non-mated comparisons of images, and the distributions of their similarity scores.

A comparison is mated where both images show one identity. Images that could not be enrolled have
embeddings of NaN; their comparisons count as failed, and no threshold ever accepts them. Few scores
are kept as they are. Many are computed in blocks and counted in bins, so that a million images
against a million need little more memory than their embeddings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from metrics import NotMeasuredError
from metrics.estimates import Floats, check_finite, group_numbers

RULE_OF_3 = 3  # no error in N independent trials bounds the rate by 3 / N with 95 % confidence
BINS = 20_000  # from -1 to 1, each 1e-4 wide; a score on an edge belongs to the bin above
EXACT_LIMIT = 500_000  # comparisons whose scores are kept as they are
EDGES = np.round(2 * np.arange(BINS + 1) / BINS - 1, 9)
GROUPS, BLOCK = 32, 2048

Names = Sequence[str] | np.ndarray
Codes = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Scores:
    """The distribution of one kind of scores; mean and variance are NaN without weight.

    Attributes:
        values: [V] float64, distinct, ascending. A score counts at the largest value that is not
            above it, so that shares at these thresholds are exact.
        weights: [V] float64 weight at each value.
        failed: weight of the comparisons that could not be made.
        mean, variance: of the scores themselves, not of the grid.
    """

    values: Floats
    weights: Floats
    failed: float
    mean: float
    variance: float

    @property
    def number(self) -> float:
        """Weight of all scores together: how many there are."""
        return float(self.weights.sum())

    def share_below(self, threshold: float) -> float:
        """Return the share of scores below a threshold: of mated ones, the FNMR."""
        return float(self.weights[self.values < threshold].sum()) / self.number

    def share_from(self, threshold: float) -> float:
        """Return the share of scores at or above a threshold: of non-mated ones, the FMR."""
        return float(self.weights[self.values >= threshold].sum()) / self.number

    def lowest_edge(self, largest_share: float) -> float:
        """Return the lowest edge of the bins with at most that share of scores at or above it.

        The operating point of a false match rate, in the filter and in the evaluation.
        """
        above = np.cumsum(self.weights[::-1])[::-1]
        rest = np.flatnonzero(above > self._allowed(largest_share))
        return float(EDGES[bin_of(self.values[rest[-1]]) + 1]) if len(rest) else -1.0

    def highest_edge(self, largest_share: float) -> float:
        """Return the highest edge of the bins with at most that share of scores below it."""
        up_to = np.cumsum(self.weights)
        rest = np.flatnonzero(up_to > self._allowed(largest_share))
        return float(EDGES[bin_of(self.values[rest[0]])]) if len(rest) else 1.0

    def _allowed(self, share: float) -> float:
        return math.floor(share * self.number + 1e-9)


@dataclass(frozen=True, eq=False)
class Tally:
    """The scores of mated and of non-mated comparisons, at the same values."""

    mated: Scores
    non_mated: Scores


@dataclass(frozen=True, kw_only=True)
class Side:
    """Images that are compared.

    Attributes:
        vectors: [N, E] float32 rows of unit length; NaN rows could not be enrolled.
        identities: of each.
        captures: images of both sides with the same one and identity are not compared (the RGB and
            the NIR image of a pair); None compares all.
    """

    vectors: np.ndarray
    identities: Sequence[str]
    captures: Sequence[str] | None = None

    def __post_init__(self) -> None:
        rows = len(self.vectors)
        if self.vectors.ndim != 2 or rows == 0:
            raise ValueError(f"embeddings must be [N, E] with N >= 1, got {self.vectors.shape}")
        given = [self.identities, *([] if self.captures is None else [self.captures])]
        if any(len(names) != rows for names in given):
            raise ValueError(f"{rows} embeddings need as many names, got {[*map(len, given)]}")


def compare(
    gallery: Side,
    probes: Side | None = None,
    *,
    exact_limit: int = EXACT_LIMIT,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> "Comparisons":
    """Compare all images of one side with each other, or every gallery image with every probe.

    Args:
        gallery, probes: the sides; without probes each pair of images is compared once.
        exact_limit: comparisons that are kept as they are; more are counted in bins.
        device: of the products.
        seed: of the groups of identities, see `count_comparisons`.
    Raises: NotMeasuredError where no mated, or no non-mated, comparison could be made.
    """
    count = len(gallery.vectors)
    number = count * (count - 1) // 2 if probes is None else count * len(probes.vectors)
    if number > exact_limit:
        found = count_comparisons(gallery, probes, device=device, seed=seed)
    else:
        kept = []
        for block in _in_blocks(gallery, probes, device=device)[1]:
            scores = torch.where(block.is_made(), block.scores().double(), -math.inf)
            i, j = torch.nonzero(block.is_tried(), as_tuple=True)
            identities = block.first.identities[i], block.second.identities[j]
            kept.append(torch.stack([scores[i, j], *identities]).cpu().numpy())
        every, first, second = np.concatenate(kept, axis=1)
        found = exact_comparisons(every, first == second, first, second)
    if found.num_mated == 0 or found.num_non_mated == 0:
        raise NotMeasuredError(
            "verification needs two identities and two images of one of them: "
            f"got {found.num_mated} mated and {found.num_non_mated} non-mated comparisons"
        )
    return found


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Return the bins of scores, 0..BINS - 1; rounding does not move a score below its edge."""
    return np.floor((np.asarray(scores) + 1) * (BINS / 2) + 1e-6).clip(0, BINS - 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Counts:
    """How often each value was scored, in rows: one a comparison, or one a pair of groups.

    Attributes:
        clusters: numbers of the identity of each row, or of the two of non-mated ones.
        counts: [rows, V] numbers of scores, dense or sparse. Products of integers would copy
            them each time; float64 counts exactly up to 2**53.
        failed: [rows] comparisons that could not be made.
        sums: [rows, 2] sums and sums of squares of the scores; None where the values are exact.
    """

    clusters: Sequence[Codes]
    counts: Floats | sparse.csr_array
    failed: np.ndarray
    sums: Floats | None = None

    @classmethod
    def in_bins(cls, *clusters: Codes) -> "_Counts":
        rows = len(clusters[0])
        return cls(clusters, np.zeros((rows, BINS)), np.zeros(rows), np.zeros((rows, 2)))

    def add(self, row: int, scores: Tensor, failed: int = 0, sign: int = 1) -> None:
        """Count scores in the bins of a row; a sign of -1 takes them off."""
        values = scores.double()
        self.failed[row] += sign * failed
        self.sums[row] += sign * np.array([float(values.sum()), float(values @ values)])
        bins = values.add_(1).mul_(BINS / 2).add_(1e-6).floor_().clamp_(0, BINS - 1).int()
        self.counts[row] += sign * torch.bincount(bins, minlength=BINS).cpu().numpy()

    def weigh(self, values: Floats, draw: Floats) -> Scores:
        """Return the scores where cluster k occurs draw[k] times."""
        rows = np.prod([draw[codes] for codes in self.clusters], axis=0)
        weights = rows @ self.counts
        total = float(weights.sum())
        mean = variance = math.nan
        if total > 0 and self.sums is None:
            mean = float(values @ weights / total)
            variance = float(((values - mean) ** 2) @ weights / total)
        elif total > 0:
            mean, square = (rows @ self.sums / total).tolist()
            variance = max(square - mean**2, 0.0)
        return Scores(values, weights, float(rows @ self.failed), mean, variance)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """The scores of mated and of non-mated comparisons, and whose they are.

    Attributes:
        values: [V] at which scores are counted.
        mated, non_mated: counts at these values.
        clusters: number of identities, or of groups of them, which a bootstrap draws.
        resolution: width of the bins; None where scores are exact.
    """

    values: Floats
    mated: _Counts
    non_mated: _Counts
    clusters: int
    resolution: float | None = None

    @property
    def num_mated(self) -> int:
        """Number of mated scores."""
        return round(self.mated.counts.sum())

    @property
    def num_non_mated(self) -> int:
        """Number of non-mated scores."""
        return round(self.non_mated.counts.sum())

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where cluster k occurs draw[k] times; None is once each.

        A mated comparison then weighs draw[k], a non-mated one draw[k] * draw[l]: copies of one
        identity are not compared with each other.
        """
        draw = np.ones(self.clusters) if draw is None else draw
        return Tally(*(kind.weigh(self.values, draw) for kind in (self.mated, self.non_mated)))


def exact_comparisons(
    scores: np.ndarray, is_mated: Sequence[bool] | np.ndarray, first: Names, second: Names
) -> Comparisons:
    """Return comparisons whose scores are kept as they are.

    Args:
        scores: [C]; -inf is a comparison that failed.
        is_mated: [C] whether both images are said to show one identity.
        first, second: [C] names or numbers of the identities; of mated ones the first counts.
    Raises: ValueError for NaN.
    """
    is_mated = np.asarray(is_mated, bool)
    second = np.where(is_mated, first, second)
    codes, clusters = group_numbers(np.concatenate([first, second]))
    first, second = np.split(codes, 2)
    is_failed = np.isneginf(scores)
    values, places = np.unique(check_finite(scores[~is_failed], "scores"), return_inverse=True)
    counts = sparse.csr_array(
        (np.ones(len(places)), places.reshape(-1), [0, *np.cumsum(~is_failed)]),
        shape=(len(scores), len(values)),
    )
    own, both = [first[is_mated]], [first[~is_mated], second[~is_mated]]
    mated = _Counts(own, counts[is_mated], is_failed[is_mated])
    return Comparisons(
        values, mated, _Counts(both, counts[~is_mated], is_failed[~is_mated]), clusters
    )


def count_comparisons(
    gallery: Side,
    probes: Side | None = None,
    *,
    groups: int = GROUPS,
    block: int = BLOCK,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Comparisons:
    """Count scores in bins, for every two groups of identities by themselves.

    A bootstrap draws groups, each a random share of the identities, or a single one of few. Rates
    at the edges of bins, means and variances are exact.

    Args:
        gallery, probes: as of `compare`.
        groups: of identities, at most.
        block: rows and columns of scores in memory at once.
        device: of the products.
        seed: of the groups.
    """
    number, blocks = _in_blocks(
        gallery, probes, groups=groups, size=block, device=device, seed=seed
    )
    mated = _Counts.in_bins(np.arange(number))
    non_mated = _Counts.in_bins(*np.divmod(np.arange(number**2), number))
    for part in blocks:
        # All count as non-mated; then the mated ones, which are few, are taken off.
        row, scores = part.g * number + part.h, part.scores()
        if part.is_whole():
            non_mated.add(row, scores.flatten())
        else:
            is_made, is_tried = part.is_made(), part.is_tried()
            non_mated.add(row, scores[is_made & is_tried], int((is_tried & ~is_made).sum()))
        if part.g == part.h:  # two groups share no identity
            i, j = torch.nonzero(part.is_mated() & part.is_tried(), as_tuple=True)
            is_made = part.is_made()[i, j]
            found = scores[i, j][is_made], int((~is_made).sum())
            non_mated.add(row, *found, sign=-1)
            mated.add(part.g, *found)
    return Comparisons(EDGES[:-1], mated, non_mated, number, 2 / BINS)


class _Rows(NamedTuple):
    """Some images of a side; both sides share the numbers of identities and captures."""

    vectors: Tensor
    identities: Tensor
    captures: Tensor
    is_enrolled: Tensor

    def split(self, sizes: int | list[int]) -> list["_Rows"]:
        """Return consecutive parts, of these sizes or of at most this one."""
        return [_Rows(*part) for part in zip(*(c.split(sizes) for c in self), strict=True)]


@dataclass(frozen=True)
class _Block:
    """Some rows of one side against some rows of the other.

    Attributes:
        g, h: groups of their identities.
        first, second: the rows.
        is_self: whether these are the same rows.
        is_apart: whether no two images are of one capture, and of one identity at the same time.
    """

    g: int
    h: int
    first: _Rows
    second: _Rows
    is_self: bool
    is_apart: bool

    def scores(self) -> Tensor:
        """[rows, columns] float32; anything where a comparison cannot be made."""
        return self.first.vectors @ self.second.vectors.T

    def is_whole(self) -> bool:
        """Whether every score counts."""
        are_enrolled = (bool(rows.is_enrolled.all()) for rows in (self.first, self.second))
        return self.is_apart and all(are_enrolled)

    def is_made(self) -> Tensor:
        """Whether both images are enrolled."""
        return self.first.is_enrolled[:, None] & self.second.is_enrolled

    def is_tried(self) -> Tensor:
        """Whether it is a comparison: of other captures, and each two images once."""
        if self.is_self:
            return torch.ones_like(self.is_mated()).triu(1)
        return ~(self.is_mated() & (self.first.captures[:, None] == self.second.captures))

    def is_mated(self) -> Tensor:
        """Whether both images show one identity."""
        return self.first.identities[:, None] == self.second.identities


def _in_blocks(
    gallery: Side,
    probes: Side | None,
    *,
    groups: int = 1,
    size: int = BLOCK,
    device: str | torch.device,
    seed: int = 0,
) -> tuple[int, Iterator[_Block]]:
    """Return the number of groups of identities, and all comparisons by these groups."""
    sides = [gallery] if probes is None else [gallery, probes]
    ends = np.cumsum([len(side.vectors) for side in sides])
    identities, count = group_numbers([name for side in sides for name in side.identities])
    captures = np.arange(ends[-1])  # all differ
    if probes is not None and all(side.captures is not None for side in sides):
        captures, _ = group_numbers([name for side in sides for name in side.captures or ()])
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, count])))
    number = min(groups, count)
    group_of = rng.permutation(count) % number
    cut = []
    numbers = (np.split(codes, ends[:-1]) for codes in (identities, captures))
    for side, own, names in zip(sides, *numbers, strict=True):
        vectors, group = np.asarray(side.vectors, np.float32), group_of[own]
        columns = vectors, own, names, np.isfinite(vectors).all(axis=1)
        order = np.argsort(group, kind="stable")
        rows = _Rows(*(torch.from_numpy(column[order]).to(device) for column in columns))
        sizes = np.bincount(group, minlength=number).tolist()
        cut.append([part.split(size) for part in rows.split(sizes)])
    return number, _pair_up(cut[0], cut[-1], is_one_side=probes is None)


def _pair_up(
    first: Sequence[Sequence[_Rows]], second: Sequence[Sequence[_Rows]], *, is_one_side: bool
) -> Iterator[_Block]:
    for g, group in enumerate(first):
        for h in range(g if is_one_side else 0, len(second)):
            is_own = is_one_side and g == h
            for i, rows in enumerate(group):
                for j in range(i if is_own else 0, len(second[h])):
                    is_self = is_own and i == j
                    is_apart = g != h or (is_own and i != j)
                    yield _Block(g, h, rows, second[h][j], is_self, is_apart)
