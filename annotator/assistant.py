"""The interpreter beside the page: a process of its own that trains and suggests masks.

What it is comes from the script: `load()` gives an object with `suggest(masks, progress)`, which
trains on masks [H, W] uint8 by image number and yields, for every other image, its number, labels
[H, W] uint8, uncertainty [H, W] float32 in nats, and a score that is higher the less certain; and
with `identity`, plain JSON values of what decides its answers besides masks.
"""

import json
import logging
import math
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from annotator.store import SUGGESTION_FOLDER, AnnotationStore
from data import sheets
from data.mask_files import read_annotation, save_mask
from data.pixels import encode_uncertainty, read_uncertainty
from dnnlib import files
from metrics.segmentation import confusion_matrix, intersection_over_union

RECORD = "record.json"
WORK_FOLDER = ".work"  # temporary files of the process, which may be killed
NOTHING_FINISHED = "no image is finished yet: there is nothing to learn from"
_REPORT_SEC = 0.2
_log = logging.getLogger(__name__)


class Phase(StrEnum):
    """What the interpreter's process is doing."""

    STARTING = "starting"
    TRAINING = "training"
    SUGGESTING = "suggesting"
    READY = "ready"
    FAILED = "failed"

    @property
    def is_busy(self) -> bool:
        """Whether it cannot be asked now."""
        return self not in (Phase.READY, Phase.FAILED)


@dataclass(frozen=True)
class Progress:
    """How far the process is."""

    phase: Phase
    done: int = 0  # steps of the training
    total: int = 0
    message: str = ""  # why it failed


