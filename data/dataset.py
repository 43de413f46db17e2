"""Pairs as tensors: aligned uint8 images of every modality, and their label."""

import hashlib
import json
import logging
import operator
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data import labels as label_files
from data.check import check_sizes
from data.modalities import MODALITIES
from data.pairs import open_pairs
from data.sample_index import SampleIndex
from data.storage import map_in_threads

_log = logging.getLogger(__name__)


class PairDataset(Dataset[dict[str, Tensor]]):
    """Pairs of a data set, made by `open`; `verify` looks at all files, `cache` decodes them.

    Item i is {"rgb": [3, R, R] uint8 0..255, "nir": [1, R, R] uint8 0..255, "label": [c_dim]
    float32}. With `mirror`, item i + n is pair i with both images flipped left to right.

    Attributes:
        name: of the data set.
        samples: the pairs' files.
        resolution: side of the images in pixels, as the first one says.
        labels: [n, c_dim] float32, of the pairs without the flipped ones.
        feature_scale: length that identity features have as labels; None where there are none, or
            they are as they were.
    """

    def __init__(
        self,
        samples: SampleIndex,
        labels: np.ndarray,
        feature_scale: float | None,
        resolution: int | None,
        *,
        mirror: bool,
    ) -> None:
        self.name, self.samples, self.modalities = samples.name, samples, MODALITIES
        self.labels = torch.from_numpy(labels.astype(np.float32))
        self.feature_scale, self._mirror = feature_scale, mirror
        self._cache: dict[str, np.ndarray] = {}
        self.resolution = self._check_sizes([0], resolution)

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        *,
        use_labels: bool | None = False,
        mirror: bool = False,
        subset: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        feature_scale: float | None = None,
    ) -> "PairDataset":
        """Find the pairs of a folder or zip archive (layouts: data/pairs.py) and their labels.

        Args:
            root: folder or zip archive.
            use_labels: False for none (c_dim is 0), True for those of the data set, None for those
                of a data set that has the folders VIS and NIR and an identity_features.json.
            mirror: whether to add the flipped pairs.
            subset: number of pairs to keep, drawn with `seed`, in their order; None keeps all.
            seed: of the subset.
            resolution: what the images must measure; None accepts what they do.
            feature_scale: length that identity features get as labels; None leaves them.
        Raises: FileNotFoundError; ValueError naming file or option, rule and value, also where the
            first image has another size than `resolution`.
        """
        samples = open_pairs(root)
        if use_labels is None:
            use_labels = label_files.has_identity_features(samples)
        matrix, scale = np.empty((len(samples), 0)), None
        if use_labels:
            matrix = label_files.load_labels(samples, feature_scale)
            scale = feature_scale if label_files.takes_identity_features(samples) else None
        kept = choose_subset(len(samples), subset, seed)
        return cls(samples.select(kept), matrix[kept], scale, resolution, mirror=mirror)

    def __len__(self) -> int:
        return len(self.samples) * (2 if self._mirror else 1)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0..{len(self) - 1}, got {index}")
        flips, pair = divmod(index, len(self.samples))
        step = -1 if flips else 1
        images = {m.name: self._pixels(m.name, pair)[..., ::step] for m in self.modalities}
        # Copied by NumPy: PyTorch would start threads for each of these small arrays.
        item = {name: torch.from_numpy(image.copy()) for name, image in images.items()}
        return {**item, "label": self.labels[pair].clone()}

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without."""
        return self.labels.shape[1]

    @property
    def stems(self) -> Sequence[str]:
        """Names of the pairs, without the flipped ones."""
        return self.samples.stems

    @property
    def is_cached(self) -> bool:
        """Whether the decoded images are in memory."""
        return bool(self._cache)

    def verify(self) -> None:
        """Look at the header and the end of every file.

        Raises: ValueError naming damaged files, and images of another size than the first.
        """
        self._check_sizes(range(len(self.samples)), self.resolution)

    def cache(self, gib: float = 1.0) -> None:
        """Decode all images and keep them where they fit into `gib`, else leave them in files.

        Raises: ValueError naming a damaged file.
        """
        pairs, side = len(self.samples), self.resolution
        num_bytes = pairs * side**2 * sum(modality.channels for modality in self.modalities)
        if self._cache or num_bytes > gib * 2**30:
            return
        cache = {
            modality.name: np.empty((pairs, modality.channels, side, side), dtype=np.uint8)
            for modality in self.modalities
        }

        def fill(item: tuple[str, int]) -> None:
            modality, pair = item
            cache[modality][pair] = self.samples.image(modality, pair)

        for _ in map_in_threads(fill, [(m, i) for i in range(pairs) for m in cache]):
            pass
        self._cache = cache
        _log.info("%d pairs of %d pixels kept in memory", pairs, side)

    def fingerprint(self) -> str:
        """Return 64 hex digits that other names, file sizes, labels or subsets change.

        Mirroring leaves it as it is. Pixels are not read: an image edited to a file of the same
        size keeps it too.
        """
        digest = hashlib.sha256()
        for i, stem in enumerate(self.stems):
            files = [(m.name, self.samples.size(m.name, i)) for m in self.modalities]
            digest.update(json.dumps([stem, files]).encode())
        digest.update(json.dumps([self.resolution, *self.labels.shape]).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def _check_sizes(self, pairs: Sequence[int], expected: int | None) -> int:
        images = [(m.name, i) for i in pairs for m in self.modalities]
        headers = map_in_threads(lambda image: self.samples.verify(*image), images)
        sizes = {
            self.samples.describe(*image): (header.width, header.height)
            for image, header in zip(images, headers, strict=True)
        }
        return check_sizes(sizes, self.samples.base.describe(), expected)

    def _pixels(self, modality: str, pair: int) -> np.ndarray:
        cached = self._cache.get(modality)
        return self.samples.image(modality, pair) if cached is None else cached[pair]


def choose_subset(num_pairs: int, subset: int | None, seed: int) -> np.ndarray:
    """Return the indices of `subset` random pairs, ascending: [subset] int64.

    Raises: ValueError where `subset` is not in 1..num_pairs.
    """
    if subset is None:
        return np.arange(num_pairs)
    if not 1 <= subset <= num_pairs:
        raise ValueError(f"--subset must be in 1..{num_pairs}, the number of pairs, got {subset}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    return np.sort(rng.permutation(num_pairs)[:subset])
