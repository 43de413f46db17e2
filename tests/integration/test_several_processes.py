"""Two processes with half the batch each compute what one computes with the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train_db_stylegan2
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from tests.helpers.two_processes import train_four_steps

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "helpers" / "two_processes.py"
COMMAND = [
    "train_db_stylegan2.py",
    *("--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4", "--map-depth=2", "--batch=200"),
    *("--mbstd-group=5", "--gamma=1", "--ema-kimg=1", "--kimg=1", "--device=cpu", "--workers=0"),
    *("--g-reg-interval=2", "--d-reg-interval=2"),
]


def start(*words):
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def torchrun(count, *words):
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}")
    return start(*launcher, *words)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    data = tiny_data(folder / "set")
    train_four_steps(data, folder / "1.pt")
    outcome = torchrun(2, SCRIPT, data, folder / "2.pt")
    assert outcome.returncode == 0, outcome.stderr
    return {n: torch.load(folder / f"{n}.pt", weights_only=True) for n in (1, 2)}


def test_nothing_holds_the_group_after_its_end():
    """Gloo's threads end with the last holder; those that outlive Python abort the process."""
    outcome = torchrun(2, ROOT / "tests" / "helpers" / "group_at_exit.py")
    assert outcome.stdout.splitlines() == ["0 others hold the group"] * 2, outcome.stderr
    assert outcome.returncode == 0, outcome.stderr


def test_gradients_of_the_first_step_agree(results):
    one, two = results[1]["gradients"], results[2]["gradients"]
    assert list(one) == list(two) == ["Gmain", "Dmain rgb", "Dmain nir", "Dreg rgb", "Dreg nir"]
    for name in one:
        largest = one[name].abs().max()
        assert largest > 0
        assert (one[name] - two[name]).abs().max() <= 1e-5 * largest, name


def test_parameters_after_four_steps_agree(results):
    for name, one in results[1]["parameters"].items():
        two = results[2]["parameters"][name]
        assert (one - two).abs().max() <= 1e-3 * one.abs().max(), name


def test_statistics_and_strengths_are_those_of_all_images(results):
    one, two = results[1], results[2]
    assert one["strengths"] == two["strengths"]
    assert one["statistics"].keys() == two["statistics"].keys()
    for name, row in one["statistics"].items():
        is_of_images = not name.startswith("Progress/")
        assert not is_of_images or row["num"] == two["statistics"][name]["num"], name
        assert two["statistics"][name]["mean"] == pytest.approx(row["mean"], rel=1e-3, abs=1e-4)


def test_script_trains_with_two_processes_and_continues_with_one(tmp_path, caplog):
    data = tiny_data(tmp_path / "set")
    places = [f"--data={data}", f"--outdir={tmp_path / 'out'}"]
    two = start(*COMMAND, *places, "--gpus=2")
    assert two.returncode == 0, two.stderr
    folder = run_folder(tmp_path / "out")
    assert (folder / "network-snapshot-000001.pkl").is_file()
    row = json.loads((folder / "stats.jsonl").read_text())
    assert row["Loss/scores/real"]["num"] == 1000
    more = [argument for argument in COMMAND[1:] if argument != "--kimg=1"] + ["--kimg=2"]
    train_db_stylegan2.main([*more, *places], standalone_mode=False)
    assert "continuing at kimg 1.0" in caplog.text
    assert (run_folder(tmp_path / "out") / "network-snapshot-000002.pkl").is_file()


def test_wrong_number_of_processes_is_refused(tmp_path, monkeypatch):
    data = tiny_data(tmp_path / "set")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--gpus.* 2 processes, got 3"):
        run(tiny_options(data, tmp_path / "out", gpus=3))
    assert not (tmp_path / "out").exists()
