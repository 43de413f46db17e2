import json

import numpy as np
import pytest
from click.testing import CliRunner

import make_training_data
from tests.helpers.interpreters import read_tree, save_small_models, save_small_snapshot

TOTAL_CHANNELS = 80


def run(*arguments, code=0):
    result = CliRunner().invoke(make_training_data.main, [str(value) for value in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def exp(tmp_path):
    save_small_snapshot(tmp_path / "net.pkl")
    content = {"exp_dir": str(tmp_path), "stylegan_checkpoint": "net.pkl"}
    (tmp_path / "exp.json").write_text(json.dumps(content))
    return tmp_path / "exp.json"


def draw(exp, outdir, *arguments, code=0):
    return run("--exp", exp, "--sv_path", outdir, "--num_sample", 4, *arguments, code=code)


def test_repeating_gives_the_same_folder(exp, tmp_path):
    assert "wrote 4 image pairs" in draw(exp, tmp_path / "out")
    first = read_tree(tmp_path / "out")
    assert "finished before" in draw(exp, tmp_path / "out")
    assert read_tree(tmp_path / "out") == first
    draw(exp, tmp_path / "again")
    assert read_tree(tmp_path / "again") == first


def test_other_options_are_refused(exp, tmp_path):
    draw(exp, tmp_path / "out")
    output = draw(exp, tmp_path / "out", "--seed", 5, code=2)
    assert "was made with other options (seed 1111 -> 5)" in output
    draw(exp, tmp_path / "out", "--seed", 5, "--fresh")
    one, two = (np.load(tmp_path / name / "latent_stylegan.npy") for name in ("out", "out-2"))
    assert not np.array_equal(one, two)


def test_g_and_its_average_are_told_apart(exp, tmp_path):
    draw(exp, tmp_path / "ema")
    exp.write_text(json.dumps({**json.loads(exp.read_text()), "use_raw_g": True}))
    draw(exp, tmp_path / "raw")
    names = [
        json.loads((tmp_path / name / "training_data.json").read_text())["identity"]
        for name in ("ema", "raw")
    ]
    assert [name["network"] for name in names] == ["G_ema", "G"]
    assert names[0]["network_sha256"] != names[1]["network_sha256"]


def test_proposals_by_spread_and_by_models(exp, tmp_path):
    assert "annotate: " in draw(exp, tmp_path / "out", "--select", 2)
    rule = json.loads((tmp_path / "out" / "selection.json").read_text())["rule"]
    assert "spread" in rule
    save_small_models(tmp_path / "models", TOTAL_CHANNELS)
    draw(exp, tmp_path / "out", "--select", 2, "--interpreter", tmp_path / "models")
    rule = json.loads((tmp_path / "out" / "selection.json").read_text())["rule"]
    assert "uncertainty" in rule


def test_conditional_networks(exp, tmp_path):
    save_small_snapshot(tmp_path / "cond.pkl", c_dim=2)
    output = draw(exp, tmp_path / "out", "--network", tmp_path / "cond.pkl", code=2)
    assert "--labels: the network needs conditions" in output
    (tmp_path / "f.json").write_text('{"a.png": [1, 0], "b.png": [0, 1]}')
    arguments = ("--network", tmp_path / "cond.pkl", "--labels", tmp_path / "f.json")
    draw(exp, tmp_path / "out", *arguments)
    assert np.load(tmp_path / "out" / "labels.npy").shape == (4, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "5"], "--select: 1 to 4 images can be proposed, got 5"),
        (["--interpreter", "x"], "--interpreter goes with --select"),
        (["--select", "1", "--interpreter", "absent"], "no such folder of models"),
        (["--network", "absent.pkl"], "absent.pkl"),
        (["--labels", "absent.npy"], "no such file"),
    ],
)
def test_bad_options_end_with_one_message(exp, tmp_path, arguments, message):
    assert message in draw(exp, tmp_path / "out", *arguments, code=2)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(exp, tmp_path):
    assert "network_sha256" in draw(exp, tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists()
