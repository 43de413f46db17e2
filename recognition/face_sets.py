"""Images with the number of the person they show, for training a recogniser."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.modalities import MODALITIES
from data.parallel import map_in_threads
from data.pixels import decode_image, read_header
from recognition.face_sources import FaceSource

MEMORY_GIB = 2.0

_log = logging.getLogger(__name__)
_CHANNELS = {modality.name: modality.channels for modality in MODALITIES}


@dataclass(frozen=True)
class Target:
    """Whom an image shows: one person, or several with weights that sum to 1."""

    people: tuple[int, ...]
    weights: tuple[float, ...]


class FaceSet(Dataset[tuple[Tensor, int]]):
    """The images of some sources, of one modality or of several.

    Item i is ([C, H, W] uint8 0..255; number of the person). Several modalities are separate
    images of 3 channels, grey repeated: first all of one, then all of the other. With `joint`
    they are one image of 4 channels. People are numbered source by source, in the order of their
    names; people of different sources are different people.

    Args:
        sources: of images.
        modalities: names, such as ("rgb",) or ("rgb", "nir").
        joint: RGB and NIR as one image.
        memory_gib: decoded images are kept where all of them fit into this.
    Raises: ValueError for fewer than two people, an unknown or missing modality, a damaged image
        where all are kept, or images of unequal sizes in a joint one, which are named.
    """

    def __init__(
        self,
        sources: Sequence[FaceSource],
        modalities: Sequence[str] = ("rgb",),
        *,
        joint: bool = False,
        memory_gib: float = MEMORY_GIB,
    ) -> None:
        _check_modalities(sources, modalities, joint=joint)
        self.modalities, self.is_joint = tuple(modalities), joint
        self.channels = sum(_CHANNELS.values()) if joint else max(_CHANNELS.values())
        self.people, self._targets = _number_people(sources)
        if len(self.people) < 2:
            raise ValueError(
                f"{sources[0].name}: recognition needs at least 2 people, got {len(self.people)}: "
                f"names must be {{person}}_{{sample}} or lie in a folder a person"
            )
        self.fingerprints = [source.fingerprint for source in sources]
        self._samples = [sample for source in sources for sample in source.samples]
        repeats = 1 if joint else len(modalities)
        self.labels = torch.tensor([t.people[0] for t in self._targets]).repeat(repeats)
        self._cache = self._build_cache(memory_gib)
        if joint:
            for _ in map_in_threads(self._check_size, range(self.moments)):
                pass

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.image(index), int(self.labels[index])

    @property
    def moments(self) -> int:
        """Number of samples; each has an image a modality, or one where they are joint."""
        return len(self._samples)

    @property
    def is_cached(self) -> bool:
        """Whether the decoded images are in memory."""
        return bool(self._cache)

    def column(self, index: int) -> int:
        """Return the number of the modality of item `index`; 0 where they are joint."""
        return index // len(self._samples)

    def target(self, index: int) -> Target:
        """Return whom item `index` shows."""
        return self._targets[index % len(self._samples)]

    def image(self, index: int) -> Tensor:
        """Return item `index`'s image: [3 or 4, H, W] uint8 0..255."""
        column, sample = divmod(index, len(self._samples))
        wanted = self.modalities if self.is_joint else (self.modalities[column],)
        parts = [self._pixels(modality, sample) for modality in wanted]
        return as_input(parts, is_joint=self.is_joint)

    def check_images(self) -> None:
        """Decode all images that are not in memory, and forget them.

        Raises: ValueError or FileNotFoundError that names an image which cannot be read.
        """
        if not self.is_cached:
            for modality in self.modalities:
                for _ in map_in_threads(partial(self._checked, modality), range(self.moments)):
                    pass

    def _checked(self, modality: str, sample: int) -> None:
        self._decode(modality, sample)  # not handed on: all of them could fill the memory

    def _check_size(self, sample: int) -> None:
        """Refuse a joint image of several sizes."""
        sizes = {modality: self._size(modality, sample) for modality in self.modalities}
        (first, size), *others = sizes.items()
        for modality, other in others:
            if other != size:
                places = self._samples[sample].places
                raise ValueError(
                    f"{places[modality].describe()}: joint images must be of one size, got "
                    f"{other[0]}x{other[1]} beside {size[0]}x{size[1]} of "
                    f"{places[first].describe()}"
                )

    def _size(self, modality: str, sample: int) -> tuple[int, int]:
        """Return width and height."""
        if self.is_cached:
            _, height, width = self._pixels(modality, sample).shape
            return width, height
        place = self._samples[sample].places[modality]
        header = read_header(place.read(), place.describe())
        return header.width, header.height

    def _pixels(self, modality: str, sample: int) -> np.ndarray:
        if self._cache:
            return self._cache[self.modalities.index(modality)][sample]
        return self._decode(modality, sample)

    def _decode(self, modality: str, sample: int) -> np.ndarray:
        place = self._samples[sample].places[modality]
        return decode_image(place.read(), _CHANNELS[modality], place.describe())

    def _build_cache(self, memory_gib: float) -> list[list[np.ndarray]]:
        """Return the images of each modality where they are likely to fit into the memory."""
        place = self._samples[0].places[self.modalities[0]]
        header = read_header(place.read(), place.describe())
        channels = sum(_CHANNELS[modality] for modality in self.modalities)
        num_bytes = len(self._samples) * header.width * header.height * channels
        if num_bytes > memory_gib * 2**30:
            return []
        _log.info("%d samples of about %d pixels kept in memory", self.moments, header.width)
        return [
            list(map_in_threads(partial(self._decode, modality), range(self.moments)))
            for modality in self.modalities
        ]


