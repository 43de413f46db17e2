"""Folders and zip archives behind one interface: list, open and name the files in them."""

import contextlib
import io
import os
import shutil
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from data.pixels import image_suffixes
from dnnlib import files

Item = TypeVar("Item")
Result = TypeVar("Result")

_IGNORED_FOLDERS = ("__MACOSX",)
_MAX_THREADS = 16
# Of a member of an archive: nothing that is read expands so much, and needs so much memory. Images
# without compression do; of these, the number of pixels is limited.
_MAX_EXPANSION = 200
_MAX_EXPANDED_BYTES = 64 << 20
_MAX_IMAGE_BYTES = 1 << 30


class Storage(ABC):
    """Files by name, relative with "/" between; read from several threads and processes."""

    @abstractmethod
    def describe(self, name: str = "") -> str:
        """Return how messages show the whole, or the file `name` in it."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; the caller closes it. Raises: FileNotFoundError."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises: FileNotFoundError."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self.open(name) as file:
            return file.read()


class Folder(Storage):
    """A storage whose files can be listed, and which has folders.

    Attributes:
        name: last part of the path, without ".zip".
    """

    name: str

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files at any depth, sorted, without hidden ones."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether `name` is a file in it."""

    @abstractmethod
    def enter(self, folder: str) -> "Folder":
        """Return the folder of that name."""

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it, sorted, without hidden ones."""
        return sorted({name.split("/")[0] for name in self.names() if "/" in name})

    def read_json(self, name: str) -> Any:
        """Read a JSON file. Raises: ValueError that names it."""
        return files.parse_json(self.read(name), self.describe(name))


def open_storage(path: str | os.PathLike[str]) -> "Directory | ZipArchive":
    """Return the folder or zip archive at `path`.

    Raises: FileNotFoundError where there is nothing; ValueError where it is neither of the two.
    """
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would leave a linked folder
    if root.is_dir():
        return Directory(root)
    if not root.exists():
        raise FileNotFoundError(f"{path}: no such folder or zip archive")
    if not zipfile.is_zipfile(root):
        raise ValueError(f"{path}: neither a folder nor a whole zip archive")
    return ZipArchive(root)


class Directory(Folder):
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def describe(self, name: str = "") -> str:
        """Return the path as messages show it."""
        return str(self.path / name)

    def folders(self) -> list[str]:
        """Return the names of the folders directly in it."""
        return sorted(e.name for e in self.path.iterdir() if e.is_dir() and _is_shown(e.name))

    def names(self) -> list[str]:
        """Return the names of all files at any depth; links to folders are followed once."""
        found, seen = [], set()
        for path, folders, names in os.walk(self.path, followlinks=True):
            here = Path(path)
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
        """Return a file's size in bytes. Raises: FileNotFoundError."""
        try:
            return (self.path / name).stat().st_size
        except OSError as error:
            raise FileNotFoundError(f"{self.path / name}: no such file") from error

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. Raises: FileNotFoundError."""
        if not self.exists(name):
            raise FileNotFoundError(f"{self.path / name}: no such file")
        return (self.path / name).open("rb")

    def enter(self, folder: str) -> "Directory":
        """Return the folder of that name."""
        return Directory(self.path / folder)


class _Handle:
    """An archive, opened once a process: workers share no file position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: zipfile.ZipFile | None = None
        self._process = 0

    def __reduce__(self) -> tuple[type["_Handle"], tuple[Path]]:
        return _Handle, (self.path,)

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """Return the content of a member."""
        if self._file is None or self._process != os.getpid():
            self._file, self._process = zipfile.ZipFile(self.path), os.getpid()
        return self._file.read(member)


