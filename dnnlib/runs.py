"""Run folders: a number, a name, what was asked for, and a lock against a second process."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from dnnlib import files

OPTIONS_FILE = "training_options.json"
LOCK_FILE = ".lock"
_NAME_LENGTH = 200  # file systems end at 255
PACKAGES = ("torch", "torchvision", "numpy", "pillow")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder of one run.

    Attributes:
        path: the folder.
        is_new: made by this call; False where an earlier process had begun.
    """

    path: Path
    is_new: bool


def find_run(outdir: Path, identity: dict[str, Any]) -> Path | None:
    """Return the newest run folder in `outdir` that was made with this identity, or None.

    Args:
        outdir: holds folders NNNNN-name; may be absent.
        identity: plain JSON containers that decide what a run computes.
    """
    wanted = json.loads(json.dumps(identity))
    for folder in sorted(_numbered(outdir), key=_number, reverse=True):
        options = folder / OPTIONS_FILE
        if options.is_file() and files.read_json(options).get("identity") == wanted:
            return folder
    return None


@contextlib.contextmanager
def open_run(
    outdir: Path,
    description: str,
    identity: dict[str, Any],
    settings: dict[str, Any],
    *,
    fresh: bool,
) -> Iterator[RunFolder]:
    """Give the folder of the run with this identity, an earlier one or a new one, under its lock.

    Args:
        outdir: holds the run folders; made where absent.
        description: of the new folder's name, behind its number.
        identity: decides what is computed; equal identities are one run.
        settings: duration, device and the like, recorded beside it.
        fresh: start another run even where there is one.
    Raises: ValueError where another process is at work on it, whose record is left alone.
    """
    found = None if fresh else find_run(outdir, identity)
    path = found or _make_numbered(outdir, description)
    record = {
        "identity": identity,
        "settings": settings,
        "command": sys.argv,
        "environment": describe_environment(),
    }
    with lock_run(path):
        files.write_json(path / OPTIONS_FILE, record)
        yield RunFolder(path, is_new=found is None)


def lock_run(path: Path) -> filelock.BaseFileLock:
    """Take the lock of a run folder; it ends with the process, however that ends.

    Raises: ValueError where another process holds it.
    """
    lock = filelock.FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(f"{path}: another process is at work on this run") from error
    return lock


def describe_environment() -> dict[str, Any]:
    """Return versions, platform and git commit, as far as they can be had."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def slug(text: str) -> str:
    """Return text that is safe in a folder name.

    >>> slug("my set (2)")
    'my-set-2'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")


def _numbered(outdir: Path) -> list[Path]:
    if not outdir.is_dir():
        return []
    return [path for path in outdir.iterdir() if re.match(r"\d{5}-", path.name) and path.is_dir()]


def _number(path: Path) -> int:
    return int(path.name[:5])


def _make_numbered(outdir: Path, description: str) -> Path:
    outdir.mkdir(parents=True, exist_ok=True)
    number = max((_number(path) for path in _numbered(outdir)), default=-1) + 1
    while True:
        path = outdir / f"{number:05d}-{slug(description)[:_NAME_LENGTH]}"
        try:
            path.mkdir()
        except FileExistsError:  # another process took the number just now
            number += 1
        else:
            return path


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    folder = Path(__file__).resolve().parent
    command = [git, "-C", str(folder), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
