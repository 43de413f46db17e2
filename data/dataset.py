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
from data import pixels
from data.modalities import MODALITIES
from data.pairs import PairSource, open_pairs
from data.parallel import map_in_threads
from data.sizes import check_sizes

_log = logging.getLogger(__name__)


class PairDataset(Dataset[dict[str, Tensor]]):
    """The pairs of a folder or zip archive (layouts: data/pairs.py), checked before the first use.

    Item i is {"rgb": [3, R, R] uint8 0..255, "nir": [1, R, R] uint8 0..255, "label": [c_dim]
    float32}. With `mirror`, item i + n is pair i with both images flipped left to right.

    Args:
        root: folder or zip archive.
        use_labels: False for none (c_dim is 0), True for those of the data set, None for those of
            a data set that has the folders VIS and NIR and an identity_features.json.
        mirror: whether to add the flipped pairs.
        subset: number of pairs to keep, drawn with `seed`, in their order; None keeps all.
        seed: of the subset.
        resolution: what the images must measure; None accepts what they do.
        feature_scale: length that identity features get as labels; None leaves them as they are.
        cache_gib: the decoded images are kept in memory when all of them fit into this; otherwise
            files are decoded when asked for. Either way a truncated file is found at once.
    Raises: FileNotFoundError; ValueError naming file or option, rule and value.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        use_labels: bool | None = False,
        mirror: bool = False,
        subset: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        feature_scale: float | None = None,
        cache_gib: float = 1.0,
    ) -> None:
        source = open_pairs(root)
        self.name = source.layout.name
        self.modalities = MODALITIES
        self.has_identity_features = label_files.has_identity_features(source.layout)
        use_labels = self.has_identity_features if use_labels is None else use_labels
        has_scale = use_labels and label_files.takes_identity_features(source.layout)
        self.feature_scale = feature_scale if has_scale else None
        matrix = np.empty((len(source), 0))
        if use_labels:
            matrix = label_files.load_labels(source, feature_scale)
        kept = choose_subset(len(source), subset, seed)
        self._labels = torch.from_numpy(matrix[kept].astype(np.float32))
        self._source = source.select(kept)
        self._mirror = mirror
        headers = _verify(self._source)
        sizes = {file: (header.width, header.height) for file, header in headers.items()}
        self.resolution = check_sizes(sizes, str(root), resolution)
        self._cache = self._build_cache(cache_gib)

    def __len__(self) -> int:
        return len(self._source) * (2 if self._mirror else 1)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair, is_flipped = self._locate(index)
        item = {m.name: self._image(m.name, pair, is_flipped=is_flipped) for m in self.modalities}
        return {**item, "label": self._labels[pair].clone()}

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without."""
        return self._labels.shape[1]

    @property
    def stems(self) -> Sequence[str]:
        """Names of the pairs, without the flipped ones."""
        return self._source.stems

    @property
    def is_cached(self) -> bool:
        """Whether the decoded images are in memory."""
        return bool(self._cache)

    def label(self, index: int) -> Tensor:
        """Return the label of item `index`: [c_dim] float32."""
        return self._labels[self._locate(index)[0]].clone()

    def fingerprint(self) -> str:
        """Return 64 hex digits that other names, file sizes, labels or subsets change.

        Mirroring leaves it as it is. Pixels are not read: an image edited to a file of the same
        size keeps it too.
        """
        digest = hashlib.sha256()
        for i, stem in enumerate(self._source.stems):
            files = [(m.name, self._source.size(m.name, i)) for m in self.modalities]
            digest.update(json.dumps([stem, files]).encode())
        digest.update(json.dumps([self.resolution, *self._labels.shape]).encode())
        digest.update(self._labels.numpy().tobytes())
        return digest.hexdigest()

    def _locate(self, index: int) -> tuple[int, bool]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0..{len(self) - 1}, got {index}")
        return index % len(self._source), index >= len(self._source)

    def _image(self, modality: str, pair: int, *, is_flipped: bool) -> Tensor:
        # Copied by NumPy: PyTorch would start threads for each of these small arrays.
        image = self._cache[modality][pair] if self._cache else self._decode(modality, pair)
        return torch.from_numpy((image[..., ::-1] if is_flipped else image).copy())

    def _decode(self, modality: str, pair: int) -> np.ndarray:
        channels = {m.name: m.channels for m in self.modalities}[modality]
        name = self._source.describe(modality, pair)
        with self._source.open(modality, pair) as file:
            return pixels.decode_image(file, channels, name)

    def _build_cache(self, cache_gib: float) -> dict[str, np.ndarray]:
        """Return modality -> [n, C, R, R] uint8 where that fits into the memory, else nothing."""
        pairs, side = len(self._source), self.resolution
        num_bytes = pairs * side**2 * sum(modality.channels for modality in self.modalities)
        if num_bytes > cache_gib * 2**30:
            return {}
        cache = {
            modality.name: np.empty((pairs, modality.channels, side, side), dtype=np.uint8)
            for modality in self.modalities
        }

        def fill(item: tuple[str, int]) -> None:
            modality, pair = item
            cache[modality][pair] = self._decode(modality, pair)

        for _ in map_in_threads(fill, _all_images(self._source)):
            pass
        _log.info("%d pairs of %d pixels kept in memory", pairs, side)
        return cache


def choose_subset(num_pairs: int, subset: int | None, seed: int) -> np.ndarray:
    """Return the indices of `subset` random pairs, ascending: [subset] int64.

    Raises: ValueError where `subset` is not in 1..num_pairs, or `seed` is negative.
    """
    if subset is None:
        return np.arange(num_pairs)
    if not 1 <= subset <= num_pairs:
        raise ValueError(f"--subset must be in 1..{num_pairs}, the number of pairs, got {subset}")
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    return np.sort(rng.permutation(num_pairs)[:subset])


def _all_images(source: PairSource) -> list[tuple[str, int]]:
    return [(modality, pair) for pair in range(len(source)) for modality in source.files]


def _verify(source: PairSource) -> dict[str, pixels.ImageHeader]:
    """Return the header of every image by its described name, after a look for cut files."""

    def verify_one(item: tuple[str, int]) -> tuple[str, pixels.ImageHeader]:
        name = source.describe(*item)
        with source.open(*item) as file:
            return name, pixels.verify_image(file, name)

    return dict(map_in_threads(verify_one, _all_images(source)))
