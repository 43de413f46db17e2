"""Pairs from real RGB and NIR images, in which NIR is nothing like luma.

They are tiles of the Landsat 7 scene that Debian's package r-cran-stars ships, which is not part of
this repository: 349 x 352 pixels in six bands, of which the fourth is NIR.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import prepare_dataset
import train_db_stylegan2
from benchmarks import common
from benchmarks.nir_init import strip_nir
from benchmarks.pair_critic import Images, Judge, load_pairs
from benchmarks.study import Row, Study, cell, train_cell
from data.modalities import NIR, RGB
from data.sheets import sample_grid, save_image
from dnnlib import cli, files
from torch_utils.devices import resolve_device
from training.transfer import LUMA

PACKAGE, VERSION = "r-cran-stars", "0.6-0"
FOLDER = "usr/lib/R/site-library/stars"
SIDE = 32  # of tiles
BLOCK = 58  # of the squares that tiles are cut from: none reaches into another
TILES_A_ROW = 5  # of a block, which overlap
RGB_BANDS, NIR_BAND = "3,2,1", 4
SCRATCH, ARMS = "rgb alone", ("luma", "random")
REAL = "real pairs of held-out blocks"
SHOWN, COLUMNS = 40, 10
BASE = {
    "config": str(common.ROOT / "EXPERIMENTS/example/demo.json"),
    "cond": False,
    "ema-kimg": 1,
    "snap": 2,
    "checkpoint-minutes": 1,
    "workers": 0,
}
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
    try:
        import tifffile  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ValueError("needs tifffile: pip install -r requirements-extras.txt") from error
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


def train_arms(root: Path, outdir: Path, rgb_kimg: int, kimg: int, seeds: int, device: str) -> None:
    """Train a generator of RGB, and from it generators of pairs, each with `seeds` seeds.

    The first one's NIR heads and discriminator get no say in its trunk, and are taken away.
    """
    base = {**BASE, "data": str(root)}
    study: Study = {
        "base": {**base, "kimg": rgb_kimg},
        "train": {SCRATCH: {"nir-loss-weight": 0}},
        "seed": 0,
    }
    train_cell(study, SCRATCH, outdir, train_db_stylegan2.main, device)
    single = outdir / f"rgb-{rgb_kimg:06d}.pkl"
    if not single.exists():
        strip_nir(snapshots(outdir, SCRATCH, 0)[-1], single)
    for seed in range(1, seeds + 1):
        study = {
            "base": {**base, "kimg": kimg, "resume": str(single)},
            "train": {arm: {"nir-init": arm} for arm in ARMS},
            "seed": seed,
        }
        for arm in ARMS:
            train_cell(study, arm, outdir, train_db_stylegan2.main, device)


def snapshots(outdir: Path, arm: str, seed: int) -> list[Path]:
    """Return the snapshots of a run, the last one last."""
    return sorted(cell(outdir, arm, seed).glob("*/network-snapshot-*.pkl"))


def luma_correlation(pairs: Images) -> float:
    """Return the correlation of NIR with luma over the pixels of all pairs."""
    luma = np.tensordot(LUMA, pairs[RGB.name].numpy(), axes=(0, 1))
    return float(np.corrcoef(luma.ravel(), pairs[NIR.name].numpy().ravel())[0, 1])


def measure(root: Path, outdir: Path, seeds: int, samples: int, device: str) -> list[Row]:
    """Return a row a snapshot and one of real pairs; write a grid of each arm's last samples."""
    held_out = root / "heldout"
    study: Study = {
        "base": {"data": str(root)},
        "test": {REAL: str(held_out)},
        "samples": samples,
    }
    judge = Judge(study, device)
    real, _ = load_pairs(held_out)
    rows: list[Row] = [{"pairs of": REAL, **judge.real, "NIR and luma": luma_correlation(real)}]
    _save_grid(outdir / "real.png", real)
    for arm in ARMS:
        for seed in range(1, seeds + 1):
            for path in snapshots(outdir, arm, seed):
                pairs = judge.sample(path)
                numbers = judge.measure(pairs, [str(index) for index in range(samples)])
                kimg = int(path.stem.rpartition("-")[2])
                row = {"pairs of": arm, "kimg": kimg, "seed": seed, **numbers}
                rows.append({**row, "NIR and luma": luma_correlation(pairs)})
                if seed == 1:
                    _save_grid(outdir / f"{arm}-{kimg:06d}.png", pairs)
    return rows


def _save_grid(path: Path, pairs: Images) -> None:
    step = max(len(pairs[RGB.name]) // SHOWN, 1)
    save_image(path, sample_grid({n: i[::step][:SHOWN].numpy() for n, i in pairs.items()}, COLUMNS))


def average(rows: list[Row]) -> list[Row]:
    """Return a row an arm and moment: means over seeds."""
    groups: dict[tuple[str, int | str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["pairs of"], row.get("kimg", "")].append(row)
    keys = [key for key in rows[0] if key not in ("pairs of", "kimg", "seed")]
    return [
        {"pairs of": arm, "kimg": kimg, **{key: mean(row[key] for row in own) for key in keys}}
        for (arm, kimg), own in groups.items()
    ]


PATH = click.Path(path_type=Path)


@click.command(context_settings=cli.CONTEXT, epilog=EPILOG)
@click.option("--package", type=PATH, required=True, help="Where the package was unpacked to.")
@click.option("--outdir", type=PATH, required=True, help="Of tiles, runs and results.")
@click.option("--rgb-kimg", default=10, help="Thousands of images of the RGB generator.")
@click.option("--kimg", default=8, help="Thousands of images of each generator of pairs.")
@click.option("--seeds", default=1, help="Runs of each beginning.")
@click.option("--samples", default=1000, help="Generated pairs that are measured.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
def main(
    package: Path,
    outdir: Path,
    rgb_kimg: int,
    kimg: int,
    seeds: int,
    samples: int,
    device: str,
    threads: int | None,
) -> None:
    """Import real RGB and NIR tiles, train on them, and compare the beginnings of a NIR branch.

    The same command continues after a kill. Writes real_nir.json and grids of samples.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    cli.start_logging()
    with cli.friendly_errors():
        root = make_dataset(read_scene(package), outdir)
        train_arms(root, outdir, rgb_kimg, kimg, seeds, device)
        numbers = measure(root, outdir, seeds, samples, device)
        content = {
            "machine": common.describe_machine(torch.device(resolve_device(device))),
            "package": f"{PACKAGE} {VERSION}",
            "checks": files.read_json(outdir / "check/check.json")["findings"],
            "numbers": numbers,
            "rows": average(numbers),
        }
        title = "Generated pairs of Landsat tiles: edges, distances, residuals, NIR against luma"
        common.report(title, content, outdir / "real_nir.json")


if __name__ == "__main__":
    main()
