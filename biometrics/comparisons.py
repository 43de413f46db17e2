"""Mated and non-mated comparisons of images, and the distributions of their similarity scores.

A comparison is mated where both images show one identity. Images that could not be enrolled have
embeddings of NaN; their comparisons count as failed, and no threshold ever accepts them. Few scores
are kept as they are. Many are computed in blocks and counted in bins, so that a million images
against a million need little more memory than their embeddings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
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
    """The distribution of one kind of scores.

    Attributes:
        values: [V] float64, distinct, ascending. A score counts at the largest value that is not
            above it, so that shares at these thresholds are exact.
        weights: [V] float64 weight at each value.
        failed: weight of the comparisons that could not be made.
        mean, variance: of the scores themselves, not of the grid; NaN without weight.
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
        captures: names of the captures; images of both sides with the same name and identity are
            not compared with each other (the RGB and the NIR image of a pair). None compares all.
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
        seed: of the groups of identities, see HistogramComparisons.
    Raises: ValueError where there is no mated, or no non-mated, comparison.
    """
    count = len(gallery.vectors)
    number = count * (count - 1) // 2 if probes is None else count * len(probes.vectors)
    if number > exact_limit:
        return HistogramComparisons(gallery, probes, device=device, seed=seed)
    kept: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for block in _Matrix(gallery, probes, groups=1, device=device).blocks(0, 0, BLOCK):
        scores = torch.where(block.is_made(), block.scores().double(), -math.inf)
        for kind, found in kept.items():
            i, j = torch.nonzero((block.is_mated() == kind) & block.is_tried(), as_tuple=True)
            rows = torch.stack([scores[i, j], *block.identities(i, j)])
            found.append((rows[:, ~block.is_one_capture(i, j)] if kind else rows).cpu().numpy())
    (mated, mated_identities, _), (non_mated, *non_mated_identities) = (
        np.concatenate(found, axis=1) for found in kept.values()
    )
    check_counts(len(mated), len(non_mated))
    return ExactComparisons(mated, mated_identities, non_mated, tuple(non_mated_identities))


def check_counts(mated: int, non_mated: int) -> None:
    """Raise ValueError unless there are comparisons of both kinds."""
    if mated == 0 or non_mated == 0:
        raise NotMeasuredError(
            "verification needs two identities and two images of one of them: "
            f"got {mated} mated and {non_mated} non-mated comparisons"
        )


def bin_of(scores: np.ndarray) -> np.ndarray:
    """Return the bins of scores, 0..BINS - 1; rounding does not move a score below its edge."""
    return np.floor((np.asarray(scores) + 1) * (BINS / 2) + 1e-6).clip(0, BINS - 1).astype(np.int64)


class ExactComparisons:
    """All scores in memory.

    Attributes:
        clusters: number of identities, which a bootstrap draws.
        num_mated, num_non_mated: how many scores there are.
        resolution: width of the bins; None, as scores are exact.

    Args:
        mated: [M] scores; -inf is a comparison that failed.
        mated_identities: [M] name or number of the identity.
        non_mated: [N] scores, likewise.
        non_mated_identities: ([N], [N]) of the two identities.
    Raises: ValueError for NaN or other lengths.
    """

    resolution = None

    def __init__(
        self,
        mated: np.ndarray,
        mated_identities: Names,
        non_mated: np.ndarray,
        non_mated_identities: tuple[Names, Names],
    ) -> None:
        first, second = non_mated_identities
        if len(mated) != len(mated_identities) or not len(non_mated) == len(first) == len(second):
            raise ValueError("scores: a mated one needs one identity, a non-mated one two")
        codes, self.clusters = group_numbers(np.concatenate([mated_identities, first, second]))
        own, *both = np.split(codes, [len(mated), len(mated) + len(first)])
        self._kinds = (
            _Kept(np.asarray(mated), "mated scores", own),
            _Kept(np.asarray(non_mated), "non-mated scores", *both),
        )
        self.num_mated, self.num_non_mated = (len(kind.scores) for kind in self._kinds)
        self._values = np.unique(np.concatenate([kind.scores for kind in self._kinds]))
        self._places = [np.searchsorted(self._values, kind.scores) for kind in self._kinds]

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where identity k occurs draw[k] times; None is once each.

        A mated comparison then weighs draw[k], a non-mated one draw[k] * draw[l]: copies of one
        identity are not compared with each other.
        """
        draw = np.ones(self.clusters) if draw is None else draw
        found = []
        for kind, places in zip(self._kinds, self._places, strict=True):
            of_scores, of_failed = kind.weights(draw)
            weights = np.bincount(places, weights=of_scores, minlength=len(self._values))
            mean, variance = _mean_and_variance(self._values, weights)
            found.append(Scores(self._values, weights, float(of_failed.sum()), mean, variance))
        return Tally(*found)


