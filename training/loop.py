"""The training loop: iterations, ticks, snapshots and checkpoints of one run folder."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.dataset import PairDataset
from data.sampler import InfiniteSampler
from dnnlib import config as configs
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.seeding import derive_seed
from training.config import RunConfig, TrainingConfig
from training.grids import SampleGrid
from training.network_state import capture
from training.records import Records, collect_row, status_line
from training.signals import StopRequest
from training.snapshots import Snapshot, save_snapshot
from training.state import TrainingState
from training.step import Iteration

CHECKPOINT_FILE = "checkpoint.pt"

Evaluation = Callable[[Path, TrainingState], Mapping[str, float]]

_log = logging.getLogger(__name__)


class TrainingLoop:
    """One run, from its last checkpoint or from the start.

    Args:
        config: what is computed.
        run: how long and where.
        folder: of the run; whatever is written goes here.
        dataset: the pairs.
        start: tensors by network that a new run begins with; None is from scratch.
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
        start: Mapping[str, Mapping[str, Tensor]] | None = None,
        evaluations: Sequence[Evaluation] = (),
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.config, self.run_config, self.folder, self.dataset = config, run, folder, dataset
        self.evaluations, self.progress = evaluations, progress
        self.device = torch.device(run.device)
        set_up_backends(config, run)
        self.state = TrainingState(config, self.device)
        self.checkpoint_path = folder / CHECKPOINT_FILE
        self.is_continued = self.checkpoint_path.is_file()
        if self.is_continued:
            self.state.load_state_dict(load_checkpoint(self.checkpoint_path, self.device))
        elif start is not None:
            self.state.load_networks(start)
        labels = torch.stack([dataset.label(index) for index in range(len(dataset.stems))])
        self.iteration = Iteration(config, self.state, labels)
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
        self.records = Records(self.folder, self.state.tick)
        if not self.is_continued:
            self.grid.save_reals(self.folder / "reals.png", self.dataset)
            self._save_fakes("fakes_init.png")
        with StopRequest() as stop:
            is_stopped = self._train(stop)
        self.records.close()
        return not is_stopped

    def _train(self, stop: StopRequest) -> bool:
        clock = _Clock(self.state.seconds)
        batches = load_batches(self.dataset, self.config, self.run_config, self.state.nimg)
        saved_at = time.monotonic()
        while not self.is_done and not stop.is_set:
            self.iteration.run(next(batches))
            if self.progress is not None:
                self.progress(self.config.batch)
            self.state.seconds = clock.total()
            if self._is_tick_due():
                self._finish_tick(clock)
                saved_at = time.monotonic() if self._is_snapshot_due() else saved_at
            elif self._is_checkpoint_due(saved_at):
                self.save_checkpoint()
                saved_at = time.monotonic()
        if not self.is_done:
            self.save_checkpoint()
        return not self.is_done

    def _is_tick_due(self) -> bool:
        shown = self.state.nimg - self.state.tick_start_nimg
        return self.is_done or shown >= self.run_config.tick * 1000

    def _is_snapshot_due(self) -> bool:
        snap = self.run_config.snap
        return self.is_done or (snap > 0 and (self.state.tick - 1) % snap == 0)

    def _is_checkpoint_due(self, saved_at: float) -> bool:
        minutes = self.run_config.checkpoint_minutes
        return minutes > 0 and time.monotonic() - saved_at >= minutes * 60

    def _finish_tick(self, clock: "_Clock") -> None:
        state = self.state
        self.iteration.check()
        shown_kimg = (state.nimg - state.tick_start_nimg) / 1000
        row = collect_row(state, clock.tick(shown_kimg))
        left = max(self.run_config.kimg - state.nimg / 1000, 0)
        _log.info("%s", status_line(row, state, left * row["Timing/sec_per_kimg"]["mean"]))
        state.tick += 1
        state.tick_start_nimg = state.nimg
        state.statistics.reset()
        if self._is_snapshot_due():
            path = self.save_snapshot()
            for evaluate in self.evaluations:
                for name, value in evaluate(path, state).items():
                    row[f"Metrics/{name}"] = {"num": 1, "mean": value, "std": 0.0}
        assert self.records is not None, "records are opened by run()"
        self.records.write(row, state.nimg)
        if self._is_snapshot_due():
            self.save_checkpoint()
        clock.end_maintenance()

    def save_snapshot(self) -> Path:
        """Write the networks and a grid of images for people and for the other scripts."""
        kimg = self.state.nimg // 1000
        networks = {name: capture(net) for name, net in self.state.networks().items()}
        snapshot = Snapshot(
            networks=networks,
            augment={name: controller.p for name, controller in self.state.ada.items()},
            options=configs.to_dict(self.config),
            nimg=self.state.nimg,
        )
        path = self.folder / f"network-snapshot-{kimg:06d}.pkl"
        save_snapshot(path, snapshot)
        self._save_fakes(f"fakes{kimg:06d}.png")
        return path

    def save_checkpoint(self) -> None:
        """Write all that a continued run needs; it replaces the one before."""
        save_checkpoint(self.checkpoint_path, self.state.state_dict())

    def _save_fakes(self, name: str) -> None:
        self.grid.save_fakes(self.folder / name, self.state.ema, self.config.batch_gpu)


def load_batches(
    dataset: PairDataset, config: TrainingConfig, run: RunConfig, start: int
) -> Iterator[dict[str, Tensor]]:
    """Yield batches without end, beginning with the image at position `start`."""
    sampler = InfiniteSampler(len(dataset), seed=derive_seed(config.seed, "order"), start=start)
    workers = 0 if dataset.is_cached else run.workers
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=config.batch,
        sampler=sampler,
        num_workers=workers,
        pin_memory=run.device != "cpu",
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
