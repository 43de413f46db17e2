import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from data.dataset import PairDataset
from prepare_dataset import main
from tests.helpers.images import truncate, write_pairs, zip_folder

ROOT = Path(__file__).parents[1]
OCULAR = ROOT.parent / "shared" / "ocular" / "pairs"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_import_then_check(tmp_path):
    root = write_pairs(tmp_path / "raw", rgb="images", size=40)
    (root / "NIR" / "2_1.png").unlink()
    out = tmp_path / "out"
    arguments = ["import", "--source", root, "--outdir", out]
    result = run(*arguments)
    assert result.exit_code == 0
    assert "3 pairs of 32x32 pixels, from 4 rgb, 3 nir images" in result.output
    assert "resolution 32 is the largest that fits" in result.output
    assert f"skipped: 1 no partner: {root}/images/2_1.png" in result.output
    assert PairDataset.open(out).resolution == 32
    again = run(*arguments)
    assert again.exit_code == 0
    assert "finished before" in again.output
    checked = run("check", out)
    assert checked.exit_code == 0
    assert "out: 3 pairs of 32x32" in checked.output


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    root = write_pairs(tmp_path / "raw", size=40)
    (root / "NIR" / "2_1.png").unlink()
    archive = zip_folder(root, tmp_path / "raw.zip")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--source", archive, "--outdir", tmp_path / "out", "--max-images", 2]
    result = run("import", *arguments, "--dry-run")
    assert result.exit_code == 0
    plan = json.loads(result.output)
    assert (plan["pairs"], plan["usable_pairs"], plan["resolution"]) == (2, 3, 32)
    assert plan["skipped"] == {"no partner": 1}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "gone"], "gone: no such folder or zip archive"),
        (["--source", "raw", "--crop", "left"], "--crop must be center, none or X,Y,W,H"),
        (["--source", "raw", "--resolution", "64"], "--resolution 64: no pair has so many pixels"),
    ],
)
def test_bad_imports_end_with_code_2_and_touch_nothing(tmp_path, monkeypatch, arguments, message):
    write_pairs(tmp_path / "raw")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    result = run("import", "--outdir", "out", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert sorted(tmp_path.rglob("*")) == before


def test_check_lists_problems_and_ends_with_code_2(tmp_path):
    stems = [f"{i:02}" for i in range(25)]
    write_pairs(tmp_path, stems)
    for stem in stems:
        truncate(tmp_path / "NIR" / f"{stem}.png", 0.7)
    result = run("check", tmp_path)
    assert result.exit_code == 2
    assert "Error: " in result.output
    assert "NIR/00.png: damaged" in result.output
    assert "and 5 more problems" in result.output
    missing = run("check", tmp_path / "gone")
    assert missing.exit_code == 2
    assert "gone: no such folder or zip archive" in missing.output


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]])
def test_check_looks_at_outdir_before_the_images(tmp_path, monkeypatch, arguments):
    root = write_pairs(tmp_path / "set")
    taken = tmp_path / "taken"
    taken.write_text("kept")
    monkeypatch.setattr("data.check.check_pairs", None)
    result = run("check", root, "--outdir", taken, *arguments)
    assert result.exit_code == 2
    assert str(taken) in result.output
    assert taken.read_text() == "kept"


def test_example_is_a_data_set(tmp_path):
    out = tmp_path / "example"
    options = ["--identities", 4, "--samples", 3, "--resolution", 16, "--workers", 1]
    result = run("example", "--outdir", out, *options)
    assert result.exit_code == 0
    assert "rendered; pairs: " in result.output
    assert run("check", out).exit_code == 0
    dataset = PairDataset.open(out)
    assert (dataset.name, dataset.resolution) == ("example", 16)
    other = run("example", "--outdir", out, *options, "--seed", 1)
    assert other.exit_code == 2
    assert "was made with other options" in other.output


def test_example_dry_run_and_bad_values(tmp_path):
    out = tmp_path / "example"
    result = run("example", "--outdir", out, "--dry-run", "--style", "plain", "--classes", "4")
    assert result.exit_code == 0
    resolved = json.loads(result.output)
    assert (resolved["style"], resolved["classes"]) == ("plain", 4)
    bad = run("example", "--outdir", out, "--resolution", 48)
    assert bad.exit_code == 2
    assert "resolution" in bad.output
    assert not out.exists()


@pytest.mark.skipif(not OCULAR.is_dir(), reason="shared/ocular is not beside the checkout")
def test_published_pairs(tmp_path):
    result = run("import", "--source", OCULAR, "--outdir", tmp_path / "eyes", "--resolution", 64)
    assert result.exit_code == 0
    assert "16 pairs of 64x64" in result.output
    checked = run("check", OCULAR)
    assert checked.exit_code == 0
    assert "16 pairs of 256x256" in checked.output
    assert "wrongly matched" not in checked.output
