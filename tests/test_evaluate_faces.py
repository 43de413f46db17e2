"""evaluate.py masks, verification, dataset and privacy from the command line."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from evaluate import main
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs
from tests.helpers.people import save_recogniser
from tests.helpers.pickles import Call
from tests.test_evaluate_report import write_faces


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    return {
        "root": root,
        "data": write_faces(root / "data", 5, 4, seed=0, name="t{}"),
        "heldout": write_faces(root / "heldout", 4, 4, seed=1, name="h{}"),
        "samples": write_faces(root / "samples", 4, 3, seed=2, name="s{}"),
        "model": save_recogniser(root / "a.pth"),
    }


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(outdir, *arguments):
    result = run(*arguments, f"--outdir={outdir}")
    assert result.exit_code == 0, result.output
    (numbers,) = outdir.glob("*.json")
    assert numbers.with_suffix(".html").is_file()
    return result.output, json.loads(numbers.read_text(encoding="utf-8"))["sections"]


def test_diversity_of_sets_that_have_nir_images_only(tmp_path):
    for name, first in (("samples", 0), ("real", 100)):
        for i in range(10):
            pixels = random_pixels(first + i, 16, 1)
            write_image(tmp_path / name / "NIR" / f"{name}{i % 2}_{i}.png", pixels)
    line = [f"--data={tmp_path / 'samples'}", f"--real={tmp_path / 'real'}", "--extractor=standin"]
    text, _ = succeed(tmp_path / "out", "dataset", *line, "--device=cpu")
    assert "alignment and agreement of samples" in text
    assert "diversity D of samples" not in text


def test_masks(places, tmp_path):
    text, sections = succeed(
        tmp_path, "masks", f"--true={places['data']}", f"--found={places['data']}"
    )
    assert sections["masks"]["score"]["pixel_accuracy"]["value"] == 1
    assert sections["masks"]["score"]["images"] == 20
    assert "Mean IoU" in text


def test_verification(places, tmp_path):
    text, sections = succeed(
        tmp_path, "verification", f"--data={places['data']}", f"--rec-model={places['model']}"
    )
    found = sections["verification"]["comparisons"]
    assert list(found) == ["data, RGB", "data, NIR", "data, RGB against NIR"]
    assert found["data, RGB"]["people"] == 5
    assert (found["data, RGB"]["mated"], found["data, RGB"]["non_mated"]) == (30, 160)
    assert (
        found["data, RGB against NIR"]["mated"],
        found["data, RGB against NIR"]["non_mated"],
    ) == (60, 320)
    assert "FMR1000" in text
    assert sections["verification"]["failure_to_enrol"]["data, RGB"]["value"] == 0


def test_damaged_images_are_failures_to_enrol(places, tmp_path):
    data = write_faces(tmp_path / "data", 3, 3, seed=5)
    truncate(data / "VIS" / "0_1.png")
    _, sections = succeed(
        tmp_path / "out", "verification", f"--data={data}", f"--rec-model={places['model']}"
    )
    section = sections["verification"]
    assert section["failure_to_enrol"]["data, RGB"] == pytest.approx(
        {"value": 1 / 9, "low": 0.0198, "high": 0.4350, "n": 9, "people": None}, abs=1e-4
    )
    found = section["comparisons"]["data, RGB"]
    assert (found["mated"], found["non_mated"], found["failed"]) == (7, 21, 8)
    tar = found["points"][0]["tar"]
    assert tar["value"] <= 7 / 9
    assert tar["n"] == 9


def test_pair_lists(places, tmp_path):
    pairs = tmp_path / "pairs.csv"
    lines = [f"t{p}_0,NIR/t{p}_1,1\nt{p}_0,t{(p + 1) % 5}_2,0" for p in range(5)]
    pairs.write_text("\n".join(["first,second,same", *lines]), encoding="utf-8")
    _, sections = succeed(
        tmp_path / "out",
        "verification",
        f"--data={places['data']}",
        f"--pairs={pairs}",
        f"--rec-model={places['model']}",
    )
    found = sections["verification"]["comparisons"]["pairs of pairs.csv"]
    assert (found["mated"], found["non_mated"]) == (5, 5)


def write_bin(path, places, pairs=20):
    names = sorted((places["data"] / "VIS").iterdir())
    images = [names[i % 20].read_bytes() for k in range(pairs) for i in (k, k if k % 2 else k + 7)]
    path.write_bytes(pickle.dumps((images, [k % 2 == 1 for k in range(pairs)]), 4))
    return path


def test_ten_folds(places, tmp_path):
    path = write_bin(tmp_path / "lfw.bin", places)
    text, sections = succeed(
        tmp_path / "out", "verification", f"--bin={path}", f"--rec-model={places['model']}"
    )
    (fold,) = sections["verification"]["folds"].values()
    assert fold["accuracy"]["n"] == 20
    assert fold["accuracy"]["mean"] == 1  # mated pairs are the same image twice
    assert len(fold["thresholds"]) == 10
    assert "Ten-fold protocol" in text


def test_a_hostile_bin_is_refused(places, tmp_path):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(([b"a", b"b"], Call(os.system, f"touch {tmp_path}/owned")), 4))
    out = tmp_path / "out"
    result = run(
        "verification", f"--bin={path}", f"--rec-model={places['model']}", f"--outdir={out}"
    )
    assert result.exit_code == 2
    assert "refused: it asks for 'posix.system'" in " ".join(result.output.split())
    assert [entry.name for entry in tmp_path.iterdir()] == ["lfw.bin"]


def test_dataset(places, tmp_path):
    text, sections = succeed(
        tmp_path,
        "dataset",
        f"--data={places['data']}",
        f"--real={places['heldout']}",
        f"--rec-model={places['model']}",
        "--extractor=standin",
    )
    found = sections["dataset"]["sets"]["data"]
    assert (found["images"], found["people"]) == (20, 5)
    assert found["capacity"]["rgb"]["people"] == 5
    assert set(found["classes"]) == set(found["capacity"]) == {"rgb", "nir"}
    assert found["agreement"]["similarity"]["n"] == 20
    name, diversity = found["diversity"]
    assert name.startswith("random-conv")
    assert 0 <= diversity["value"] <= 1
    assert diversity["n"] == 5
    assert "measured on 4 identities of heldout" in sections["dataset"]["threshold"]
    assert "Uniqueness U" in text


def test_dataset_without_a_recogniser(places, tmp_path):
    text, sections = succeed(tmp_path, "dataset", f"--data={places['samples']}")
    found = sections["dataset"]["sets"]["samples"]
    assert found["classes"] == {}
    assert found["alignment"]["residual_px"]["n"] == 12
    assert "Skipped: measures of identity. no --rec-model was given" in text


def test_privacy(places, tmp_path):
    arguments = [f"--samples={places['samples']}", f"--data={places['data']}"]
    arguments += [f"--rec-model={places['model']}", "--threshold=0.001:0.9"]
    text, sections = succeed(
        tmp_path / "all", "privacy", *arguments, f"--heldout={places['heldout']}"
    )
    found = sections["privacy"]["recognisers"]["a.pth, RGB"]
    assert [entry["threshold"] for entry in found["above"]] == [0.9]
    assert found["membership_auc"]["n"] == 36
    assert "Skipped: second recogniser" in text
    text, sections = succeed(tmp_path / "few", "privacy", *arguments)
    assert sections["privacy"]["recognisers"]["a.pth, RGB"]["copy_test"] is None
    assert "Skipped: baseline of held-out identities" in text


def test_a_training_image_among_the_samples_is_named_and_can_fail_the_command(places, tmp_path):
    stem = next((places["data"] / "VIS").iterdir()).stem
    samples = tmp_path / "samples"
    for folder in ("VIS", "NIR"):
        shutil.copytree(places["samples"] / folder, samples / folder)
        shutil.copy(places["data"] / folder / f"{stem}.png", samples / folder / "99_7.png")
    line = [f"--samples={samples}", f"--data={places['data']}", f"--rec-model={places['model']}"]
    line += [f"--heldout={places['heldout']}", "--threshold=0.001:0.9"]
    text, sections = succeed(tmp_path / "told", "privacy", *line)
    assert "Copies of training images: 1 " in sections["privacy"]["verdict"]
    assert sections["privacy"]["verdict"] in text
    for found in sections["privacy"]["copies"].values():
        assert found[0][:2] == ["99_7", stem]
    result = run("privacy", *line, f"--outdir={tmp_path / 'failed'}", "--fail-on=copies")
    assert result.exit_code == 1
    assert "Copies of training images: 1 " in result.output
    assert (tmp_path / "failed/privacy.html").is_file()


@pytest.mark.parametrize("command", ["verification", "dataset"])
def test_dry_runs_write_nothing(places, tmp_path, command):
    result = run(
        command,
        f"--data={places['data']}",
        f"--rec-model={places['model']}",
        f"--outdir={tmp_path / 'out'}",
        "-n",
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["data"]["data"]["people"] == 5
    assert list(tmp_path.iterdir()) == []


BAD = {
    "no recogniser": (["verification", "--data={data}"], "--rec-model"),
    "nothing to compare": (["verification", "--rec-model={model}"], "--data or --bin must say"),
    "pairs of nothing": (
        ["verification", "--bin=a", "--pairs=b", "--rec-model={model}"],
        "--pairs goes with --data",
    ),
    "empty folder": (["dataset", "--data={empty}"], "empty: no images in it"),
    "absent folder": (["dataset", "--data={root}/absent"], "absent: no such folder"),
    "one person": (
        ["verification", "--data={single}", "--rec-model={model}"],
        "6 mated and 0 non-mated",
    ),
    "twice": (["dataset", "--data={data}", "--data={data}", "--data={data}"], "is given twice"),
    "no masks": (["masks", "--true={empty}", "--found={data}"], "no masks"),
    "second recogniser alone": (
        ["report", "--samples={samples}", "--data={data}", "--audit-model={model}"],
        "--audit-model goes with --rec-model",
    ),
    "no backbone": (
        ["dataset", "--data={data}", "--rec-model={data}/VIS/t0_0.png"],
        "t0_0.png",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message(places, tmp_path, name):
    line, message = BAD[name]
    (tmp_path / "empty").mkdir()
    more = {
        "empty": tmp_path / "empty",
        "single": write_pairs(tmp_path / "single", [f"a_{i}" for i in range(4)]),
    }
    out = tmp_path / "out"
    result = run(*(text.format(**places, **more) for text in line), f"--outdir={out}")
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not out.exists()


def test_seeds_repeat(places, tmp_path):
    pages = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, sections = succeed(
            tmp_path / folder, "dataset", f"--data={places['data']}", f"--seed={seed}"
        )
        pages.append(sections["dataset"]["sets"]["data"]["alignment"]["edge_correlation"])
    assert pages[0] == pages[1]
    assert pages[0]["value"] == pages[2]["value"]
    assert np.sign(pages[0]["low"] - pages[2]["low"]) != 0
