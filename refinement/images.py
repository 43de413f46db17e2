"""Pairs as joint images of all chosen modalities, and the class masks beside them."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from data.dataset import PairDataset
from data.modalities import choose_modalities
from data.sample_index import MASK, hash_rows
from data.storage import map_in_threads
from dnnlib.config import suggest

MAX_CLASSES = 256


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
    """The class masks of pairs.

    Args:
        pairs: the data set, with a mask a pair.
    Raises: FileNotFoundError where a mask is missing.
    """

    def __init__(self, pairs: PairDataset) -> None:
        self._samples, self._side = pairs.samples, pairs.resolution
        missing = [i for i in range(len(self._samples)) if not self._samples.has(MASK, i)]
        if missing:
            where = f"{self._samples.base.describe()}: {self._samples.stems[missing[0]]}"
            raise FileNotFoundError(
                f"{where}: no such mask; {len(missing)} of {len(self._samples)} images have none"
            )

    def __getitem__(self, index: int) -> Tensor:
        """Return [R, R] uint8 classes.

        Raises: ValueError that names a mask which is damaged or does not measure what images do.
        """
        classes = self._samples.mask(index)
        assert classes is not None, "all pairs have a mask"
        if classes.shape != (self._side, self._side):
            raise ValueError(
                f"{self._samples.describe(MASK, index)}: must measure {self._side}x{self._side} "
                f"as the images do, got {classes.shape[1]}x{classes.shape[0]}"
            )
        return torch.from_numpy(classes)

    def verify(self) -> None:
        """Read all masks. Raises: ValueError as for one."""
        for _ in map_in_threads(self.__getitem__, range(len(self._samples))):
            pass

    def fingerprint(self) -> str:
        """Return 64 hex digits that any other byte of a file changes."""
        contents = (self._samples.read(MASK, i) for i in range(len(self._samples)))
        return hash_rows(hashlib.sha256(content).hexdigest() for content in contents)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Return [n, R, R] uint8 classes."""
        return torch.stack([self[index] for index in indices])


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
    if name.isdecimal() and int(name) < MAX_CLASSES:
        return int(name)
    known = ", ".join(names) or "numbers (the data set names none)"
    raise ValueError(f"{option} {name}: must be one of the classes {known}{suggest(name, names)}")


def weight_table(weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Return the weight of each of 256 classes: [256] float32, 1 where none is given.

    Args:
        weights: class name or number -> weight.
        names: of the classes, in order.
    Raises: ValueError for an unknown class.
    """
    table = torch.ones(MAX_CLASSES)
    for name, weight in weights.items():
        table[class_number(name, names, "--region-weight")] = weight
    return table
