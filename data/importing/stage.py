"""The hidden folder in which an import grows, and from which files each of its pairs was made."""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from dnnlib.files import write_json_lines

SOURCES_FILE = ".sources.jsonl"


class Stage:
    """A folder of unfinished work, which outlives errors and kills.

    Beside the images it notes which content they were made from, so that a repeated import takes
    up what fits the source as it is now and makes the rest again. Serves several threads at once.

    Args:
        path: made where it is absent.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._sources = path / SOURCES_FILE
        self._digests = _read_digests(self._sources)
        self._lock = threading.Lock()
        write_json_lines(self._sources, self._digests.items())  # without a half line at the end

    def is_made_from(self, pair: str, digest: str) -> bool:
        """Return whether the images of `pair` that are here come from the content of `digest`."""
        return self._digests.get(pair) == digest

    def begin(self, pair: str, digest: str, files: Iterable[Path]) -> None:
        """Make room for the images of a pair, and note what they are made from.

        In this order images and note agree after a kill at any instant, or images are missing.

        Args:
            pair: its name.
            digest: of the content that it is made from.
            files: the images that are to be written.
        """
        for file in files:
            file.unlink(missing_ok=True)
        with self._lock:
            self._digests[pair] = digest
            with self._sources.open("a", encoding="utf-8") as notes:
                notes.write(json.dumps([pair, digest]) + "\n")

    def keep_only(self, files: Iterable[Path]) -> None:
        """Remove everything else: notes, parts of files, and what the source no longer has."""
        # By number, because some file systems give names back in another Unicode form.
        kept = {_number_of(file) for file in files if file.exists()}
        for path in sorted(self.path.rglob("*"), reverse=True):  # what a folder holds goes first
            if not path.is_dir() and _number_of(path) not in kept:
                path.unlink()
            elif path.is_dir():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()

    def discard_if_empty(self) -> None:
        """Remove the folder where no work is in it."""
        if all(path.is_dir() or path == self._sources for path in self.path.rglob("*")):
            shutil.rmtree(self.path)


def _read_digests(path: Path) -> dict[str, str]:
    """Return {pair: digest}; a line that a kill or a crash cut short counts as absent."""
    digests = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, TypeError):
            pair, digest = json.loads(line)
            digests[pair] = digest
    return digests


def _number_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
