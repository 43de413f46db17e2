"""Scores of very many comparisons: exact counts in narrow bins, no matrix of all scores.

A million images against a million are 5e11 comparisons. They are computed in blocks and counted
in bins of a stated width; error rates at the edges of bins are exact, and so are mean and
variance. Memory does not grow with the number of images beyond their embeddings.
"""

from dataclasses import dataclass

import numpy as np
import torch

from biometrics.comparisons import (
    Comparisons,
    Moments,
    Side,
    Tally,
    check_counts,
    count_comparisons,
    exact_comparisons,
)
from metrics.estimates import Floats, group_numbers

DEFAULT_BINS = 20_000  # over -1..1: a resolution of 1e-4
DEFAULT_GROUPS = 32
DEFAULT_BLOCK = 2048
EXACT_LIMIT = 500_000


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """One side, its rows in the order of their groups.

    Attributes:
        vectors: [N, E] float32 on the device.
        people: [N] int64 numbers that both sides share.
        captures: [N] int64 likewise, or None.
        is_enrolled: [N] bool.
        starts: [groups + 1] first row of each group.
    """

    vectors: torch.Tensor
    people: torch.Tensor
    captures: torch.Tensor | None
    is_enrolled: torch.Tensor
    starts: list[int]


class HistogramComparisons:
    """Counts of scores in bins, apart for every two groups of people.

    A bootstrap draws groups, each a random share of the people; with at most `groups` people each
    is a group of its own.

    Args:
        gallery: one side.
        probes: the other; None compares all images of the gallery with each other.
        bins: over -1..1.
        groups: of people.
        block: rows and columns of scores in memory at once.
        device: where the products are computed.
        seed: of the groups.
    Raises: ValueError where there is no mated, or no non-mated, comparison.
    """

    def __init__(
        self,
        gallery: Side,
        probes: Side | None = None,
        *,
        bins: int = DEFAULT_BINS,
        groups: int = DEFAULT_GROUPS,
        block: int = DEFAULT_BLOCK,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        if bins < 2 or block < 1 or groups < 1:
            raise ValueError(f"bins >= 2, block and groups >= 1, got {bins}, {block}, {groups}")
        self.bins, self.resolution = bins, 2.0 / bins
        self.values = -1 + np.arange(bins) * self.resolution
        sides, self.people = _grouped(gallery, probes, groups, device, seed)
        pairs = self.people * self.people
        self._counts = {
            True: np.zeros((self.people, bins), np.int64),
            False: np.zeros((pairs, bins), np.int64),
        }
        # number, sum, sum of squares and failed ones of each pair of groups
        self._sums = {True: np.zeros((self.people, 4)), False: np.zeros((pairs, 4))}
        self._is_one_side = probes is None
        self._fill(sides, block)
        # Products of integers would copy them each time; float64 counts exactly up to 2**53.
        self._heaps = {kind: counts.astype(float) for kind, counts in self._counts.items()}
        check_counts(self.num_mated, self.num_non_mated)

    @property
    def num_mated(self) -> int:
        """Mated scores."""
        return int(self._counts[True].sum())

    @property
    def num_non_mated(self) -> int:
        """Non-mated scores."""
        return int(self._counts[False].sum())

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where group k occurs draw[k] times."""
        draw = np.ones(self.people) if draw is None else draw
        weights = {True: draw, False: np.outer(draw, draw).ravel()}
        heaps = {kind: weights[kind] @ self._heaps[kind] for kind in (True, False)}
        moments = {kind: _moments(weights[kind] @ self._sums[kind]) for kind in (True, False)}
        failed = {kind: float(weights[kind] @ self._sums[kind][:, 3]) for kind in (True, False)}
        return Tally(
            values=self.values,
            mated=heaps[True],
            non_mated=heaps[False],
            failed_mated=failed[True],
            failed_non_mated=failed[False],
            moments=Moments(
                mated_mean=moments[True][0],
                mated_variance=moments[True][1],
                non_mated_mean=moments[False][0],
                non_mated_variance=moments[False][1],
            ),
        )

    def _fill(self, sides: tuple[_Rows, _Rows], block: int) -> None:
        first, second = sides
        for g in range(self.people):
            for h in range(g if self._is_one_side else 0, self.people):
                for rows in _slices(first.starts[g], first.starts[g + 1], block):
                    begin = second.starts[h]
                    if self._is_one_side and g == h:
                        begin = rows.start
                    for columns in _slices(begin, second.starts[h + 1], block):
                        self._count(sides, rows, columns, g, h)

    def _count(
        self, sides: tuple[_Rows, _Rows], rows: slice, columns: slice, g: int, h: int
    ) -> None:
        first, second = sides
        scores = first.vectors[rows] @ second.vectors[columns].T
        enrolled = first.is_enrolled[rows], second.is_enrolled[columns]
        is_whole = bool(enrolled[0].all() and enrolled[1].all())
        if g != h and is_whole:  # two groups share no people: all scores count
            self._add(False, g * self.people + h, scores.flatten())
            return
        is_mated = first.people[rows, None] == second.people[None, columns]
        is_valid = self._valid(sides, rows, columns, is_mated)
        is_made = enrolled[0][:, None] & enrolled[1][None]
        for kind in (True, False) if g == h else (False,):
            place = g if kind else g * self.people + h
            wanted = is_valid & (is_mated == kind)
            self._sums[kind][place, 3] += int((wanted & ~is_made).sum())
            self._add(kind, place, scores[wanted & is_made])

    def _valid(
        self, sides: tuple[_Rows, _Rows], rows: slice, columns: slice, is_mated: torch.Tensor
    ) -> torch.Tensor:
        """Return which scores are comparisons: no image with itself, no pair of one capture."""
        first, second = sides
        if self._is_one_side:
            numbers = torch.arange(columns.start, columns.stop, device=is_mated.device)
            own = torch.arange(rows.start, rows.stop, device=is_mated.device)
            return numbers[None] > own[:, None]
        if first.captures is None or second.captures is None:
            return torch.ones_like(is_mated)
        return ~(is_mated & (first.captures[rows, None] == second.captures[None, columns]))

    def _add(self, kind: bool, place: int, scores: torch.Tensor) -> None:  # noqa: FBT001
        if len(scores) == 0:
            return
        # float32 moves an edge by less than the rounding of the scores themselves.
        bins = ((scores + 1) * (self.bins / 2)).floor().clamp_(0, self.bins - 1).int()
        self._counts[kind][place] += torch.bincount(bins, minlength=self.bins).cpu().numpy()
        total = scores.sum(dtype=torch.float64)
        squares = torch.square(scores).sum(dtype=torch.float64)
        self._sums[kind][place, :3] += [len(scores), float(total), float(squares)]


def compare(
    gallery: Side,
    probes: Side | None = None,
    *,
    exact_limit: int = EXACT_LIMIT,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Comparisons:
    """Compare images: exactly up to `exact_limit` comparisons, in bins beyond.

    Raises: ValueError where there is no mated, or no non-mated, comparison.
    """
    if count_comparisons(gallery, probes) <= exact_limit:
        return exact_comparisons(gallery, probes)
    return HistogramComparisons(gallery, probes, device=device, seed=seed)


def _moments(sums: Floats) -> tuple[float, float]:
    if sums[0] <= 0:
        return float("nan"), float("nan")
    mean = float(sums[1] / sums[0])
    return mean, max(float(sums[2] / sums[0]) - mean**2, 0.0)


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]


def _grouped(
    gallery: Side, probes: Side | None, groups: int, device: str | torch.device, seed: int
) -> tuple[tuple[_Rows, _Rows], int]:
    """Give people numbers and groups, and sort the rows of both sides by group."""
    sides = [gallery] if probes is None else [gallery, probes]
    people, count = group_numbers([name for side in sides for name in side.people])
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, count])))
    groups = min(groups, count)
    group_of = rng.permutation(count) % groups
    captures = None
    if probes is not None and all(side.captures is not None for side in sides):
        captures, _ = group_numbers([name for side in sides for name in side.captures or ()])
    made, start = [], 0
    for side in sides:
        part = slice(start, start + len(side.vectors))
        start = part.stop
        order = np.argsort(group_of[people[part]], kind="stable")
        counts = np.bincount(group_of[people[part]], minlength=groups)
        rows = _Rows(
            vectors=torch.from_numpy(np.ascontiguousarray(side.vectors[order])).to(device),
            people=torch.from_numpy(people[part][order]).to(device),
            captures=None
            if captures is None
            else torch.from_numpy(captures[part][order]).to(device),
            is_enrolled=torch.from_numpy(side.is_enrolled[order]).to(device),
            starts=[0, *np.cumsum(counts).tolist()],
        )
        made.append(rows)
    return (made[0], made[-1]), groups
