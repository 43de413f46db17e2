"""Images of a data set with their people and masks, whatever the layout of its folder.

Read are: our manifests; data sets of VIS and NIR (or images and NIR); folders of people such as
id_3/VIS/sample_0_VIS.png; and flat folders such as 0_RGB.png, 0_NIR.png, image_0_label.png.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from data import pixels
from data.grouping import MANIFEST, ImageGroup, group_images
from data.identities import identity_of
from data.masks import MASK_FOLDER, read_mask
from data.modalities import MODALITIES, RGB
from data.pairs import find_layout, list_images, open_pairs, shorten, stem_of
from data.storage import DirectoryStorage, Storage, open_storage

_MASK_KINDS = ("label", "mask")
_ENDINGS = {m.name.upper(): m.name for m in MODALITIES} | {"VIS": RGB.name}
MASK_NAME = re.compile(r"(?:image_)?(.+)_(?:label|mask)")
_NOT_SAMPLES = re.compile(r"(grid|contact_sheet|.*_uncertainty|(fakes|reals)\w*|.*_samples)")
_NOT_FOLDERS = frozenset({"vis", "heldout", "test", MASK_FOLDER})
_CHANNELS = {modality.name: modality.channels for modality in MODALITIES}


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The files of a data set; nothing is decoded until it is asked for.

    Attributes:
        name: shown in tables.
        storage: the folder or archive that file names are relative to.
        stems: one a sample, sorted.
        people: the person of each sample.
        files: modality -> one file name a sample; modalities that are absent have no key.
        masks: one file name a sample, or None where it has no mask; empty where none has.
    """

    name: str
    storage: Storage
    stems: tuple[str, ...]
    people: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    masks: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.stems)

    @property
    def num_people(self) -> int:
        """How many people there are."""
        return len(set(self.people))

    def describe(self, modality: str, index: int) -> str:
        """Return how messages show one image's file."""
        return self.storage.describe(self.files[modality][index])

    def image(self, modality: str, index: int) -> np.ndarray:
        """Return one image, [C, H, W] uint8. Raises: ValueError naming a damaged file."""
        with self.storage.open(self.files[modality][index]) as file:
            return pixels.decode_image(file, _CHANNELS[modality], self.describe(modality, index))

    def mask(self, index: int) -> np.ndarray | None:
        """Return one mask, [H, W] uint8 class numbers, or None. Raises: ValueError likewise."""
        name = self.masks[index] if self.masks else None
        if name is None:
            return None
        with self.storage.open(name) as file:
            return read_mask(file, self.storage.describe(name))

    def select(self, indices: Iterable[int]) -> "ImageSet":
        """Return the samples at `indices`, in that order."""
        chosen = list(indices)
        return ImageSet(
            name=self.name,
            storage=self.storage,
            stems=tuple(self.stems[i] for i in chosen),
            people=tuple(self.people[i] for i in chosen),
            files={name: tuple(all_[i] for i in chosen) for name, all_ in self.files.items()},
            masks=tuple(self.masks[i] for i in chosen) if self.masks else (),
        )


def open_image_set(path: Path) -> ImageSet:
    """Find the samples of a data set.

    Args:
        path: a folder, a zip archive or a manifest.jsonl of ours.
    Raises: FileNotFoundError; ValueError where there are no images, an image has no partner, or a
        manifest is damaged.
    """
    if path.name == MANIFEST and not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.name == MANIFEST or (path / MANIFEST).is_file():
        return _from_manifest(path.parent if path.name == MANIFEST else path)
    storage = open_storage(path)
    if _has_layout(path):
        return image_set_of_pairs(path)
    return _from_names(storage, str(path))


def person_number(people: Sequence[str]) -> np.ndarray:
    """Return each sample's person as a number, [N] int64."""
    return np.unique(np.asarray(people, dtype=str), return_inverse=True)[1].reshape(-1)


def _has_layout(path: Path) -> bool:
    try:
        layout = find_layout(path)
    except ValueError:
        return False
    # "NIR beside it" does not make every folder of images a data set: VIS or images must be named
    return {PurePosixPath(folder.name).name for folder in layout.folders.values()} <= {
        name for modality in MODALITIES for name in modality.folders
    }


