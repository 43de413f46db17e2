"""Images with the number of the person they show, for training a recogniser."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.dataset import PairDataset
from data.identities import identity_of


class FaceSet(Dataset[tuple[Tensor, int]]):
    """The images of a data set of pairs, of one modality or of several as separate images.

    Item i is ([3, R, R] uint8 0..255, grey repeated; number of the person). People are numbered in
    the order of their names.

    Args:
        pairs: data set.
        modalities: names, such as ("rgb",) or ("rgb", "nir").
    Raises: ValueError for fewer than two people, or an unknown modality.
    """

    def __init__(self, pairs: PairDataset, modalities: Sequence[str] = ("rgb",)) -> None:
        known = [modality.name for modality in pairs.modalities]
        unknown = [name for name in modalities if name not in known]
        if unknown or not modalities:
            raise ValueError(f"modalities must be among {known}, got {list(modalities)}")
        names = [identity_of(stem) for stem in pairs.stems]
        self.people = tuple(sorted(set(names)))
        if len(self.people) < 2:
            raise ValueError(
                f"{pairs.name}: recognition needs at least 2 people, got {len(self.people)}: "
                f"names must be {{person}}_{{sample}} or lie in a folder a person"
            )
        number = {name: index for index, name in enumerate(self.people)}
        self.labels = torch.tensor([number[name] for name in names]).repeat(len(modalities))
        self.modalities = tuple(modalities)
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs.stems) * len(self.modalities)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        which, pair = divmod(index, len(self._pairs.stems))
        image = self._pairs[pair][self.modalities[which]]
        return image.expand(3, -1, -1), int(self.labels[index])
