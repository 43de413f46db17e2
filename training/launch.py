"""From options to a running loop: checks first, then a run folder, then training."""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data.dataset import PairDataset
from dnnlib import config as configs
from dnnlib import downloads, files, runs
from networks.snapshot import load_snapshot
from torch_utils.devices import resolve_device
from torch_utils.distributed import is_launched, join_world, local_rank, world_size
from torch_utils.ops import backends
from torch_utils.trainer import Trainer
from training.config import DataConfig, RunConfig, TrainingConfig
from training.options import TrainingOptions
from training.presets import resolve
from training.published_files import find_snapshot
from training.task import GanTask, SnapshotEvaluator, tick_cadence
from training.transfer import Start, plan_start

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked run that only has to be started.

    Attributes:
        config: what it computes.
        gpus: processes that compute it.
        run: how long and where.
        dataset: its pairs, verified but not decoded.
        cache_gib: memory for decoded pairs.
        start: what a run from a snapshot begins with; None from scratch, or while the snapshot is
            not here.
        description: of its folder's name.
    """

    config: TrainingConfig
    gpus: int
    run: RunConfig
    dataset: PairDataset
    cache_gib: float
    start: Start | None
    description: str


def make_plan(
    options: TrainingOptions,
    *,
    may_fetch: bool = True,
    fetching: downloads.Progress | None = None,
) -> Plan:
    """Check data, snapshot and options; nothing is written but a snapshot from an address.

    Args:
        options: as the user gave them.
        may_fetch: fetch the snapshot if it is not here; otherwise only its address is checked.
        fetching: shows what has come of it.
    Raises: ValueError or FileNotFoundError naming file or option, rule and value.
    """
    gpus = _count_processes(options.gpus)
    options = replace(options, gpus=gpus)
    device = _choose_device(options, gpus)
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
        resume = find_snapshot(options.resume, may_fetch=may_fetch, progress=fetching)
        if resume is None:
            _log.info("--resume=%s: not fetched yet, so its sizes are unknown", options.resume)
    data = DataConfig(
        name=dataset.name,
        fingerprint=dataset.fingerprint(),
        cond=dataset.c_dim > 0,
        mirror=options.mirror,
        subset=options.subset,
        feature_scale=dataset.feature_scale,
    )
    config, run = resolve(
        options,
        data=data,
        resolution=dataset.resolution,
        c_dim=dataset.c_dim,
        device=device,
        resume_hash=options.resume if resume is None else files.sha256_file(resume),
    )
    start = None if resume is None else plan_start(config, load_snapshot(resume), resume)
    return Plan(
        config=config,
        gpus=gpus,
        run=run,
        dataset=dataset,
        cache_gib=options.cache,
        start=start,
        description=describe(options, dataset.name, config.batch),
    )


def _count_processes(gpus: int | None) -> int:
    """Return the number of processes of the run: torchrun's, or what was asked for."""
    if is_launched() and gpus not in (None, world_size()):
        raise ValueError(f"--gpus must be torchrun's {world_size()} processes, got {gpus}")
    return world_size() if is_launched() else gpus or 1


def _choose_device(options: TrainingOptions, gpus: int) -> str:
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


def describe(options: TrainingOptions, name: str, batch: int) -> str:
    """Return the run folder's description: data set, preset and the options that matter most."""
    parts = [name]
    parts += ["mirror"] if options.mirror else []
    parts += [options.cfg, f"batch{batch}"]
    parts += [f"subset{options.subset}"] if options.subset else []
    parts += [options.aug] if options.aug != "ada" else []
    parts += [f"resume{Path(options.resume).stem}"] if options.resume else []
    parts += [options.desc] if options.desc else []
    return "-".join(parts)


def plan_as_json(plan: Plan) -> str:
    """Return the resolved configuration as JSON, as --dry-run prints it."""
    return json.dumps(_record(plan), indent=2)


def train(
    plan: Plan,
    outdir: Path,
    *,
    fresh: bool,
    log_to: Callable[[Path], None],
    progress: Callable[[int, int], Callable[[int], None]],
    evaluations: Sequence[SnapshotEvaluator] = (),
) -> bool:
    """Begin or continue the run of a plan.

    Args:
        plan: what to do.
        outdir: holds run folders.
        fresh: start another run even where one with these options is.
        log_to: called with the path of the run's log file before work begins.
        progress: called with images shown and images in all; returns what counts further images.
        evaluations: measure each snapshot.
    Returns: True when the run is complete, False when a signal stopped it.
    """
    with join_world(torch.device(plan.run.device)) as world, contextlib.ExitStack() as stack:
        if world.is_first:
            run = _find_run(plan, outdir, fresh=fresh)
            stack.enter_context(run.at_work())
            folder = run.path
            log_to(folder / "log.txt")
            world.wait()
        else:
            world.wait()
            run = _find_run(plan, outdir)
            if run.is_new:
                raise ValueError(f"--outdir {outdir}: must be a folder that all processes see")
            folder = run.path
        plan.dataset.cache(plan.cache_gib)
        task = GanTask(
            plan.config,
            plan.run,
            folder,
            plan.dataset,
            world=world,
            start=plan.start,
            evaluations=evaluations,
        )
        batch = plan.config.batch

        def show_images(done: int, total: int) -> Callable[[int], None]:
            advance = progress(done * batch, total * batch)
            return lambda steps: advance(steps * batch)

        cadence = tick_cadence(plan.config, plan.run)
        trainer = Trainer(task, folder, cadence, progress=show_images, has_tensorboard=True)
        is_complete = trainer.run()
        if is_complete and world.is_first:
            _log.info("%s: %d kimg shown", folder, task.state.nimg // 1000)
        return is_complete


def _find_run(plan: Plan, outdir: Path, *, fresh: bool = False) -> runs.OutputFolder:
    return runs.find_run(outdir, plan.description, **_record(plan), fresh=fresh)


def _record(plan: Plan) -> dict[str, Any]:
    return {"identity": configs.to_dict(plan.config), "settings": configs.to_dict(plan.run)}
