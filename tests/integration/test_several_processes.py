"""Two processes with half the batch each compute what one computes with the whole."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

import evaluate
import train_db_stylegan2
from tests.helpers.processes import ROOT, run_ranks, run_script
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from tests.helpers.two_processes import train_four_steps

LINE = [
    *("--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4", "--map-depth=2", "--batch=200"),
    *("--mbstd-group=5", "--gamma=1", "--ema-kimg=1", "--device=cpu", "--workers=0"),
    *("--g-reg-interval=2", "--d-reg-interval=2"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    data = tiny_data(folder / "set")
    train_four_steps(data, folder / "1.pt")
    run_ranks(2, train_four_steps, data, folder / "2.pt")
    return {n: torch.load(folder / f"{n}.pt", weights_only=True) for n in (1, 2)}


def test_gradients_of_the_first_step_agree(results):
    one, two = results[1]["gradients"], results[2]["gradients"]
    names = ("rgb", "nir", "joint")
    phases = ["Gmain", *(f"Dmain {name}" for name in names), *(f"Dreg {name}" for name in names)]
    assert list(one) == list(two) == phases
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
    run_ranks(2, run_script, "train_db_stylegan2", *LINE, *places, "--kimg=1", "--gpus=2")
    folder = run_folder(tmp_path / "out")
    assert (folder / "network-snapshot-000001.pkl").is_file()
    row = json.loads((folder / "stats.jsonl").read_text())
    assert row["Loss/scores/real"]["num"] == 1000
    train_db_stylegan2.main([*LINE, *places, "--kimg=2"], standalone_mode=False)
    assert "continuing at kimg 1.0" in caplog.text
    assert (run_folder(tmp_path / "out") / "network-snapshot-000002.pkl").is_file()


IMAGES = ["images", "--metrics=vendi4", "--extractor=standin"]


@pytest.mark.parametrize(
    ("owner", "script", "line"),
    [
        ("dnnlib.cli", train_db_stylegan2, LINE),
        ("evaluation.quality", evaluate, IMAGES),
    ],
)
def test_more_than_one_process_is_started_by_torchrun(tmp_path, monkeypatch, owner, script, line):
    data = tiny_data(tmp_path / "set")
    monkeypatch.setattr(f"{owner}.restart_under_torchrun", sys.exit)
    places = [f"--data={data}", f"--outdir={tmp_path / 'out'}", "--gpus=4", "--device=cpu"]
    more = [f"--images={data}"] if script is evaluate else []
    result = CliRunner().invoke(script.main, [*line, *places, *more])
    assert result.exit_code == 4, result.output
    assert not (tmp_path / "out").exists()


def test_processes_of_torchrun_end_well():
    """Gloo's threads end with the last holder; those that outlive Python abort the process."""
    command = [sys.executable, "tests/helpers/under_torchrun.py", "a word", "--option=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = "['a word', '--option=1']: 0 others hold the group"
    assert done.stdout.splitlines() == [said] * 2, done.stderr


def test_wrong_number_of_processes_is_refused(tmp_path, monkeypatch):
    data = tiny_data(tmp_path / "set")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--gpus.* 2 processes, got 3"):
        run(tiny_options(data, tmp_path / "out", gpus=3))
    assert not (tmp_path / "out").exists()
