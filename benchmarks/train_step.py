"""Seconds of a training iteration by phase, for one or several op backends."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from data.modalities import MODALITIES
from dnnlib import cli
from networks.options import HalfPrecision
from torch_utils.devices import resolve_device
from torch_utils.ops import backends
from training.config import DataConfig, resolve
from training.options import AdaMode, RunOptions, TrainingOptions
from training.state import TrainingState
from training.step import Iteration, Phase, PhaseKind
from training.task import set_up_backends

EPILOG = """\b
Examples:
  python benchmarks/train_step.py --resolution=64 --cbase=8192 --batch=8 --threads=2
  python benchmarks/train_step.py --resolution=256 --batch=12 --device=cuda --json=step.json
"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained; see the options of the same names."""

    resolution: int
    cbase: int
    cmax: int
    batch: int
    p: float
    map_depth: int
    w_dim: int
    fp32: bool
    half: str
    nhwc: bool | None
    allow_tf32: bool
    nobench: bool
    device: str
    seed: int


def build_iteration(setting: Setting) -> Iteration:
    """Return an iteration of random networks on the setting's device."""
    options = TrainingOptions(
        data=Path("benchmark"),
        outdir=Path("benchmark"),
        batch=setting.batch,
        gpus=1,
        cbase=setting.cbase,
        cmax=setting.cmax,
        w_dim=setting.w_dim,
        z_dim=setting.w_dim,
        map_depth=setting.map_depth,
        aug=AdaMode.FIXED if setting.p > 0 else AdaMode.NONE,
        p=setting.p if setting.p > 0 else None,
        fp32=setting.fp32,
        half=HalfPrecision(setting.half),
        nhwc=setting.nhwc,
        allow_tf32=setting.allow_tf32,
        run=RunOptions(nobench=setting.nobench),
        seed=setting.seed,
    )
    data = DataConfig(name="benchmark", fingerprint="0" * 64, cond=False, mirror=False, subset=None)
    config, run = resolve(
        options,
        data=data,
        resolution=setting.resolution,
        c_dim=0,
        device=resolve_device(setting.device),
        resume_hash=None,
    )
    set_up_backends(config, run)
    state = TrainingState(config, torch.device(run.device))
    return Iteration(config, state, batch_gpu=run.batch_gpu, labels=torch.zeros([1, 0]))


def random_batch(setting: Setting) -> dict[str, torch.Tensor]:
    """Return pairs of random pixels and empty labels."""
    random = torch.Generator().manual_seed(setting.seed)
    n, size = setting.batch, setting.resolution
    batch = {
        modality.name: torch.randint(
            256, [n, modality.channels, size, size], generator=random, dtype=torch.uint8
        )
        for modality in MODALITIES
    }
    return {**batch, "label": torch.zeros([n, 0])}


def phase_runs(
    iteration: Iteration,
    phases: Sequence[Phase],
    batch: dict[str, torch.Tensor],
    backend: str,
) -> dict[str, Callable[[], None]]:
    """Return a call for each kind of phase, over all discriminators, and for what is left."""
    chosen = {kind.value: tuple(p for p in phases if p.kind is kind) for kind in PhaseKind}

    def make(some: tuple[Any, ...]) -> Callable[[], None]:
        def run() -> None:
            iteration.phases = some
            iteration.state.step = 0  # every phase takes part in iteration 0
            with backends.using(backend):
                iteration.run(batch)

        return run

    return {name: make(some) for name, some in {**chosen, "rest": ()}.items()}


def weigh(seconds: dict[str, float], iteration: Iteration) -> dict[str, float]:
    """Return seconds by phase without what every call repeats, and the weighted iteration's."""
    loss, rest = iteration.config.loss, seconds["rest"]
    only = {name: max(value - rest, 0.0) for name, value in seconds.items() if name != "rest"}
    weighted = only["Gmain"] + only["Greg"] / loss.g_reg_interval
    weighted += only["Dmain"] + only["Dreg"] / loss.d_reg_interval + rest
    return {
        **only,
        "rest": rest,
        "iteration": weighted,
        "sec/kimg": weighted * 1000 / iteration.config.batch,
    }


