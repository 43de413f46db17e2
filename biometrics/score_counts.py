"""Counts of similarity scores in fine bins, whatever their number; rates of them are exact."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from metrics.nearest import unit_rows

BINS = 20000


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """How many scores lie in each of BINS bins from -1 to 1.

    Attributes:
        counts: [BINS] int64; a score on an edge belongs to the bin above it.
        total: sum of the scores.
        squares: sum of their squares.
    """

    counts: np.ndarray
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def none(cls) -> "ScoreCounts":
        """Return the counts of no scores."""
        return cls(np.zeros(BINS, np.int64))

    def add(self, scores: np.ndarray) -> "ScoreCounts":
        """Return the counts with further scores of any shape."""
        values = scores.astype(np.float64).ravel()
        places = np.floor((values + 1) * (BINS / 2) + 1e-6).astype(np.int64).clip(0, BINS - 1)
        counts = self.counts + np.bincount(places, minlength=BINS)
        return ScoreCounts(
            counts, self.total + float(values.sum()), self.squares + float((values**2).sum())
        )

    @property
    def number(self) -> int:
        """How many scores there are."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return self.total / self.number

    @property
    def std(self) -> float:
        """Standard deviation of the scores."""
        return math.sqrt(max(self.squares / self.number - self.mean**2, 0))

    def share_below(self, edge: float) -> float:
        """Return the share of scores below an edge of the bins."""
        return float(self.counts[: round((edge + 1) * BINS / 2)].sum()) / self.number

    def share_from(self, edge: float) -> float:
        """Return the share of scores at or above an edge of the bins."""
        return float(self.counts[round((edge + 1) * BINS / 2) :].sum()) / self.number

    def lowest_edge(self, largest_share: float) -> float:
        """Return the lowest edge with at most that share of the scores at or above it."""
        above = np.concatenate([self.counts[::-1].cumsum()[::-1], [0]])
        allowed = math.floor(largest_share * self.number + 1e-9)
        return _edge(int((above <= allowed).argmax()))

    def highest_edge(self, largest_share: float) -> float:
        """Return the highest edge with at most that share of the scores below it."""
        below = np.concatenate([[0], self.counts.cumsum()])
        allowed = math.floor(largest_share * self.number + 1e-9)
        return _edge(int(np.flatnonzero(below <= allowed)[-1]))


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """All scores of a data set.

    Attributes:
        mated: of two images of one person.
        non_mated: of images of two people.
        nearest_mated: [N] of each image with the nearest other one of its person; -inf for none.
        nearest_non_mated: [N] of each image with the nearest one of another person.
    """

    mated: ScoreCounts
    non_mated: ScoreCounts
    nearest_mated: np.ndarray
    nearest_non_mated: np.ndarray


def count_scores(vectors: np.ndarray, groups: np.ndarray) -> ScoreTable:
    """Compare all images of a data set with each other, each pair once.

    Args:
        vectors: [N, E] float.
        groups: [N] int64, the person of each.
    """
    rows = unit_rows(vectors)
    mated, non_mated = ScoreCounts.none(), ScoreCounts.none()
    nearest = np.full([2, len(rows)], -np.inf, np.float32)
    for left, right, cosines in _cosine_blocks(rows, rows):
        if right.start < left.start:
            continue
        is_mated = groups[left][:, None] == groups[right][None]
        if left.start == right.start:
            np.fill_diagonal(cosines, -np.inf)
        for kind, chosen in enumerate((is_mated, ~is_mated)):
            scores = np.where(chosen, cosines, -np.inf)
            for part, axis in ((left, 1), (right, 0)):
                nearest[kind, part] = np.maximum(nearest[kind, part], scores.max(axis=axis))
        counts = np.ones(cosines.shape, dtype=bool)
        if left.start == right.start:
            counts = np.triu(counts, k=1)
        mated = mated.add(cosines[counts & is_mated])
        non_mated = non_mated.add(cosines[counts & ~is_mated])
    return ScoreTable(mated, non_mated, nearest[0], nearest[1])


def _cosine_blocks(
    left: np.ndarray, right: np.ndarray, *, block: int = 2048
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield all cosines of unit rows, block by block.

    Args:
        left: [A, E] float32 of unit rows.
        right: [B, E] float32 of unit rows.
        block: largest side of a block.
    Yields: rows of `left`, rows of `right`, and their cosines [rows, columns] float32.
    """
    for top in range(0, len(left), block):
        for start in range(0, len(right), block):
            rows, columns = slice(top, top + block), slice(start, start + block)
            product = torch.from_numpy(left[rows]) @ torch.from_numpy(right[columns]).T
            yield rows, columns, product.numpy()


def _edge(place: int) -> float:
    return round(2 * place / BINS - 1, 9)
