"""Images that are measured: of a folder, or drawn by a generator, in blocks of a fixed size.

Networks round differently at other batch sizes. Blocks are therefore the same whatever the number
of processes is; the last one is filled up.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.parallel import map_in_threads
from evaluation.image_sets import ImageSet, open_image_set, person_number
from metrics.path_length import PathGenerator

BLOCK = 32


class Source(Protocol):
    """A numbered set of images.

    Attributes:
        name: shown in messages and tables.
        modalities: that it has.
    """

    name: str
    modalities: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""

    def load(self, block: int) -> Mapping[str, Tensor]:
        """Return samples block * BLOCK ... of each modality: [n, C, R, R] uint8, n <= BLOCK."""

    def people(self) -> np.ndarray:
        """Return whose image each sample is: [N] int64; samples of equal numbers stay together."""


class Sampler(PathGenerator, Protocol):
    """A generator with everything that decides what it draws.

    Attributes:
        name: of the snapshot.
        modalities: that it draws.
    """

    name: str
    modalities: tuple[str, ...]

    def sample(self, indices: Sequence[int]) -> Mapping[str, Tensor]:
        """Return some samples of each modality: [n, C, R, R] uint8; functions of their index."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """How images are drawn.

    Attributes:
        data: whose labels are the conditions of a conditional network; None has none.
        truncation: 1 leaves w as it is, as published metrics have it.
        seed: of latents, labels and noise.
        device: that draws.
        use_raw_g: draw from G instead of its average.
    """

    data: Path | None
    truncation: float = 1.0
    seed: int = 0
    device: str = "cpu"
    use_raw_g: bool = False


SamplerLoader = Callable[[Path, SamplerOptions], Sampler]


class FolderSource:
    """The images of a data set or folder; implements Source.

    Args:
        images: which.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.name = images.name
        self.modalities = tuple(images.files)
        self._sizes: dict[str, tuple[int, ...]] = {}

    @classmethod
    def open(cls, path: Path) -> "FolderSource":
        """Find the images at a path. Raises: ValueError, FileNotFoundError as `open_image_set`."""
        return cls(open_image_set(path))

    def __len__(self) -> int:
        return len(self.images)

    def load(self, block: int) -> Mapping[str, Tensor]:
        """Decode a block. Raises: ValueError naming an image that is damaged or of another size."""
        indices = range(block * BLOCK, min((block + 1) * BLOCK, len(self)))
        return {name: self._load(name, indices) for name in self.modalities}

    def people(self) -> np.ndarray:
        """Return the number of each sample's person."""
        return person_number(self.images.people)

    def content_hash(self) -> str:
        """Return 64 hex digits that any other byte of any image, or another order, changes."""
        digest = hashlib.sha256()
        for modality, names in self.images.files.items():
            for name, file_hash in zip(names, map_in_threads(self._hash, names), strict=True):
                digest.update(json.dumps([modality, name, file_hash]).encode())
        return digest.hexdigest()

    def _hash(self, name: str) -> str:
        with self.images.storage.open(name) as file:
            return hashlib.sha256(file.read()).hexdigest()

    def _load(self, modality: str, indices: range) -> Tensor:
        decoded = map_in_threads(lambda index: self.images.image(modality, index), indices)
        images = []
        for index, image in zip(indices, decoded, strict=True):
            expected = self._sizes.setdefault(modality, image.shape)
            if image.shape != expected:
                raise ValueError(
                    f"{self.images.describe(modality, index)}: all {modality} images must have one"
                    f" size, {expected[2]}x{expected[1]}, got {image.shape[2]}x{image.shape[1]}"
                )
            images.append(image)
        return torch.from_numpy(np.stack(images))


class DrawnSource:
    """The first samples of a generator; implements Source.

    Args:
        sampler: what draws.
        count: how many samples are looked at.
    """

    def __init__(self, sampler: Sampler, count: int) -> None:
        self.sampler, self._count = sampler, count
        self.name, self.modalities = sampler.name, sampler.modalities

    def __len__(self) -> int:
        return self._count

    def load(self, block: int) -> Mapping[str, Tensor]:
        """Generate a block."""
        return self.sampler.sample(range(block * BLOCK, min((block + 1) * BLOCK, self._count)))

    def people(self) -> np.ndarray:
        """Return a number of its own for each sample."""
        return np.arange(self._count)
