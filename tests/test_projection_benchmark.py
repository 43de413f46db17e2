"""The benchmark of projection: every table."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import pair_critic
from benchmarks import projection as benchmark
from interpreter.ensemble import save_models
from tests.helpers.images import write_image, write_pairs
from tests.helpers.interpreters import save_small_snapshot, small_ensemble


@pytest.mark.parametrize("option", ["training", "pairs"])
def test_nothing_is_learned_from_identities_that_are_tested(tmp_path, option):
    write_pairs(tmp_path / "test", ["0_0", "1_0"])
    write_pairs(tmp_path / "other", ["2_0"])
    write_pairs(tmp_path / "shared", ["1_1"])
    places = {"training": "other", "pairs": "other", "foreign": "other", option: "shared"}
    words = [f"--{name}={tmp_path / place}" for name, place in places.items()]
    words += [f"--test={tmp_path / 'test'}", f"--outdir={tmp_path / 'out'}"]
    words += ["--network=absent.pkl", "--interpreter=absent"]
    result = CliRunner().invoke(benchmark.main, words)
    assert result.exit_code == 2
    assert f"--{option}" in result.output
    assert "'1'" in result.output


def test_all_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "LONG_STEPS", 1)
    monkeypatch.setattr(benchmark, "TIMED_STEPS", 1)
    monkeypatch.setattr(pair_critic, "REGRESSOR_STEPS", 1)
    save_small_snapshot(tmp_path / "net.pkl")
    save_models(tmp_path / "models", small_ensemble(80, classes=4), batches=1)
    for name, first in (("test", 0), ("training", 10), ("foreign", 20)):
        stems = [f"{i}_0" for i in range(first, first + 3)]
        write_pairs(tmp_path / name, stems)
        for number, stem in enumerate(stems):
            mask = np.random.default_rng(number).integers(0, 10, [16, 16], np.uint8)
            write_image(tmp_path / name / f"masks/{stem}.png", mask)
    words = [f"--{name}={tmp_path / name}" for name in ("test", "training", "foreign")]
    words += [f"--network={tmp_path / 'net.pkl'}", f"--interpreter={tmp_path / 'models'}"]
    words += [f"--pairs={tmp_path / 'training'}", f"--outdir={tmp_path / 'out'}", "--first=2"]
    words += ["--steps=1", "--short=1", "--encoder-steps=1", "--device=cpu"]
    result = CliRunner().invoke(benchmark.main, words)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out/projection_benchmark.json").read_text())
    names = ["test", "train", "foreign", "test_rgb", "test_enc0", "test_enc", "test_w_long"]
    assert [row["images of"] for row in content["errors"]] == names
    assert len(content["masks"]) == 5
    nir = {row["NIR by"]: row for row in content["nir"]}
    assert nir["the measured images"]["error"].startswith("0.0 ")
    assert list(nir)[:2] == ["luma", "regressor"]
    assert len(content["cost"]) == 3
