"""From options to a running loop: checks first, then a run folder, then training."""

import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from biometrics.embedding import Embedder
from data.dataset import PairDataset
from dnnlib import cli, files, runs
from dnnlib import config as configs
from dnnlib.options import Job, Progress
from networks.sampling import evaluation_seed
from networks.snapshot import load_snapshot
from torch_utils.devices import resolve_device
from torch_utils.distributed import init_distributed, is_launched, local_rank, world_size
from torch_utils.ops import backends
from torch_utils.trainer import Trainer
from training.config import DataConfig, RunConfig, TrainingConfig, resolve
from training.identity_loss import load_loss_embedder
from training.options import AdaMode, TrainingOptions
from training.task import GanTask, SnapshotEvaluator, tick_cadence
from training.transfer import Start, find_snapshot, plan_start

_log = logging.getLogger(__name__)


# Loads what measures snapshots, given a seed and a device; None where that would fetch files and
# `may_fetch` is false.
PrepareMetrics = Callable[..., SnapshotEvaluator | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRun(Job):
    """A checked run that only has to be started.

    Attributes:
        options: as the user gave them, with the number of processes.
        config: what it computes.
        run_config: how long and where.
        dataset: its pairs, verified but not decoded.
        start: what a run from a snapshot begins with; None from scratch, or while the snapshot is
            not here.
        prepare_metrics: loads what measures its snapshots; None for nothing.
        embedder: recogniser of the identity loss; None without one.
    """

    options: TrainingOptions
    config: TrainingConfig
    run_config: RunConfig
    dataset: PairDataset
    start: Start | None
    prepare_metrics: PrepareMetrics | None = None
    embedder: Embedder | None = None

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration."""
        return {
            "identity": configs.to_dict(self.config),
            "settings": configs.to_dict(self.run_config),
        }

    def _find_folder(self, *, fresh: bool = False) -> runs.OutputFolder:
        """Return the folder of this run, an earlier one or a new one."""
        name = _run_name(self.options, self.dataset.name, self.config.batch)
        return runs.find_run(self.options.outdir, name, **self.describe(), fresh=fresh)

    def load_metrics(self, *, may_fetch: bool) -> SnapshotEvaluator | None:
        """Return what measures snapshots."""
        if self.prepare_metrics is None:
            return None
        seed = evaluation_seed(self.config.seed)
        return self.prepare_metrics(seed=seed, device=self.run_config.device, may_fetch=may_fetch)

    def run(self, progress: Progress) -> None:
        """Begin or continue the run, after fetching what is not here yet."""
        if (self.options.gpus or 1) > 1 and not is_launched():
            cli.restart_under_torchrun(self.options.gpus or 1)
        resume, job = self.options.resume, self
        if resume is not None and self.start is None:
            path = find_snapshot(resume, progress=functools.partial(progress, unit="B"))
            job = _plan(self.options, self.dataset, path, self.prepare_metrics, self.embedder)
        job.train(progress)

    def train(self, progress: Progress) -> None:
        """Train in the run's folder. Raises: StoppedError after a signal."""
        evaluate, device = self.load_metrics(may_fetch=True), torch.device(self.run_config.device)
        with init_distributed(device) as world, contextlib.ExitStack() as stack:
            if world.is_first:
                folder = self._find_folder(fresh=self.options.fresh)
                stack.enter_context(folder.at_work())
                stack.enter_context(cli.log_to(folder.path / "log.txt"))
                world.barrier()
            else:
                world.barrier()
                folder = self._find_folder()
                if folder.is_new:
                    raise ValueError(
                        f"--outdir {self.options.outdir}: must be a folder that all processes see"
                    )
            self.dataset.cache(self.run_config.cache)
            task = GanTask(
                self.config,
                self.run_config,
                folder.path,
                self.dataset,
                world=world,
                start=self.start,
                evaluate=evaluate,
                embed=None if self.embedder is None else self.embedder.embed_float,
            )
            cadence = tick_cadence(self.config, self.run_config)
            trainer = Trainer(task, folder.path, cadence, progress=progress, has_tensorboard=True)
            trainer.run()
            if world.is_first:
                folder.finish()
                _log.info("%s: %d kimg shown", folder.path, task.state.nimg // 1000)


def prepare(options: TrainingOptions, prepare_metrics: PrepareMetrics | None = None) -> TrainingRun:
    """Check data, snapshot and options.

    Args:
        options: as the user gave them.
        prepare_metrics: loads what measures snapshots, given `seed`, `device` and `may_fetch`.
    Raises: ValueError or FileNotFoundError naming file or option, rule and value.
    """
    options = replace(options, gpus=_count_processes(options.gpus))
    _choose_device(options)
    backends.use(options.ops)
    dataset = PairDataset.open(
        options.data,
        use_labels=options.cond,
        mirror=options.mirror,
        subset=options.subset,
        seed=options.seed,
        feature_scale=options.feature_scale,
    )
    dataset.verify()
    if options.cond and dataset.c_dim == 0:
        raise ValueError(f"--cond=1: {options.data} has no labels")
    resume = None
    if options.resume is not None:
        resume = find_snapshot(options.resume, may_fetch=False)
        if resume is None:
            _log.info("--resume=%s: not fetched yet, so its sizes are unknown", options.resume)
    embedder = None
    if options.rec_model is not None:
        embedder = load_loss_embedder(options.rec_model, dataset, _choose_device(options))
    job = _plan(options, dataset, resume, prepare_metrics, embedder)
    job.load_metrics(may_fetch=False)
    return job


def _plan(
    options: TrainingOptions,
    dataset: PairDataset,
    resume: Path | None,
    prepare_metrics: PrepareMetrics | None,
    embedder: Embedder | None,
) -> TrainingRun:
    """Resolve the options for a data set and a snapshot; None while that is not here."""
    data = DataConfig(
        name=dataset.name,
        fingerprint=dataset.fingerprint(),
        cond=dataset.c_dim > 0,
        mirror=options.mirror,
        subset=options.subset,
        feature_scale=dataset.feature_scale,
    )
    config, run_config = resolve(
        options,
        data=data,
        resolution=dataset.resolution,
        c_dim=dataset.c_dim,
        device=_choose_device(options),
        resume_hash=options.resume if resume is None else files.sha256_file(resume),
    )
    return TrainingRun(
        options=options,
        config=config,
        run_config=run_config,
        dataset=dataset,
        start=None if resume is None else plan_start(config, load_snapshot(resume), resume),
        prepare_metrics=prepare_metrics,
        embedder=embedder,
    )


def _count_processes(gpus: int | None) -> int:
    """Return the number of processes of the run: torchrun's, or what was asked for."""
    if is_launched() and gpus not in (None, world_size()):
        raise ValueError(f"--gpus must be torchrun's {world_size()} processes, got {gpus}")
    return world_size() if is_launched() else gpus or 1


def _choose_device(options: TrainingOptions) -> str:
    gpus = options.gpus or 1
    if gpus == 1:
        return resolve_device(options.device, options.gpu_device_number)
    if options.gpu_device_number:
        raise ValueError(
            f"--gpu-device-number must be absent with several processes, which take GPUs 0 to "
            f"{gpus - 1}, got {options.gpu_device_number}; CUDA_VISIBLE_DEVICES chooses among all"
        )
    if not is_launched():  # this process only checks: is there a GPU for each of the others?
        resolve_device(options.device, gpus - 1)
    return resolve_device(options.device, local_rank())


def _run_name(options: TrainingOptions, name: str, batch: int) -> str:
    """Return the run folder's description: data set, preset and the options that matter most."""
    parts = [name]
    parts += ["mirror"] if options.mirror else []
    parts += [options.cfg, f"batch{batch}"]
    parts += [f"subset{options.subset}"] if options.subset else []
    parts += [f"pair-{options.pair_critic.value}"] if options.pair_critic.value != "none" else []
    parts += ["identity"] if options.rec_model is not None else []
    parts += [options.aug.value] if options.aug is not AdaMode.ADAPTIVE else []
    parts += [f"resume{Path(options.resume).stem}"] if options.resume else []
    parts += [options.desc] if options.desc else []
    return "-".join(parts)
