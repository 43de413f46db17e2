"""The training loop: iterations, ticks, snapshots and checkpoints of one run folder."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import PairDataset
from data.sampler import InfiniteSampler
from dnnlib import config as configs
from dnnlib.text import format_seconds
from networks.snapshot import Snapshot, capture, save_snapshot
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.distributed import World
from torch_utils.seeding import derive_seed
from training.config import RunConfig, TrainingConfig
from training.grids import SampleGrid
from training.records import Records, collect_row, status_line
from training.signals import StopRequest
from training.state import CHECKPOINT_FILE, TrainingState
from training.step import Iteration
from training.transfer import Start, begin

_log = logging.getLogger(__name__)


class SnapshotEvaluator(Protocol):
    """What measures a snapshot that has just been written; all processes call it together."""

    def __call__(self, path: Path, state: TrainingState) -> Mapping[str, float]:
        """Return "name" -> number in the first process; what the others return is not used.

        A run that was killed afterwards comes to the same snapshot again, so a record that is kept
        elsewhere must replace what it holds of `state.nimg`.
        """


class TrainingLoop:
    """One run, from its last checkpoint or from the start.

    Args:
        config: what is computed.
        run: how long and where.
        folder: of the run; whatever is written goes here.
        dataset: the pairs.
        world: the processes that train together; all build a loop and call the same methods.
        start: what a new run from a snapshot begins with; None is from scratch.
        evaluations: called after each snapshot with its path and the state; what they return is
            written to stats.jsonl as Metrics/name.
        progress: called with the images of each iteration.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: RunConfig,
        folder: Path,
        dataset: PairDataset,
        *,
        world: World | None = None,
        start: Start | None = None,
        evaluations: Sequence[SnapshotEvaluator] = (),
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.config, self.run_config, self.folder, self.dataset = config, run, folder, dataset
        self.evaluations, self.progress = evaluations, progress
        self.world, self.device = world or World(), torch.device(run.device)
        set_up_backends(config, run)
        self.state = TrainingState(config, self.device, self.world)
        self.checkpoint_path = folder / CHECKPOINT_FILE
        self.is_continued = self.checkpoint_path.is_file()
        if self.is_continued:
            self.state.load_state_dict(load_checkpoint(self.checkpoint_path, self.device))
        elif start is not None:
            begin(self.state, start)
        self.iteration = Iteration(
            config, self.state, batch_gpu=run.batch_gpu, labels=dataset.labels
        )
        self.grid = SampleGrid(dataset, self.state.generator, config.seed)
        self.records: Records | None = None

    @property
    def is_done(self) -> bool:
        """Whether all images have been shown."""
        return self.state.nimg >= self.run_config.kimg * 1000

    def run(self) -> bool:
        """Train to the end or to a signal.

        Returns: True when all images have been shown, False after a signal.
        Raises: FloatingPointError when gradients stay non-finite.
        """
        if self.world.is_first:
            self.records = Records(self.folder, self.state.tick)
            if not self.is_continued:
                self.grid.save_reals(self.folder / "reals.png", self.dataset)
                self._save_fakes("fakes_init.png")
        with StopRequest() as stop:
            self._train(stop)
        if self.records is not None:
            self.records.close()
        return self.is_done

    def _train(self, stop: StopRequest) -> None:
        clock = _Clock(self.state.seconds)
        batches = self._load_batches()
        saved_at = began = time.monotonic()
        is_stopped = is_seen = False
        while not self.is_done and not is_stopped:
            self.iteration.run(next(batches))
            if not is_seen:
                self._say_first_step(time.monotonic() - began)
                is_seen = True
            if self.progress is not None:
                self.progress(self.config.batch)
            self.state.seconds = clock.total()
            if self._is_tick_due():
                self._finish_tick(clock)
            is_due = time.monotonic() - saved_at >= self._checkpoint_seconds()
            must_stop, is_due = self.world.any(stop.is_set, is_due)
            # A checkpoint amid bad gradients would replace the last good one: it waits for the end
            # of such steps, or for the error that too many of them are.
            if (must_stop or is_due) and not self.is_done and self.iteration.is_sound():
                self.save_checkpoint()
                saved_at, is_stopped = time.monotonic(), must_stop

    def _say_first_step(self, seconds: float) -> None:
        if self.world.is_first:
            steps = math.ceil(self.run_config.kimg * 1000 / self.config.batch)
            _log.info(
                "the first of %s steps took %s, loading included; a line follows every %g kimg",
                f"{steps:,}", format_seconds(seconds), self.run_config.tick,
            )  # fmt: skip

    def _checkpoint_seconds(self) -> float:
        return self.run_config.checkpoint_minutes * 60 or math.inf

    def _is_tick_due(self) -> bool:
        shown = self.state.nimg - self.state.tick_start_nimg
        return self.is_done or shown >= self.run_config.tick * 1000

    def _is_snapshot_due(self) -> bool:
        snap = self.run_config.snap
        return self.is_done or (snap > 0 and (self.state.tick - 1) % snap == 0)

    def _finish_tick(self, clock: "_Clock") -> None:
        state = self.state
        self.iteration.check()
        state.statistics.collect()
        shown_kimg = (state.nimg - state.tick_start_nimg) / 1000
        row = collect_row(state, clock.tick(shown_kimg))
        left = max(self.run_config.kimg - state.nimg / 1000, 0)
        if self.world.is_first:
            _log.info("%s", status_line(row, state, left * row["Timing/sec_per_kimg"]["mean"]))
        state.tick += 1
        state.tick_start_nimg = state.nimg
        state.statistics.reset()
        if self._is_snapshot_due():
            path = self.save_snapshot()
            for evaluate in self.evaluations:
                for name, value in evaluate(path, state).items():
                    row[f"Metrics/{name}"] = {"num": 1, "mean": value, "std": 0.0}
        if self.records is not None:
            self.records.write(row, state.nimg)
        if self._is_snapshot_due() and (self.is_done or self.iteration.is_sound()):
            self.save_checkpoint()
        clock.end_maintenance()

    def save_snapshot(self) -> Path:
        """Write the networks and a grid of images for people and for the other scripts."""
        kimg = self.state.nimg // 1000
        path = self.folder / f"network-snapshot-{kimg:06d}.pkl"
        if not self.world.is_first:
            return path
        networks = {name: capture(net) for name, net in self.state.networks().items()}
        snapshot = Snapshot(
            networks=networks,
            augment={name: controller.p for name, controller in self.state.ada.items()},
            options=configs.to_dict(self.config),
            nimg=self.state.nimg,
        )
        save_snapshot(path, snapshot)
        self._save_fakes(f"fakes{kimg:06d}.png")
        return path

    def save_checkpoint(self) -> None:
        """Write all that a continued run needs; it replaces the one before."""
        state = self.state.state_dict()
        if self.world.is_first:
            save_checkpoint(self.checkpoint_path, state)

    def _save_fakes(self, name: str) -> None:
        self.grid.save_fakes(self.folder / name, self.state.ema)

    def _load_batches(self) -> Iterator[dict[str, Tensor]]:
        """Yield this process's share of batches without end, from where the run has come to."""
        sampler = InfiniteSampler(
            len(self.dataset),
            seed=derive_seed(self.config.seed, "order"),
            rank=self.world.rank,
            num_replicas=self.world.size,
            start=self.state.nimg,
        )
        workers = 0 if self.dataset.is_cached else self.run_config.workers
        loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_size=self.world.share(self.config.batch),
            sampler=sampler,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
        )
        return iter(loader)


def set_up_backends(config: TrainingConfig, run: RunConfig) -> None:
    """Set the process-wide switches of cuDNN and cuBLAS."""
    torch.backends.cudnn.benchmark = not run.nobench
    torch.backends.cudnn.allow_tf32 = config.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32


class _Clock:
    """Seconds of ticks and of the maintenance between them, over all restarts of a run."""

    def __init__(self, earlier: float) -> None:
        now = time.monotonic()
        self._began = now - earlier
        self._tick_began = now
        self._maintenance = 0.0
        self._work_ended = now

    def total(self) -> float:
        return time.monotonic() - self._began

    def tick(self, kimg: float) -> dict[str, float]:
        """Return the published timings of the tick that ends now."""
        self._work_ended = time.monotonic()
        seconds = self._work_ended - self._tick_began
        total = self.total()
        return {
            "total_sec": total,
            "sec_per_tick": seconds,
            "sec_per_kimg": seconds / max(kimg, 1e-9),
            "maintenance_sec": self._maintenance,
            "total_hours": total / 3600,
            "total_days": total / 86400,
        }

    def end_maintenance(self) -> None:
        self._tick_began = time.monotonic()
        self._maintenance = self._tick_began - self._work_ended