class _Kept:
    """Scores of one kind with their identities; those of -inf are apart, as failed."""

    def __init__(self, scores: np.ndarray, name: str, *identities: Codes) -> None:
        self._is_failed = np.isneginf(scores)
        self.scores = check_finite(scores[~self._is_failed], name)
        self._identities = identities

    def weights(self, draw: Floats) -> tuple[Floats, Floats]:
        """Return the weights of the scores and of the failed comparisons."""
        weights = np.prod([draw[codes] for codes in self._identities], axis=0)
        return weights[~self._is_failed], weights[self._is_failed]


def _mean_and_variance(values: Floats, weights: Floats) -> tuple[float, float]:
    total = weights.sum()
    if total <= 0:
        return math.nan, math.nan
    mean = float(values @ weights / total)
    return mean, float(((values - mean) ** 2) @ weights / total)


class HistogramComparisons:
    """Counts of scores in bins, for every two groups of identities by themselves.

    A bootstrap draws groups, each a random share of the identities; with at most `groups`
    identities each is a group of its own. Rates at the edges of bins, means and variances are
    exact.

    Args:
        gallery: one side.
        probes: the other; None compares all images of the gallery with each other.
        groups: of identities.
        block: rows and columns of scores in memory at once.
        device: where the products are computed.
        seed: of the groups.
    Raises: ValueError where there is no mated, or no non-mated, comparison.
    """

    resolution = 2 / BINS

    def __init__(
        self,
        gallery: Side,
        probes: Side | None = None,
        *,
        groups: int = GROUPS,
        block: int = BLOCK,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        if block < 1 or groups < 1:
            raise ValueError(f"block and groups must be at least 1, got {block} and {groups}")
        matrix = _Matrix(gallery, probes, groups=groups, device=device, seed=seed)
        self.clusters = matrix.groups
        rows = {True: self.clusters, False: self.clusters**2}
        # Products of integers would copy them each time; float64 counts exactly up to 2**53.
        self._counts = {kind: np.zeros((count, BINS)) for kind, count in rows.items()}
        # number, sum, sum of squares and failed ones of each pair of groups
        self._sums = {kind: np.zeros((count, 4)) for kind, count in rows.items()}
        for g, h in matrix.pairs():
            for part in matrix.blocks(g, h, block):
                self._count(part, g, h)
        self.num_mated, self.num_non_mated = (
            round(self._sums[kind][:, 0].sum()) for kind in (True, False)
        )
        check_counts(self.num_mated, self.num_non_mated)

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where group k occurs draw[k] times, as of ExactComparisons."""
        draw = np.ones(self.clusters) if draw is None else draw
        weights = {True: draw, False: np.outer(draw, draw).ravel()}
        found = []
        for kind in (True, False):
            number, total, squares, failed = (weights[kind] @ self._sums[kind]).tolist()
            mean = total / number if number > 0 else math.nan
            variance = max(squares / number - mean**2, 0.0) if number > 0 else math.nan
            counts = weights[kind] @ self._counts[kind]
            found.append(Scores(EDGES[:-1], counts, failed, mean, variance))
        return Tally(*found)

    def _count(self, part: "_Block", g: int, h: int) -> None:
        """Count all comparisons as non-mated, then take the mated ones, which are few, off."""
        scores, place = part.scores(), g * self.clusters + h
        if part.is_whole():
            self._add(False, place, scores.flatten())
        else:
            is_made = part.is_made()
            self._add(False, place, scores[is_made & part.is_tried()])
            self._sums[False][place, 3] += int((part.is_tried() & ~is_made).sum())
        if g != h:  # two groups share no identity
            return
        i, j = torch.nonzero(part.is_mated() & part.is_tried(), as_tuple=True)
        is_made, is_wanted = part.is_made()[i, j], ~part.is_one_capture(i, j)
        self._add(False, place, scores[i, j][is_made], -1)
        self._sums[False][place, 3] -= int((~is_made).sum())
        self._add(True, g, scores[i, j][is_made & is_wanted])
        self._sums[True][g, 3] += int((is_wanted & ~is_made).sum())

    def _add(self, kind: bool, place: int, scores: Tensor, sign: int = 1) -> None:  # noqa: FBT001
        values = scores.double()
        sums = np.array([len(values), float(values.sum()), float(values @ values)])
        bins = values.add_(1).mul_(BINS / 2).add_(1e-6).floor_().clamp_(0, BINS - 1).int()
        self._counts[kind][place] += sign * torch.bincount(bins, minlength=BINS).cpu().numpy()
        self._sums[kind][place, :3] += sign * sums


Comparisons = ExactComparisons | HistogramComparisons


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """One side, its rows in the order of their groups.

    Attributes:
        vectors: [N, E] float32 on the device.
        identities: [N] int64 numbers that both sides share.
        captures: [N] int64 likewise, or None.
        is_enrolled: [N] bool.
        starts: [groups + 1] first row of each group.
    """

    vectors: Tensor
    identities: Tensor
    captures: Tensor | None
    is_enrolled: Tensor
    starts: list[int]


@dataclass(frozen=True)
class _Block:
    """Some rows of one side against some rows of the other."""

    first: _Rows
    second: _Rows
    rows: slice
    columns: slice
    is_one_side: bool

    def scores(self) -> Tensor:
        """[rows, columns] float32; anything where a comparison cannot be made."""
        return self.first.vectors[self.rows] @ self.second.vectors[self.columns].T

    def is_whole(self) -> bool:
        """Whether every score counts: all images are enrolled, none meets itself."""
        first, second = self.first.is_enrolled[self.rows], self.second.is_enrolled[self.columns]
        is_apart = not self.is_one_side or self.columns.start >= self.rows.stop
        return is_apart and bool(first.all() and second.all())

    def is_made(self) -> Tensor:
        """Whether both images are enrolled."""
        return self.first.is_enrolled[self.rows, None] & self.second.is_enrolled[None, self.columns]

    def is_tried(self) -> Tensor:
        """Whether it is a comparison: each pair of one side's images once, none with itself."""
        shape = [self.rows.stop - self.rows.start, self.columns.stop - self.columns.start]
        every = torch.ones(shape, dtype=torch.bool, device=self.first.identities.device)
        if not self.is_one_side:
            return every
        return every.triu(self.rows.start - self.columns.start + 1)

    def is_mated(self) -> Tensor:
        """Whether both images show one identity."""
        return self.first.identities[self.rows, None] == self.second.identities[None, self.columns]

    def is_one_capture(self, i: Tensor, j: Tensor) -> Tensor:
        """Whether rows i and columns j, of one identity, are images of one capture."""
        first, second = self.first.captures, self.second.captures
        if self.is_one_side or first is None or second is None:
            return torch.zeros_like(i, dtype=torch.bool)
        return first[self.rows][i] == second[self.columns][j]

    def identities(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Return the identities of rows i and of columns j."""
        return self.first.identities[self.rows][i], self.second.identities[self.columns][j]


class _Matrix:
    """All comparisons of two sides in blocks, by the groups of their identities."""

    def __init__(
        self,
        gallery: Side,
        probes: Side | None,
        *,
        groups: int,
        device: str | torch.device,
        seed: int = 0,
    ) -> None:
        self._is_one_side = probes is None
        sides = [gallery] if probes is None else [gallery, probes]
        identities, count = group_numbers([name for side in sides for name in side.identities])
        captures = None
        if probes is not None and all(side.captures is not None for side in sides):
            captures, _ = group_numbers([name for side in sides for name in side.captures or ()])
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, count])))
        self.groups = min(groups, count)
        group_of = rng.permutation(count) % self.groups
        made, start = [], 0
        for side in sides:
            part = slice(start, start + len(side.vectors))
            start = part.stop
            own = None if captures is None else captures[part]
            groups_of = group_of[identities[part]]
            made.append(_sorted_rows(side, identities[part], own, groups_of, self.groups, device))
        self._first, self._second = made[0], made[-1]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield each pair of groups once."""
        for g in range(self.groups):
            for h in range(g if self._is_one_side else 0, self.groups):
                yield g, h

    def blocks(self, g: int, h: int, size: int) -> Iterator[_Block]:
        """Yield the comparisons of group g with group h."""
        first, second = self._first, self._second
        for rows in _slices(first.starts[g], first.starts[g + 1], size):
            begin = rows.start if self._is_one_side and g == h else second.starts[h]
            for columns in _slices(begin, second.starts[h + 1], size):
                yield _Block(first, second, rows, columns, self._is_one_side)


def _sorted_rows(
    side: Side,
    identities: Codes,
    captures: Codes | None,
    groups: Codes,
    count: int,
    device: str | torch.device,
) -> _Rows:
    """Return a side by its groups 0..count - 1."""
    order = np.argsort(groups, kind="stable")
    vectors = np.asarray(side.vectors, np.float32)[order]

    def moved(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return _Rows(
        vectors=moved(vectors),
        identities=moved(identities[order]),
        captures=None if captures is None else moved(captures[order]),
        is_enrolled=moved(np.isfinite(vectors).all(axis=1)),
        starts=[0, *np.cumsum(np.bincount(groups, minlength=count)).tolist()],
    )


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]
