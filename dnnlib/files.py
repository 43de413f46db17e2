"""Files that are either whole or absent: atomic writes, JSON with good errors, hashes."""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

# Of OSError: a full disk, a used up quota, a file larger than the file system takes.
NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
# A disk, a file server or a limit of the system that fails; some platforms lack some names.
_FAILURES = (
    "EIO EROFS ESTALE ENODEV ENXIO EMFILE ENFILE ENOLCK EBUSY EUCLEAN EREMOTEIO EHOSTDOWN ENOTCONN"
    " ETIMEDOUT ENOMEM"
)
FAILURES = frozenset(getattr(errno, name) for name in _FAILURES.split() if hasattr(errno, name))
_HASH_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes its final name only when the block ends without an error.

    The data goes to a hidden neighbour of `path`, is flushed to disk and renamed. A process that
    is killed at any instant leaves either the old file or the new one, never a part.

    Args:
        path: final name; missing parent folders are made.
        mode: "wb" or "w" (UTF-8).
    Raises: ValueError for another mode; OSError where no file can have that name, and where the
        disk is full or fails, whatever a library made of that.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write: mode must be 'wb' or 'w', got {mode!r}")
    path, handled = Path(path), sys.exc_info()[1]
    check_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _naming(path):
        file = temporary.open(mode.replace("w", "x"), encoding="utf-8" if mode == "w" else None)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _naming(path):
            temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        found = _find_cause(error, handled)
        if found is not None:
            raise OSError(found.errno, found.strerror, str(path)) from error
        raise


def check_place(path: Path) -> None:
    """Refuse a path where `atomic_write` could not write.

    Raises: IsADirectoryError; NotADirectoryError where a file is taken for a folder;
        PermissionError. All name what is in the way.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    parent = nearest_place(path.parent)
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def nearest_place(path: Path) -> Path:
    """Return a path, or the nearest one above it that is there, be it a link to nowhere."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists() or p.is_symlink())


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left; nobody may be writing."""
    for left in folder.rglob(".*.part"):
        left.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any, indent: int | None = 2) -> None:
    """Write `content` as UTF-8 JSON, atomically. NaN and infinities raise ValueError."""
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=indent, allow_nan=False)
        file.write("\n")


def write_json_lines(path: str | os.PathLike[str], entries: Iterable[Any]) -> None:
    """Write one line of JSON an entry, atomically. NaN and infinities raise ValueError."""
    with atomic_write(path, "w") as file:
        file.writelines(json.dumps(entry, allow_nan=False) + "\n" for entry in entries)


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield the entries of a file with one line of JSON each.

    Raises: FileNotFoundError; ValueError where a line, by its number, is no JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        yield from parse_json_lines(file, str(path))


def parse_json_lines(lines: Iterable[bytes], where: str) -> Iterator[Any]:
    """Yield the entry of each line that is not empty.

    Raises: ValueError where a line, by its number, is no JSON.
    """
    for number, line in enumerate(lines, start=1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
        if not text.strip():
            continue
        try:
            yield json.loads(text, object_pairs_hook=_unrepeated)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid JSON, line {number}: {error}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises: FileNotFoundError; ValueError as `parse_json`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return parse_json(path.read_bytes(), str(path))


def read_object(path: str | os.PathLike[str], **entries: type) -> dict[str, Any]:
    """Read a JSON file that holds an object with these entries, each of its type.

    Raises: FileNotFoundError; ValueError naming the file, also as `parse_json`.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, got {content!r:.80}")
    for name, kind in entries.items():
        if not isinstance(content.get(name), kind):
            got = f"{content[name]!r:.80}" if name in content else "none"
            raise ValueError(f"{path}: expected {name!r} with a {kind.__name__}, got {got}")
    return content


def parse_json(content: bytes, where: str) -> Any:
    """Return what a JSON text says; of a key that stands twice, one value would be lost.

    Raises: ValueError with `where`, line and column for a text that is no JSON, or names the key.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unrepeated)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{where}: JSON is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, count), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r:.80} stands {count} times in one object")
    return content


def check_content(path: str | os.PathLike[str]) -> None:
    """Refuse what stands in the place of a binary file when its download failed.

    Raises: ValueError, naming the file, for a git-LFS pointer or an HTML page.
    """
    with Path(path).open("rb") as file:
        head = file.read(512).removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if head.startswith(b"version https://git-lfs."):
        raise ValueError(
            f"{path}: a git-LFS pointer in the place of the file; `git lfs pull` fetches the file"
        )
    if head.startswith((b"<!doctype html", b"<html")):
        raise ValueError(f"{path}: an HTML page in the place of the file; download it again")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _find_cause(error: BaseException, handled: BaseException | None) -> OSError | None:
    """Return the system's error that a library made another one of, as torch makes RuntimeError.

    What says itself what happened is left, but for a full disk: OSError, and ValueError from it.
    The search ends at the error that was `handled` before.
    """
    is_clear = isinstance(error, OSError) or not isinstance(error, Exception)
    is_clear |= isinstance(error, ValueError) and error.__cause__ is not None
    found: BaseException | None = error
    while found is not None and found is not handled:
        number = found.errno if isinstance(found, OSError) else None
        if number in NO_ROOM or (number is not None and not is_clear):
            return found
        found = found.__cause__ or found.__context__
    return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the final name into errors, which would else show the hidden one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
