"""One training loop for all networks: steps, stats.jsonl, checkpoints, graceful shutdown.

A `Task` says what one step does; the `Trainer` runs its steps in a folder. What a step draws is a
function of the seed and the step's number, so a training that was stopped or killed anywhere goes
on to the bytes of an uninterrupted one.
"""

import abc
import contextlib
import functools
import json
import logging
import math
import multiprocessing.process
import multiprocessing.util
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dnnlib import files
from dnnlib.options import Progress, StoppedError
from dnnlib.runs import OPTIONS_FILE, FolderJob, OutputFolder, find_output
from dnnlib.text import format_seconds
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.distributed import World, at_work_together, init_distributed
from torch_utils.guarded_step import GuardedStep
from torch_utils.options import TrainerOptions
from torch_utils.statistics import Statistics

STATS_FILE = "stats.jsonl"
CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_FORMAT = "biface-training"
CHECKPOINT_VERSION = 1
# torchrun passes on a signal that a terminal has already sent to every process.
_SAME_REQUEST_SEC = 5.0

# Statistics of one interval by name, each {"num", "mean", "std"}.
Row = dict[str, dict[str, float]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """How often a training writes; this does not change what it learns.

    Attributes:
        row_steps: steps between rows of stats.jsonl, each with a validation.
        checkpoint_rows: rows between checkpoints; 0 saves one with the last row only.
        checkpoint_minutes: minutes between further checkpoints; 0 saves none of these.
    """

    row_steps: int
    checkpoint_rows: int = 1
    checkpoint_minutes: float = 5.0


class Timing:
    """Durations up to the latest `update`.

    Attributes:
        total_sec: since the first step, over all restarts.
        interval_sec: of the steps since the last row, as far as this process took them.
        maintenance_sec: spent on validation and checkpoints before these.
        steps: how many these are.
    """

    def __init__(self, earlier_sec: float) -> None:
        self._interval_began = time.monotonic()
        self._began = self._interval_began - earlier_sec
        self.total_sec, self.interval_sec, self.maintenance_sec = earlier_sec, 0.0, 0.0
        self.steps = 0

    def update(self, steps: int = 0) -> None:
        """Look at the clock, after so many further steps."""
        now = time.monotonic()
        self.total_sec, self.interval_sec = now - self._began, now - self._interval_began
        self.steps += steps

    def begin_interval(self) -> None:
        """Count from now on; what has passed since the latest `update` was maintenance."""
        self._interval_began = time.monotonic()
        self.maintenance_sec = self._interval_began - self._began - self.total_sec
        self.steps = 0

    def scalars(self) -> dict[str, float]:
        """Return the durations under their names in stats.jsonl."""
        return {
            "Timing/total_sec": self.total_sec,
            "Timing/sec_per_step": self.interval_sec / max(self.steps, 1),
            "Timing/maintenance_sec": self.maintenance_sec,
        }


class Task(abc.ABC):
    """What is trained.

    Attributes:
        steps: of the whole training.
        device: where it computes.
        world: the processes that train together; all make the same calls.
        statistics: to which `step` reports, under names such as "Loss/total".
        guards: steps of the optimisers, whose gradients must stay finite.
        rate: learning rate of the last step, of tasks that change it.
        unit, step_size: what the progress bar and TensorBoard count, and how many of it a step is.
    """

    unit = "step"
    step_size = 1

    def __init__(self, steps: int, device: torch.device, world: World | None = None) -> None:
        self.steps, self.device, self.world = steps, device, world or World()
        self.statistics = Statistics(device, self.world)
        self.guards: list[GuardedStep] = []
        self.rate: float | None = None

    @abc.abstractmethod
    def step(self, index: int) -> None:
        """Take step `index`, and report to `statistics`."""

    @abc.abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """Return all networks whose weights must stay finite, by name."""

    def parts(self) -> Mapping[str, Any]:
        """Return all that has a `state_dict` to keep, by its name in checkpoints."""
        return self.networks()

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain containers; all processes call it, the first's is kept."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, with tensors on the CPU."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])

    def begin(self, index: int) -> None:  # noqa: B027  # most tasks have nothing to prepare
        """Prepare for the first step of this process; 0 is a new training."""

    def descend(
        self, loss: Tensor, optimizer: torch.optim.Optimizer, guard: GuardedStep | None = None
    ) -> None:
        """Step down a loss, at `rate` where there is one, and report whether gradients are finite.

        Args:
            loss: [], with a graph.
            optimizer: of the network.
            guard: of the optimiser; None is the first one.
        """
        guard = guard or self.guards[0]
        (loss if guard.scaler is None else guard.scaler.scale(loss)).backward()
        if self.rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.rate
        self.statistics.report("Progress/nonfinite_steps", guard.step(optimizer))

    def is_finished(self, index: int) -> bool:
        """Tell whether the training ends before step `index`."""
        return index >= self.steps

    def scalars(self, timing: Timing) -> dict[str, float]:
        """Return further numbers of a row."""
        rate = {} if self.rate is None else {"Progress/learning_rate": self.rate}
        return {**timing.scalars(), **rate}

    def validate(self, folder: Path) -> Mapping[str, float]:
        """Measure the networks as they are, and write what shows them, after each row's steps.

        All processes call it; the first one's result is kept, as "Metrics/name".
        """
        return {}

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the trained networks; return plain JSON for the folder's record."""
        return {}

    def summary(self, record: Mapping[str, Any]) -> str:
        """Return one line for the user of what the folder's record says of the result."""
        return describe_result(record["result"])

    def where(self, index: int) -> str:
        """Say how far the training has come."""
        return f"step {index}"

    def status_line(self, index: int, means: Mapping[str, float]) -> str:
        """Return one line about the row that ends before step `index`."""
        return f"step {index} of {self.steps}  {describe_result(means)}"

    def check(self, index: int) -> None:
        """Raise FloatingPointError where gradients stay non-finite, or a weight is."""
        for guard in self.guards:
            guard.check(self.where(index))
        for name, network in self.networks().items():
            tensors = [t for t in network.state_dict().values() if t.is_floating_point()]
            norms = torch.stack(torch._foreach_norm([t for t in tensors if t.numel()], math.inf))
            if not bool(norms.isfinite().all()):
                advice = f": {self.guards[0].advice}" if self.guards else ""
                raise FloatingPointError(
                    f"{name}: weights are no longer finite at {self.where(index)}{advice}"
                )


class Trainer:
    """Runs a task in a folder, from its last checkpoint or from the start.

    Args:
        task: what is trained.
        folder: of stats.jsonl and the checkpoint; no other process works in it.
        cadence: how often they are written.
        progress: shows the steps; None shows nothing.
        has_tensorboard: also write TensorBoard's files, where that is installed.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        cadence: Cadence,
        *,
        progress: Progress | None = None,
        has_tensorboard: bool = False,
    ) -> None:
        self.task, self.folder, self.cadence = task, folder, cadence
        self._progress, self._has_tensorboard = progress, has_tensorboard
        self.checkpoint_path = folder / CHECKPOINT_FILE
        self.index, self.rows, self.row_began_at = 0, 0, 0
        self.last: dict[str, float] = {}
        self._seconds = self._saved_at = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return self.task.is_finished(self.index)

    def run(self) -> None:
        """Train to the end, or to a checkpoint after SIGINT or SIGTERM.

        Raises: StoppedError after a signal; FloatingPointError where gradients stay non-finite, or
            a weight is, the last checkpoint being from before.
        """
        task = self.task
        if self.checkpoint_path.is_file():
            self._restore()
            state = "finished before, at" if self.is_finished else "continuing at"
            self._say("%s: %s %s", self.folder, state, task.where(self.index))
        task.world.barrier()  # all have read it before the first one may remove it
        if self.is_finished:
            return
        task.begin(self.index)
        advance = None
        records = None
        if task.world.is_first:
            shown = self.row_began_at * task.step_size
            records = _Records(self.folder, self.rows, shown, has_tensorboard=self._has_tensorboard)
            if self._progress is not None:
                done, total = (count * task.step_size for count in (self.index, task.steps))
                advance = self._progress(done, total, task.unit)
        try:
            with StopRequest() as stop:
                self._train(stop, records, advance)
        finally:
            if records is not None:
                records.close()

    def _train(
        self,
        stop: "StopRequest",
        records: "_Records | None",
        advance: Callable[[int], None] | None,
    ) -> None:
        timing = self._timing = Timing(self._seconds)
        began, is_first_step = time.monotonic(), True
        pause = self.cadence.checkpoint_minutes * 60 or math.inf
        self._saved_at = began
        while not self.is_finished:
            self.task.step(self.index)
            self.index += 1
            if advance is not None:
                advance(self.task.step_size)
            if is_first_step:
                self._say(
                    "the first of %s steps took %s; a line follows every %d steps",
                    f"{self.task.steps:,}",
                    format_seconds(time.monotonic() - began),
                    self.cadence.row_steps,
                )
                is_first_step = False
            timing.update(steps=1)
            if self.is_finished or self.index - self.row_began_at >= self.cadence.row_steps:
                self._finish_row(records)
            is_due = time.monotonic() - self._saved_at >= pause
            must_stop, is_due = self.task.world.any(stop.number is not None, is_due)
            # A checkpoint amid bad gradients would replace the last good one: it waits for the end
            # of such steps, or for the error that too many of them are.
            if (must_stop or is_due) and not self.is_finished and self._is_sound():
                self._save()
                if must_stop:
                    where = self.task.where(self.index)
                    self._say("%s: stopped at %s; the same command continues", self.folder, where)
                    self.task.world.barrier()  # a launcher ends the others when one has ended
                    raise StoppedError(stop.number or signal.SIGTERM)

    def _finish_row(self, records: "_Records | None") -> None:
        task, timing = self.task, self._timing
        task.check(self.index)
        task.statistics.collect()
        row: Row = task.statistics.summary()
        task.statistics.reset()
        timing.update()  # now that the device has come to here
        scalars = {"Progress/step": float(self.index), **task.scalars(timing)}
        scalars |= _memory(task.device)
        row |= {name: _single(value) for name, value in scalars.items()}
        metrics = task.validate(self.folder)
        row |= {f"Metrics/{name}": _single(value) for name, value in metrics.items()}
        self.rows, self.row_began_at = self.rows + 1, self.index
        self.last = {name: entry["mean"] for name, entry in row.items()}
        if records is not None:
            records.write(row, self.index * task.step_size)
            _log.info("%s", task.status_line(self.index, self.last))
        every = self.cadence.checkpoint_rows
        is_due = every > 0 and (self.rows - 1) % every == 0
        if self.is_finished or (is_due and self._is_sound()):
            self._save()
        timing.begin_interval()

    def _is_sound(self) -> bool:
        """Tell whether the state is worth keeping: the last gradients and all weights are finite.

        Raises: FloatingPointError, see `Task.check`.
        """
        self.task.check(self.index)
        return not any(guard.is_bad for guard in self.task.guards)

    def _save(self) -> None:
        state = {
            "format": CHECKPOINT_FORMAT,
            "version": CHECKPOINT_VERSION,
            "step": self.index,
            "rows": self.rows,
            "row_began_at": self.row_began_at,
            "last": self.last,
            "seconds": self._timing.total_sec,
            "statistics": self.task.statistics.state_dict(),
            "task": self.task.state_dict(),
        }
        if self.task.world.is_first:
            save_checkpoint(self.checkpoint_path, state)
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        # On the CPU, where optimisers count their steps; networks copy to their own device.
        kind = (CHECKPOINT_FORMAT, CHECKPOINT_VERSION)
        state = load_checkpoint(self.checkpoint_path, kind=kind)
        self.index, self.rows = state["step"], state["rows"]
        self.row_began_at, self.last = state["row_began_at"], state["last"]
        self._seconds = state["seconds"]
        self.task.statistics.load_state_dict(state["statistics"])
        self.task.load_state_dict(state["task"])

    def _say(self, text: str, *values: object) -> None:
        if self.task.world.is_first:
            _log.info(text, *values)


def train(
    task: Task, output: OutputFolder, cadence: Cadence, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Train in an output folder that is not finished, from its checkpoint on, and export.

    Returns: what the folder's record says of the result, {} in other processes than the first.
    Raises: ValueError where another run is at work in the folder; see also `Trainer.run`.
    """
    world = task.world
    with at_work_together(output, world):
        trainer = Trainer(task, output.path, cadence, progress=progress)
        trainer.run()
        if not world.is_first:
            return {}
        record = {"result": _with_nulls(trainer.last), **task.export(output.path)}
        output.finish(record)
        trainer.checkpoint_path.unlink(missing_ok=True)
        return record


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingJob(FolderJob):
    """A training whose options were checked."""

    task: Task
    cadence: Cadence

    @classmethod
    def prepare(
        cls,
        task: Task,
        options: TrainerOptions,
        identity: Mapping[str, Any],
        *,
        row_steps: int,
        facts: Mapping[str, Any],
    ) -> "TrainingJob":
        """Return the training of a task in its folder, which is looked at but not written to.

        Raises: ValueError where the folder was made with another identity or holds anything else.
        """
        return cls(
            task=task,
            output=find_output(options.outdir, OPTIONS_FILE, identity, fresh=options.fresh),
            cadence=Cadence(row_steps=row_steps, checkpoint_minutes=options.checkpoint_minutes),
            facts=facts,
        )

    def work(self, progress: Progress) -> str | None:
        """Train and export."""
        task, path = self.task, self.output.path
        with init_distributed(task.device) if task.world.size > 1 else contextlib.nullcontext():
            record = train(task, self.output, self.cadence, progress=progress)
        return f"{path}: {task.summary(record)}" if record else None


class StopRequest:
    """Notes a SIGINT or SIGTERM while active; a later signal ends the process as it always does."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._set_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._set_at = number, now
        elif now - self._set_at > _SAME_REQUEST_SEC:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def start_workers(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return a loader's iterator, whose workers end with this process and by no signal before.

    A signal goes to all processes of a group, and the step that `StopRequest` finishes needs them.
    """
    loader.worker_init_fn = functools.partial(_begin_worker, loader.worker_init_fn)
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    workers = weakref.WeakSet(set(multiprocessing.active_children()) - others)
    # Before multiprocessing sends its children SIGTERM, at exit, and waits for them.
    at_exit = multiprocessing.util.Finalize(None, _kill, args=(workers,), exitpriority=1)
    weakref.finalize(batches, at_exit.cancel).atexit = False
    return batches


def _begin_worker(begin: Callable[[int], None] | None, worker: int) -> None:
    if begin is not None:
        begin(worker)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _kill(processes: Iterable[multiprocessing.process.BaseProcess]) -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and hasattr(signal, "SIGCHLD"):  # which Windows lacks
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's raises when a worker is killed
    for process in processes:
        process.kill()


class _Records:
    """Appends rows to stats.jsonl, and shows them in TensorBoard.

    Of an earlier process, so many `rows` are kept, the last of which TensorBoard has at `shown`;
    what lies behind the last checkpoint is dropped.
    """

    def __init__(self, folder: Path, rows: int, shown: int, *, has_tensorboard: bool) -> None:
        self.path = folder / STATS_FILE
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            with files.atomic_write(self.path, "w") as file:
                file.writelines(lines[:rows])
        self._writer: Any = None
        if has_tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # optional, slow

                self._writer = SummaryWriter(str(folder), purge_step=shown + 1)
            except ImportError:
                _log.info("tensorboard is not installed: stats.jsonl has all the numbers")

    def write(self, row: Row, index: int) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**_with_nulls(row), "timestamp": time.time()}) + "\n")
        if self._writer is not None:
            for name, entry in row.items():
                self._writer.add_scalar(name, entry["mean"], global_step=index)
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def describe_result(means: Mapping[str, float | None]) -> str:
    """Return a row's losses, accuracies and metrics in one line."""
    shown = ("Loss/", "Accuracy/", "Metrics/")
    return "  ".join(
        f"{name} {'not finite' if value is None else format(value, '.4g')}"
        for name, value in means.items()
        if name.startswith(shown)
    )


def _with_nulls(numbers: Any) -> Any:
    """Return numbers in dicts with None, JSON's null, for those that are not finite."""
    if isinstance(numbers, Mapping):
        return {name: _with_nulls(entry) for name, entry in numbers.items()}
    return numbers if math.isfinite(numbers) else None


def _single(value: float) -> dict[str, float]:
    return {"num": 1, "mean": value, "std": 0.0}


def _memory(device: torch.device) -> dict[str, float]:
    """Return the process's peak memory on CPU and GPU in GiB, as far as the platform tells."""
    memory = {"Resources/cpu_mem_gb": 0.0, "Resources/peak_gpu_mem_gb": 0.0}
    with contextlib.suppress(ImportError):
        import resource  # noqa: PLC0415  # absent on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        is_bytes = sys.platform == "darwin"  # KiB elsewhere
        memory["Resources/cpu_mem_gb"] = peak / (2**30 if is_bytes else 2**20)
    if device.type == "cuda":
        memory["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
        torch.cuda.reset_peak_memory_stats(device)
    return memory
