"""Images with the number of the identity that they show, for training a recogniser."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.modalities import MODALITIES
from data.sample_index import SampleIndex
from data.storage import map_in_threads
from recognition.face_sources import FaceSource

MEMORY_GIB = 2.0

_log = logging.getLogger(__name__)
_CHANNELS = {modality.name: modality.channels for modality in MODALITIES}


@dataclass(frozen=True)
class Target:
    """Whom an image shows: one identity, or several with weights that sum to 1."""

    identities: tuple[int, ...]
    weights: tuple[float, ...]


class FaceSet:
    """The images of some sources, of one modality or of several.

    Several modalities are separate items of 3 channels, grey repeated: first all of one, then all
    of the other. With `joint` they are one item of 4 channels. Identities are numbered source by
    source, in the order of their names; those of different sources are different. No file is read
    before `verify` or `cache`.

    Args:
        sources: of images.
        modalities: names, such as ("rgb",) or ("rgb", "nir").
        joint: RGB and NIR as one image.
        memory_gib: what `cache` may take.
    Raises: ValueError for fewer than two identities, or an unknown or missing modality.
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
        self._memory_gib = memory_gib
        self.channels = sum(_CHANNELS.values()) if joint else max(_CHANNELS.values())
        self.identities, self._targets = _number_identities(sources)
        if len(self.identities) < 2:
            raise ValueError(
                f"{sources[0].samples.name}: recognition needs at least 2 identities, got "
                f"{len(self.identities)}: names must be {{identity}}_{{sample}}, or images lie in "
                "a folder per identity"
            )
        self.fingerprints = [source.fingerprint for source in sources]
        self._sets = [source.samples for source in sources]
        self._starts = np.cumsum([0, *map(len, self._sets)])
        repeats = 1 if joint else len(modalities)
        self.labels = torch.tensor([t.identities[0] for t in self._targets]).repeat(repeats)
        self._cache: dict[str, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_samples(self) -> int:
        """Number of samples; each has an image a modality, or one where they are joint."""
        return len(self._targets)

    @property
    def is_cached(self) -> bool:
        """Whether the decoded images are in memory."""
        return bool(self._cache)

    def column(self, index: int) -> int:
        """Return the number of the modality of item `index`; 0 where they are joint."""
        return index // self.num_samples

    def target(self, index: int) -> Target:
        """Return whom item `index` shows."""
        return self._targets[index % self.num_samples]

    def image(self, index: int) -> Tensor:
        """Return item `index`'s image: [3 or 4, H, W] uint8 0..255."""
        column, sample = divmod(index, self.num_samples)
        wanted = self.modalities if self.is_joint else (self.modalities[column],)
        return as_input([self._pixels(name, sample) for name in wanted], is_joint=self.is_joint)

    def verify(self) -> None:
        """Look at the header and the end of every image.

        Raises: ValueError or FileNotFoundError that names an image which cannot be read, or, of
            joint ones, one of another size than its partner.
        """
        for _ in map_in_threads(self._verify, range(self.num_samples)):
            pass

    def cache(self) -> None:
        """Decode the images and keep them where they are likely to fit into the memory.

        Raises: ValueError naming a damaged image.
        """
        samples, index = self._locate(0)
        header = samples.verify(self.modalities[0], index)
        channels = sum(_CHANNELS[modality] for modality in self.modalities)
        num_bytes = self.num_samples * header.width * header.height * channels
        if self._cache or num_bytes > self._memory_gib * 2**30:
            return
        for name in self.modalities:
            indices = range(self.num_samples)
            self._cache[name] = list(map_in_threads(lambda i, n=name: self._decode(n, i), indices))
        _log.info("%d samples of about %d pixels kept in memory", self.num_samples, header.width)

    def _verify(self, sample: int) -> None:
        samples, index = self._locate(sample)
        sizes = {}
        for name in self.modalities:
            header = samples.verify(name, index)
            sizes[name] = (header.width, header.height)
        first = self.modalities[0]
        for name, size in sizes.items():
            if self.is_joint and size != sizes[first]:
                raise ValueError(
                    f"{samples.describe(name, index)}: joint images must be of one size, got "
                    f"{size[0]}x{size[1]} beside {sizes[first][0]}x{sizes[first][1]} of "
                    f"{samples.describe(first, index)}"
                )

    def _locate(self, sample: int) -> tuple[SampleIndex, int]:
        part = int(np.searchsorted(self._starts, sample, side="right")) - 1
        return self._sets[part], sample - int(self._starts[part])

    def _pixels(self, modality: str, sample: int) -> np.ndarray:
        if modality in self._cache:
            return self._cache[modality][sample]
        return self._decode(modality, sample)

    def _decode(self, modality: str, sample: int) -> np.ndarray:
        samples, index = self._locate(sample)
        return samples.image(modality, index)


def as_input(parts: Sequence[np.ndarray], *, is_joint: bool) -> Tensor:
    """Return modalities' images, each [C, H, W] uint8, as one of 3 channels, or 4 where joint."""
    if not is_joint:
        # Copied by NumPy: PyTorch would start threads for each of these small arrays.
        return torch.from_numpy(np.repeat(parts[0], 3 // len(parts[0]), axis=0))
    return torch.from_numpy(np.concatenate(parts))


def _check_modalities(
    sources: Sequence[FaceSource], modalities: Sequence[str], *, joint: bool
) -> None:
    unknown = [name for name in modalities if name not in _CHANNELS]
    if unknown or not modalities or len(set(modalities)) < len(modalities):
        raise ValueError(f"modalities must be among {list(_CHANNELS)}, got {list(modalities)}")
    if joint and tuple(modalities) != tuple(_CHANNELS):
        raise ValueError(f"joint images take {list(_CHANNELS)}, got {list(modalities)}")
    for samples in (source.samples for source in sources):
        for name in modalities:
            lacking = [i for i in range(len(samples)) if not samples.has(name, i)]
            if lacking:
                raise ValueError(
                    f"{samples.name}: {len(lacking)} of {len(samples)} samples have no {name} "
                    f"image, such as {samples.stems[lacking[0]]}"
                )


def _number_identities(sources: Sequence[FaceSource]) -> tuple[tuple[str, ...], list[Target]]:
    names: list[str] = []
    targets: list[Target] = []
    shared: dict[Target, Target] = {}  # one object an identity: there may be millions of images
    known = Counter(source.samples.name for source in sources)
    for index, source in enumerate(sources):
        own = sorted({name for shown in source.shown for name, _ in shown})
        number = {name: len(names) + i for i, name in enumerate(own)}
        for shown in source.shown:
            identities, weights = zip(*shown, strict=True)
            target = Target(tuple(number[name] for name in identities), weights)
            targets.append(shared.setdefault(target, target))
        name = source.samples.name
        prefix = name if known[name] == 1 else f"{name} {index + 1}"
        names += own if len(sources) == 1 else [f"{prefix}/{n}" for n in own]
    return tuple(names), targets
