"""The one edit of docs/extending.md adds a modality to the whole path from import to evaluation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.images import write_pairs

ROOT = Path(__file__).resolve().parents[2]
COUNT = 8
WITH_THERMAL = """
import importlib, json, sys
import data.modalities as modalities

modalities.THERMAL = modalities.Modality("thermal", 1, ("THERMAL",), "_THERMAL")
modalities.MODALITIES += (modalities.THERMAL,)
for script, *words in json.loads(sys.argv[1]):
    importlib.import_module(script).main(words, standalone_mode=False)
"""


def run(*lines):
    """Run scripts one after the other in one process, which starts without any of them imported."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_THERMAL, json.dumps(lines)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_pairs(folder, [f"{i}_a" for i in range(COUNT)])
    (folder / "THERMAL").mkdir()
    for path in (folder / "NIR").iterdir():
        (folder / "THERMAL" / path.name).write_bytes(path.read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 2  # of one file, so that the import compares orientations
    with Image.open(folder / "VIS" / "0_a.png") as image:
        image.save(folder / "VIS" / "0_a.png", exif=exif)
    return folder


def test_a_third_modality_is_imported_trained_generated_and_measured(source, tmp_path):
    faces, runs, images = tmp_path / "faces", tmp_path / "runs", tmp_path / "images"
    network = runs / "00000-faces-auto-batch500-noaug" / "network-snapshot-000001.pkl"
    shown = run(
        ("prepare_dataset", "import", f"--source={source}", f"--outdir={faces}",
         "--resolution=8"),
        ("prepare_dataset", "check", str(faces)),
        ("train_db_stylegan2", f"--data={faces}", f"--outdir={runs}", "--batch=500", "--kimg=1",
         "--tick=1", "--snap=1", "--cbase=32", "--cmax=4", "--z-dim=4", "--w-dim=4",
         "--map-depth=1", "--aug=noaug", "--mbstd-group=4", "--workers=0", "--device=cpu"),
        ("generate", f"--network={network}", "--seeds=0-3", f"--outdir={images}", "--device=cpu"),
        ("evaluate", "images", f"--data={faces}", f"--images={images}", "--extractor=standin",
         "--metrics=fid4_full,fid4_full_THERMAL,fid4_full_joint", "--intervals=0", "--no-cache",
         f"--outdir={tmp_path / 'measured'}", "--device=cpu"),
    )  # fmt: skip
    assert len(list((faces / "THERMAL").iterdir())) == COUNT
    assert "thermal" in shown
    last = json.loads((network.parent / "stats.jsonl").read_text().splitlines()[-1])
    assert last["Loss/D/loss_THERMAL"]["num"] > 0
    assert len(list(images.rglob("*THERMAL*"))) == 4
    assert "_THERMAL" in (tmp_path / "measured/images.json").read_text()
