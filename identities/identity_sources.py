"""Where the feature vectors of new identities come from."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from biometrics.features import IdentityFeatures, mixed_direction, random_direction
from data.numbers import open_numbers, rows_of
from dnnlib import files
from metrics.nearest import References, unit_rows
from torch_utils.seeding import generator_for

_STREAM = "recognition"
_PHI_STEPS = 20
_DRAWS = 8


class IdentitySource(Protocol):
    """Gives a unit vector for each new identity; a function of (seed, identity, try) alone.

    Attributes:
        tries: vectors an identity can have; None for any number.
    """

    tries: int | None

    def vector(self, seed: int, identity: int, attempt: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return [E] float32 of length 1, and how it came about, as plain JSON values."""


class RandomSource:
    """Random directions, as published.

    Args:
        width: embedding dimension.
    """

    tries = None

    def __init__(self, width: int) -> None:
        self._width = width

    def vector(self, seed: int, identity: int, attempt: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a standard normal vector's direction."""
        return random_direction(self._width, seed, identity, attempt), {}


class MixupSource:
    """Mixtures of two training identities' features: phi x one + (1 - phi) x the other.

    phi is one of 0.05, 0.10, ... 0.95; 0 and 1 would be a training identity.

    Args:
        features: of the training identities.
    Raises: ValueError for fewer than two of them.
    Source: identity mixup: Qiu et al. 2021 (SynFace, arXiv:2108.07960), there of the generator's
        identity coefficients; here of the recogniser's features.
    """

    tries = None

    def __init__(self, features: IdentityFeatures) -> None:
        self._vectors = unit_rows(features.vectors)
        self._stems = features.stems
        identities = np.array(features.identities)
        self._images = [
            np.flatnonzero(identities == name) for name in dict.fromkeys(features.identities)
        ]
        if len(self._images) < 2:
            raise ValueError(
                "--identity-source=interpolate needs features of at least two identities"
            )

    def vector(self, seed: int, identity: int, attempt: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the direction of a mixture of images of two identities."""
        random = generator_for(seed, _STREAM, "mixup", identity, attempt)
        first, second = torch.randperm(len(self._images), generator=random)[:2].tolist()
        rows = []
        for chosen in (first, second):
            images = self._images[chosen]
            rows.append(int(images[int(torch.randint(len(images), [], generator=random))]))
        phi = int(torch.randint(1, _PHI_STEPS, [], generator=random)) / _PHI_STEPS
        origin = {"mixed": [self._stems[row] for row in rows], "phi": phi}
        return mixed_direction(*self._vectors[rows], phi), origin


class RepelledSource:
    """Directions of the training identities' distribution, far from these and from earlier ones.

    Of a few draws of the normal distribution that the identities' mean features have, the one is
    taken whose nearest training image, or first vector of an identity before it, is the least
    similar. So identities are new before anything is generated. Vectors that replaced a first one,
    at later tries, repel none: a vector must not depend on what a filter says.

    Args:
        features: of the training identities.
        draws: vectors of which one is taken.
    Raises: ValueError for fewer than two identities.
    Source: best-candidate sampling, Mitchell 1991, "Spectrally optimal sampling".
    """

    tries = None

    def __init__(self, features: IdentityFeatures, draws: int = _DRAWS) -> None:
        vectors, identities = unit_rows(features.vectors), np.array(features.identities)
        names = dict.fromkeys(features.identities)
        means = np.stack([vectors[identities == name].mean(0, np.float64) for name in names])
        if len(means) < 2:
            raise ValueError("--identity-source=repelled needs features of at least two identities")
        self._mean = means.mean(axis=0)
        triangle = np.linalg.qr(means - self._mean, mode="r")
        self._axes = triangle / np.sqrt(len(means) - 1)  # normal weights give the means' covariance
        self._known, self._draws = References(vectors), draws
        # By seed: the first vectors of the identities 0, 1, ..., with room for more, and how many.
        self._first: dict[int, tuple[np.ndarray, int]] = {}
        self._vectors: dict[tuple[int, int, int], tuple[np.ndarray, dict[str, Any]]] = {}

    def vector(self, seed: int, identity: int, attempt: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the least similar draw, and its cosine to what it is nearest to."""
        key = (seed, identity, attempt)
        if key not in self._vectors:
            self._vectors[key] = self._place(*key, self._first_vectors(seed, identity))
        return self._vectors[key]

    def _first_vectors(self, seed: int, count: int) -> np.ndarray:
        """Return the first vectors of the identities 0 to count - 1: [count, E] float32."""
        rows, known = self._first.get(seed, (np.empty([0, len(self._mean)], np.float32), 0))
        if count > len(rows):
            room = np.empty([max(count, 2 * len(rows)), len(self._mean)], np.float32)
            room[:known] = rows[:known]
            rows = room
        for identity in range(known, count):
            key = (seed, identity, 0)
            if key not in self._vectors:
                self._vectors[key] = self._place(*key, rows[:identity])
            rows[identity] = self._vectors[key][0]
        self._first[seed] = rows, max(known, count)
        return rows[:count]

    def _place(
        self, seed: int, identity: int, attempt: int, others: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Any]]:
        random = generator_for(seed, _STREAM, "repelled", identity, attempt)
        numbers = torch.randn([self._draws, len(self._axes)], generator=random, dtype=torch.float64)
        draws = unit_rows(self._mean + numbers.numpy() @ self._axes)
        nearest = self._known.nearest(draws).scores
        if len(others):
            nearest = np.maximum(nearest, (draws @ others.T).max(axis=1))
        best = int(nearest.argmin())
        return draws[best].copy(), {"nearest_vector": round(float(nearest[best]), 6)}


class FileSource:
    """Vectors of a file, one an identity.

    Args:
        path: .npy of [N, E], or JSON: a list of vectors or an object of them by name.
        width: E.
    Raises: FileNotFoundError; ValueError naming the file.
    """

    tries = 1

    def __init__(self, path: Path, width: int) -> None:
        self._names, rows = _read_vectors(path)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(
                f"--identity-source {path}: shape must be [N, {width}], got {list(rows.shape)}"
            )
        try:
            self._vectors = unit_rows(rows)
        except ValueError as error:
            raise ValueError(f"--identity-source {path}: {error}") from error

    def __len__(self) -> int:
        return len(self._vectors)

    def vector(self, seed: int, identity: int, attempt: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the direction of a row of the file."""
        assert attempt == 0, "an identity of a file has one vector"
        return self._vectors[identity], {"name": self._names[identity]}


def _read_vectors(path: Path) -> tuple[list[str], np.ndarray]:
    """Return names and rows."""
    where = f"--identity-source {path}"
    if path.suffix.lower() != ".json":
        array = open_numbers(path, where)
        if array.ndim == 0:
            raise ValueError(f"{where}: not a .npy file of numbers, got one number")
        return [str(row) for row in range(len(array))], np.array(array, dtype=np.float64)
    content = files.read_json(path)
    if isinstance(content, list):
        content = {str(row): vector for row, vector in enumerate(content)}
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{where}: expected lists of numbers, or an object of them")
    return list(content), rows_of(content, where)
