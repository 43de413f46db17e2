"""Pairs: which images belong together. They are matched by stem, never by sort order.

A stem is a file's path below its modality's folder, without its ending: "sub/7_01".
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from data import pixels
from data.modalities import MODALITIES, Modality
from data.storage import DirectoryStorage, Storage, open_storage

_NAMES_IN_MESSAGES = 5


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a data set keeps the images of each modality.

    Attributes:
        name: of the data set: the folder above the modalities, or the archive without ".zip".
        base: the place above the modalities.
        folders: one place a modality, in the order of MODALITIES.
        has_standard_names: whether all folders have the names that we write (VIS and NIR).
    """

    name: str
    base: Storage
    folders: Mapping[str, Storage]
    has_standard_names: bool


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which files form pairs and which do not; all sorted.

    Attributes:
        pairs: stem -> modality -> file name.
        alone: modality -> names of files without a partner in every other modality.
        duplicates: (modality, stem, names) of files that share a stem in one folder.
    """

    pairs: Mapping[str, Mapping[str, str]]
    alone: Mapping[str, Sequence[str]]
    duplicates: Sequence[tuple[str, str, Sequence[str]]]


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """The files of a data set's pairs; can be read from several threads and processes.

    Attributes:
        layout: where they are.
        stems: one a pair, sorted.
        files: modality -> file names, in the order of `stems`.
    """

    layout: Layout
    stems: Sequence[str]
    files: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.stems)

    def open(self, modality: str, index: int) -> BinaryIO:
        """Open one image's file; the caller closes it."""
        return self.layout.folders[modality].open(self.files[modality][index])

    def size(self, modality: str, index: int) -> int:
        """Return the size of one image's file in bytes."""
        return self.layout.folders[modality].size(self.files[modality][index])

    def describe(self, modality: str, index: int) -> str:
        """Return how messages show one image's file."""
        return self.layout.folders[modality].describe(self.files[modality][index])

    def select(self, indices: Iterable[int]) -> "PairSource":
        """Return the pairs at `indices`, in that order."""
        chosen = list(indices)
        return PairSource(
            layout=self.layout,
            stems=[self.stems[i] for i in chosen],
            files={name: [all_[i] for i in chosen] for name, all_ in self.files.items()},
        )


def open_pairs(root: str | os.PathLike[str]) -> PairSource:
    """Find and match all pairs of a data set.

    Args:
        root: a folder or zip archive, see `find_layout`.
    Raises: FileNotFoundError; ValueError where a folder is missing or empty, an image has no
        partner, or two files of a folder share a stem. Messages count and name the files.
    """
    layout = find_layout(root)
    names = {name: list_images(folder) for name, folder in layout.folders.items()}
    for name, folder in layout.folders.items():
        if not names[name]:
            raise ValueError(f"{folder.describe()}: no images in it ({len(folder.names())} files)")
    matching = match_stems(names)
    problems = describe_problems(layout, matching)
    if problems:
        raise ValueError("; ".join(problems))
    return source_of(layout, matching)


def find_layout(root: str | os.PathLike[str]) -> Layout:
    """Find the modalities' folders.

    Known layouts, on disk or in an archive (there also below one single top folder):

    - `root` holds "VIS" and "NIR", or "images" and "NIR";
    - `root` is the folder of RGB images, of any name, beside a folder "NIR".

    Raises: FileNotFoundError where there is nothing; ValueError where the layout is none of them.
    """
    storage = open_storage(root)
    layout = _layout_below(storage) or (
        _layout_beside(storage)
        if isinstance(storage, DirectoryStorage)
        else _layout_in_archive(storage)
    )
    if layout is not None:
        return layout
    folders = ", ".join(storage.folders()) or "none"
    raise ValueError(
        f"{root}: expected the folders VIS and NIR (or images and NIR) in it, or NIR beside it; "
        f"folders in it: {folders}"
    )


