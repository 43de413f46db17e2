"""Folders of class masks, matched by the sample that they belong to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data.masks import MASK_FOLDER, read_mask
from data.pairs import shorten, stem_of
from data.storage import DirectoryStorage, Storage, open_storage
from evaluation.image_sets import MASK_NAME

_INFO_FILE = "dataset_info.json"
_MAX_CLASSES = 256


@dataclass(frozen=True, kw_only=True)
class MaskSet:
    """Masks of a folder.

    Attributes:
        storage: that file names are relative to.
        files: sample -> file name.
        classes: names of the classes, class 0 first; empty where the folder does not say.
    """

    storage: Storage
    files: Mapping[str, str]
    classes: tuple[str, ...]

    def read(self, sample: str) -> np.ndarray:
        """Return one mask, [H, W] uint8. Raises: ValueError naming a damaged file."""
        name = self.files[sample]
        with self.storage.open(name) as file:
            return read_mask(file, self.storage.describe(name))


def open_mask_set(path: Path) -> MaskSet:
    """Find the masks of a folder or archive.

    Taken are the PNG files of its folder "masks" where it has one; else those named as masks, such
    as image_3_label.png; else all.

    Raises: FileNotFoundError; ValueError where there are none.
    """
    storage = open_storage(path)
    place = storage.enter(MASK_FOLDER) if MASK_FOLDER in storage.folders() else storage
    names = [name for name in place.names() if name.lower().endswith(".png")]
    marked = [name for name in names if MASK_NAME.fullmatch(PurePosixPath(name).stem)]
    files = {_sample_of(name): name for name in (marked or names)}
    if not files:
        raise ValueError(f"{path}: no masks (PNG files) in it")
    if len(files) < len(marked or names):
        raise ValueError(f"{path}: several masks belong to one sample")
    return MaskSet(storage=place, files=files, classes=_class_names(storage, path))


def shared_samples(truth: MaskSet, found: MaskSet) -> list[str]:
    """Return the samples of both sets, which must have the same ones.

    Raises: ValueError that counts and names the samples which only one has.
    """
    for one, other in ((truth, found), (found, truth)):
        alone = sorted(set(one.files) - set(other.files))
        if alone:
            raise ValueError(
                f"{one.storage.describe()}: {len(alone)} masks have no counterpart in "
                f"{other.storage.describe()}: {shorten(alone)}"
            )
    return sorted(truth.files)


def class_names(truth: MaskSet, found: MaskSet, samples: Sequence[str]) -> list[str]:
    """Return the names of the classes: those that a folder states, or as many as the masks use."""
    stated = truth.classes or found.classes
    if stated:
        return list(stated)
    highest = max(int(mask.max()) for s in samples for mask in (truth.read(s), found.read(s)))
    return [f"class {k}" for k in range(max(highest + 1, 2))]


def mask_pairs(
    truth: MaskSet, found: MaskSet, samples: Sequence[str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the two masks of each sample. Raises: ValueError where their sizes differ."""
    for sample in samples:
        masks = truth.read(sample), found.read(sample)
        if masks[0].shape != masks[1].shape:
            raise ValueError(
                f"{found.storage.describe(found.files[sample])}: the mask must measure "
                f"{masks[0].shape} as the true one does, got {masks[1].shape}"
            )
        yield masks


def _sample_of(name: str) -> str:
    path = PurePosixPath(name)
    marked = MASK_NAME.fullmatch(path.stem)
    return str(path.with_name(marked[1])) if marked else stem_of(name)


def _class_names(storage: Storage, path: Path) -> tuple[str, ...]:
    """Return the names in dataset_info.json, beside or above the masks."""
    places: list[Storage] = [storage]
    if isinstance(storage, DirectoryStorage):
        places.append(DirectoryStorage(path.resolve().parent))
    for place in places:
        if place.exists(_INFO_FILE):
            return _names_of(place.read_json(_INFO_FILE))
    return ()


def _names_of(content: Any) -> tuple[str, ...]:
    classes = content.get("classes") if isinstance(content, dict) else None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(classes, list) and all(isinstance(c, dict) and "name" in c for c in classes):
        return tuple(str(entry["name"]) for entry in classes)
    if isinstance(names, list) and names:
        return tuple(str(name) for name in names)
    if isinstance(classes, int) and 2 <= classes <= _MAX_CLASSES:
        return tuple(f"class {k}" for k in range(classes))
    return ()