def measure(setting: Setting, backend_names: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Return machine, setting and a row of seconds for each op backend."""
    iteration = build_iteration(setting)
    device = iteration.device
    batch, phases = random_batch(setting), iteration.phases
    runs: dict[str, Callable[[], None]] = {}
    peaks: dict[str, float] = {}
    for backend in backend_names:
        common.reset_peak_memory(device)
        for name, run in phase_runs(iteration, phases, batch, backend).items():
            runs[f"{backend} {name}"] = run
            began = time.perf_counter()
            run()
            common.synchronize(device)
            # At once, in case this is cut off; the first one builds, and tries algorithms.
            click.echo(f"first run {backend} {name}: {time.perf_counter() - began:.3f} s")
        peaks[backend] = common.peak_memory_gb(device)
    seconds = common.interleaved_medians(runs, repeats, device)
    rows = []
    for backend in backend_names:
        own = {key.split()[1]: value for key, value in seconds.items() if key.split()[0] == backend}
        rows.append({"ops": backend, **weigh(own, iteration), "peak GB": peaks[backend]})
    return {"machine": common.describe_machine(device), "setting": vars(setting), "rows": rows}


def profile(setting: Setting, backend: str, path: Path) -> None:
    """Write which operations take an iteration's time, all phases included.

    Args:
        setting: of the iteration.
        backend: of the operations.
        path: text file, a table.
    """
    iteration, batch = build_iteration(setting), random_batch(setting)
    with backends.using(backend):
        iteration.run(batch)
        common.synchronize(iteration.device)
        iteration.state.step = 0
        with torch.profiler.profile() as found:  # whatever devices there are
            iteration.run(batch)
            common.synchronize(iteration.device)
    order = "self_cuda_time_total" if setting.device == "cuda" else "self_cpu_time_total"
    path.write_text(found.key_averages().table(sort_by=order, row_limit=60), encoding="utf-8")


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--resolution", default=64, help="Side of the images.")
@click.option("--cbase", default=8192, help="Channels of a block: cbase / resolution ...")
@click.option("--cmax", default=512, help="... but at most this many.")
@click.option("--w-dim", default=512, help="Width of w and z.")
@click.option("--map-depth", default=8, help="Mapping layers.")
@click.option("--batch", default=8, help="Images an iteration.")
@click.option("--p", default=0.0, help="Strength of bgc augmentation; 0 for none.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--ops", default="auto,plain", help="Op backends to compare, measured in turn.")
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
@click.option("--repeats", default=5, help="Rounds; the median counts.")
@click.option("--fp32", type=bool, default=False, help="No 16-bit blocks on CUDA.")
@click.option("--half", default="float16", type=click.Choice(["float16", "bfloat16"]))
@click.option("--nhwc", type=bool, help="Channels innermost; by default on the CPU.")
@click.option("--allow-tf32", type=bool, default=False, help="TF32 products on CUDA.")
@click.option("--nobench", type=bool, default=False, help="Do not search for cuDNN's fastest.")
@click.option("--seed", default=0, help="Of networks and images.")
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a table of operations of one iteration instead.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    ops: str,
    threads: int | None,
    repeats: int,
    json_path: Path | None,
    profile_path: Path | None,
    **options: Any,
) -> None:
    """Time the phases of a training iteration: all discriminators, weighted by their intervals."""
    if threads is not None:
        torch.set_num_threads(threads)
    cli.start_logging()
    with cli.friendly_errors():
        if profile_path is not None:
            profile(Setting(**options), ops.split(",", maxsplit=1)[0], profile_path)
            return
        content = measure(Setting(**options), tuple(ops.split(",")), repeats)
        common.report("Training iteration, seconds", content, json_path)


if __name__ == "__main__":
    main()