class ZipArchive(Folder):
    """A folder in a zip archive.

    Args:
        path: of the archive.
        prefix: "" or the folder's path with a closing "/".
        members: of the archive, name -> entry; None reads them.
        handle: that its folders share.
    Raises: ValueError where a member's name leaves the archive or two members share a name.
    """

    def __init__(
        self,
        path: Path,
        prefix: str = "",
        members: Mapping[str, zipfile.ZipInfo] | None = None,
        handle: _Handle | None = None,
    ) -> None:
        self.name = PurePosixPath(prefix).name or path.stem
        self._path, self._prefix = path, prefix
        self._members = _read_members(path) if members is None else members
        self._handle = handle or _Handle(path)

    def describe(self, name: str = "") -> str:
        """Return "archive.zip:folder/name"."""
        inside = f"{self._prefix}{name}"
        return f"{self._path}:{inside}" if inside else str(self._path)

    def names(self) -> list[str]:
        """Return the names of all files at any depth."""
        inside = (name for name in self._members if name.startswith(self._prefix))
        below = sorted(name.removeprefix(self._prefix) for name in inside)
        return [name for name in below if all(map(_is_shown, name.split("/")))]

    def exists(self, name: str) -> bool:
        """Return whether `name` is a file in it."""
        return f"{self._prefix}{name}" in self._members

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return self._members[f"{self._prefix}{name}"].file_size

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. Raises: ValueError, FileNotFoundError."""
        if not self.exists(name):
            raise FileNotFoundError(f"{self.describe(name)}: no such file")
        member = self._members[f"{self._prefix}{name}"]
        is_image = PurePosixPath(name).suffix.lower() in image_suffixes()
        allowed = _MAX_IMAGE_BYTES if is_image else _MAX_EXPANDED_BYTES
        if member.file_size > max(allowed, _MAX_EXPANSION * member.compress_size):
            raise ValueError(
                f"{self.describe(name)}: {member.compress_size} bytes that expand to"
                f" {member.file_size} are not read"
            )
        with _named_zip_errors(self.describe(name)):
            return io.BytesIO(self._handle.read(member))

    def enter(self, folder: str) -> "ZipArchive":
        """Return the folder of that name."""
        inside = f"{self._prefix}{folder}/"
        return ZipArchive(self._path, inside, self._members, self._handle)


class Mounts(Storage):
    """Several storages as one.

    Args:
        roots: first part of a file's name -> the storage that has the rest.
    """

    def __init__(self, roots: Mapping[str, Storage]) -> None:
        self.roots = roots

    def describe(self, name: str = "") -> str:
        """Return how the storage that holds `name` shows it; without a name, all of them."""
        if not name:
            return " and ".join(root.describe() for root in self.roots.values())
        root, below = self._find(name)
        return root.describe(below)

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        root, below = self._find(name)
        return root.size(below)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        root, below = self._find(name)
        return root.open(below)

    def _find(self, name: str) -> tuple[Storage, str]:
        folder, _, below = name.partition("/")
        return self.roots[folder], below


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield `function` of each item, in the order of the items.

    For work that spends its time outside Python: reading, decoding and writing images.

    Args:
        function: called in several threads at once; the first error that it raises ends the work.
        items: read at once.
        workers: number of threads; None is one a processor, at most 16.
    """
    executor = ThreadPoolExecutor(workers or min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        yield from executor.map(function, items)
    finally:
        executor.shutdown(cancel_futures=True)


def link_or_copy(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`, or a copy where links are impossible.

    What is at `target` is replaced; `source` is never changed.

    Returns: whether it is a link.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # noqa: PTH200
    except OSError:  # another file system, or one without links
        with source.open("rb") as original, files.atomic_write(target) as copy:
            shutil.copyfileobj(original, copy)
        return False
    return True


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED_FOLDERS


def _read_members(path: Path) -> dict[str, zipfile.ZipInfo]:
    with _named_zip_errors(str(path)), zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = str(PurePosixPath(info.filename.replace("\\", "/")))
        first, *others = name.split("/")  # nothing in front of an absolute path's slash
        if not first or ":" in first or ".." in (first, *others):
            raise ValueError(f"{path}: member names must stay in the archive, got {name!r}")
        if name in members:
            raise ValueError(f"{path}: two members are called {name!r}")
        members[name] = info
    return members


@contextlib.contextmanager
def _named_zip_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, zlib.error) as error:
        # A password and an unknown compression raise RuntimeError.
        raise ValueError(f"{name}: cannot be read from the zip archive: {error}") from error
