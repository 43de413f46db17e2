"""Opens any data set as an index of samples.

Known are trees of VIS and NIR (or images and NIR) with masks, also in a zip archive; our manifests;
.rec and .tar files; and folders whose file names tell what belongs together, such as
id_3/VIS/sample_0_VIS.png, or 0_RGB.png, 0_NIR.png and image_0_label.png.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from data.info import SPLITS
from data.modalities import MODALITIES, RGB, Modality
from data.packed import PACKED_SUFFIXES, open_packed
from data.pairs import (
    MASK_FOLDER,
    index_layout,
    layout_beside,
    layout_in,
    list_images,
    open_root,
    stem_of,
)
from data.sample_index import MASK, UNCERTAINTY, SampleIndex, index_files, shorten
from data.storage import Folder, open_storage
from dnnlib import files

MANIFEST = "manifest.jsonl"

_MASK_KINDS = ("label", "mask")  # in manifests
_MODALITY_OF_FOLDER = {name.lower(): m.name for m in MODALITIES for name in m.folders}
_ENDINGS = {m.name.upper(): m.name for m in MODALITIES} | {"VIS": RGB.name}
_MASK_NAME = re.compile(r"(?:image_)?(.+)_(?:label|mask)")
_UNCERTAINTY_NAME = re.compile(r"(.+)_uncertainty")
_NOT_SAMPLES = re.compile(r"(grid|contact_sheet.*|(fakes|reals)\w*|.*_samples|overview)")
_NOT_FOLDERS = ("vis",)  # overlays of the interpreter
_logger = logging.getLogger(__name__)


def open_samples(
    path: Path, modalities: Sequence[Modality] = (), *, is_complete: bool = True
) -> SampleIndex:
    """Find the samples of a data set.

    Args:
        path: a folder, a zip archive, a manifest.jsonl of ours, a .rec or a .tar file.
        modalities: of labelled samples: these and a class mask must be there, others are not
            looked at. Empty for all modalities that there are, and masks where there are some.
        is_complete: every sample must have all modalities; else one is enough, and files are
            matched by their names alone.
    Raises: FileNotFoundError; ValueError where there are no images, an image has no partner, a
        manifest, archive or index is damaged, or the data set is unfinished. Messages
        count and name the files.
    """
    if path.name == MANIFEST:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        path = path.parent
    is_packed_file = path.suffix in PACKED_SUFFIXES and not path.is_dir()
    if not is_packed_file:
        storage = open_root(path)
        if storage.exists(MANIFEST):
            return _index_manifest(storage, modalities, is_complete=is_complete)
    packed = open_packed(path)
    if packed is not None:
        return packed
    if modalities:
        layout = layout_in(storage, modalities)
        if layout is None:
            wanted = " and ".join(" or ".join(m.folders) for m in modalities)
            raise ValueError(
                f"{path}: expected folders {wanted} (or a {MANIFEST}); folders in it: "
                f"{', '.join(storage.folders()) or 'none'}"
            )
        return index_layout(layout, needs_masks=True)
    layout = layout_in(storage) if is_complete else None
    # "NIR beside it" does not make every folder of images a data set: its name must be known.
    if layout is None and is_complete and storage.name in RGB.folders:
        layout = layout_beside(storage)
    if layout is not None:
        return index_layout(layout)
    return _index_names(storage, is_complete=is_complete)


def open_masks(path: Path) -> SampleIndex:
    """Find the class masks of a folder or archive.

    Taken are the PNG files of its folder "masks" where it has one; else those named as masks, such
    as image_3_label.png; else all.

    Raises: FileNotFoundError; ValueError where there are none, or several of one sample.
    """
    storage = open_storage(path)
    place = storage.enter(MASK_FOLDER) if MASK_FOLDER in storage.folders() else storage
    names = [name for name in place.names() if name.lower().endswith(".png")]
    names = [name for name in names if _MASK_NAME.fullmatch(PurePosixPath(name).stem)] or names
    found: dict[str, str] = {}
    for name in names:
        marked = _MASK_NAME.fullmatch(PurePosixPath(name).stem)
        stem = str(PurePosixPath(name).with_name(marked[1])) if marked else stem_of(name)
        if found.setdefault(stem, name) != name:
            raise ValueError(f"{path}: {found[stem]} and {name} are both masks of {stem!r}")
    if not found:
        raise ValueError(f"{path}: no masks (PNG files) in it")
    return index_files(storage, place, {MASK: found}, sorted(found))


def _index_names(storage: Folder, *, is_complete: bool) -> SampleIndex:
    """Group files by what their names have in common."""
    folders = set(storage.folders())
    # A folder "vis" holds the interpreter's overlays, or RGB images where "nir" lies beside it.
    overlays = () if "nir" in {folder.lower() for folder in folders} else _NOT_FOLDERS
    is_tree = any(folder.lower() in _MODALITY_OF_FOLDER for folder in folders - set(overlays))
    found: dict[str, dict[str, str]] = {}
    skipped = []
    for name in list_images(storage):
        is_split = is_tree and name.split("/")[0] in SPLITS
        kind, stem = (None, name) if is_split else _kind_of(name, overlays)
        if kind is None:
            skipped.append(name)
            continue
        names = found.setdefault(kind, {})
        if stem in names:
            where = storage.describe()
            raise ValueError(f"{where}: {names[stem]} and {name} are both the {kind} of {stem!r}")
        names[stem] = name
    if skipped:
        what = f"{len(skipped)} images are no samples by their names: {shorten(skipped)}"
        _logger.warning("%s: %s", storage.describe(), what)
    images = {m.name: found[m.name] for m in MODALITIES if m.name in found}
    if not images:
        raise ValueError(f"{storage.describe()}: no images in it ({len(storage.names())} files)")
    stems = set().union(*images.values())
    alone = sorted(stem for stem in stems if any(stem not in names for names in images.values()))
    if alone and is_complete:
        raise ValueError(
            f"{storage.describe()}: {len(alone)} samples are not there in all of "
            f"{', '.join(images)}: {shorten(alone)}"
        )
    columns = {kind: found.get(kind, {}) for kind in (*images, MASK, UNCERTAINTY)}
    return index_files(storage, storage, columns, sorted(stems))


def _kind_of(name: str, overlays: Sequence[str] = _NOT_FOLDERS) -> tuple[str | None, str]:
    """Return what a file is (a modality, MASK, UNCERTAINTY or nothing known) and its stem."""
    path = PurePosixPath(name)
    folders, plain = list(path.parts[:-1]), stem_of(path.name)
    if set(overlays) & set(folders):
        return None, name
    kind = None
    for folder in path.parts[:-1]:
        if folder.lower() in _MODALITY_OF_FOLDER:
            folders.remove(folder)
            kind = _MODALITY_OF_FOLDER[folder.lower()]
    if MASK_FOLDER in folders:
        folders.remove(MASK_FOLDER)
        kind = MASK
    for pattern, companion in ((_MASK_NAME, MASK), (_UNCERTAINTY_NAME, UNCERTAINTY)):
        match = pattern.fullmatch(plain)
        if match:
            return companion, "/".join([*folders, match[1]])
    short, _, ending = plain.rpartition("_")
    if ending.upper() in _ENDINGS and short:
        plain, kind = short, _ENDINGS[ending.upper()]
    if _NOT_SAMPLES.fullmatch(plain):
        return None, name
    return kind or RGB.name, "/".join([*folders, plain])


def modality_of(name: str) -> str | None:
    """Return the modality that an image's folders or the end of its name tell; None for neither.

    >>> [modality_of(name) for name in ("faces/VIS/0.png", "0_nir.png", "VIS/0_nir.png", "0.png")]
    ['rgb', 'nir', 'nir', None]
    """
    path = PurePosixPath(name)
    short, _, ending = path.stem.rpartition("_")
    told = [_MODALITY_OF_FOLDER.get(folder.lower()) for folder in path.parts[:-1]]
    told += [_ENDINGS.get(ending.upper()) if short else None]
    return next((kind for kind in reversed(told) if kind is not None), None)


def _index_manifest(
    storage: Folder, modalities: Sequence[Modality], *, is_complete: bool
) -> SampleIndex:
    """Return the samples that a manifest names, in its order; its files are not looked for."""
    where = storage.describe(MANIFEST)
    entries = tuple(files.parse_json_lines(storage.read(MANIFEST).splitlines(), where))
    if not entries:
        raise ValueError(f"{where}: names no samples")
    names = [_named(entry, f"{where}: line {i}") for i, entry in enumerate(entries, start=1)]
    wanted = [m.name for m in modalities] or [m.name for m in MODALITIES if m.name in names[0]]
    wanted += [MASK] if modalities else []
    for number, found in enumerate(names, start=1):
        present = [name for name in found if name in _ENDINGS.values()]
        is_same = not set(wanted) - set(found) and (modalities or set(present) == set(wanted))
        if not present or (is_complete and not is_same):
            raise ValueError(
                f"{where}: line {number}: expected files of {', '.join(wanted) or RGB.name}, got "
                f"{', '.join(found) or 'none'}"
            )
    stems = [_kind_of(next(iter(found.values())))[1] for found in names]
    if len(set(stems)) < len(stems):
        raise ValueError(f"{where}: two samples have files of one name")
    rows = dict(zip(stems, names, strict=True))
    kinds = [m.name for m in MODALITIES if not modalities or m in modalities]
    columns = {
        kind: {stem: row[kind] for stem, row in rows.items() if kind in row}
        for kind in (*kinds, MASK, UNCERTAINTY)
    }
    samples = index_files(storage, storage, columns, stems)
    identities = tuple(
        name if entry.get("identity") is None else f"id_{entry['identity']}"
        for entry, name in zip(entries, samples.identities, strict=True)
    )
    return replace(samples, identities=identities, entries=entries)


def _named(entry: Any, where: str) -> dict[str, str]:
    """Return kind -> file name of a line of a manifest."""
    try:
        named = {kind: str(file["name"]) for kind, file in entry["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: no names of files: {str(entry)[:60]}") from error
    for name in named.values():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{where}: {name!r} is outside of the folder")
    return {(MASK if kind in _MASK_KINDS else kind): name for kind, name in named.items()}
