"""The benchmark on real RGB and NIR, on a scene that is not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

from benchmarks import real_nir
from dnnlib.files import read_json
from tests.helpers.images import write_json

TINY = {
    **{"cbase": 32, "cmax": 4, "w-dim": 4, "z-dim": 4, "map-depth": 1, "batch": 250},
    **{"mbstd-group": 5, "d-reg-interval": 2, "aug": "noaug", "workers": 0, "snap": 0},
    "cond": False,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A scene whose NIR is the opposite of its colours; tiles of 8 pixels."""
    tifffile = pytest.importorskip("tifffile", reason="pip install -r requirements-extras.txt")
    monkeypatch.setattr(real_nir, "SIDE", 8)
    monkeypatch.setattr(real_nir, "BLOCK", 14)
    monkeypatch.setattr(real_nir, "TILES_A_ROW", 2)
    study = {**read_json(real_nir.CONFIG), "samples": 12}
    study["base"] = {**TINY, **{key: study["base"][key] for key in ("data", "resume", "kimg")}}
    monkeypatch.setattr(real_nir, "CONFIG", write_json(tmp_path / "study.json", study))
    noise = np.random.default_rng(0).random((45, 43, 6))
    bands = ndimage.gaussian_filter(noise, (1, 1, 0)) * 255
    bands[..., 3] = 255 - bands[..., 1]
    place = tmp_path / "package" / real_nir.FOLDER
    (place / "tif").mkdir(parents=True)
    (place / "DESCRIPTION").write_text(f"Package: stars\nVersion: {real_nir.VERSION}\n")
    tifffile.imwrite(place / "tif/L7_ETMs.tif", bands.astype(np.uint8), planarconfig="contig",
                     photometric="minisblack")  # fmt: skip
    return tmp_path / "package"


def run(package, outdir, code=0):
    line = [f"--package={package}", f"--outdir={outdir}", "--rgb-kimg=1", "--kimg=1"]
    result = CliRunner().invoke(real_nir.main, line)
    assert result.exit_code == code, result.output
    return result.output


def test_tiles_of_training_and_held_out_blocks_share_no_pixel():
    scene = np.arange(352 * 349).reshape(352, 349, 1)
    places = {False: set(), True: set()}
    names = []
    for is_held_out, name, tile in real_nir.cut_tiles(scene):
        assert tile.shape == (32, 32, 1)
        names.append(name)
        places[is_held_out].update(tile.ravel().tolist())
    assert len(names) == len(set(names)) == 900
    assert len(places[False]) == 2 * len(places[True]) > 0
    assert not places[False] & places[True]
    blocks = {name.partition("_")[0] for name in names}
    assert len(blocks) == 36


def test_the_two_beginnings_are_trained_once_and_measured(package, tmp_path):
    out = tmp_path / "out"
    table = run(package, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pkl")}
    real_nir.train_rgb(out / "tiles", out, 1, "cpu")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pkl")} == before
    results = json.loads((out / "results.json").read_text())
    real, luma, random = results["numbers"]
    assert [row["pairs of"] for row in (real, luma, random)] == [real_nir.REAL, "luma", "random"]
    assert real["NIR and luma"] < -0.5
    assert luma["NIR and luma"] > 0.8 > random["NIR and luma"]
    assert all(name in table for name in ("luma", "random", "FD joint"))
    assert {found["check"] for found in results["checks"]} >= {"contents", "duplicates"}


def test_an_absent_package_is_named(package, tmp_path):
    record = package / real_nir.FOLDER / "DESCRIPTION"
    record.write_text("Version: 0.5-1\n")
    assert "r-cran-stars 0.6-0, found 0.5-1" in run(package, tmp_path / "out", code=2)
    assert "found None" in run(tmp_path, tmp_path / "out", code=2)
