"""Pairs as joint images of all chosen modalities, and the class masks beside them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.class_list import class_list_from_json
from data.dataset import PairDataset
from data.info import INFO_FILE
from data.masks import MASK_FOLDER, read_mask
from data.modalities import MODALITIES, Modality
from data.parallel import map_in_threads
from dnnlib.config import suggest
from dnnlib.files import read_json, sha256_file

_MAX_CLASSES = 256


class JointImages:
    """Pairs as images with the channels of all chosen modalities.

    Args:
        pairs: the data set.
        modalities: names; their order is that of data.modalities.
    Raises: ValueError for an unknown name, or none at all.
    """

    def __init__(self, pairs: PairDataset, modalities: Sequence[str]) -> None:
        self.pairs = pairs
        self.modalities = choose_modalities(modalities)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        """Return [C, R, R] uint8."""
        item = self.pairs[index]
        return torch.cat([item[modality.name] for modality in self.modalities])

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return [n, C, R, R] uint8."""
        return torch.stack([self[index] for index in indices])

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each modality."""
        return tuple(modality.channels for modality in self.modalities)


class Masks:
    """The class masks of a data set: PNG files with the names of the images; all are checked.

    Args:
        root: the data set's folder.
        stems: names of its images.
        resolution: side of the images, in pixels.
    Raises: FileNotFoundError where a mask is missing; ValueError that names one which is damaged or
        does not measure what the images do.
    """

    def __init__(self, root: Path, stems: Sequence[str], resolution: int) -> None:
        self._files = [root / MASK_FOLDER / f"{stem}.png" for stem in stems]
        self._resolution = resolution
        missing = [file for file in self._files if not file.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: no such mask; {len(missing)} of {len(stems)} images have none"
            )
        for _ in map_in_threads(self._read, self._files):
            pass

    def __getitem__(self, index: int) -> Tensor:
        """Return [R, R] uint8 classes."""
        return torch.from_numpy(self._read(self._files[index]))

    def _read(self, file: Path) -> np.ndarray:
        classes = read_mask(file, str(file))
        if classes.shape != (self._resolution, self._resolution):
            raise ValueError(
                f"{file}: must measure {self._resolution}x{self._resolution} as the images do, "
                f"got {classes.shape[1]}x{classes.shape[0]}"
            )
        return classes

    def fingerprint(self) -> str:
        """Return 64 hex digits that any other byte of a file changes."""
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(sha256_file(file).encode())
        return digest.hexdigest()

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return [n, R, R] uint8 classes."""
        return torch.stack([self[index] for index in indices])


def choose_modalities(names: Sequence[str]) -> tuple[Modality, ...]:
    """Return the modalities of these names, in their fixed order.

    Raises: ValueError for an unknown name, or none at all.
    """
    known = {modality.name: modality for modality in MODALITIES}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"modalities must be among {list(known)}, got {list(names)}")
    return tuple(modality for modality in MODALITIES if modality.name in names)


def class_names(root: Path) -> tuple[str, ...]:
    """Return the names of a data set's classes, as its record has them; none where it has none.

    Raises: ValueError where the record cannot be read.
    """
    file = root / INFO_FILE
    content = read_json(file) if file.is_file() else {}
    classes = content.get("classes") if isinstance(content, dict) else None
    return class_list_from_json(classes, str(file)).names if isinstance(classes, list) else ()


def class_number(name: str, names: Sequence[str], option: str) -> int:
    """Return the number of the class with this name, or of this number.

    Args:
        name: as it was given.
        names: of the classes, in order; may be empty.
        option: named in messages.
    Raises: ValueError where there is no such class.
    """
    if name in names:
        return list(names).index(name)
    if name.isdecimal() and int(name) < _MAX_CLASSES:
        return int(name)
    known = ", ".join(names) or "numbers (the data set names none)"
    raise ValueError(f"{option} {name}: must be one of the classes {known}{suggest(name, names)}")


def weight_table(weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Return the weight of each of 256 classes: [256] float32, 1 where none is given.

    Args:
        weights: class name or number -> weight, at least 0.
        names: of the classes, in order.
    Raises: ValueError for an unknown class or a weight below 0.
    """
    table = torch.ones(_MAX_CLASSES)
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"--region-weight {name}: must be 0 or more, got {weight}")
        table[class_number(name, names, "--region-weight")] = weight
    return table


def kept_table(kept: Sequence[str], names: Sequence[str]) -> Tensor:
    """Return which of 256 classes stay as they are: [256] bool.

    Args:
        kept: class names or numbers.
        names: of the classes, in order.
    Raises: ValueError for an unknown class.
    """
    table = torch.zeros(_MAX_CLASSES, dtype=torch.bool)
    for name in kept:
        table[class_number(name, names, "--keep")] = True
    return table