def as_input(parts: Sequence[np.ndarray], *, is_joint: bool) -> Tensor:
    """Return modalities' images, each [C, H, W] uint8, as one of 3 channels, or 4 where joint."""
    if not is_joint:
        # Copied by NumPy: PyTorch would start threads for each of these small arrays.
        return torch.from_numpy(np.repeat(parts[0], 3 // len(parts[0]), axis=0))
    if len({part.shape[1:] for part in parts}) > 1:
        sizes = " and ".join(f"{part.shape[2]}x{part.shape[1]}" for part in parts)
        raise ValueError(f"joint images must be of one size, got {sizes}")
    return torch.from_numpy(np.concatenate(parts))


def _check_modalities(
    sources: Sequence[FaceSource], modalities: Sequence[str], *, joint: bool
) -> None:
    unknown = [name for name in modalities if name not in _CHANNELS]
    if unknown or not modalities or len(set(modalities)) < len(modalities):
        raise ValueError(f"modalities must be among {list(_CHANNELS)}, got {list(modalities)}")
    if joint and tuple(modalities) != tuple(_CHANNELS):
        raise ValueError(f"joint images take {list(_CHANNELS)}, got {list(modalities)}")
    for source in sources:
        for name in modalities:
            lacking = [s for s in source.samples if name not in s.places]
            if lacking:
                shown = next(iter(lacking[0].places.values())).describe()
                raise ValueError(
                    f"{source.name}: {len(lacking)} of {len(source.samples)} samples have no "
                    f"{name} image, such as that of {shown}"
                )


def _number_people(sources: Sequence[FaceSource]) -> tuple[tuple[str, ...], list[Target]]:
    names: list[str] = []
    targets: list[Target] = []
    shared: dict[int, Target] = {}  # one object a person: there may be millions of images
    known = Counter(source.name for source in sources)
    for place, source in enumerate(sources):
        own = {s.person for s in source.samples} | {s.other for s in source.samples if s.other}
        number = {name: len(names) + i for i, name in enumerate(sorted(own))}
        for sample in source.samples:
            if sample.other is None:
                person = number[sample.person]
                targets.append(shared.setdefault(person, Target((person,), (1.0,))))
            else:
                pair = (number[sample.person], number[sample.other])
                targets.append(Target(pair, (sample.share, 1 - sample.share)))
        prefix = source.name if known[source.name] == 1 else f"{source.name} {place + 1}"
        names += sorted(own) if len(sources) == 1 else [f"{prefix}/{n}" for n in sorted(own)]
    return tuple(names), targets
