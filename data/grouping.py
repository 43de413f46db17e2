"""Groups the files of any folder of images into samples: what is kept or dropped together."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from data.modalities import MODALITIES, RGB
from data.pairs import list_images
from data.storage import DirectoryStorage
from dnnlib import files

MANIFEST = "manifest.jsonl"
SUMMARY = "summary.json"  # of a data set of new identities

_COMPANION_FOLDERS = ("masks",)
_FOLDERS = {name.lower(): m.name for m in MODALITIES for name in m.folders}
_SUFFIXES = {m.name: m.name for m in MODALITIES} | {"vis": RGB.name}


@dataclass
class ImageGroup:
    """Files of one sample.

    Attributes:
        name: shown and sorted by.
        images: modality -> file, relative to the folder.
        others: further files, such as masks.
        entry: the sample's line in a manifest; None where there is none.
    """

    name: str
    images: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    entry: dict[str, Any] | None = None

    @property
    def files(self) -> list[str]:
        """All files."""
        return [*self.images.values(), *self.others]


def group_images(folder: Path) -> list[ImageGroup]:
    """Find the samples of a folder.

    A folder with a manifest (of the pixel interpreter, or of new people) has the samples that it
    names. Elsewhere files belong together whose paths differ only in a modality's folder (VIS,
    images, NIR), a folder "masks", or an ending _RGB, _VIS or _NIR of the name; an image beside
    which there is no such file is a sample of its own, and counts as RGB.

    Raises: FileNotFoundError; ValueError for a damaged manifest, or where there is no image.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if (folder / MANIFEST).is_file():
        return _groups_of_manifest(folder)
    names = [
        name
        for name in list_images(DirectoryStorage(folder))
        if not PurePosixPath(name).name.startswith("contact_sheet")
    ]
    groups = _groups_by_name(names)
    if not groups:
        raise ValueError(f"{folder}: no images in it")
    return groups


def _groups_of_manifest(folder: Path) -> list[ImageGroup]:
    path, groups = folder / MANIFEST, []
    known = {modality.name for modality in MODALITIES}
    for number, entry in enumerate(files.read_json_lines(path), start=1):
        try:
            named = {kind: str(file["name"]) for kind, file in entry["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            shown = json.dumps(entry)[:60]
            raise ValueError(f"{path}: line {number}: no names of files: {shown}") from error
        for name in named.values():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{path}: line {number}: {name!r} is outside of the folder")
        images = {kind: name for kind, name in named.items() if kind in known}
        others = [name for kind, name in named.items() if kind not in known]
        groups.append(ImageGroup(f"{number - 1:08d}", images, others, entry))
    if not groups:
        raise ValueError(f"{path}: names no samples")
    return groups


def _groups_by_name(names: Iterable[str]) -> list[ImageGroup]:
    groups: dict[str, ImageGroup] = {}
    for name in names:
        key, modality = _key_of(name)
        group = groups.setdefault(key, ImageGroup(key))
        if modality is None or modality in group.images:
            group.others.append(name)
        else:
            group.images[modality] = name
    return sorted((g for g in groups.values() if g.images), key=lambda group: group.name)


def _key_of(name: str) -> tuple[str, str | None]:
    """Return what the files of a sample share, and the modality; None for a companion."""
    path = PurePosixPath(name)
    modality: str | None = RGB.name
    folders = []
    for part in path.parts[:-1]:
        if part.lower() in _FOLDERS:
            modality = _FOLDERS[part.lower()]
        elif part in _COMPANION_FOLDERS:
            modality = None
        else:
            folders.append(part)
    stem = path.name.removesuffix(path.suffix)
    start, dash, end = stem.rpartition("_")
    if dash and end.lower() in _SUFFIXES:
        stem, modality = start, _SUFFIXES[end.lower()]
    return "/".join([*folders, stem]), modality
