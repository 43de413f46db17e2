"""The samples of a data set and where their files are, whatever holds them: one index for all."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from data import pixels
from data.modalities import MODALITIES
from data.storage import Folder, Mounts, Storage, map_in_threads

MASK = "mask"
UNCERTAINTY = "uncertainty"
_CHANNELS = {modality.name: modality.channels for modality in MODALITIES}
MODALITY_FOLDERS = frozenset(name for modality in MODALITIES for name in modality.folders)
_NAMES_IN_MESSAGES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleIndex:
    """The samples of a data set; nothing is decoded until it is asked for.

    Can be read from several threads and sent to other processes.
    """

    name: str  # shown in tables
    base: Folder  # with the data set's records, such as dataset_info.json
    storage: Storage  # that file names are relative to
    stems: tuple[str, ...]  # name of each sample; no two are equal
    identities: tuple[str, ...]  # of each sample
    # Modality, MASK or UNCERTAINTY -> one file name a sample, or None; absent kinds have no key.
    files: Mapping[str, tuple[str | None, ...]]
    entries: tuple[
        Mapping[str, Any], ...
    ] = ()  # each sample's line of the manifest, if there is one

    def __len__(self) -> int:
        return len(self.stems)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that there are."""
        return tuple(m.name for m in MODALITIES if m.name in self.files)

    @property
    def num_identities(self) -> int:
        """Number of different identities."""
        return len(set(self.identities))

    @property
    def num_masks(self) -> int:
        """Number of samples with a mask."""
        return sum(name is not None for name in self.files.get(MASK, ()))

    @property
    def image_folders(self) -> Mapping[str, Folder]:
        """Modality -> the folder of its images; of pairs, which lie in one each."""
        assert isinstance(self.storage, Mounts), "pairs lie in a folder a modality"
        return {m: root for m, root in self.storage.roots.items() if isinstance(root, Folder)}

    def identity_numbers(self) -> np.ndarray:
        """Return each sample's identity as a number: [N] int64."""
        names = np.asarray(self.identities, dtype=str)
        return np.unique(names, return_inverse=True)[1].reshape(-1)

    def has(self, kind: str, index: int) -> bool:
        """Return whether a sample has a file of this kind."""
        return kind in self.files and self.files[kind][index] is not None

    def file(self, kind: str, index: int) -> str:
        """Return the name of one file. Raises: FileNotFoundError where the sample has none."""
        name = self.files[kind][index] if kind in self.files else None
        if name is None:
            where = f"{self.base.describe()}: sample {self.stems[index]!r}"
            raise FileNotFoundError(f"{where} has no {kind} file")
        return name

    def files_of(self, index: int) -> list[str]:
        """Return the names of all files of a sample; a manifest may name further ones."""
        if self.entries:
            return [str(file["name"]) for file in self.entries[index]["files"].values()]
        return [self.file(kind, index) for kind in self.files if self.has(kind, index)]

    def describe(self, kind: str, index: int) -> str:
        """Return how messages show one file."""
        return self.storage.describe(self.file(kind, index))

    def open(self, kind: str, index: int) -> BinaryIO:
        """Open one file; the caller closes it."""
        return self.storage.open(self.file(kind, index))

    def read(self, kind: str, index: int) -> bytes:
        """Return one file's bytes."""
        return self.storage.read(self.file(kind, index))

    def size(self, kind: str, index: int) -> int:
        """Return one file's size in bytes."""
        return self.storage.size(self.file(kind, index))

    def image(self, modality: str, index: int) -> np.ndarray:
        """Return one image, [C, H, W] uint8. Raises: ValueError naming a damaged file."""
        with self.open(modality, index) as file:
            name = self.describe(modality, index)
            return pixels.decode_image(file, _CHANNELS[modality], name)

    def verify(self, modality: str, index: int) -> pixels.ImageHeader:
        """Return one image's header after a look at whether the file is whole.

        Raises: ValueError naming a damaged file.
        """
        with self.open(modality, index) as file:
            return pixels.verify_image(file, self.describe(modality, index))

    def mask(self, index: int) -> np.ndarray | None:
        """Return one mask, [H, W] uint8 class numbers, or None. Raises: ValueError likewise."""
        if not self.has(MASK, index):
            return None
        with self.open(MASK, index) as file:
            return pixels.read_mask(file, self.describe(MASK, index))

    def uncertainty(self, index: int) -> np.ndarray | None:
        """Return one map of uncertainty, [H, W] uint16, or None. Raises: ValueError likewise."""
        if not self.has(UNCERTAINTY, index):
            return None
        with self.open(UNCERTAINTY, index) as file:
            return pixels.read_uncertainty(file, self.describe(UNCERTAINTY, index))

    def select(self, indices: Iterable[int]) -> "SampleIndex":
        """Return the samples at `indices`, in that order."""
        chosen = list(indices)
        return replace(
            self,
            stems=tuple(self.stems[i] for i in chosen),
            identities=tuple(self.identities[i] for i in chosen),
            files={kind: tuple(names[i] for i in chosen) for kind, names in self.files.items()},
            entries=tuple(self.entries[i] for i in chosen) if self.entries else (),
        )

    def fingerprint(self) -> str:
        """Return 64 hex digits that other names, identities or file sizes change.

        Raises: FileNotFoundError for a file that is not there.
        """
        rows = (
            [
                self.stems[i],
                self.identities[i],
                [[kind, self.size(kind, i)] for kind in self.files if self.has(kind, i)],
            ]
            for i in range(len(self))
        )
        return hash_rows(rows)

    def content_hash(self) -> str:
        """Return 64 hex digits that any other byte of an image, or another order, changes."""
        images = [(m, i) for m in self.modalities for i in range(len(self)) if self.has(m, i)]
        hashes = map_in_threads(lambda item: hashlib.sha256(self.read(*item)).hexdigest(), images)
        return hash_rows(
            [kind, self.file(kind, i), found]
            for (kind, i), found in zip(images, hashes, strict=True)
        )