def list_images(folder: Storage) -> list[str]:
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
        names: modality -> file names.
        key: (modality, file name) -> stem; None is the name without its ending.
    """
    by_stem: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    for modality, files in names.items():
        for file in sorted(files):
            stem = key(modality, file) if key else stem_of(file)
            by_stem[modality].setdefault(stem, []).append(file)
    shared = set.intersection(*(set(stems) for stems in by_stem.values()))
    duplicates = [
        (modality, stem, files)
        for modality, stems in by_stem.items()
        for stem, files in sorted(stems.items())
        if len(files) > 1
    ]
    twice = {stem for _, stem, _ in duplicates}
    return Matching(
        pairs={
            stem: {modality: by_stem[modality][stem][0] for modality in names}
            for stem in sorted(shared - twice)
        },
        alone={
            modality: sorted(
                f for stem, files in stems.items() if stem not in shared for f in files
            )
            for modality, stems in by_stem.items()
        },
        duplicates=duplicates,
    )


def describe_problems(layout: Layout, matching: Matching) -> list[str]:
    """Return one sentence a kind of problem, with counts and the first few names."""
    problems = []
    for modality, files in matching.alone.items():
        if files:
            where = layout.folders[modality].describe()
            others = " and ".join(
                folder.describe() for name, folder in layout.folders.items() if name != modality
            )
            problems.append(
                f"{where}: {len(files)} {modality} image(s) without a partner of the same name "
                f"in {others}: {shorten(files)}"
            )
    for modality, stem, files in matching.duplicates:
        where = layout.folders[modality].describe()
        problems.append(f"{where}: {len(files)} images are called {stem!r}: {shorten(files)}")
    return problems


def shorten(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are.

    >>> shorten(["a", "b"])
    'a, b'
    """
    shown = ", ".join(names[:_NAMES_IN_MESSAGES])
    more = len(names) - _NAMES_IN_MESSAGES
    return f"{shown} and {more} more" if more > 0 else shown


def source_of(layout: Layout, matching: Matching) -> PairSource:
    """Return the matched pairs as a source."""
    return PairSource(
        layout=layout,
        stems=list(matching.pairs),
        files={name: [files[name] for files in matching.pairs.values()] for name in layout.folders},
    )


def _layout_below(storage: Storage) -> Layout | None:
    present = storage.folders()
    chosen = {modality: _choose_folder(storage, modality, present) for modality in MODALITIES}
    if any(folder is None for folder in chosen.values()):
        return None
    return Layout(
        name=storage.name,
        base=storage,
        folders={m.name: storage.enter(folder) for m, folder in chosen.items() if folder},
        has_standard_names=all(m.folders[0] == folder for m, folder in chosen.items()),
    )


def _choose_folder(storage: Storage, modality: Modality, present: Sequence[str]) -> str | None:
    found = [folder for folder in modality.folders if folder in present]
    if len(found) > 1:
        raise ValueError(
            f"{storage.describe()}: holds {' and '.join(found)}, both for {modality.name} images; "
            f"give one of them instead of the folder above"
        )
    return found[0] if found else None


def _layout_in_archive(storage: Storage) -> Layout | None:
    """Look below an archive's single top folder; the archive's name stays the data set's."""
    folders = storage.folders()
    layout = _layout_below(storage.enter(folders[0])) if len(folders) == 1 else None
    return layout and dataclasses.replace(layout, name=storage.name)


def _layout_beside(storage: DirectoryStorage) -> Layout | None:
    """Take the given folder as that of the first modality, and its neighbours as the others."""
    parent = DirectoryStorage(storage.path.parent)
    first, *others = MODALITIES
    present = parent.folders()
    chosen = {modality: _choose_folder(parent, modality, present) for modality in others}
    is_other = storage.name in [folder for m in others for folder in m.folders]
    if is_other or any(folder is None for folder in chosen.values()):
        return None
    return Layout(
        name=parent.name,
        base=parent,
        folders={
            first.name: storage,
            **{m.name: parent.enter(folder) for m, folder in chosen.items() if folder},
        },
        has_standard_names=storage.name == first.folders[0]
        and all(m.folders[0] == folder for m, folder in chosen.items()),
    )
