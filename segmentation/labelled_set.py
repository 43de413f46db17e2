"""Labelled samples as tensors, checked before the first use."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.class_list import ClassList
from data.dataset import choose_subset
from data.modalities import Modality
from data.pixels import IGNORED, MAX_UNCERTAINTY
from data.sample_index import MASK, UNCERTAINTY
from data.storage import map_in_threads
from segmentation.classes import ClassMerge, map_mask, table_for
from segmentation.labelled_files import LabelledSource
from segmentation.options import UncertaintyKind

Size = tuple[int, int]  # height, width
_SAMPLE_BYTES_A_PIXEL = 9
_CACHE_GIB = 1.0  # decoded samples are kept in memory where all of them fit into this


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One labelled sample."""

    image: Tensor  # [C, H, W] uint8 0..255, all wanted modalities
    mask: Tensor  # [H, W] uint8, classes or IGNORED
    uncertainty: Tensor  # [H, W] float32 0..1, a share of ln(classes)


class LabelledSet:
    """The samples of one or several sources; no file is read before `verify`.

    Attributes:
        classes: of the masks.
        modalities: of the images.
        stems: name of each sample.
        size: height and width of all samples, once they are verified.
        pixels: [n, K] int64, pixels of each class in each mask, once they are verified.

    Args:
        sources: at least one, with the same modalities.
        classes: of the masks.
        merge: for sources with other classes.
        side: width and height that square images are resized to; None leaves them.
        uncertainty: what the samples' uncertainty is; 0 where a source does not have it.
        subset: number of samples to keep, drawn with `seed`; None keeps all.
        seed: of the subset.
    Raises: ValueError for classes that do not fit, or no uncertainty where it is asked for.
    """

    def __init__(
        self,
        sources: Sequence[LabelledSource],
        classes: ClassList,
        *,
        merge: ClassMerge | None = None,
        side: int | None = None,
        uncertainty: UncertaintyKind = UncertaintyKind.NONE,
        subset: int | None = None,
        seed: int = 0,
    ) -> None:
        self.classes, self.modalities = classes, sources[0].modalities
        self._side, self._uncertainty = side, uncertainty
        self._tables = {s: table_for(s.stated, classes, merge, s.describe()) for s in sources}
        positions = [(source, index) for source in sources for index in range(len(source))]
        self._positions = [positions[k] for k in choose_subset(len(positions), subset, seed)]
        self.stems = tuple(source.samples.stems[index] for source, index in self._positions)
        self._check_uncertainty()
        self.size: Size = (0, 0)
        self.pixels = np.zeros([0, len(classes)], np.int64)
        self._kept: dict[int, Sample] = {}

    def verify(self) -> None:
        """Read all masks and look at all images.

        Raises: ValueError naming file or option: a value that is no class, sizes that do not fit,
            damaged files.
        """
        sizes, pixels = zip(*map_in_threads(self._check, range(len(self))), strict=True)
        self.size, self.pixels = self._common_size(sizes), np.stack(pixels)
        if not self.pixels.any():
            where = self._positions[0][0].describe()
            raise ValueError(f"{where}: all pixels of all masks are ignored")

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Sample:
        sample = self._kept.get(index)
        if sample is None:
            sample = self._read(index)
            if self._num_pixels * _SAMPLE_BYTES_A_PIXEL <= _CACHE_GIB * 2**30:
                self._kept[index] = sample
        return sample

    @property
    def has_ignored(self) -> bool:
        """Whether some pixels belong to no class."""
        return bool(self.pixels.sum() < self._num_pixels)

    @property
    def _num_pixels(self) -> int:
        return len(self) * self.size[0] * self.size[1]

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return channels_of(self.modalities)

    def fingerprint(self) -> str:
        """Return 64 hex digits that other samples, masks, classes or uncertainties change.

        Pixels of images are not read: one that is edited to a file of the same size keeps it.
        """
        digest = hashlib.sha256()
        kinds = [*(modality.name for modality in self.modalities), MASK, UNCERTAINTY]
        for stem, (source, index), pixels in zip(
            self.stems, self._positions, self.pixels, strict=True
        ):
            samples, score = source.samples, source.scores[index]
            sizes = [samples.size(kind, index) for kind in kinds if samples.has(kind, index)]
            digest.update(json.dumps([stem, sizes, score, pixels.tolist()]).encode())
        digest.update(json.dumps([self.size, self._uncertainty.value]).encode())
        return digest.hexdigest()

    def _check_uncertainty(self) -> None:
        known = {
            UncertaintyKind.NONE: True,
            UncertaintyKind.PIXEL: any(s.samples.has(UNCERTAINTY, i) for s, i in self._positions),
            UncertaintyKind.SAMPLE: any(s.scores[i] is not None for s, i in self._positions),
        }
        if not known[self._uncertainty]:
            what = "maps" if self._uncertainty is UncertaintyKind.PIXEL else "scores"
            where = self._positions[0][0].describe()
            raise ValueError(
                f"--uncertainty={self._uncertainty.value}: {where} has no {what} of uncertainty "
                "(train_interpreter.py --generate-data --save-uncertainty writes them)"
            )

    def _check(self, position: int) -> tuple[Size, np.ndarray]:
        """Return the size of a sample's files and the pixels of each class."""
        mask, (source, index) = self._mask(position), self._positions[position]
        samples = source.samples
        for modality in self.modalities:
            header = samples.verify(modality.name, index)
            if (header.height, header.width) != mask.shape:
                raise ValueError(
                    f"{samples.describe(MASK, index)}: the mask must measure "
                    f"{header.width}x{header.height} as its image, got "
                    f"{mask.shape[1]}x{mask.shape[0]}"
                )
        resized = self._resized(mask)
        counts = np.bincount(resized[resized != IGNORED], minlength=len(self.classes))
        return (mask.shape[0], mask.shape[1]), counts.astype(np.int64)

    def _common_size(self, sizes: Sequence[Size]) -> Size:
        for size, (source, index) in zip(sizes, self._positions, strict=True):
            where = source.samples.describe(MASK, index)
            if self._side is not None and size[0] != size[1]:
                raise ValueError(f"{where}: --size needs square images, got {size[1]}x{size[0]}")
            if self._side is None and size != sizes[0]:
                raise ValueError(
                    f"{where}: all images must have one size (or be given --size), got "
                    f"{size[1]}x{size[0]} beside {sizes[0][1]}x{sizes[0][0]}"
                )
        return sizes[0] if self._side is None else (self._side, self._side)

    def _read(self, position: int) -> Sample:
        (source, index), planes = self._positions[position], []
        for modality in self.modalities:
            pixels = source.samples.image(modality.name, index)
            if self._side is not None and pixels.shape[2] != self._side:
                pixels = _shrunk(pixels, self._side)
            planes.append(pixels)
        mask = self._resized(self._mask(position))
        return Sample(
            image=torch.from_numpy(np.concatenate(planes)),
            mask=torch.from_numpy(mask.copy()),
            uncertainty=torch.from_numpy(self._uncertainty_of(position, mask.shape)),
        )

    def _mask(self, position: int) -> np.ndarray:
        source, index = self._positions[position]
        mask = source.samples.mask(index)
        assert mask is not None, "labelled samples have masks"
        where = source.samples.describe(MASK, index)
        return map_mask(mask, self._tables[source], len(self.classes), where)

    def _uncertainty_of(self, position: int, shape: tuple[int, ...]) -> np.ndarray:
        source, index = self._positions[position]
        found = None
        if self._uncertainty is UncertaintyKind.SAMPLE:
            return np.full(shape, source.scores[index] or 0.0, np.float32)
        if self._uncertainty is UncertaintyKind.PIXEL:
            found = source.samples.uncertainty(index)
        if found is None:
            return np.zeros(shape, np.float32)
        values = self._resized(found)
        if values.shape != shape:
            where = source.samples.describe(UNCERTAINTY, index)
            raise ValueError(f"{where}: must measure {shape} as its mask, got {values.shape}")
        return values.astype(np.float32) / MAX_UNCERTAINTY

    def _resized(self, plane: np.ndarray) -> np.ndarray:
        """Take the nearest pixels; plane: [H, W]."""
        if self._side is None or plane.shape == (self._side, self._side):
            return plane
        rows, columns = (
            (np.arange(self._side) * 2 + 1) * length // (2 * self._side) for length in plane.shape
        )
        return plane[rows[:, None], columns]


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return [C, H, H] pixels with another side, by Pillow's bilinear filter, which widens."""
    plane = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    image = Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(side, side, len(pixels)).transpose(2, 0, 1)


def channels_of(modalities: Sequence[Modality]) -> int:
    """Return the channels of images that hold these modalities."""
    return sum(modality.channels for modality in modalities)


def check_classes_occur(labelled: LabelledSet, where: str) -> None:
    """Raise ValueError where fewer than two classes occur."""
    occurring = np.flatnonzero(labelled.pixels.sum(axis=0))
    if len(occurring) < 2:
        names = [labelled.classes.names[k] for k in occurring]
        raise ValueError(
            f"{where}: at least two classes must occur, got {', '.join(names) or 'none'}"
        )
