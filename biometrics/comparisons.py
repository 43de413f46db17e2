"""Mated and non-mated comparisons: which there are, and their scores as weights on a grid.

A comparison is mated where both images show one person. Images that could not be enrolled have
embeddings of NaN; their comparisons count as failed, and no threshold ever accepts them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from metrics.estimates import Floats, check_finite, group_numbers

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Names = Sequence[str] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Weighted mean and variance of mated and of non-mated scores."""

    mated_mean: float
    mated_variance: float
    non_mated_mean: float
    non_mated_variance: float


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Weights of scores on one ascending grid.

    Attributes:
        values: [V] float64, distinct, ascending. A score counts at the largest value that is not
            above it, so that error rates at these thresholds are exact.
        mated: [V] float64 weight of mated scores at each value.
        non_mated: [V] likewise of non-mated ones.
        failed_mated: weight of mated comparisons that could not be made.
        failed_non_mated: likewise of non-mated ones.
        moments: of the scores themselves, not of the grid.
    """

    values: Floats
    mated: Floats
    non_mated: Floats
    failed_mated: float
    failed_non_mated: float
    moments: Moments


class Comparisons(Protocol):
    """Scores that can be counted again with other weights of people."""

    @property
    def people(self) -> int:
        """Clusters that a bootstrap draws: people, or groups of people."""

    @property
    def num_mated(self) -> int:
        """Mated scores."""

    @property
    def num_non_mated(self) -> int:
        """Non-mated scores."""

    @property
    def resolution(self) -> float | None:
        """Width of the grid's cells; None where scores are exact."""

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where person k occurs draw[k] times; None is once each.

        A mated comparison then weighs draw[k], a non-mated one draw[k] * draw[l]: copies of one
        person are not compared with each other.
        """


@dataclass(frozen=True, kw_only=True)
class Side:
    """Images that are compared.

    Attributes:
        vectors: [N, E] float32 rows of unit length; NaN rows could not be enrolled.
        people: the person of each.
        captures: names of the moments; images of both sides with the same name and person are not
            compared with each other (the RGB and the NIR image of a pair). None compares all.
    """

    vectors: np.ndarray
    people: Sequence[str]
    captures: Sequence[str] | None = None

    def __post_init__(self) -> None:
        rows = len(self.vectors)
        if self.vectors.ndim != 2 or rows == 0:
            raise ValueError(f"embeddings must be [N, E] with N >= 1, got {self.vectors.shape}")
        if len(self.people) != rows or (self.captures is not None and len(self.captures) != rows):
            raise ValueError(f"{rows} embeddings need as many people, got {len(self.people)}")

    @property
    def is_enrolled(self) -> np.ndarray:
        """Which rows are finite: [N] bool."""
        return np.isfinite(self.vectors).all(axis=1)


class ExactComparisons:
    """All scores in memory.

    Args:
        mated: [M] scores; -inf is a comparison that failed.
        mated_people: [M] name or number of the person.
        non_mated: [N] scores, likewise.
        non_mated_people: ([N], [N]) of the two people.
    Raises: ValueError for NaN or other lengths.
    """

    def __init__(
        self,
        mated: np.ndarray,
        mated_people: Names,
        non_mated: np.ndarray,
        non_mated_people: tuple[Names, Names],
    ) -> None:
        first, second = non_mated_people
        if len(mated) != len(mated_people) or not len(non_mated) == len(first) == len(second):
            raise ValueError("scores: one person is needed a mated score, two a non-mated one")
        numbers, self.people = group_numbers(np.concatenate([mated_people, first, second]))
        splits = np.split(numbers, [len(mated), len(mated) + len(first)])
        self._mated = _Scores(np.asarray(mated), "mated scores", splits[0], None)
        self._non = _Scores(np.asarray(non_mated), "non-mated scores", splits[1], splits[2])
        self.values = np.unique(np.concatenate([self._mated.scores, self._non.scores]))
        self.resolution: float | None = None

    @property
    def num_mated(self) -> int:
        """Mated scores."""
        return len(self._mated.scores)

    @property
    def num_non_mated(self) -> int:
        """Non-mated scores."""
        return len(self._non.scores)

    def tally(self, draw: Floats | None = None) -> Tally:
        """Return the scores where person k occurs draw[k] times."""
        draw = np.ones(self.people) if draw is None else draw
        mated = self._mated.on(self.values, draw)
        non_mated = self._non.on(self.values, draw)
        means = [_mean_and_variance(self.values, weights) for weights in (mated, non_mated)]
        return Tally(
            values=self.values,
            mated=mated,
            non_mated=non_mated,
            failed_mated=self._mated.failed(draw),
            failed_non_mated=self._non.failed(draw),
            moments=Moments(
                mated_mean=means[0][0],
                mated_variance=means[0][1],
                non_mated_mean=means[1][0],
                non_mated_variance=means[1][1],
            ),
        )


class _Scores:
    """Scores of one kind with their people; those of -inf are kept apart as failed."""

    def __init__(self, scores: np.ndarray, name: str, first: Ints, second: Ints | None) -> None:
        is_failed = np.isneginf(scores)
        self.scores = check_finite(scores[~is_failed], name)
        self._people = [side[~is_failed] for side in (first, second) if side is not None]
        self._failed = [side[is_failed] for side in (first, second) if side is not None]
        self._places: Ints | None = None

    def on(self, values: Floats, draw: Floats) -> Floats:
        """Return the weight at each of `values`."""
        if self._places is None:
            self._places = np.searchsorted(values, self.scores)
        weights = _product(draw, self._people)
        return np.bincount(self._places, weights=weights, minlength=len(values))

    def failed(self, draw: Floats) -> float:
        """Return the weight of the comparisons that failed."""
        return float(_product(draw, self._failed).sum())


def _product(draw: Floats, people: Sequence[Ints]) -> Floats:
    weights = draw[people[0]]
    return weights * draw[people[1]] if len(people) > 1 else weights


def _mean_and_variance(values: Floats, weights: Floats) -> tuple[float, float]:
    total = weights.sum()
    if total <= 0:
        return float("nan"), float("nan")
    mean = float(values @ weights / total)
    return mean, float(((values - mean) ** 2) @ weights / total)


def exact_comparisons(gallery: Side, probes: Side | None = None) -> ExactComparisons:
    """Compare all images of one side with each other, or every gallery image with every probe.

    Raises: ValueError where there is no mated, or no non-mated, comparison.
    """
    parts: dict[bool, list[tuple[np.ndarray, ...]]] = {True: [], False: []}
    other = probes or gallery
    people = _codes(gallery.people, other.people)
    for rows, scores, is_mated, is_valid in _blocks(gallery, other, is_one_side=probes is None):
        for kind in (True, False):
            i, j = np.nonzero(is_valid & (is_mated == kind))
            parts[kind].append((scores[i, j], people[0][rows][i], people[1][j]))
    found = {
        kind: tuple(np.concatenate(column) for column in zip(*blocks, strict=True))
        for kind, blocks in parts.items()
    }
    check_counts(len(found[True][0]), len(found[False][0]))
    mated, mated_people, _ = found[True]
    non_mated, first, second = found[False]
    return ExactComparisons(mated, mated_people, non_mated, (first, second))


def count_comparisons(gallery: Side, probes: Side | None = None) -> int:
    """Return about how many comparisons `exact_comparisons` would keep."""
    if probes is None:
        return len(gallery.vectors) * (len(gallery.vectors) - 1) // 2
    return len(gallery.vectors) * len(probes.vectors)


def check_counts(mated: int, non_mated: int) -> None:
    """Raise ValueError unless there are comparisons of both kinds."""
    if mated == 0 or non_mated == 0:
        raise ValueError(
            "verification needs two people and two images of one of them: "
            f"got {mated} mated and {non_mated} non-mated comparisons"
        )


def _blocks(
    gallery: Side, other: Side, *, is_one_side: bool, rows_at_once: int = 512
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (rows, scores, is mated, is a comparison at all), scores [rows, N] with -inf failed."""
    codes = _codes(gallery.people, other.people)
    captures = None
    if not is_one_side and gallery.captures is not None and other.captures is not None:
        captures = _codes(gallery.captures, other.captures)
    columns = np.arange(len(other.vectors))
    for start in range(0, len(gallery.vectors), rows_at_once):
        rows = slice(start, min(start + rows_at_once, len(gallery.vectors)))
        scores = (gallery.vectors[rows] @ other.vectors.T).astype(np.float64)
        is_failed = ~gallery.is_enrolled[rows, None] | ~other.is_enrolled[None]
        is_mated = codes[0][rows, None] == codes[1][None]
        is_valid = np.ones_like(is_mated)
        if is_one_side:
            is_valid = columns[None] > np.arange(rows.start, rows.stop)[:, None]
        elif captures is not None:
            is_valid = ~(is_mated & (captures[0][rows, None] == captures[1][None]))
        yield rows, np.where(is_failed, -np.inf, scores), is_mated, is_valid


def _codes(first: Sequence[str], second: Sequence[str]) -> tuple[Ints, Ints]:
    numbers, _ = group_numbers([*first, *second])
    return numbers[: len(first)], numbers[len(first) :]
