"""Which images belong together: folders of modalities, matched by stem and never by sort order.

A stem is a file's path below its modality's folder, without its ending: "sub/7_01".
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from data import pixels
from data.info import check_finished
from data.modalities import MODALITIES, Modality
from data.sample_index import MASK, MODALITY_FOLDERS, SampleIndex, identity_of, shorten
from data.storage import Directory, Folder, Mounts, ZipArchive, open_storage

MASK_FOLDER = "masks"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a data set keeps the images of each modality.

    Attributes:
        name: of the data set: the folder above the modalities, or the archive without ".zip".
        base: the folder above the modalities.
        folders: one a modality, in the order of MODALITIES.
    """

    name: str
    base: Folder
    folders: Mapping[str, Folder]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which files form samples and which do not; all sorted.

    Attributes:
        samples: stem -> kind -> file name.
        alone: kind -> names of files without a partner in every other kind.
        duplicates: (kind, stem, names) of files of one kind that share a stem.
    """

    samples: Mapping[str, Mapping[str, str]]
    alone: Mapping[str, Sequence[str]]
    duplicates: Sequence[tuple[str, str, Sequence[str]]]

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
    return Layout(
        name=storage.name,
        base=storage,
        folders={name: storage.enter(folder) for name, folder in chosen.items() if folder},
    )


def layout_beside(storage: Folder) -> Layout | None:
    """Take a folder as that of the first modality, and its neighbours as the others.

    Raises: ValueError where they are of an unfinished data set.
    """
    if not isinstance(storage, Directory):
        return None
    parent, (first, *others) = Directory(storage.path.parent), MODALITIES
    present = parent.folders()
    chosen = {m.name: _choose_folder(parent, m, present) for m in others}
    is_other = storage.name in [folder for m in others for folder in m.folders]
    if is_other or any(folder is None for folder in chosen.values()):
        return None
    check_finished(parent)
    neighbours = {name: parent.enter(folder) for name, folder in chosen.items() if folder}
    return Layout(
        name=parent.name,
        base=parent,
        folders={first.name: storage, **neighbours},
    )


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
    names = {kind: list_images(folder) for kind, folder in folders.items()}
    for kind, folder in folders.items():
        if not names[kind]:
            raise ValueError(f"{folder.describe()}: no images in it ({len(folder.names())} files)")
    matching = match_stems(names)
    problems = matching.problems({kind: folder.describe() for kind, folder in folders.items()})
    if problems:
        raise ValueError("; ".join(problems))
    samples = index_matching(layout, matching, masks)
    found = {stem_of(name): f"{MASK}/{name}" for m in masks.values() for name in list_images(m)}
    files = tuple(found.get(stem) for stem in samples.stems)
    if not any(files):
        return samples
    return dataclasses.replace(samples, files={**samples.files, MASK: files})


def index_matching(
    layout: Layout, matching: Matching, others: Mapping[str, Folder] | None = None
) -> SampleIndex:
    """Return the matched images of a layout; `others` are folders of further kinds of files."""
    return SampleIndex(
        name=layout.name,
        base=layout.base,
        storage=Mounts({**layout.folders, **(others or {})}),
        stems=tuple(matching.samples),
        identities=tuple(identity_of(stem) for stem in matching.samples),
        files={
            kind: tuple(f"{kind}/{files[kind]}" for files in matching.samples.values())
            for kind in layout.folders
        },
    )


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


def match_stems(
    names: Mapping[str, Sequence[str]], key: Callable[[str, str], str] | None = None
) -> Matching:
    """Match files by their stem.

    Args:
        names: kind -> file names.
        key: (kind, file name) -> stem; None is the name without its ending.
    """
    by_stem: dict[str, dict[str, list[str]]] = {kind: {} for kind in names}
    for kind, files in names.items():
        for file in sorted(files):
            stem = key(kind, file) if key else stem_of(file)
            by_stem[kind].setdefault(stem, []).append(file)
    shared = set.intersection(*(set(stems) for stems in by_stem.values()))
    duplicates = [
        (kind, stem, files)
        for kind, stems in by_stem.items()
        for stem, files in sorted(stems.items())
        if len(files) > 1
    ]
    twice = {stem for _, stem, _ in duplicates}
    return Matching(
        samples={
            stem: {kind: by_stem[kind][stem][0] for kind in names}
            for stem in sorted(shared - twice)
        },
        alone={
            kind: sorted(f for stem, files in stems.items() if stem not in shared for f in files)
            for kind, stems in by_stem.items()
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