def index_files(
    base: Folder, storage: Storage, columns: Mapping[str, Mapping[str, str]], stems: Iterable[str]
) -> SampleIndex:
    """Return an index of samples whose identities their names tell.

    Args:
        base, storage: see SampleIndex.
        columns: kind -> {stem: file name}; kinds without a file are left out.
        stems: of the samples, in order.
    """
    stems = tuple(stems)
    found = {kind: tuple(names.get(s) for s in stems) for kind, names in columns.items()}
    return SampleIndex(
        name=base.name,
        base=base,
        storage=storage,
        stems=stems,
        identities=tuple(map(identity_of, stems)),
        files={kind: names for kind, names in found.items() if any(names)},
    )


def check_disjoint(option: str, samples: SampleIndex, known: Mapping[str, SampleIndex]) -> None:
    """Refuse a set that is one of others, or a copy: learned from, mixed in, or measured on.

    Args:
        option: with its value, such as "--data faces".
        samples: of that option.
        known: the same of other options.
    Raises: ValueError that names both.
    """
    for other, there in known.items():
        is_same = samples.storage.describe() == there.storage.describe()
        if not is_same and samples.fingerprint() == there.fingerprint():
            # Files without compression have equal sizes in different sets, too.
            is_same = all(samples.read(kind, 0) == there.read(kind, 0) for kind in samples.files)
        if is_same:
            raise ValueError(f"{option}: must hold other samples than {other}, got the same")


def identity_of(stem: str) -> str:
    """Return the identity of an image: its folder, or what stands before its name's last "_".

    Folders of modalities do not count: "id_3/VIS/sample_1_VIS" shows "id_3", "0007_003" shows
    "0007", "person/IMG_5" shows "person". A name without "_" is an identity of its own.
    """
    path = PurePosixPath(stem)
    folders = [part for part in path.parts[:-1] if part not in MODALITY_FOLDERS]
    if folders:
        return "/".join(folders)
    prefix, _, sample = path.name.rpartition("_")
    return prefix if prefix and sample else path.name


def describe_unnamed(stems: Sequence[str], identities: Sequence[str]) -> str:
    """Say which images are identities of their own as their names tell none; "" for no image."""
    unnamed = [stem for stem, identity in zip(stems, identities, strict=True) if stem == identity]
    if not unnamed:
        return ""
    return (
        f"{len(unnamed)} of {len(stems)} images are identities of their own, as no folder and no "
        f'"_" in their names tells any: {shorten(unnamed)}'
    )


def hash_rows(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of plain JSON values as 64 hex digits."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def shorten(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are.

    >>> shorten(["a", "b"])
    'a, b'
    """
    shown = ", ".join(names[:_NAMES_IN_MESSAGES])
    more = len(names) - _NAMES_IN_MESSAGES
    return f"{shown} and {more} more" if more > 0 else shown
