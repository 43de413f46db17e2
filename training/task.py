"""The training of the dual-branch StyleGAN2-ADA as a task of the common trainer.

A row of stats.jsonl is a tick; after some ticks come a snapshot, a grid of samples and metrics.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.dataset import PairDataset
from data.sampler import InfiniteSampler
from data.sheets import sample_grid, save_image
from dnnlib import config as configs
from dnnlib.files import read_json_lines
from dnnlib.text import format_seconds
from networks.generator import Generator
from networks.sampling import IndexedSampler, Sampler, evaluation_seed, snapshot_sampler
from networks.snapshot import Snapshot, capture, save_snapshot
from torch_utils.devices import accumulate_in_float32
from torch_utils.distributed import World
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Cadence, Task, Timing, start_workers
from training.config import RunConfig, TrainingConfig
from training.losses import SUFFIXES, Embed
from training.state import TrainingState
from training.step import Iteration
from training.transfer import Start, begin

# Measures a snapshot that has just been written, with samples of its generator, after so many
# images; all processes call it together. Returns "name" -> number in the first one. A run that was
# killed afterwards comes to the same snapshot again, so a record that is kept elsewhere must
# replace what it holds of that number of images.
SnapshotEvaluator = Callable[[Path, IndexedSampler, int, World], Mapping[str, float]]

_TARGET_WIDTH_PX, _TARGET_HEIGHT_PX = 1920, 1080


def tick_cadence(config: TrainingConfig, run: RunConfig) -> Cadence:
    """Return how often a run writes: a row each tick, a checkpoint with each snapshot."""
    return Cadence(
        row_steps=math.ceil(run.tick * 1000 / config.batch),
        checkpoint_rows=run.snap,
        checkpoint_minutes=run.checkpoint_minutes,
    )


def grid_size(resolution: int, modalities: int) -> tuple[int, int]:
    """Return (columns, rows) of pairs that about fill a screen.

    >>> grid_size(256, 2)
    (4, 4)
    """
    columns = min(max(_TARGET_WIDTH_PX // (resolution * modalities), 4), 12)
    rows = min(max(_TARGET_HEIGHT_PX // resolution, 4), 8)
    return columns, rows


class SampleGrid:
    """The fixed latents and conditions whose images show how training proceeds.

    The data set's labels are the conditions, and its first pairs fill the grid of reals.
    """

    def __init__(self, dataset: PairDataset, generator: Generator, seed: int) -> None:
        self.columns, rows = grid_size(dataset.resolution, len(dataset.modalities))
        count = self.columns * rows
        self.indices = [index % len(dataset) for index in range(count)]
        random = generator_for(seed, "grid")
        self.z = torch.randn([count, generator.config.z_dim], generator=random)
        self.c = dataset.labels[[index % len(dataset.samples) for index in self.indices]]

    def save_reals(self, path: Path, dataset: PairDataset) -> None:
        """Write real pairs."""
        items = [dataset[index] for index in self.indices]
        images = {m.name: torch.stack([item[m.name] for item in items]) for m in dataset.modalities}
        self._save(path, images)

    def save_fakes(self, path: Path, generator: Generator) -> None:
        """Write what a generator makes of the fixed latents, with its constant noise."""
        sampler = Sampler(generator)
        self._save(path, sampler.pixels(sampler.map(self.z, self.c)))

    def _save(self, path: Path, images: Mapping[str, Tensor]) -> None:
        arrays = {name: batch.cpu().numpy() for name, batch in images.items()}
        save_image(path, sample_grid(arrays, self.columns))


def remove_snapshots(folder: Path, keep: str, metric: str | None = None) -> None:
    """Remove the snapshots of a run that are not to be kept; the newest one always is.

    Args:
        folder: of the run.
        keep: as --keep.
        metric: of which the lowest value is the best, as measured in the folder's metric-*.jsonl;
            None without metrics.
    """
    if keep == "all":
        return
    names = sorted(path.name for path in folder.glob("network-snapshot-*.pkl"))
    kept = set(names[-int(keep) :] if keep.isdecimal() else names[-1:])
    if keep == "best" and metric is not None:
        rows = [row for file in folder.glob("metric-*.jsonl") for row in read_json_lines(file)]
        values = {row["snapshot_pkl"]: row["results"].get(metric) for row in rows}
        known = [name for name in names if _is_finite(values.get(name))]
        kept |= {min(known, key=lambda name: values[name])} if known else set(names)
    for name in set(names) - kept:
        (folder / name).unlink()


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


class GanTask(Task):
    """Generator and discriminators in training.

    Args:
        config: what is computed.
        run: how long and where.
        folder: of the run; snapshots and grids go here.
        dataset: the pairs.
        world: the processes that train together; all build a task and call the same methods.
        start: what a new run from a snapshot begins with; None is from scratch.
        evaluate: called after each snapshot; None measures nothing.
        embed: recogniser of the identity loss; None without one.
    """

    unit = "img"

    def __init__(
        self,
        config: TrainingConfig,
        run: RunConfig,
        folder: Path,
        dataset: PairDataset,
        *,
        world: World | None = None,
        start: Start | None = None,
        evaluate: SnapshotEvaluator | None = None,
        embed: Embed | None = None,
    ) -> None:
        device = torch.device(run.device)
        super().__init__(math.ceil(run.kimg * 1000 / config.batch), device, world)
        self.step_size = config.batch
        self.config, self.run_config, self.folder, self.dataset = config, run, folder, dataset
        self.start, self.evaluate = start, evaluate
        set_up_backends(config, run)
        self.state = TrainingState(config, device, self.world)
        self.statistics = self.state.statistics
        self.iteration = Iteration(
            config, self.state, batch_gpu=run.batch_gpu, labels=dataset.labels, embed=embed
        )
        self.guards = list(self.iteration.guards.values())
        self.grid = SampleGrid(dataset, self.state.generator, config.seed)
        self._batches: Iterator[dict[str, Tensor]] | None = None

    def begin(self, index: int) -> None:
        """Take over the start of a new run and show its data and first samples."""
        if index > 0:
            return
        if self.start is not None:
            begin(self.state, self.start)
        if self.world.is_first:
            self.grid.save_reals(self.folder / "reals.png", self.dataset)
            self._save_fakes("fakes_init.png")

    def step(self, index: int) -> None:
        """Do one iteration with the next batch."""
        if self._batches is None:
            self._batches = self._load_batches()
        self.iteration.run(next(self._batches))

    def networks(self) -> Mapping[str, nn.Module]:
        """Return all networks under their snapshot names."""
        return self.state.networks()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a continued run needs."""
        return self.state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.state.load_state_dict(state)

    def where(self, index: int) -> str:
        """Say how many images were shown, in thousands."""
        return f"kimg {index * self.config.batch / 1000:.1f}"

    def scalars(self, timing: Timing) -> dict[str, float]:
        """Return progress and timing under the published names."""
        kimg = timing.steps * self.config.batch / 1000
        progress = {
            "Progress/tick": float(self.state.tick),
            "Progress/kimg": self.state.nimg / 1e3,
            "Timing/total_sec": timing.total_sec,
            "Timing/sec_per_tick": timing.interval_sec,
            "Timing/sec_per_kimg": timing.interval_sec / max(kimg, 1e-9),
            "Timing/maintenance_sec": timing.maintenance_sec,
            "Timing/total_hours": timing.total_sec / 3600,
            "Timing/total_days": timing.total_sec / 86400,
        }
        for name, controller in self.state.ada.items():
            progress[f"Progress/augment{SUFFIXES[name]}"] = controller.p
        return progress

    def validate(self, folder: Path) -> Mapping[str, float]:
        """Count the tick and, where one is due, write a snapshot and measure it."""
        self.state.tick += 1
        snap, is_last = self.run_config.snap, self.state.step >= self.steps
        if not is_last and (snap == 0 or (self.state.tick - 1) % snap != 0):
            return {}
        path, values = self.save_snapshot(), {}
        if self.evaluate is not None:
            seed = evaluation_seed(self.config.seed)
            labels = self.dataset.labels
            sampler = snapshot_sampler(self.state.ema, labels, name=path.name, seed=seed)
            values = self.evaluate(path, sampler, self.state.nimg, self.world)
        if self.world.is_first:
            remove_snapshots(self.folder, self.run_config.keep, next(iter(values), None))
        return values

    def status_line(self, index: int, means: Mapping[str, float]) -> str:
        """Return the published line of a tick."""
        left = max(self.run_config.kimg - means["Progress/kimg"], 0)
        augment = "/".join(f"{controller.p:.3f}" for controller in self.state.ada.values())
        parts = [
            f"tick {means['Progress/tick']:<5.0f}",
            f"kimg {means['Progress/kimg']:<8.1f}",
            f"time {format_seconds(means['Timing/total_sec']):<10s}",
            f"sec/tick {means['Timing/sec_per_tick']:<7.1f}",
            f"sec/kimg {means['Timing/sec_per_kimg']:<7.2f}",
            f"maintenance {means['Timing/maintenance_sec']:<6.1f}",
            f"cpumem {means['Resources/cpu_mem_gb']:<6.2f}",
            f"gpumem {means['Resources/peak_gpu_mem_gb']:<6.2f}",
            f"augment {augment}",
            f"left {format_seconds(left * means['Timing/sec_per_kimg'])}",
        ]
        if means["Progress/nonfinite_steps"]:
            parts.append(f"share of non-finite steps {means['Progress/nonfinite_steps']:.2g}")
        return " ".join(parts)

    def save_snapshot(self) -> Path:
        """Write the networks, for the other scripts, and a grid of samples."""
        kimg = self.state.nimg // 1000
        path = self.folder / f"network-snapshot-{kimg:06d}.pkl"
        if not self.world.is_first:
            return path
        snapshot = Snapshot(
            networks={name: capture(net) for name, net in self.state.networks().items()},
            augment={name: controller.p for name, controller in self.state.ada.items()},
            options=configs.to_dict(self.config),
            nimg=self.state.nimg,
        )
        save_snapshot(path, snapshot)
        self._save_fakes(f"fakes{kimg:06d}.png")
        return path

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
            batch_size=self.world.per_rank(self.config.batch),
            sampler=sampler,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
        )
        return start_workers(loader)


def set_up_backends(config: TrainingConfig, run: RunConfig) -> None:
    """Set the process-wide switches of cuDNN and cuBLAS."""
    torch.backends.cudnn.benchmark = not run.nobench
    torch.backends.cudnn.allow_tf32 = config.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    accumulate_in_float32()
