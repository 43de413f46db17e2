"""Folders that belong to what was asked for: one rule of continuing, refusing and locking for all.

A folder is known by its identity, plain JSON values without duration, workers and device. With the
same identity, unfinished work goes on and finished work is left alone; `fresh` starts another
folder; a folder of another identity is refused, by the first option that differs. A script that
writes one result names the folder itself (`find_output`); training numbers a folder for each run
(`find_run`).
"""

import contextlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from dnnlib import files
from dnnlib.options import Job, Progress

OPTIONS_FILE = "training_options.json"
LOCK_FILE = ".lock"
PACKAGES = ("torch", "torchvision", "numpy", "pillow")
_NAME_LENGTH = 200  # file systems end at 255


@dataclass(kw_only=True)
class OutputFolder:
    """A folder, and what its record says of the work in it.

    Attributes:
        path: the folder; a new one is made when the work begins.
        record: name of the JSON file in it that tells what it was made with.
        identity: decides what is computed.
        settings: recorded besides: duration, device and the like.
        is_new: there is no earlier work in it.
        is_finished: it holds everything already.
        is_numbered: a new one takes the first number that is free when the work begins.
    """

    path: Path
    record: str
    identity: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    is_new: bool = True
    is_finished: bool = False
    is_numbered: bool = False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Make the folder, keep other processes out while the block runs, note that it began.

        What processes that were killed amid a file have left is removed.

        Raises: ValueError where another process is at work in it; its record is left alone.
        """
        if self.is_numbered and self.is_new:
            self.path, lock = _take_numbered(self.path)
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(self.path)
        try:
            files.remove_parts(self.path)
            self.begin()
            yield
        finally:
            lock.release()

    def begin(self) -> None:
        """Note that work began; by itself for processes that share a folder without the lock."""
        if self.is_new or self.settings:
            self._write(is_finished=False, result={})

    def finish(self, result: Mapping[str, Any] | None = None) -> None:
        """Mark the work as done, with what is to be known of it; the last write of all."""
        self._write(is_finished=True, result=result or {})
        self.is_finished = True

    def _write(self, *, is_finished: bool, result: Mapping[str, Any]) -> None:
        # A record that is part of a data set has neither command nor settings: whatever the number
        # of processes and wherever the folder lies, its bytes are the same, and it tells no paths.
        started = {"settings": self.settings, "command": sys.argv} if self.settings else {}
        content = {
            "identity": self.identity,
            "finished": is_finished,
            **started,
            **result,
            "environment": describe_environment(),
        }
        files.write_json(self.path / self.record, content)


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderJob(Job):
    """A job whose result is one folder; a subclass says how the work is done.

    Attributes:
        output: the folder.
        facts: what --dry-run tells besides the folder and its identity.
    """

    output: OutputFolder
    facts: Mapping[str, Any] = field(default_factory=dict)

    @abstractmethod
    def work(self, progress: Progress) -> str | None:
        """Do or continue the work under `output.at_work()`; return what the user is told."""

    def describe(self) -> dict[str, Any]:
        """Return folder, facts and identity."""
        return {"outdir": str(self.output.path), **self.facts, **self.output.identity}

    def run(self, progress: Progress) -> str | None:
        """Do what is left of the work."""
        if self.output.is_finished:
            return f"{self.output.path}: finished before; --fresh makes another"
        return self.work(progress)


def find_output(
    path: Path,
    record: str,
    identity: Mapping[str, Any],
    *,
    fresh: bool = False,
    option: str = "--outdir",
) -> OutputFolder:
    """Return the folder that the user named, for work with this identity; nothing is written.

    Args:
        path: wanted folder.
        record: name of the JSON file that tells what a folder was made with.
        identity: plain values.
        fresh: take the first free of path, path-2, path-3, ... instead.
        option: named in messages.
    Raises: ValueError where the folder holds anything else.
    """
    folder = OutputFolder(path=path, record=record, identity=_plain(identity))
    if fresh:
        folder.path = path = _first_free(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{option} {path}: must be a folder or absent, got a file")
    if not path.exists() or not _has_content(path):
        return folder
    if not (path / record).is_file():
        raise ValueError(f"{option} {path}: must be absent or empty, it holds other files")
    content = files.read_json(path / record)
    made = content.get("identity") if isinstance(content, dict) else None
    if made != folder.identity:
        raise ValueError(
            f"{option} {path}: was made with other options"
            f" ({first_difference(made, folder.identity)});"
            " choose another folder, or --fresh to start one beside it"
        )
    folder.is_new, folder.is_finished = False, content.get("finished") is True
    return folder


def find_run(
    outdir: Path,
    description: str,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    fresh: bool = False,
) -> OutputFolder:
    """Return the newest numbered folder with this identity, or a new one; nothing is written.

    Folders are called NNNNN-description; `fresh` starts another run even where there is one.
    """
    name = slug(description)[:_NAME_LENGTH]
    earlier = _numbered(outdir)
    # One of this name that is empty was left by a process that ended before it wrote the record.
    taken = [path for path in earlier if path.name[6:] != name or _has_content(path)]
    number = max(map(_number, taken), default=-1) + 1
    folder = OutputFolder(
        path=outdir / f"{number:05d}-{name}",
        record=OPTIONS_FILE,
        identity=_plain(identity),
        settings=_plain(settings),
        is_numbered=True,
    )
    for path in [] if fresh else sorted(earlier, key=_number, reverse=True):
        options = path / OPTIONS_FILE
        if options.is_file() and files.read_object(options).get("identity") == folder.identity:
            folder.path, folder.is_new = path, False
            break
    return folder


def lock_folder(path: Path) -> filelock.BaseFileLock:
    """Take the lock of a folder; it ends with the process, however that ends.

    Raises: ValueError where another process holds it.
    """
    lock = filelock.FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ValueError(f"{path}: another process is at work in this folder") from error
    return lock


def first_difference(made: Any, wanted: Any, name: str = "") -> str:
    """Return 'name made -> wanted' of the first value that differs.

    >>> first_difference({"batch": 2, "loss": {"gamma": 1}}, {"batch": 2, "loss": {"gamma": 3}})
    'loss.gamma 1 -> 3'
    """
    if isinstance(made, dict) and isinstance(wanted, dict):
        key = next(key for key in {**made, **wanted} if made.get(key) != wanted.get(key))
        path = f"{name}.{key}" if name else key
        return first_difference(made.get(key), wanted.get(key), path)
    if not name:
        return "none are recorded"
    return f"{name} {_short(made)} -> {_short(wanted)}"


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


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _has_content(path: Path) -> bool:
    """Tell whether there is anything but hidden files, which are locks and unfinished writes."""
    return not path.is_dir() or any(not entry.name.startswith(".") for entry in path.iterdir())


def _first_free(path: Path) -> Path:
    free, number = path, 2
    while free.exists() and _has_content(free):
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _numbered(outdir: Path) -> list[Path]:
    if not outdir.is_dir():
        return []
    return [path for path in outdir.iterdir() if re.match(r"\d{5}-", path.name) and path.is_dir()]


def _number(path: Path) -> int:
    return int(path.name[:5])


def _take_numbered(path: Path) -> tuple[Path, filelock.BaseFileLock]:
    """Return a folder with this number, or the next that is free, and its lock.

    It is made, or was left empty by a process that ended; another process may take it at any
    moment until it is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        if not _has_content(path):
            with contextlib.suppress(ValueError):  # another process is at work in it
                lock = lock_folder(path)
                if not _has_content(path):
                    return path, lock
                lock.release()
        path = path.with_name(f"{_number(path) + 1:05d}{path.name[5:]}")


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
