"""Which images belong together: folders of modalities, matched by stem and never by sort order.

A stem is a file's path below its modality's folder, without its ending: "sub/7_01".
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from data import pixels
from data.info import check_finished
from data.modalities import MODALITIES, Modality
from data.sample_index import MASK, MODALITY_FOLDERS, SampleIndex, index_files, shorten
from data.storage import Directory, Folder, Mounts, ZipArchive, open_storage

MASK_FOLDER = "masks"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a data set keeps the images of each modality."""

    base: Folder  # above the modalities; its name is that of the data set
    folders: Mapping[str, Folder]  # one a modality, in the order of MODALITIES


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which files form samples and which do not; all sorted."""

    samples: Mapping[str, Mapping[str, str]]  # stem -> kind -> file name
    alone: Mapping[str, Sequence[str]]  # kind -> files without a partner in every other kind
    duplicates: Sequence[tuple[str, str, Sequence[str]]]  # kind, stem and the files that share it

    def problems(self, where: Mapping[str, str]) -> list[str]:
        """Return a sentence a kind of problem, with counts and names; `where`: kind -> folder."""
        found = []
        for kind, names in self.alone.items():
            if names:
                others = " and ".join(folder for other, folder in where.items() if other != kind)
                found.append(
                    f"{where[kind]}: {len(names)} {kind} image(s) without a partner of the same "
                    f"name in {others}: {shorten(names)}"
                )
        for kind, stem, names in self.duplicates:
            text = f"{len(names)} images are called {stem!r}: {shorten(names)}"
            found.append(f"{where[kind]}: {text}")
        return found


def open_pairs(root: str | os.PathLike[str]) -> SampleIndex:
    """Find and match all pairs of a data set, with the masks that some may have.

    Args:
        root: a folder or zip archive, see `find_layout`.
    Raises: FileNotFoundError; ValueError where a folder is missing or empty, an image has no
        partner, two files of a folder share a stem, or the set is unfinished. Messages count
        and name the files.
    """
    return index_layout(find_layout(root))


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """Find the modalities' folders.

    Known layouts, on disk or in an archive (there also below one single top folder):

    - `root` holds "VIS" and "NIR", or "images" and "NIR";
    - `root` is the folder of RGB images, of any name, beside a folder "NIR".

    Raises: FileNotFoundError where there is nothing; ValueError where the layout is none of them.
    """
    storage = open_root(root)
    layout = layout_in(storage) or layout_beside(storage)
    if layout is not None:
        return layout
    folders = ", ".join(storage.folders()) or "none"
    raise ValueError(
        f"{root}: expected the folders VIS and NIR (or images and NIR) in it, or NIR beside it; "
        f"folders in it: {folders}"
    )


def open_root(path: str | os.PathLike[str]) -> Folder:
    """Open a data set's folder or archive; an archive's single top folder is the data set.

    Raises: FileNotFoundError; ValueError where it is neither, or unfinished.
    """
    storage: Folder = open_storage(path)
    folders = storage.folders()
    is_wrapped = isinstance(storage, ZipArchive) and len(folders) == 1
    if is_wrapped and folders[0] not in MODALITY_FOLDERS:
        name, storage = storage.name, storage.enter(folders[0])
        storage.name = name
    check_finished(storage)
    return storage


def layout_in(storage: Folder, modalities: Sequence[Modality] = MODALITIES) -> Layout | None:
    """Return the layout of the folders in one, None where a modality has none.

    Raises: ValueError where a modality has two folders.
    """
    present = storage.folders()
    chosen = {modality.name: _choose_folder(storage, modality, present) for modality in modalities}
    if any(folder is None for folder in chosen.values()):
        return None
    folders = {name: storage.enter(folder) for name, folder in chosen.items() if folder}
    return Layout(base=storage, folders=folders)


def layout_beside(storage: Folder) -> Layout | None:
    """Take a folder as that of the first modality, and its neighbours as the others.

    Raises: ValueError where they are of an unfinished data set.
    """
    first, *others = MODALITIES
    is_other = storage.name in [folder for m in others for folder in m.folders]
    if is_other or not isinstance(storage, Directory):
        return None
    layout = layout_in(Directory(storage.path.parent), others)
    if layout is None:
        return None
    check_finished(layout.base)
    return Layout(base=layout.base, folders={first.name: storage, **layout.folders})


def index_layout(layout: Layout, *, needs_masks: bool = False) -> SampleIndex:
    """Match the files of a layout; with `needs_masks`, masks must match like images.

    Raises: ValueError as `open_pairs`.
    """
    has_masks = MASK_FOLDER in layout.base.folders()
    masks = {MASK: layout.base.enter(MASK_FOLDER)} if has_masks else {}
    if needs_masks and not has_masks:
        where = layout.base.describe()
        raise ValueError(f"{where}: expected a folder {MASK_FOLDER} with class masks")
    folders = {**layout.folders, **(masks if needs_masks else {})}
    matching = match_stems({kind: need_stems(folder) for kind, folder in folders.items()})
    problems = matching.problems({kind: folder.describe() for kind, folder in folders.items()})
    if problems:
        raise ValueError("; ".join(problems))
    return index_matching(layout, matching, masks)


def index_matching(
    layout: Layout, matching: Matching, others: Mapping[str, Folder] | None = None
) -> SampleIndex:
    """Return the matched images of a layout, with files of `others` that have their stems."""
    folders = {**layout.folders, **(others or {})}
    columns = {
        kind: {stem: f"{kind}/{files[kind]}" for stem, files in matching.samples.items()}
        for kind in layout.folders
    }
    for kind in others or {}:
        columns[kind] = {s: f"{kind}/{name}" for name, s in list_stems(folders[kind]).items()}
    return index_files(layout.base, Mounts(folders), columns, matching.samples)


def list_images(folder: Folder) -> list[str]:
    """Return the names of the files whose ending is an image's, at any depth, sorted."""
    suffixes = pixels.image_suffixes()
    return [name for name in folder.names() if PurePosixPath(name).suffix.lower() in suffixes]


