"""Does the luma warm start help? The NIR branch from luma against from random, side by side."""

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from data.modalities import NIR
from data.pixels import to_uint8
from data.sheets import sample_grid, save_image
from dnnlib import cli
from networks.snapshot import NetworkState, Snapshot, load_snapshot, save_snapshot
from torch_utils.devices import resolve_device
from torch_utils.trainer import Trainer
from training.jobs import prepare
from training.options import AdaMode, RunOptions, TrainingOptions
from training.state import TrainingState
from training.task import GanTask, tick_cadence

EPILOG = """\b
Examples:
  python benchmarks/nir_init.py --network=network-snapshot-000026.pkl \\
      --data=DATASETS/example_32 --outdir=out/nir_init
  python benchmarks/nir_init.py --network=ffhq256.pkl --data=DATASETS/my_pairs --kimg=20 \\
      --every=1 --device=cuda --outdir=out/nir_init_ffhq

\b
A dual snapshot loses its NIR branch first. Writes nir_init.json, nir_init.png (a row a moment:
pairs of luma left, of random right) and prints a table."""

INITS = ("luma", "random")
SHOWN_PAIRS = 6
PROJECTIONS = 256
LOSSES = ("Loss/D/loss_NIR", "Loss/G/loss")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is compared; see the options of the same names."""

    network: Path
    data: Path
    outdir: Path
    kimg: int
    every: float
    batch: int
    samples: int
    device: str
    seed: int


def strip_nir(source: Path, target: Path) -> None:
    """Write a snapshot without its NIR heads and its NIR discriminator."""
    networks = {}
    for name, network in load_snapshot(source).networks.items():
        if name == "D_NIR":
            continue
        heads = {key: n for key, n in getattr(network.config, "heads", {}).items() if key != "nir"}
        config = replace(network.config, heads=heads) if heads else network.config
        state = {key: t for key, t in network.state.items() if f".heads.{NIR.name}." not in key}
        networks[name] = NetworkState(network.kind, config, state)
    save_snapshot(target, Snapshot(networks=networks))


def options_of(setting: Setting, single: Path, init: str) -> TrainingOptions:
    """Return the run of one beginning; sizes are the snapshot's."""
    network: Any = load_snapshot(single).networks["G_ema"].config
    return TrainingOptions(
        data=setting.data,
        outdir=setting.outdir,
        cond=network.c_dim > 0,
        mirror=True,
        kimg=setting.kimg,
        batch=setting.batch,
        aug=AdaMode.NONE,
        resume=str(single),
        nir_init=init,
        cbase=network.channel_base,
        cmax=network.channel_max,
        w_dim=network.w_dim,
        z_dim=network.z_dim,
        map_depth=network.mapping.layers,
        seed=setting.seed,
        run=RunOptions(tick=setting.every, snap=1, checkpoint_minutes=0, workers=0),
        device=setting.device,
    )


def sliced_distance(first: Tensor, second: Tensor, seed: int) -> float:
    """Return the sliced Wasserstein distance of two sets of images, in grey levels.

    Args:
        first, second: [N, C, H, W], 0..255.
        seed: of the directions.
    Source: Bonneel et al. 2015, Sliced and Radon Wasserstein barycenters of measures.
    """
    flat = [images.flatten(1).double() for images in (first, second)]
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn([flat[0].shape[1], PROJECTIONS], generator=random, dtype=torch.double)
    directions /= directions.norm(dim=0)
    shadows = [(points @ directions).sort(dim=0).values for points in flat]
    return float((shadows[0] - shadows[1]).square().mean().sqrt())


def normalized(images: Tensor) -> Tensor:
    """Give each image [C, H, W] the same mean and contrast, so that only what it shows counts."""
    std, mean = torch.std_mean(images.float(), dim=[1, 2, 3], keepdim=True)
    return (images - mean) / std.clamp_min(1) * 40 + 128


def check_seed(network: Path, seed: int) -> None:
    """Raise ValueError for the seed of the run that wrote the snapshot.

    From it, random heads would be the very ones that the trained trunk grew up with.
    """
    if load_snapshot(network).options.get("seed") == seed:
        raise ValueError(f"--seed must not be the one that {network} was trained with, got {seed}")


