"""Folders and zip archives behind one interface: list, open and name the files below a place."""

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from dnnlib import files

_IGNORED_FOLDERS = ("__MACOSX",)


class Storage(Protocol):
    """A folder on disk or inside a zip archive. File names are relative, with "/" between."""

    @property
    def name(self) -> str:
        """Last part of the place's path, without ".zip"."""

    def describe(self, name: str = "") -> str:
        """Return how messages show the place, or the file `name` in it."""

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it, sorted, without hidden ones."""

    def names(self) -> list[str]:
        """Return the names of all files at any depth, sorted, without hidden ones."""

    def exists(self, name: str) -> bool:
        """Return whether `name` is a file in it."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; the caller closes it."""

    def read_json(self, name: str) -> Any:
        """Read a JSON file; errors name it."""

    def enter(self, folder: str) -> "Storage":
        """Return the folder of that name."""


def open_storage(path: str | os.PathLike[str]) -> "DirectoryStorage | ZipStorage":
    """Return the folder or zip archive at `path`.

    Raises: FileNotFoundError where there is nothing; ValueError where it is neither of the two.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would leave a linked folder
    if place.is_dir():
        return DirectoryStorage(place)
    if not place.exists():
        raise FileNotFoundError(f"{path}: no such folder or zip archive")
    if not zipfile.is_zipfile(place):
        raise ValueError(f"{path}: neither a folder nor a whole zip archive")
    return ZipStorage(ZipReader(place))


class DirectoryStorage:
    """A folder on disk; implements `Storage`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Last part of the folder's path."""
        return self.path.name

    def describe(self, name: str = "") -> str:
        """Return the path as messages show it."""
        return str(self.path / name)

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it."""
        return sorted(e.name for e in self.path.iterdir() if e.is_dir() and _is_shown(e.name))

    def names(self) -> list[str]:
        """Return the names of all files at any depth; links to folders are followed once."""
        found, seen = [], set()
        for place, folders, names in os.walk(self.path, followlinks=True):
            here = Path(place)
            if here.resolve() in seen:
                folders.clear()
                continue
            seen.add(here.resolve())
            folders[:] = [folder for folder in folders if _is_shown(folder)]
            below = here.relative_to(self.path)
            found += [(below / name).as_posix() for name in names if _is_shown(name)]
        return sorted(found)

    def exists(self, name: str) -> bool:
        """Return whether `name` is a file in it."""
        return (self.path / name).is_file()

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return (self.path / name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.path / name).open("rb")

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return files.read_json(self.path / name)

    def enter(self, folder: str) -> "DirectoryStorage":
        """Return the folder of that name."""
        return DirectoryStorage(self.path / folder)


class ZipReader:
    """An archive with one handle a process, so that forked workers do not share a file position.

    Raises: ValueError where a member's name leaves the archive or two members share a name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: zipfile.ZipFile | None = None
        self._process = 0
        self.members: dict[str, str] = {}
        with _named_zip_errors(str(path)), zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
        for info in infos:
            self._add_member(info.filename)
        self._sizes = {info.filename: info.file_size for info in infos}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_process": 0}

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        return self._sizes[self.members[name]]

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        if self._handle is None or self._process != os.getpid():
            self._handle, self._process = zipfile.ZipFile(self.path), os.getpid()
        with _named_zip_errors(f"{self.path}:{name}"):
            return self._handle.read(self.members[name])

    def _add_member(self, member: str) -> None:
        name = member.replace("\\", "/")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
            raise ValueError(f"{self.path}: member names must stay in the archive, got {member!r}")
        if path.as_posix() in self.members:
            raise ValueError(f"{self.path}: two members are called {member!r}")
        self.members[path.as_posix()] = member


class ZipStorage:
    """A folder inside a zip archive; implements `Storage`.

    Args:
        reader: the archive, shared by all its folders.
        prefix: "" or the folder's path with a closing "/".
    """

    def __init__(self, reader: ZipReader, prefix: str = "") -> None:
        self._reader = reader
        self._prefix = prefix

    @property
    def name(self) -> str:
        """Name of the folder, or of the archive without ".zip"."""
        return PurePosixPath(self._prefix).name or self._reader.path.stem

    def describe(self, name: str = "") -> str:
        """Return "archive.zip:folder/name"."""
        inside = f"{self._prefix}{name}"
        return f"{self._reader.path}:{inside}" if inside else str(self._reader.path)

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it."""
        return sorted({name.split("/")[0] for name in self.names() if "/" in name})

    def names(self) -> list[str]:
        """Return the names of all files at any depth."""
        below = (
            name.removeprefix(self._prefix)
            for name in self._reader.members
            if name.startswith(self._prefix)
        )
        return sorted(name for name in below if all(map(_is_shown, name.split("/"))))

    def exists(self, name: str) -> bool:
        """Return whether `name` is a file in it."""
        return f"{self._prefix}{name}" in self._reader.members

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._reader.size(f"{self._prefix}{name}")

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return io.BytesIO(self._reader.read(f"{self._prefix}{name}"))

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        content = self._reader.read(f"{self._prefix}{name}")
        try:
            return json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.describe(name)}: not valid JSON: {error}") from error

    def enter(self, folder: str) -> "ZipStorage":
        """Return the folder of that name."""
        return ZipStorage(self._reader, f"{self._prefix}{folder}/")


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED_FOLDERS


@contextlib.contextmanager
def _named_zip_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, zlib.error) as error:
        # A password and an unknown compression raise RuntimeError.
        raise ValueError(f"{name}: cannot be read from the zip archive: {error}") from error
