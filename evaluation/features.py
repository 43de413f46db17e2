"""Images to features, once: all networks and modalities in one pass, shared between processes.

Networks round differently at other batch sizes. Images are therefore loaded and embedded in blocks
of one size whatever the number of processes is; the last block is filled up.
"""

import hashlib
import json
import logging
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.modalities import JOINT
from data.sample_index import SampleIndex
from data.storage import map_in_threads
from dnnlib import downloads, files
from dnnlib.runs import slug
from evaluation.extractors import Extractor
from evaluation.topic import damage_is_unmeasured
from metrics import NotMeasuredError
from metrics.statistics import Features
from networks.sampling import IndexedSampler
from torch_utils.distributed import World

BLOCK = 32
GROUPS = 10
CACHE_VERSION = 2

Key = tuple[str, str]  # hash of the network; modality, or JOINT
# Takes how many images are done and how many there are; returns what counts further ones.
Progress = Callable[[int, int], Callable[[int], None]]

_log = logging.getLogger(__name__)


class FolderImages:
    """The images of a data set or folder, in blocks."""

    def __init__(self, samples: SampleIndex) -> None:
        self.samples = samples
        self.name, self.modalities = samples.name, samples.modalities
        self._sizes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, block: int) -> Mapping[str, Tensor]:
        """Return samples block * BLOCK ... of each modality: [n, C, R, R] uint8, n <= BLOCK.

        Raises: NotMeasuredError naming an image that is damaged or of another size.
        """
        indices = range(block * BLOCK, min((block + 1) * BLOCK, len(self)))
        return {name: self._load(name, indices) for name in self.modalities}

    def identities(self, count: int) -> np.ndarray:
        """Return the number of the identity of each of the first samples: [count] int64."""
        return self.samples.select(range(count)).identity_numbers()

    def _load(self, modality: str, indices: range) -> Tensor:
        with damage_is_unmeasured():
            decoded = [*map_in_threads(lambda i: self.samples.image(modality, i), indices)]
        images = []
        for index, image in zip(indices, decoded, strict=True):
            expected = self._sizes.setdefault(modality, image.shape)
            if image.shape != expected:
                raise NotMeasuredError(
                    f"{self.samples.describe(modality, index)}: all {modality} images must have one"
                    f" size, {expected[2]}x{expected[1]}, got {image.shape[2]}x{image.shape[1]}"
                )
            images.append(image)
        return torch.from_numpy(np.stack(images))


class SampledImages:
    """The first `count` samples of a generator, in blocks."""

    def __init__(self, sampler: IndexedSampler, count: int) -> None:
        self.sampler, self._count = sampler, count
        self.name, self.modalities = sampler.name, sampler.modalities

    def __len__(self) -> int:
        return self._count

    def load(self, block: int) -> Mapping[str, Tensor]:
        """Return samples block * BLOCK ... of each modality: [n, C, R, R] uint8, n <= BLOCK."""
        return self.sampler.sample(range(block * BLOCK, min((block + 1) * BLOCK, self._count)))

    def identities(self, count: int) -> np.ndarray:
        """Return a number for each of the first samples; no two share an identity."""
        return np.arange(count)


Images = FolderImages | SampledImages


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features [N, D] float32 of images, and the number of each one's identity [N] int64."""

    rows: Features
    identities: np.ndarray

    @cached_property
    def groups(self) -> np.ndarray:
        """Group 0..GROUPS - 1 of each image; an identity's images are in one group."""
        return split_groups(self.identities)

    def of_groups(self, kept: np.ndarray) -> "FeatureSet":
        """Return the images of some groups."""
        is_kept = np.isin(self.groups, kept)
        return FeatureSet(self.rows[is_kept], self.identities[is_kept])

    def __len__(self) -> int:
        return len(self.rows)


