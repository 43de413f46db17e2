"""Output folders that belong to the options they were made with."""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib import files
from dnnlib.runs import describe_environment, lock_run

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputFolder:
    """A folder and what its record says.

    Attributes:
        path: the folder; not made yet where it is new.
        record: name of the JSON file in it that tells what it was made with.
        identity: plain JSON values that decide the folder's content.
        is_new: there is no earlier work in it.
        is_finished: it holds everything already.
    """

    path: Path
    record: str
    identity: dict[str, Any]
    is_new: bool
    is_finished: bool

    def begin(self) -> None:
        """Make the folder and write the record of unfinished work."""
        if self.is_new:
            self._write(is_finished=False, result={})

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Begin, and keep other processes out while the block runs.

        Raises: ValueError where another process is at work in it; its record is left alone.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with lock_run(self.path):
            self.begin()
            yield

    def finish(self, result: dict[str, Any] | None = None) -> None:
        """Mark the work as done; must be the last write of all."""
        self._write(is_finished=True, result=result or {})

    def _write(self, *, is_finished: bool, result: dict[str, Any]) -> None:
        content = {
            "identity": self.identity,
            "finished": is_finished,
            **result,
            "environment": describe_environment(),
        }
        files.write_json(self.path / self.record, content)


def find_output(
    path: Path, record: str, identity: dict[str, Any], *, fresh: bool, option: str = "--outdir"
) -> OutputFolder:
    """Return the folder for work with this identity; nothing is written.

    Args:
        path: wanted folder.
        record: name of the JSON file that tells what a folder was made with.
        identity: decides the content; equal identities continue each other.
        fresh: take the first free of path, path-2, path-3, ... instead.
        option: named in messages.
    Raises: ValueError where the folder holds anything else.
    """
    wanted = json.loads(json.dumps(identity))
    if fresh:
        path = _first_free(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{option} {path}: must be a folder or absent, got a file")
    if not path.exists() or not _has_content(path):
        return OutputFolder(path, record, wanted, is_new=True, is_finished=False)
    found = path / record
    if not found.is_file():
        raise ValueError(f"{option} {path}: must be absent or empty, it holds other files")
    content = files.read_json(found)
    made = content.get("identity") if isinstance(content, dict) else None
    if made != wanted:
        raise ValueError(
            f"{option} {path}: was made with other {_differences(made, wanted)}; "
            "choose another folder, or --fresh to start one beside it"
        )
    is_finished = content.get("finished") is True
    return OutputFolder(path, record, wanted, is_new=False, is_finished=is_finished)


def _first_free(path: Path) -> Path:
    free, number = path, 2
    while free.exists() and _has_content(free):
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _has_content(path: Path) -> bool:
    """Tell whether there is anything but hidden files, which are locks and unfinished writes."""
    return not path.is_dir() or any(not entry.name.startswith(".") for entry in path.iterdir())


def _differences(made: Any, wanted: dict[str, Any]) -> str:
    """Return 'options (a 1 -> 2, ...)' for a message."""
    if not isinstance(made, dict):
        return "content"
    keys = [key for key in {**made, **wanted} if made.get(key) != wanted.get(key)]
    shown = ", ".join(f"{key} {_short(made.get(key))} -> {_short(wanted.get(key))}" for key in keys)
    return f"options ({shown})"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
