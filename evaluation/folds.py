"""The LFW protocol: pairs of faces in a `.bin` file, compared in ten folds.

A `.bin` is a pickle of (encoded images, whether images 2 i and 2 i + 1 show one person).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from biometrics.embedding import Embedder
from data.pixels import decode_image
from metrics.estimates import Floats, check_finite
from torch_utils.safe_pickle import load_pickle

FOLDS = 10
DEFAULT_FAR = 1e-3
_ACCURACY_STEP, _FAR_STEP, _LARGEST = 0.01, 0.001, 4.0  # squared distances of unit vectors


@dataclass(frozen=True, kw_only=True)
class PairArchive:
    """What a `.bin` holds.

    Attributes:
        images: encoded images, two a pair.
        is_same: [P] bool.
    """

    images: tuple[bytes, ...]
    is_same: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """What `score_folds` finds.

    Attributes:
        accuracies: of the held-out fold, one each.
        thresholds: squared distances chosen on the other folds, one each.
        tars: share of mated pairs of the held-out fold below the distance chosen for FAR.
        fars: share of non-mated pairs of the held-out fold that this accepts.
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


def read_pair_archive(path: str | os.PathLike[str]) -> PairArchive:
    """Read a `.bin` of pairs without executing anything in it.

    Images may be bytes of Python 2 or 3, or NumPy arrays of bytes.

    Raises: FileNotFoundError; ValueError naming the file for anything else than such a pickle.
    """
    try:
        return _archive_of(load_pickle(path))
    except ValueError as error:
        prefix = f"{path}: "
        raise ValueError(
            f"{path}: not a .bin of pairs: {str(error).removeprefix(prefix)}"
        ) from error


def fold_slices(count: int, folds: int = FOLDS) -> list[slice]:
    """Return consecutive parts whose sizes differ by at most one, larger ones first.

    Raises: ValueError for fewer pairs than folds.
    """
    if folds < 2 or count < folds:
        raise ValueError(f"{folds} folds need at least {max(folds, 2)} pairs, got {count}")
    sizes = [count // folds + (k < count % folds) for k in range(folds)]
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]


def pair_distances(first: np.ndarray, second: np.ndarray) -> Floats:
    """Return squared Euclidean distances of unit rows, [P] float64 in 0..4.

    Raises: ValueError for NaN or other shapes.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"pairs need two [P, E] arrays, got {first.shape} and {second.shape}")
    first, second = check_finite(first, "embeddings"), check_finite(second, "embeddings")
    return ((first - second) ** 2).sum(axis=1)


def embed_pairs(
    archive: PairArchive, embedder: Embedder, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of first and second images, [P, E] float32 each.

    Args:
        where: the file, for messages.
    Raises: ValueError naming an image that is damaged.
    """
    images = (
        torch.from_numpy(decode_image(content, 3, f"{where}, image {number}"))
        for number, content in enumerate(archive.images)
    )
    vectors = embedder.embed(images).numpy()
    return vectors[0::2], vectors[1::2]


def score_folds(
    distances: np.ndarray,
    is_same: Sequence[bool] | np.ndarray,
    *,
    folds: int = FOLDS,
    far: float = DEFAULT_FAR,
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
        raise ValueError(f"pairs must be of both kinds, got {int(same.sum())} of {len(same)} same")
    found: list[tuple[float, float, float, float]] = []
    for part in fold_slices(len(distances), folds):
        is_held = np.zeros(len(distances), bool)
        is_held[part] = True
        threshold = _best_threshold(distances[~is_held], same[~is_held])
        accuracy = float(((distances[part] < threshold) == same[part]).mean())
        strict = _threshold_at(distances[~is_held], same[~is_held], far)
        is_accepted = distances[part] < strict
        tar, got = (_share(is_accepted[same[part] == kind]) for kind in (True, False))
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
    hits = _accepted(distances[same], grid) - _accepted(distances[~same], grid)
    return float(grid[np.argmax(hits)])


def _threshold_at(distances: Floats, same: np.ndarray, far: float) -> float:
    grid = np.arange(0, _LARGEST, _FAR_STEP)
    others = distances[~same]
    rates = _accepted(others, grid) / max(len(others), 1)
    return float(np.interp(far, rates, grid)) if rates[-1] >= far else 0.0


def _accepted(distances: Floats, grid: Floats) -> np.ndarray:
    """Return how many distances are below each threshold."""
    return np.searchsorted(np.sort(distances), grid, side="left")


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else 0.0


# Reading


def _archive_of(content: Any) -> PairArchive:
    match content:
        case [list() | tuple() as images, list() | tuple() | np.ndarray() as answers]:
            if not images or len(images) != 2 * len(answers):
                raise ValueError(f"it has {len(images)} images and {len(answers)} answers")
            return PairArchive(
                images=tuple(_image_of(image) for image in images),
                is_same=np.array([_answer_of(answer) for answer in answers]),
            )
    raise ValueError("it is not two lists, of images and of answers")


def _image_of(image: Any) -> bytes:
    match image:
        case bytes():
            return image
        case str():
            return image.encode("latin-1")  # Python 2 wrote it
        case np.ndarray(dtype=np.dtype(kind="u" | "i", itemsize=1), ndim=1):
            return image.tobytes()
    raise ValueError("an image is neither bytes nor a NumPy array of bytes")


def _answer_of(answer: Any) -> bool:
    if isinstance(answer, bool | np.bool_ | int | np.integer) and answer in (0, 1):
        return bool(answer)
    raise ValueError("an answer is neither true nor false")
