"""The LFW protocol: pairs of faces compared in ten folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics import NotMeasuredError
from metrics.estimates import Floats, check_finite

FOLDS = 10
DEFAULT_FAR = 1e-3
_ACCURACY_STEP, _FAR_STEP, _LARGEST = 0.01, 0.001, 4.0  # squared distances of unit vectors


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """What `score_folds` finds; one entry a held-out fold.

    Attributes:
        accuracies: of the fold.
        thresholds: squared distances chosen on the other folds.
        tars, fars: shares of mated and non-mated pairs below the distance chosen for FAR.
        far: the level that was asked for.
        pairs: how many there are.
    """

    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    tars: tuple[float, ...]
    fars: tuple[float, ...]
    far: float
    pairs: int

    @property
    def accuracy(self) -> tuple[float, float]:
        """Mean and standard deviation over folds (not that of a sample), as is usual."""
        return float(np.mean(self.accuracies)), float(np.std(self.accuracies))

    @property
    def tar(self) -> tuple[float, float]:
        """Mean and standard deviation over folds."""
        return float(np.mean(self.tars)), float(np.std(self.tars))


def pair_distances(first: np.ndarray, second: np.ndarray) -> Floats:
    """Return squared Euclidean distances of unit rows, [P] float64 in 0..4.

    Raises: ValueError for NaN or other shapes.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"pairs need two [P, E] arrays, got {first.shape} and {second.shape}")
    first, second = check_finite(first, "embeddings"), check_finite(second, "embeddings")
    return ((first - second) ** 2).sum(axis=1)


def score_folds(
    distances: np.ndarray, is_same: Sequence[bool] | np.ndarray, *, far: float = DEFAULT_FAR
) -> FoldScore:
    """Choose thresholds on all folds but one and score that one, each fold once, unshuffled.

    For accuracy the threshold is the first best of 0, 0.01, ... 3.99 squared distance; for TAR it
    is interpolated among 0, 0.001, ... 3.999 where the other folds reach `far`, and 0 where they
    do not.

    Raises: ValueError for too few pairs, pairs of one kind only, or NaN.
    Source: Huang et al. 2007 (LFW, view 2), in the form of insightface's evaluation.
    """
    distances = check_finite(distances, "distances")
    same = np.asarray(is_same, dtype=bool)
    if len(distances) != len(same):
        raise ValueError(f"{len(distances)} distances but {len(same)} answers")
    if same.all() or not same.any():
        raise NotMeasuredError(
            f"pairs must be of both kinds, got {int(same.sum())} of {len(same)} same"
        )
    if len(distances) < FOLDS:
        raise NotMeasuredError(f"{FOLDS} folds need at least {FOLDS} pairs, got {len(distances)}")
    found: list[tuple[float, float, float, float]] = []
    for part in np.array_split(np.arange(len(distances)), FOLDS):
        others, other_same = np.delete(distances, part), np.delete(same, part)
        threshold = _best_threshold(others, other_same)
        strict = _far_threshold(others, other_same, far)
        accuracy = float(((distances[part] < threshold) == same[part]).mean())
        rates = (distances[part][same[part] == kind] < strict for kind in (True, False))
        tar, got = (float(accepted.mean()) if len(accepted) else 0.0 for accepted in rates)
        found.append((accuracy, threshold, tar, got))
    accuracies, thresholds, tars, fars = zip(*found, strict=True)
    return FoldScore(
        accuracies=accuracies,
        thresholds=thresholds,
        tars=tars,
        fars=fars,
        far=far,
        pairs=len(distances),
    )


def _best_threshold(distances: Floats, same: np.ndarray) -> float:
    grid = np.arange(0, _LARGEST, _ACCURACY_STEP)
    hits = _count_below(distances[same], grid) - _count_below(distances[~same], grid)
    return float(grid[np.argmax(hits)])


def _far_threshold(distances: Floats, same: np.ndarray, far: float) -> float:
    grid = np.arange(0, _LARGEST, _FAR_STEP)
    others = distances[~same]
    rates = _count_below(others, grid) / max(len(others), 1)
    return float(np.interp(far, rates, grid)) if rates[-1] >= far else 0.0


def _count_below(distances: Floats, grid: Floats) -> np.ndarray:
    return np.searchsorted(np.sort(distances), grid, side="left")
