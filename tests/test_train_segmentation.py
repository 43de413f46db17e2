"""The script from labelled sets to a network and its numbers."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.helpers.images import zip_folder
from tests.helpers.labelled import CLASSES, write_generated, write_real
from train_segmentation import main

FAST = ("--width=4", "--depth=2", "--steps=30", "--every=15", "--batch=4", "--lr=0.01")


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A generated set to learn from, a real one to measure on."""
    folder = tmp_path_factory.mktemp("sets")
    write_generated(folder / "generated", 8)
    write_real(folder / "real", 4)
    write_real(folder / "chosen", 4, first=4)
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder


def arguments(sets, outdir, *more):
    paths = (f"--data={sets / 'generated'}", f"--classes={sets / 'classes.json'}")
    return (*paths, f"--test={sets / 'real'}", f"--outdir={outdir}", *FAST, *more)


@pytest.fixture(scope="module")
def trained(sets, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("trained") / "out"
    more = ("--val", sets / "chosen", "--uncertainty=pixel", "--dice=0.5", "--modality=rgb",
            "--modality=nir")  # fmt: skip
    output = run(*arguments(sets, outdir, *more))
    assert "mean IoU 0." in output
    return outdir


def test_training_writes_network_numbers_and_sheet(trained):
    names = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert names == {
        "training_options.json", "stats.jsonl", "segmenter.pth", "segmenter_best.pth",
        "evaluation.json", "predictions.png",
    }  # fmt: skip
    rows = [json.loads(line) for line in (trained / "stats.jsonl").read_text().splitlines()]
    rows = [
        {name: entry["mean"] for name, entry in row.items() if name != "timestamp"} for row in rows
    ]
    assert [row["Progress/step"] for row in rows] == [15, 30]
    assert {f"Metrics/{name}" for name in ("val_mean_iou", "test_mean_iou", "test_iou_left")} | {
        "Loss/total",
        "Accuracy/pixels",
        "Progress/learning_rate",
        "Timing/total_sec",
    } <= rows[0].keys()
    result = json.loads((trained / "evaluation.json").read_text())
    assert result["last"]["mean_iou"]["value"] == pytest.approx(rows[1]["Metrics/test_mean_iou"])
    best = max(rows, key=lambda row: row["Metrics/val_mean_iou"])["Metrics/test_mean_iou"]
    assert result["best"]["mean_iou"]["value"] == pytest.approx(best)
    numbers = [entry["iou"]["value"] for entry in result["last"]["classes"]]
    assert result["last"]["mean_iou"]["value"] == pytest.approx(np.mean(numbers))
    assert [entry["name"] for entry in result["last"]["classes"]] == ["ground", "left", "right"]
    record = json.loads((trained / "training_options.json").read_text())
    assert record["finished"]
    assert (trained / "predictions.png").is_file()


def test_a_trained_network_is_measured_as_it_was(sets, trained, tmp_path):
    line = (f"--evaluate={trained / 'segmenter.pth'}", f"--test={sets / 'real'}",
            f"--outdir={tmp_path / 'measured'}")  # fmt: skip
    run(*line)
    found = json.loads((tmp_path / "measured" / "evaluation.json").read_text())
    known = json.loads((trained / "evaluation.json").read_text())["last"]
    assert found["mean_iou"] == known["mean_iou"]
    masks = sorted((tmp_path / "measured" / "masks").iterdir())
    assert [path.name for path in masks] == ["0_0.png", "0_1.png", "1_0.png", "1_1.png"]
    counts = np.zeros((3, 3), int)
    for path in masks:
        truth = np.asarray(Image.open(sets / "real" / "masks" / path.name))
        np.add.at(counts, (truth, np.asarray(Image.open(path))), 1)
    assert counts.tolist() == found["confusion"]
    assert "finished before" in run(*line)


def test_a_repeated_command_is_done_and_fresh_starts_another(sets, tmp_path):
    line = arguments(sets, tmp_path / "out", "--steps=2")
    run(*line)
    assert "finished before" in run(*line)
    run(*line, "--fresh")
    first, second = (tmp_path / name / "segmenter.pth" for name in ("out", "out-2"))
    assert first.read_bytes() == second.read_bytes()
    assert "made with other options" in run(*line, "--lr=0.02", code=2)


def test_without_a_test_set_it_trains_all_the_same(sets, tmp_path):
    output = run(f"--data={sets / 'real'}", f"--outdir={tmp_path / 'out'}", *FAST, "--steps=2")
    assert "trained" in output
    assert (tmp_path / "out" / "segmenter.pth").is_file()


def test_a_config_file_is_read_and_options_go_before_it(sets, tmp_path):
    config = {"width": 4, "depth": 2, "steps": 50, "class_weights": "median"}
    (tmp_path / "c.json").write_text(json.dumps(config))
    line = (f"--config={tmp_path / 'c.json'}", f"--data={sets / 'real'}",
            f"--outdir={tmp_path / 'out'}", "--steps=7", "--dry-run")  # fmt: skip
    plan = json.loads(run(*line))
    assert plan["training"]["steps"] == 7
    assert plan["training"]["loss"]["class_weights"] == "median"
    assert plan["data_samples"] == 4
    assert not (tmp_path / "out").exists()


def test_real_masks_are_merged_to_what_the_generated_have(sets, tmp_path):
    merge = {"classes": CLASSES[:2], "map": [0, 1, None]}
    merge["classes"] = [{"name": "ground", "color": [0, 0, 0]}, {"name": "a", "color": [9, 9, 9]}]
    (tmp_path / "merge.json").write_text(json.dumps(merge))
    line = (f"--data={sets / 'real'}", f"--test={sets / 'generated'}", *FAST, "--steps=2",
            f"--merge={tmp_path / 'merge.json'}", f"--outdir={tmp_path / 'out'}")  # fmt: skip
    run(*line)
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())["last"]
    assert [entry["name"] for entry in result["classes"]] == ["ground", "a"]
    assert "low" not in result["mean_iou"]  # some pixels are ignored


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data=nowhere",), "nowhere: no such folder"),
        (("--merge=nowhere.json",), "nowhere.json: no such file"),
        (("--class-weights=1,x",), "--class-weights"),
        (("--precision=fp16", "--device=cpu"), "--precision=fp16 needs a GPU"),
        (("--subset=99",), "--subset"),
        (("--evaluate=x.pth",), "--evaluate needs --test, and neither --data nor --val"),
    ],
)
def test_bad_input_ends_in_one_line(sets, tmp_path, more, message):
    output = run(*arguments(sets, tmp_path / "out", *more), code=2)
    assert message in " ".join(output.split())
    assert not (tmp_path / "out").exists()


