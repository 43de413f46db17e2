"""Pairs from real RGB and NIR images, in which NIR is nothing like luma.

They are tiles of the Landsat 7 scene that Debian's package r-cran-stars ships, which is not part of
this repository: 349 x 352 pixels in six bands, of which the fourth is NIR.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare_dataset
import train_db_stylegan2
from benchmarks import common, pair_critic
from benchmarks.pair_critic import Images, Judge, load_pairs
from benchmarks.study import Row, Study, StudyKind, cell, run_study, train_cell
from data.modalities import NIR, RGB
from data.pixels import LUMA
from data.sheets import sample_grid, save_image
from dnnlib import cli, files
from dnnlib.extras import need
from networks.snapshot import NetworkState, Snapshot, load_snapshot, save_snapshot
from training.state import snapshot_name

PACKAGE, VERSION = "r-cran-stars", "0.6-0"
FOLDER = "usr/lib/R/site-library/stars"
SIDE = 32  # of tiles
BLOCK = 58  # of the squares that tiles are cut from: none reaches into another
TILES_A_ROW = 5  # of a block, which overlap
RGB_BANDS, NIR_BAND = "3,2,1", 4
SCRATCH = "rgb alone"
REAL = "real pairs of held-out blocks"
SHOWN, COLUMNS = 40, 10
CONFIG = common.ROOT / "EXPERIMENTS/pair_critic/nir_init.json"
EPILOG = """\b
Example:
  apt-get download r-cran-stars && dpkg -x r-cran-stars_*.deb landsat
  python -m benchmarks.real_nir --package=landsat --outdir=out/real_nir --threads=1"""


def read_scene(package: Path) -> np.ndarray:
    """Return the scene, [H, W, 6] uint8.

    Args:
        package: folder that the package was unpacked to.
    Raises: ValueError naming what to install.
    """
    need("the scene", "tifffile")
    import tifffile  # noqa: PLC0415  # optional

    record = package / FOLDER / "DESCRIPTION"
    text = record.read_text(encoding="utf-8") if record.is_file() else ""
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    if found is None or found[1] != VERSION:
        raise ValueError(
            f"--package {package}: needs {PACKAGE} {VERSION}, found {found and found[1]}: "
            f"apt-get download {PACKAGE} && dpkg -x {PACKAGE}_*.deb {package}"
        )
    return tifffile.imread(package / FOLDER / "tif/L7_ETMs.tif")


def cut_tiles(scene: np.ndarray) -> Iterator[tuple[bool, str, np.ndarray]]:
    """Yield whether a tile is held out, its name and its pixels [SIDE, SIDE, B].

    Every third block is held out. A name says block and tile, so that blocks are identities.
    """
    starts = np.linspace(0, BLOCK - SIDE, TILES_A_ROW).astype(int)
    rows, columns = (length // BLOCK for length in scene.shape[:2])
    for row, column in np.ndindex(rows, columns):
        block = scene[row * BLOCK :, column * BLOCK :]
        for i, j in np.ndindex(TILES_A_ROW, TILES_A_ROW):
            tile = block[starts[i] : starts[i] + SIDE, starts[j] : starts[j] + SIDE]
            name = f"block{row}{column}_{i}{j}"
            yield (row + 2 * column) % 3 == 0, name, tile


def make_dataset(scene: np.ndarray, outdir: Path) -> Path:
    """Write tiles as TIFF of all bands, import and check them; return the data set."""
    import tifffile  # noqa: PLC0415  # optional

    for is_held_out, name, tile in cut_tiles(scene):
        path = outdir / "bands" / ("heldout" if is_held_out else "train") / f"{name}.tif"
        if not path.exists():
            with files.atomic_write(path) as file:
                tifffile.imwrite(file, tile, photometric="minisblack", planarconfig="contig")
    root = outdir / "tiles"
    for source, target in (("train", root), ("heldout", root / "heldout")):
        words = [f"--source={outdir / 'bands' / source}", f"--outdir={target}"]
        words += [f"--nir-from=band:{NIR_BAND}", f"--rgb-bands={RGB_BANDS}"]
        _run(prepare_dataset.main, ["import", *words, f"--resolution={SIDE}"])
    _run(prepare_dataset.main, ["check", str(root), f"--outdir={outdir / 'check'}"])
    return root


def _run(script: click.Command, words: list[str]) -> None:
    code = script.main(words, standalone_mode=False)
    if code:
        raise click.exceptions.Exit(code)


def train_rgb(root: Path, outdir: Path, kimg: int, device: str) -> Path:
    """Train a generator of RGB; return its snapshot.

    NIR heads and their discriminator get no say in its trunk, and are taken away.
    """
    base = {**files.read_json(CONFIG)["base"], "data": str(root), "kimg": kimg, "resume": None}
    study = {"base": base, "train": {SCRATCH: {"nir-loss-weight": 0}}, "seed": 0}
    train_cell(study, SCRATCH, outdir, train_db_stylegan2.main, device)
    single = outdir / f"rgb-{kimg:06d}.pkl"
    if not single.exists():
        strip_nir(snapshots(outdir, SCRATCH, 0)[-1], single)
    return single


def strip_nir(source: Path, target: Path) -> None:
    """Write a snapshot without its NIR heads and its NIR discriminator."""
    networks = {}
    for name, network in load_snapshot(source).networks.items():
        if name != snapshot_name(NIR.name):
            heads = {k: n for k, n in getattr(network.config, "heads", {}).items() if k != NIR.name}
            config = replace(network.config, heads=heads) if heads else network.config
            state = {k: t for k, t in network.state.items() if f".heads.{NIR.name}." not in k}
            networks[name] = NetworkState(network.kind, config, state)
    save_snapshot(target, Snapshot(networks=networks))


def snapshots(outdir: Path, arm: str, seed: int) -> list[Path]:
    """Return the snapshots of a run, the last one last."""
    return sorted(cell(outdir, arm, seed).glob("*/network-snapshot-*.pkl"))


def luma_correlation(pairs: Images) -> float:
    """Return the correlation of NIR with luma over the pixels of all pairs."""
    luma = np.tensordot(LUMA, pairs[RGB.name].numpy(), axes=(0, 1))
    return float(np.corrcoef(luma.ravel(), pairs[NIR.name].numpy().ravel())[0, 1])


def measure(studies: Sequence[Study], outdir: Path, device: str) -> dict[str, Any]:
    """Return numbers of real pairs and of each snapshot; write grids of samples."""
    judge = Judge(studies[0], device)
    (held_out,) = studies[0]["test"].values()
    real, _ = load_pairs(Path(held_out))
    _save_grid(outdir / "real.png", real)
    numbers = [{"pairs of": REAL, **judge.real, "NIR and luma": luma_correlation(real)}]
    for study in studies:
        for arm in study["train"]:
            for path in snapshots(outdir, arm, study["seed"]):
                pairs, kimg = judge.sample(path), int(path.stem.rpartition("-")[2])
                row = {"pairs of": arm, "kimg": kimg, "seed": study["seed"]}
                row |= judge.measure(pairs, [str(index) for index in range(judge.count)])
                numbers.append({**row, "NIR and luma": luma_correlation(pairs)})
                if study is studies[0]:
                    _save_grid(outdir / f"{arm}-{kimg:06d}.png", pairs)
    found = files.read_json(outdir / "check/check.json")["findings"]
    return {"package": f"{PACKAGE} {VERSION}", "checks": found, "numbers": numbers}


def _save_grid(path: Path, pairs: Images) -> None:
    step = max(len(pairs[RGB.name]) // SHOWN, 1)
    save_image(path, sample_grid({n: i[::step][:SHOWN].numpy() for n, i in pairs.items()}, COLUMNS))


def format_results(results: Mapping[str, Any]) -> str:
    """Return a Markdown table with a row an arm and moment: means over seeds."""
    groups: dict[tuple[str, int | str], list[Row]] = defaultdict(list)
    for row in results["numbers"]:
        groups[row["pairs of"], row.get("kimg", "")].append(row)
    keys = [key for key in results["numbers"][0] if key != "pairs of"]
    rows = [
        {"pairs of": arm, "kimg": kimg, **{key: mean(row[key] for row in own) for key in keys}}
        for (arm, kimg), own in groups.items()
    ]
    return common.format_table(rows) + "\n"


KIND = StudyKind(
    read=pair_critic.read,
    train=pair_critic.train,
    model="",
    measure=measure,
    show=format_results,
)
PATH = click.Path(path_type=Path)


@click.command(context_settings=cli.CONTEXT, epilog=EPILOG)
@click.option("--package", type=PATH, required=True, help="Where the package was unpacked to.")
@click.option("--outdir", type=PATH, required=True, help="Of tiles, runs and results.")
@click.option("--rgb-kimg", default=10, help="Thousands of images of the RGB generator.")
@click.option("--kimg", default=8, help="Thousands of images of each generator of pairs.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
def main(
    package: Path, outdir: Path, rgb_kimg: int, kimg: int, device: str, threads: int | None
) -> None:
    """Import real RGB and NIR tiles, train on them, and compare the beginnings of a NIR branch.

    The same command continues after a kill. Writes results.json, table.md and grids of samples.
    """
    cli.start_logging()
    torch.set_num_threads(threads or torch.get_num_threads())
    with cli.friendly_errors():
        root = make_dataset(read_scene(package), outdir)
        single = train_rgb(root, outdir, rgb_kimg, device)
    places = (f"real={root}", f"rgb={single}", f"kimg={kimg}")
    run_study(KIND, CONFIG, places, outdir, (), device, threads)


if __name__ == "__main__":
    main()