def stem_of(name: str) -> str:
    """Return a file name without its ending.

    >>> stem_of("sub/7_01.v2.png")
    'sub/7_01.v2'
    """
    return name.removesuffix(PurePosixPath(name).suffix)


def list_stems(folder: Folder) -> dict[str, str]:
    """Return {file name: stem} of the images in a folder."""
    return {name: stem_of(name) for name in list_images(folder)}


def need_stems(folder: Folder) -> dict[str, str]:
    """Return `list_stems` of a folder. Raises: ValueError where it has no images."""
    stems = list_stems(folder)
    if not stems:
        raise ValueError(f"{folder.describe()}: no images in it ({len(folder.names())} files)")
    return stems


def match_stems(stems: Mapping[str, Mapping[str, str]]) -> Matching:
    """Match files by their stem: kind -> {file name: stem}."""
    by_stem: dict[str, dict[str, list[str]]] = {kind: {} for kind in stems}
    for kind, files in stems.items():
        for file in sorted(files):
            by_stem[kind].setdefault(files[file], []).append(file)
    shared = set.intersection(*map(set, by_stem.values()))
    duplicates = [
        (kind, stem, files)
        for kind, found in by_stem.items()
        for stem, files in sorted(found.items())
        if len(files) > 1
    ]
    twice = {stem for _, stem, _ in duplicates}
    return Matching(
        samples={
            stem: {kind: found[stem][0] for kind, found in by_stem.items()}
            for stem in sorted(shared - twice)
        },
        alone={
            kind: sorted(f for stem, files in found.items() if stem not in shared for f in files)
            for kind, found in by_stem.items()
        },
        duplicates=duplicates,
    )


def _choose_folder(storage: Folder, modality: Modality, present: Sequence[str]) -> str | None:
    found = [folder for folder in modality.folders if folder in present]
    if len(found) > 1:
        raise ValueError(
            f"{storage.describe()}: holds {' and '.join(found)}, both for {modality.name} images; "
            f"give one of them instead of the folder above"
        )
    return found[0] if found else None