def test_what_is_learned_from_comes_once_and_is_not_measured_on(sets, tmp_path):
    line = (f"--classes={sets / 'classes.json'}", f"--outdir={tmp_path / 'out'}", *FAST)
    for name in ("real", "generated"):
        copy = zip_folder(sets / name, tmp_path / f"{name}.zip")
        for more in (f"--data={sets / name}", f"--data={copy}", f"--test={copy}", f"--val={copy}"):
            text = run(f"--data={sets / name}", more, "--subset=3", *line, code=2)
            reason = f"must hold other samples than --data {sets / name}, got the same"
            assert f"{more.replace('=', ' ')}: {reason}" in " ".join(text.split())
    text = run(*arguments(sets, tmp_path / "out", f"--val={sets / 'real'}"), code=2)
    assert f"--test {sets / 'real'}: must hold other samples than --val" in " ".join(text.split())
    assert not (tmp_path / "out").exists()


def test_nothing_to_learn_from_is_named(tmp_path):
    assert "--data" in run(f"--outdir={tmp_path / 'out'}", code=2)


def test_a_diverging_loss_ends_with_one_message(sets, tmp_path):
    line = arguments(sets, tmp_path / "out", "--optimizer=sgd", "--lr=1e30")
    output = run(*line, code=1)
    assert "--lr (1e+30)" in output
    assert not (tmp_path / "out" / "segmenter.pth").exists()