class Assistant:
    """Trains on finished masks in the background, and remembers what came of it.

    A suggestion never comes of an interpreter that has learnt the image's own mask: the agreement
    of the two, once the mask is finished, is one on held-out images.

    Args:
        load: makes the interpreter, in another process.
        store: of the masks.
    """

    def __init__(self, load: Callable[[], Any], store: AnnotationStore) -> None:
        self._load, self._store = load, store
        self._folder = store.folder / SUGGESTION_FOLDER
        self._lock = threading.RLock()
        self._worker: _Worker | None = None
        self._wants_more = False
        self._progress = Progress(Phase.STARTING)
        # Of each image's suggestion: its uncertainty, and how many masks it was trained on.
        self._scores: dict[int, dict[str, Any]]
        self._identity, self._scores, self._curve = _read_record(self._folder / RECORD)

    def start(self) -> None:
        """Load the interpreter. Raises: ValueError with its reason where it refuses."""
        self._start()
        assert self._worker is not None, "just started"
        self._worker.is_loaded.wait()
        if self._progress.phase == Phase.FAILED:
            raise ValueError(self._progress.message)

    def describe(self) -> dict[str, Any]:
        """Return progress and agreement, as plain JSON values."""
        with self._lock:
            return {**asdict(self._progress), "curve": list(self._curve)}

    def scores(self) -> dict[int, float]:
        """Return how uncertain the interpreter is of each image that it has a suggestion for."""
        with self._lock:
            return {number: entry["score"] for number, entry in self._scores.items()}

    def suggestion(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels [H, W] uint8 and uncertainty [H, W] uint16, where 65535 is ln(classes).

        Raises: FileNotFoundError where there is none.
        """
        mask, uncertainty = self._paths(number)
        with uncertainty.open("rb") as file:
            return read_annotation(mask, self._store.classes), read_uncertainty(
                file, str(uncertainty)
            )

    def train(self) -> None:
        """Train on all finished masks; if a training runs, once more after it.

        Raises: ValueError where none is finished.
        """
        if "done" not in self._store.status().values():
            raise ValueError(NOTHING_FINISHED)
        with self._lock:
            self._wants_more = True
            if self._progress.phase.is_busy:
                return
            if self._worker is None or not self._worker.is_alive():
                self._start()  # once it is ready, it is asked
            else:
                self._ask()

    def cancel(self) -> None:
        """End a training; suggestions that are there stay."""
        with self._lock:
            self._wants_more = False
            if self._progress.phase in (Phase.TRAINING, Phase.SUGGESTING):
                self.close()
                self._start()

    def close(self) -> None:
        """End the process and write down what it has said."""
        if self._worker is not None:
            self._worker.end()
        self._write()

    def note_agreement(self, number: int) -> None:
        """Compare a finished mask with what was suggested for it, for the curve."""
        with self._lock:
            suggested = self._scores.get(number)
        if suggested is None:
            return
        try:
            labels, _ = self.suggestion(number)
        except (FileNotFoundError, ValueError) as error:
            _log.warning("Warning: agreement with image %d is not known: %s", number, error)
            return
        confusion = confusion_matrix(self._store.mask(number), labels, len(self._store.classes))
        iou = intersection_over_union(confusion)
        row = {
            "image": number,
            "trained_on": suggested["trained_on"],
            "mean_iou": float(np.nanmean(iou)),
            "iou": [None if math.isnan(value) else float(value) for value in iou],
        }
        with self._lock:
            self._curve = [entry for entry in self._curve if entry["image"] != number] + [row]
        self._write()

    def _start(self) -> None:
        with self._lock:
            self._progress = Progress(Phase.STARTING)
            self._worker = _Worker(self._load, self._receive, self._folder / WORK_FOLDER)

    def _ask(self) -> None:
        """Let an idle process train, if it is wanted."""
        with self._lock:
            if not self._wants_more or self._progress.phase.is_busy:
                return
            self._wants_more = False
            self._progress = Progress(Phase.TRAINING)
            assert self._worker is not None, "it is idle"
            try:
                masks = self._store.finished_masks()
                if not masks:
                    raise ValueError(NOTHING_FINISHED)
                self._worker.ask(masks)
            except (ValueError, OSError) as error:
                self._receive("failed", str(error))

    def _receive(self, kind: str, *content: Any) -> None:
        """Take what the process says."""
        with self._lock:
            if kind == "progress":
                self._progress = Progress(Phase.TRAINING, *content)
            elif kind == "suggestion":
                self._progress = Progress(Phase.SUGGESTING)
            elif kind in ("ready", "finished"):
                self._progress = Progress(Phase.READY)
            elif kind == "failed":
                self._progress = Progress(Phase.FAILED, message=content[0])
            elif self._progress.phase.is_busy:
                message = "the interpreter's process ended; the terminal says why"
                self._progress = Progress(Phase.FAILED, message=message)
            if kind == "ready":
                self._set_identity(*content)
        if kind == "suggestion":
            self._save_suggestion(*content)
        elif kind in ("ready", "finished"):
            self._ask()

    def _set_identity(self, identity: Any) -> None:
        """Forget what an interpreter of another identity has said."""
        identity = json.loads(json.dumps(identity))
        if identity != self._identity and self._scores:
            _log.info("%s: suggestions of another interpreter are not shown", self._folder)
            self._scores, self._curve = {}, []
        self._identity = identity

    def _save_suggestion(
        self,
        number: int,
        labels: np.ndarray,
        uncertainty: np.ndarray,
        score: float,
        trained_on: int,
    ) -> None:
        mask_path, uncertainty_path = self._paths(number)
        pixels = encode_uncertainty(uncertainty, len(self._store.classes))
        sheets.save_image(uncertainty_path, pixels[None])
        save_mask(mask_path, labels, self._store.classes)
        with self._lock:
            self._scores[number] = {"score": score, "trained_on": trained_on}
        self._write()

    def _write(self) -> None:
        with self._lock:
            if self._scores:
                record = {
                    "identity": self._identity,
                    "scores": self._scores,
                    "curve": self._curve,
                }
                files.write_json(self._folder / RECORD, record)

    def _paths(self, number: int) -> tuple[Path, Path]:
        name = f"image_{number}"
        return self._folder / f"{name}_mask.png", self._folder / f"{name}_uncertainty.png"


def _read_record(path: Path) -> tuple[Any, dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Return identity, scores and curve; nothing where there is no file.

    Raises: ValueError naming a damaged file.
    """
    if not path.is_file():
        return None, {}, []
    record = files.read_object(path, scores=dict, curve=list)
    try:
        scores = {int(key): entry for key, entry in record["scores"].items()}
        numbers = [entry[key] for entry in scores.values() for key in ("score", "trained_on")]
        for row in record["curve"]:
            numbers += [row["image"], row["trained_on"], row["mean_iou"]]
            numbers += [value for value in row["iou"] if value is not None]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("numbers must be finite")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: damaged, take it away: {error!r:.80}") from error
    return record.get("identity"), scores, record["curve"]


class _Worker:
    """The other process, and a thread that passes on what it says.

    Args:
        load: makes the interpreter there.
        receive: called with a kind of message and its content; "ended" is the last one.
        folder: for temporary files.
    """

    def __init__(self, load: Callable[[], Any], receive: Callable[..., None], folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(load, theirs, folder), daemon=True)
        self._process.start()
        theirs.close()
        self._receive = receive
        self._is_ended = False
        self.is_loaded = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def is_alive(self) -> bool:
        """Tell whether it can be asked."""
        return self._process.is_alive()

    def ask(self, masks: dict[int, np.ndarray]) -> None:
        """Let it train on masks and suggest all others."""
        self._connection.send(masks)

    def end(self) -> None:
        """Kill the process; nothing that it says is passed on any more."""
        self._is_ended = True
        self._process.kill()
        self._process.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                message = ("ended",)
            try:
                if not self._is_ended:
                    self._receive(*message)
            except (OSError, ValueError) as error:
                self.end()  # what it says next would hide the failure
                self._receive("failed", str(error))
            self.is_loaded.set()
            if message == ("ended",):
                self._connection.close()
                return


def _work(load: Callable[[], Any], connection: Connection, folder: Path) -> None:
    """Answer in another process, until the first one is gone.

    Whatever is sent fails when nobody is there to read it, which ends a training, too.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C is for the server, which ends this process
    logging.getLogger().setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)
    try:
        interpreter = load()
        connection.send(("ready", interpreter.identity))
        while True:
            masks = connection.recv()
            try:
                for found in interpreter.suggest(masks, _Reporter(connection)):
                    connection.send(("suggestion", *found, len(masks)))
            except (ValueError, FloatingPointError) as error:
                connection.send(("failed", str(error)))
            else:
                connection.send(("finished",))
    except (ValueError, FileNotFoundError) as error:
        connection.send(("failed", str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Reporter:
    """Counts steps as `cli.progress_bar` does, for the page."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, done: int, total: int, unit: str = "") -> Callable[[int], None]:
        """Return a function of further steps done."""
        self._done, self._total, self._said = done, total, 0.0

        def advance(steps: int) -> None:
            self._done += steps
            if time.monotonic() - self._said > _REPORT_SEC:
                self._said = time.monotonic()
                self._connection.send(("progress", self._done, self._total))

        return advance
