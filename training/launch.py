"""From options to a running loop: checks first, then a run folder, then training."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data.dataset import PairDataset
from dnnlib import config as configs
from dnnlib import files, runs
from torch_utils.devices import resolve_device
from training.config import DataConfig, RunConfig, TrainingConfig
from training.loop import TrainingLoop
from training.options import TrainingOptions
from training.presets import resolve
from training.published_files import check_is_file
from training.snapshots import load_snapshot
from training.transfer import transfer_states

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked run that only has to be started.

    Attributes:
        config: what it computes.
        run: how long and where.
        dataset: its pairs.
        start: tensors by network that a run from a snapshot begins with; None from scratch.
        description: of its folder's name.
    """

    config: TrainingConfig
    run: RunConfig
    dataset: PairDataset
    start: dict[str, dict[str, Tensor]] | None
    description: str


def make_plan(options: TrainingOptions) -> Plan:
    """Check data, snapshot and options without writing anything.

    Raises: ValueError or FileNotFoundError naming file or option, rule and value.
    """
    if options.gpus != 1:
        raise ValueError(
            f"--gpus must be 1: one process is all this version has, got {options.gpus}"
        )
    device = resolve_device(options.device, options.gpu_device_number)
    dataset = PairDataset(
        options.data,
        use_labels=options.cond,
        mirror=options.mirror,
        subset=options.subset,
        seed=options.seed,
    )
    if options.cond and dataset.c_dim == 0:
        raise ValueError(f"--cond=1: {options.data} has no labels")
    resume = None if options.resume is None else check_is_file(options.resume)
    snapshot = None if resume is None else load_snapshot(resume)
    data = DataConfig(
        name=dataset.name,
        fingerprint=dataset.fingerprint(),
        cond=dataset.c_dim > 0,
        mirror=options.mirror,
        subset=options.subset,
    )
    config, run = resolve(
        options,
        data=data,
        resolution=dataset.resolution,
        c_dim=dataset.c_dim,
        device=device,
        resume_hash=None if resume is None else files.sha256_file(resume),
    )
    start = None if snapshot is None else transfer_states(config, snapshot, str(resume))
    return Plan(
        config=config,
        run=run,
        dataset=dataset,
        start=start,
        description=describe(options, dataset.name, config.batch),
    )


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
) -> bool:
    """Begin or continue the run of a plan.

    Args:
        plan: what to do.
        outdir: holds run folders.
        fresh: start another run even where one with these options is.
        log_to: called with the path of the run's log file before work begins.
        progress: called with images shown and images in all; returns what counts further images.
    Returns: True when the run is complete, False when a signal stopped it.
    """
    record = _record(plan)
    folder = runs.open_run(
        outdir, plan.description, record["identity"], record["settings"], fresh=fresh
    )
    with runs.lock_run(folder.path):
        log_to(folder.path / "log.txt")
        loop = TrainingLoop(plan.config, plan.run, folder.path, plan.dataset, start=plan.start)
        shown, total = loop.state.nimg, plan.run.kimg * 1000
        if loop.is_done:
            _log.info("%s: finished before, %d kimg shown", folder.path, shown // 1000)
            return True
        word = "continues" if loop.is_continued else "starts"
        _log.info("%s: %s at %.1f of %d kimg", folder.path, word, shown / 1000, plan.run.kimg)
        loop.progress = progress(shown, total)
        is_complete = loop.run()
        verdict = "finished" if is_complete else "stopped; the same command continues it"
        _log.info("%s: %s at %.1f kimg", folder.path, verdict, loop.state.nimg / 1000)
        return is_complete


def _record(plan: Plan) -> dict[str, Any]:
    return {"identity": configs.to_dict(plan.config), "settings": configs.to_dict(plan.run)}
