"""The script: training, refining, options, one-line errors."""

import json
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from refinement.task import MODEL_FILE
from tests.helpers.images import write_image, write_json, write_pairs
from tests.helpers.refinement import save_random_refiner, write_real, write_rendered
from torch_utils.trainer import CHECKPOINT_FILE, STATS_FILE
from train_refiner import main

SMALL = {
    "width": 4,
    "blocks": 1,
    "patch-width": 0.1,
    "steps": 3,
    "discriminator-warmup": 1,
    "batch": 4,
    "history": 4,
    "device": "cpu",
}


@pytest.fixture
def call(tmp_path):
    """Run the script on small data; returns click's result."""
    write_rendered(tmp_path / "a")
    write_real(tmp_path / "b")
    write_json(tmp_path / "small.json", SMALL)

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.output

    return run


def training(tmp_path, *more, out="out"):
    return (
        f"--config={tmp_path / 'small.json'}",
        f"--data={tmp_path / 'a'}",
        f"--real={tmp_path / 'b'}",
        f"--outdir={tmp_path / out}",
        *more,
    )


def test_train_then_refine(call, tmp_path):
    assert "realism" in call(*training(tmp_path))
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        "before_after.png",
        MODEL_FILE,
        STATS_FILE,
        "training_options.json",
    ]
    assert "finished before" in call(*training(tmp_path))
    refining = (
        f"--refine={tmp_path / 'a'}",
        f"--refiner={tmp_path / 'out' / MODEL_FILE}",
        f"--outdir={tmp_path / 'refined'}",
    )
    assert '"pairs": 4' in call(*refining, "-n")
    assert not (tmp_path / "refined").exists()
    assert "4 pairs refined" in call(*refining)
    assert "finished before" in call(*refining)
    assert (tmp_path / "refined" / "masks" / "1_0.png").is_file()


def test_dry_run_shows_the_options_and_writes_nothing(call, tmp_path):
    text = call(*training(tmp_path, "-n", "--identity-start=0", "--region-weight=face=3"))
    content = json.loads(text)
    assert content["steps"] == 1000 + 1 + 3
    assert content["training"]["starts_as_identity"] is False
    assert content["training"]["region_weights"] == [["face", 3.0]]
    assert not (tmp_path / "out").exists()


def test_published_defaults(call, tmp_path):
    text = call(
        f"--data={tmp_path / 'a'}",
        f"--real={tmp_path / 'b'}",
        f"--outdir={tmp_path / 'out'}",
        "--batch=4",
        "--identity-start=false",
        "--measure=mean",
        "-n",
    )
    options = json.loads(text)["training"]
    expected = {
        "width": 64,
        "blocks": 4,
        "kernel": 3,
        "patches": "eyes",
        "refiner_warmup": 1000,
        "discriminator_warmup": 200,
        "refiner_updates": 2,
        "discriminator_updates": 1,
    }
    assert {name: options[name] for name in expected} == expected


def test_every_option_of_the_loss_reaches_the_training(call, tmp_path):
    more = ("--region-weight=face=3", "--cycle=2", "--smoothing=0.1", "--norm=l2", "--measure=mean")
    call(*training(tmp_path, *more))
    rows = [json.loads(line) for line in (tmp_path / "out" / STATS_FILE).read_text().splitlines()]
    assert {f"Loss/{name}" for name in ("cycle_rendered", "cycle_real", "realism")} <= set(rows[-1])
    record = json.loads((tmp_path / "out" / "training_options.json").read_text())
    options = record["identity"]["training"]
    assert (options["cycle"], options["smoothing"]) == (2.0, 0.1)
    assert (options["norm"], options["measure"]) == ("l2", "mean")


class Halves(torch.nn.Module):
    def forward(self, x):
        return x[:, :1] / 2


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def test_features_of_a_torchscript_file(call, tmp_path):
    path = save_script(Halves(), tmp_path / "network.pt")
    call(*training(tmp_path, "--measure=features", f"--features={path}"))
    save_script(torch.nn.Conv2d(2, 1, 1), path)
    text = call(*training(tmp_path, "--measure=features", f"--features={path}"), code=2)
    assert "does not take images of [2, 4, 16, 16]" in " ".join(text.split())
    path.write_bytes(b"x")
    text = call(*training(tmp_path, "--measure=features", f"--features={path}"), code=2)
    assert "not a TorchScript module" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data={root}/a", "--outdir={root}/out"], "--real: needed to train"),
        (["--outdir={root}/out"], "--data and --real: needed"),
        (["--refine={root}/a", "--outdir={root}/out"], "--refiner: needed with --refine"),
        (
            ["--refine={root}/a", "--refiner={root}/r.pt", "--data={root}/a", "--outdir={root}/o"],
            "--data and --real are for training",
        ),
        (["--refine={root}/a", "--refiner={root}/a/x.pt", "--outdir={root}/o"], "no such file"),
        (["--refine={root}/a", "--refiner={root}/r.pt", "--outdir={root}/b"], "it holds other"),
        (["{train}", "--refiner={root}/r.pt"], "is for --refine; training starts anew"),
        (["{train}", "--keep=face"], "--keep: is for --refine; --region-weight is for training"),
        (["{train}", "--real={root}/none"], "none: no such folder or zip archive"),
        (["{train}", "--real={root}/empty"], "expected the folders VIS and NIR"),
        (["{train}", "--real={root}/small"], "images of one size, got 16 and 8 pixels"),
        (["{train}", "--region-weight=face"], "--region-weight"),
        (["{train}", "--region-weight=face=-1"], "--region-weight"),
        (["{train}", "--region-weight=fade=2"], "did you mean 'face'"),
        (["{train}", "--measure=features"], "--measure=features needs a network"),
        (["{train}", "--features={root}/x.pt"], "x.pt: no such file"),
        (["{train}", "--data={root}/b", "--region-weight=1=2"], "no such mask; 5 of 5 images"),
    ],
)
def test_bad_input_ends_in_one_line(call, tmp_path, arguments, reason):
    save_random_refiner(tmp_path / "r.pt")
    write_pairs(tmp_path / "small", size=8)
    (tmp_path / "empty").mkdir()
    filled = []
    for argument in arguments:
        if argument == "{train}":
            filled += training(tmp_path)
        else:
            filled.append(argument.format(root=tmp_path))
    text = call(*filled, code=2)
    assert reason in " ".join(text.split())


def test_other_masks_are_other_options(call, tmp_path):
    call(*training(tmp_path, "--region-weight=face=3"))
    file = tmp_path / "a" / "masks" / "1_0.png"
    write_image(file, np.zeros((16, 16), np.uint8))
    text = call(*training(tmp_path, "--region-weight=face=3"), code=2)
    assert "was made with other options (masks" in text


def test_snap_is_not_part_of_the_identity(call, tmp_path):
    call(*training(tmp_path, "--snap=1"))
    assert "finished before" in call(*training(tmp_path, "--snap=2"))


def test_diverging_ends_with_code_1_and_keeps_the_checkpoint(call, tmp_path):
    text = call(*training(tmp_path, "--lr=1e30", "--snap=1", "--steps=40"), code=1)
    assert "lower --lr" in text
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    networks = state["task"]["networks"].values()
    assert all(tensor.isfinite().all() for tensor in networks)