class Judge:
    """Draws the same latents at each moment and compares them with real pairs."""

    def __init__(self, setting: Setting, dataset: Any) -> None:
        self.setting = setting
        random = torch.Generator().manual_seed(setting.seed)
        count = min(setting.samples, len(dataset))
        chosen = torch.randperm(len(dataset), generator=random)[:count].tolist()
        items = [dataset[index] for index in chosen]
        self.reals = {m.name: torch.stack([i[m.name] for i in items]) for m in dataset.modalities}
        self.c = torch.stack([item["label"] for item in items])
        self.rows: list[dict[str, Any]] = []
        self.strips: list[np.ndarray] = []

    def look(self, state: TrainingState) -> dict[str, float]:
        """Draw with the generator's average; note distances and a strip of pairs."""
        random = torch.Generator().manual_seed(self.setting.seed + 1)
        z = torch.randn([len(self.c), state.ema.config.z_dim], generator=random)
        parts: list[Mapping[str, Tensor]] = []
        with torch.no_grad():
            for start in range(0, len(z), self.setting.batch):
                some = slice(start, start + self.setting.batch)
                latents, c = z[some].to(state.device), self.c[some].to(state.device)
                parts.append(state.ema(latents, c, noise_mode="const"))
        fakes = {
            name: torch.cat([to_uint8(part[name]) for part in parts]).cpu() for name in self.reals
        }
        shown = {name: images[:SHOWN_PAIRS].numpy() for name, images in fakes.items()}
        self.strips.append(sample_grid(shown, SHOWN_PAIRS))
        distances = {
            name: sliced_distance(fakes[name], self.reals[name], self.setting.seed)
            for name in fakes
        }
        pair = normalized(fakes["nir"]), normalized(self.reals["nir"])
        distances["nir normalized"] = sliced_distance(*pair, self.setting.seed)
        self.rows.append({"kimg": state.nimg / 1000, **distances})
        return {}


def run(setting: Setting, single: Path, init: str, folder: Path) -> Judge:
    """Train one beginning; return what was seen, with the losses of each tick."""
    plan = prepare(options_of(setting, single, init))
    plan.dataset.cache(plan.run_config.cache)
    judge = Judge(setting, plan.dataset)
    task = GanTask(
        plan.config,
        plan.run_config,
        folder,
        plan.dataset,
        start=plan.start,
        evaluate=lambda *_: judge.look(task.state),
    )
    judge.look(task.state)
    cadence = tick_cadence(plan.config, plan.run_config)
    Trainer(task, folder, cadence, progress=cli.progress_bar).run()
    lines = (folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    for row, line in zip(judge.rows[1:], lines, strict=True):
        row.update({name: json.loads(line)[name]["mean"] for name in LOSSES})
    return judge


def compare(setting: Setting) -> dict[str, Any]:
    """Train both beginnings on the same data with the same seeds; write the picture."""
    judges = {}
    with tempfile.TemporaryDirectory() as place:
        single = Path(place) / "single.pkl"
        strip_nir(setting.network, single)
        for init in INITS:
            (Path(place) / init).mkdir()
            judges[init] = run(setting, single, init, Path(place) / init)
    height = judges[INITS[0]].strips[0].shape[1]
    gap = np.full((3, height, 8), 255, np.uint8)
    rows = zip(*(judges[init].strips for init in INITS), strict=True)
    picture = np.concatenate([np.concatenate([a, gap, b], axis=2) for a, b in rows], axis=1)
    save_image(setting.outdir / "nir_init.png", picture)
    return {
        "machine": common.describe_machine(torch.device(resolve_device(setting.device))),
        "setting": {name: str(value) for name, value in vars(setting).items()},
        "rows": _rows(judges),
    }


def _rows(judges: Mapping[str, Judge]) -> list[dict[str, Any]]:
    rows = []
    for moments in zip(*(judges[init].rows for init in INITS), strict=True):
        row = {"kimg": moments[0]["kimg"]}
        for key in ("nir", "nir normalized", "rgb", *LOSSES):
            for init, moment in zip(INITS, moments, strict=True):
                row[f"{key.removeprefix('Loss/')} {init}"] = moment.get(key, "")
        rows.append(row)
    return rows


PATH = click.Path(path_type=Path)


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--network", type=PATH, required=True, help="Trained snapshot, single-branch or not.")
@click.option("--data", type=PATH, required=True, help="Pairs.")
@click.option("--outdir", type=PATH, required=True, help="Folder of the results.")
@click.option("--kimg", default=1, help="Thousands of images to train each.")
@click.option("--every", default=0.25, metavar="KIMG", help="Between looks.")
@click.option("--batch", default=16, help="Images an iteration.")
@click.option("--samples", default=256, help="Images that are compared with real ones.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
@click.option("--seed", default=1, help="Of everything random; not that of the snapshot's run.")
def main(threads: int | None, **options: Any) -> None:
    """Compare --nir-init=luma with --nir-init=random over the first images of training."""
    if threads is not None:
        torch.set_num_threads(threads)
    cli.start_logging()
    with cli.friendly_errors():
        setting = Setting(**options)
        check_seed(setting.network, setting.seed)
        content = compare(setting)
        title = "Beginnings of the NIR branch: sliced Wasserstein distances in grey levels, losses"
        common.report(title, content, setting.outdir / "nir_init.json")


if __name__ == "__main__":
    main()