def split_groups(identities: np.ndarray) -> np.ndarray:
    """Return the group of each image: [N] int64, identities in the order of first appearance."""
    _, first, identity = np.unique(identities, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[identity.reshape(-1)] * GROUPS // max(len(first), 1)


def collect_features(
    images: Images,
    counts: Mapping[Key, int],
    extractors: Mapping[str, Extractor],
    *,
    world: World,
    progress: Progress | None = None,
) -> dict[Key, Features]:
    """Compute the features of images, each image once.

    All processes call it together; each takes a range of blocks, and the rows are put in the order
    of the images. Features are kept one by one: 8 KiB an image and view with Inception.

    Args:
        images: at least as many as the counts.
        counts: number of images, from the first on, whose features are needed.
        extractors: networks by their hash.
        world: the processes.
        progress: shows how many images this process has done.
    Returns: [count, D] float32 each in the first process, nothing in the others.
    """
    parts: dict[Key, list[tuple[int, Features]]] = {key: [] for key in counts}
    total = max(counts.values(), default=0)
    advance = progress(0, math.ceil(total / world.size)) if progress and total else None
    for block in share(math.ceil(total / BLOCK), world):
        loaded, start = images.load(block), block * BLOCK
        for (network, view), count in counts.items():
            if start >= count:
                continue
            chosen = list(loaded.values()) if view == JOINT else [loaded[view]]
            rows = np.concatenate([extract(extractors[network], x) for x in chosen], axis=1)
            parts[network, view].append((start, rows[: count - start]))
        if advance is not None:
            advance(len(next(iter(loaded.values()))))
    gathered = {key: gather_rows(rows, counts[key], world) for key, rows in parts.items()}
    return gathered if world.is_first else {}


def extract(extractor: Extractor, images: Tensor) -> Features:
    """Return the features [n, D] float32 of n <= BLOCK images, always computed for BLOCK of them.

    Args:
        extractor: which network.
        images: [n, C, H, W] uint8, C 1 or 3; one channel is repeated, as published.
    """
    filled = torch.cat([images, images[-1:].expand(BLOCK - len(images), -1, -1, -1)])
    rows = extractor(filled.expand(-1, 3, -1, -1).contiguous())
    return rows[: len(images)].cpu().numpy()


def extract_all(extractor: Extractor, samples: SampleIndex) -> Features:
    """Return the features of the first modality of a data set: [N, D] float32."""
    key, images = (extractor.hash, samples.modalities[0]), FolderImages(samples)
    return collect_features(images, {key: len(images)}, {key[0]: extractor}, world=World())[key]


def share(count: int, world: World) -> range:
    """Return this process's consecutive part of `count` blocks."""
    return range(count * world.rank // world.size, count * (world.rank + 1) // world.size)


def gather_rows(parts: Sequence[tuple[int, Features]], count: int, world: World) -> Features:
    """Return the rows of all processes in their order: [count, D] float32.

    Args:
        parts: (number of the first row, [n, D] float32) of this process.
        count: rows of all processes.
        world: the processes.
    """
    widths = torch.zeros(world.size, dtype=torch.int64)
    widths[world.rank] = parts[0][1].shape[1] if parts else 0  # a process with few images: none
    whole = np.zeros((count, int(world.sum(widths).max())), dtype=np.float32)
    for start, rows in parts:
        whole[start : start + len(rows)] = rows
    return world.sum(torch.from_numpy(whole)).numpy()  # adding zeros changes nothing


class FeatureCache:
    """Features of data sets on disk, so that a second evaluation does not compute them again.

    An entry is found by everything that decides it: images, network, view and number. A damaged
    one counts as absent and is written anew.

    Args:
        folder: of the entries; made where absent. By default beside the downloads.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or downloads.download_folder().parent / "metrics"

    def load(self, name: str, key: Mapping[str, str | int]) -> Features | None:
        """Return the features that were stored under a key of plain values; None without.

        The name of the images is part of the file's name, for readers.
        """
        path, text = self._path(name, key), _text(key)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                rows = content["rows"]
                if str(content["key"]) != text or rows.ndim != 2 or rows.dtype != np.float32:
                    raise ValueError("stored under another key or in another form")
                return rows
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("%s: damaged, computed anew (%s)", path, " ".join(str(error).split()))
            return None

    def store(self, name: str, key: Mapping[str, str | int], rows: Features) -> None:
        """Keep features; where that is impossible, say so and go on."""
        path = self._path(name, key)
        try:
            with files.atomic_write(path) as file:
                np.savez(file, key=np.array(_text(key)), rows=rows)
        except OSError as error:
            _log.warning("%s: not kept (%s)", path, os.strerror(error.errno or 0))

    def _path(self, name: str, key: Mapping[str, str | int]) -> Path:
        digest = hashlib.sha256(_text(key).encode()).hexdigest()[:24]
        return self.folder / f"{slug(name)[:40]}-{slug(str(key.get('name', '')))[:40]}-{digest}.npz"


def _text(key: Mapping[str, str | int]) -> str:
    return json.dumps({**key, "version": CACHE_VERSION}, sort_keys=True)