def image_set_of_pairs(path: Path) -> ImageSet:
    """Return a training data set's samples; its folder of RGB images may have any name.

    Raises: FileNotFoundError, ValueError as `data.pairs.open_pairs`.
    """
    source = open_pairs(path)
    layout = source.layout
    files = {
        name: tuple(f"{layout.folders[name].name}/{file}" for file in source.files[name])
        for name in layout.folders
    }
    available = (
        {
            stem_of(name): f"{MASK_FOLDER}/{name}"
            for name in list_images(layout.base.enter(MASK_FOLDER))
        }
        if MASK_FOLDER in layout.base.folders()
        else {}
    )
    masks = tuple(available.get(stem) for stem in source.stems)
    return ImageSet(
        name=layout.name,
        storage=layout.base,
        stems=tuple(source.stems),
        people=tuple(identity_of(stem) for stem in source.stems),
        files=files,
        masks=masks if any(masks) else (),
    )


# Names


def _from_names(storage: Storage, where: str) -> ImageSet:
    files: dict[str, dict[str, str]] = {modality.name: {} for modality in MODALITIES}
    masks: dict[str, str] = {}
    for name in list_images(storage):
        kind, stem = _kind_of(name)
        if kind is None:
            continue
        found = masks if kind == "mask" else files[kind]
        if stem in found:
            raise ValueError(f"{where}: {found[stem]} and {name} are both the {kind} of {stem!r}")
        found[stem] = name
    return _matched(storage, files, masks, where)


def _kind_of(name: str) -> tuple[str | None, str]:
    """Return what a file is ("rgb", "nir", "mask", None for none of them) and its stem."""
    path = PurePosixPath(name)
    folders, plain = list(path.parts[:-1]), stem_of(path.name)
    if _NOT_FOLDERS & set(folders):
        return None, name
    kind = None
    for modality in MODALITIES:
        for folder in modality.folders:
            if folder in folders:
                folders.remove(folder)
                kind = modality.name
    mask = MASK_NAME.fullmatch(plain)
    if mask:
        return "mask", "/".join([*folders, mask[1]])
    short, _, ending = plain.rpartition("_")
    if ending in _ENDINGS and short:
        plain, kind = short, _ENDINGS[ending]
    if _NOT_SAMPLES.fullmatch(plain):
        return None, name
    return kind or MODALITIES[0].name, "/".join([*folders, plain])


def _matched(
    storage: Storage,
    files: Mapping[str, Mapping[str, str]],
    masks: Mapping[str, str],
    where: str,
) -> ImageSet:
    present = {name: found for name, found in files.items() if found}
    if not present:
        raise ValueError(f"{where}: no images in it ({len(storage.names())} files)")
    shared = sorted(set.intersection(*(set(found) for found in present.values())))
    alone = sorted({stem for found in present.values() for stem in found} - set(shared))
    if alone:
        raise ValueError(
            f"{where}: {len(alone)} samples are not there in all of "
            f"{', '.join(present)}: {shorten(alone)}"
        )
    found_masks = tuple(masks.get(stem) for stem in shared)
    return ImageSet(
        name=storage.name,
        storage=storage,
        stems=tuple(shared),
        people=tuple(identity_of(stem) for stem in shared),
        files={name: tuple(found[stem] for stem in shared) for name, found in present.items()},
        masks=found_masks if any(found_masks) else (),
    )


# Manifests


def _from_manifest(folder: Path) -> ImageSet:
    groups = group_images(folder)
    modalities = [m.name for m in MODALITIES if m.name in groups[0].images]
    for number, group in enumerate(groups, start=1):
        if not modalities or set(group.images) != set(modalities):
            raise ValueError(
                f"{folder / MANIFEST}: line {number}: expected files of "
                f"{', '.join(modalities) or 'rgb'}, got {', '.join(group.images) or 'none'}"
            )
    stems = tuple(_kind_of(group.images[modalities[0]])[1] for group in groups)
    masks = tuple(_mask_of(group) for group in groups)
    return ImageSet(
        name=folder.resolve().name,
        storage=DirectoryStorage(folder),
        stems=stems,
        people=tuple(_person_of(g, stem) for g, stem in zip(groups, stems, strict=True)),
        files={name: tuple(group.images[name] for group in groups) for name in modalities},
        masks=masks if any(masks) else (),
    )


def _person_of(group: ImageGroup, stem: str) -> str:
    identity = (group.entry or {}).get("identity")
    return identity_of(stem) if identity is None else f"id_{identity}"


def _mask_of(group: ImageGroup) -> str | None:
    named = (group.entry or {}).get("files", {})
    found = [named[kind]["name"] for kind in _MASK_KINDS if kind in named]
    return found[0] if found else None
