"""Files that the code before the redesign wrote: they open, and give what they gave then.

../shared/earlier/README.md names the three commands and how close is equal.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import evaluate
import filter_dataset
import generate
import generate_recognition_data
import train_db_stylegan2
import train_interpreter
import train_recognition
import train_segmentation
from tests.helpers.images import write_pairs

ROOT = Path(__file__).parents[2]
EARLIER = ROOT.parent / "shared" / "earlier"
EXPECTED = EARLIER / "expected"
IDENTITIES, LABELLED = EXPECTED / "identities", EXPECTED / "labelled"
NETWORK = f"--network={EARLIER / 'network-snapshot.pkl'}"
RECOGNISER = f"--rec-model={EARLIER / 'recogniser.pth'}"
FEATURES = EARLIER / "identity_features.json"

# One grey level in some pixels moves a cosine of the 32-pixel recogniser by less than this.
SCORE = 5e-3

pytestmark = pytest.mark.skipif(not EARLIER.is_dir(), reason=f"no {EARLIER} beside this checkout")


def run(script, *arguments):
    result = CliRunner().invoke(script.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Run the three commands of the README; return the folder of their outputs."""
    folder = tmp_path_factory.mktemp("earlier")
    run(
        generate,
        *(NETWORK, f"--labels={FEATURES}", "--seeds=0-7", "--truncation=0.8", "--raw"),
        *("--noise-mode=const", f"--outdir={folder / 'generate'}", "--device=cpu"),
    )
    run(
        generate_recognition_data,
        *(f"--gen-model={EARLIER / 'network-snapshot.pkl'}", RECOGNISER, "--ids=4"),
        *(f"--training-ids={FEATURES}", "--samples-per-id=3", "--identity-source=interpolate"),
        *(f"--outdir={folder / 'identities'}", "--device=cpu"),
    )
    run(
        train_interpreter,
        *(f"--exp={ROOT / 'EXPERIMENTS/interpreter_example/generate.json'}", NETWORK),
        *("--generate-data", f"--labels={FEATURES}", f"--resume={EARLIER / 'models'}"),
        *("--num-sample=8", "--save-uncertainty", "--device=cpu"),
        f"--outdir={folder / 'labelled'}",
    )
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def assert_same_images(folder, expected, pattern, tolerance=1):
    """Compare the images of two folders, in units of the last bit."""
    names = sorted(path.relative_to(expected) for path in expected.rglob(pattern))
    assert names
    assert sorted(path.relative_to(folder) for path in folder.rglob(pattern)) == names
    for name in names:
        actual, wanted = pixels(folder / name), pixels(expected / name)
        assert actual.shape == wanted.shape, name
        assert np.abs(actual - wanted).max() <= tolerance, name


def assert_holds(actual, expected, where=""):
    """Compare parsed JSON: all that was there before, numbers nearly; sums of bytes aside."""
    if isinstance(expected, dict):
        for key in expected.keys() - {"sha256"}:
            assert_holds(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for i, pair in enumerate(zip(actual, expected, strict=True)):
            assert_holds(*pair, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, abs=SCORE), where
    else:
        assert actual == expected, where


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def section(folder, name):
    return read_json(folder / f"{name}.json")["sections"][name]


# The three commands


def test_generated_images(written):
    with (
        np.load(written / "generate" / "images.npz") as actual,
        np.load(EXPECTED / "generate" / "images.npz") as expected,
    ):
        assert set(actual) == set(expected)
        for name in expected:
            scale = np.abs(expected[name]).max()
            assert actual[name].shape == expected[name].shape
            assert np.abs(actual[name] - expected[name]).max() <= 1e-5 * scale
    assert_same_images(written / "generate", EXPECTED / "generate", "seed*.png")


@pytest.mark.parametrize("name", ["manifest.jsonl", "rejected.jsonl"])
def test_decisions_on_new_identities(written, name):
    actual, expected = read_lines(written / "identities" / name), read_lines(IDENTITIES / name)
    assert len(actual) == len(expected)
    for i, pair in enumerate(zip(actual, expected, strict=True)):
        assert_holds(*pair, f"{name} {i}")


def test_images_and_features_of_new_identities(written):
    folder = written / "identities"
    for place in ("VIS", "NIR"):
        assert_same_images(folder, IDENTITIES, f"sample_*_{place}.png")
    actual, expected = np.load(folder / "features.npy"), np.load(IDENTITIES / "features.npy")
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= SCORE * np.abs(expected).max()


def test_thresholds(written):
    keys = ("privacy", "same_identity", "too_similar", "fmr", "recogniser")
    actual, expected = (
        read_json(folder / "thresholds.json") for folder in (written / "identities", IDENTITIES)
    )
    assert [actual[key] for key in keys] == [expected[key] for key in keys]


def test_labelled_samples(written):
    folder = written / "labelled"
    assert_same_images(folder, LABELLED, "*_label.png", 0)
    for modality in ("RGB", "NIR"):
        assert_same_images(folder, LABELLED, f"*_{modality}.png")
    assert_same_images(folder, LABELLED, "*_uncertainty.png", 65)  # 0.1 % of 16 bits
    actual, expected = (read_lines(place / "manifest.jsonl") for place in (folder, LABELLED))
    assert_holds(actual, expected)
    keys = ("classes", "samples", "dropped", "finished")
    actual, expected = (read_json(place / "dataset_info.json") for place in (folder, LABELLED))
    assert [actual[key] for key in keys] == [expected[key] for key in keys]


# The data sets are read


def test_masks_are_measured(written, tmp_path):
    folders = f"--true={LABELLED}", f"--found={written / 'labelled'}"
    run(evaluate, "masks", *folders, f"--outdir={tmp_path}")
    score = section(tmp_path, "masks")["score"]
    assert score["images"] == 8
    assert [row["iou"]["value"] for row in score["classes"]] == [1.0] * 4


def test_identities_are_described_and_verified(tmp_path):
    common = f"--data={IDENTITIES}", RECOGNISER, "--device=cpu", f"--outdir={tmp_path}"
    run(evaluate, "dataset", *common)
    run(evaluate, "verification", *common)
    (rgb,) = (
        row
        for name, row in section(tmp_path, "verification")["comparisons"].items()
        if name.endswith(", RGB")
    )
    assert (rgb["people"], rgb["mated"], rgb["non_mated"], rgb["failed"]) == (4, 9, 36, 0)
    assert rgb["eer"]["value"] == 0.0


def test_privacy_of_labelled_samples_is_measured(tmp_path):
    common = f"--samples={LABELLED}", f"--data={IDENTITIES}", RECOGNISER, f"--outdir={tmp_path}"
    run(evaluate, "privacy", *common, "--device=cpu")
    (rgb,) = (
        row
        for name, row in section(tmp_path, "privacy")["recognisers"].items()
        if name.endswith(", RGB")
    )
    nearest = rgb["statistics"]["mean"]["samples"]
    assert (nearest["n"], nearest["value"]) == (8, pytest.approx(0.66072, abs=SCORE))


@pytest.mark.parametrize(("data", "count"), [(IDENTITIES, 10), (LABELLED, 8)])
def test_the_filter_keeps_what_it_kept(tmp_path, data, count):
    thresholds = f"--thresholds={IDENTITIES / 'thresholds.json'}"
    features = f"--training-ids={FEATURES}"
    out = f"--outdir={tmp_path / 'kept'}"
    run(filter_dataset, f"--data={data}", RECOGNISER, features, thresholds, out, "--device=cpu")
    assert len(read_lines(tmp_path / "kept" / "manifest.jsonl")) == count
    assert read_lines(tmp_path / "kept" / "rejected.jsonl") == []


def test_a_recogniser_trains_on_the_identities(tmp_path):
    out = tmp_path / "recogniser"
    data = f"--data={IDENTITIES}", "--backbone=mbf", "--workers=0", "--device=cpu"
    run(train_recognition, *data, "--epochs=1", "--batch=4", f"--outdir={out}")
    trained = f"--rec-model={out / 'recogniser.pth'}"
    options = f"--data={IDENTITIES}", "--device=cpu", f"--outdir={tmp_path}"
    run(evaluate, "verification", *options, trained)
    rates = section(tmp_path, "verification")["comparisons"].values()
    assert [rate["failed"] for rate in rates] == [0, 0, 0]


def test_a_segmenter_trains_on_the_labelled_samples(tmp_path):
    out, test = f"--outdir={tmp_path / 'segmenter'}", f"--outdir={tmp_path / 'test'}"
    small = "--steps=2", "--batch=2", "--width=4", "--depth=1", "--device=cpu"
    run(train_segmentation, f"--data={LABELLED}", "--uncertainty=pixel", *small, out)
    model = tmp_path / "segmenter" / "segmenter.pth"
    run(train_segmentation, f"--evaluate={model}", f"--test={LABELLED}", "--device=cpu", test)
    assert len(list((tmp_path / "test" / "masks").glob("*.png"))) == 8


def test_training_resumes_from_the_snapshot(tmp_path):
    features = dict(list(read_json(FEATURES).items())[:6])
    data = write_pairs(tmp_path / "data", [Path(name).stem for name in features], size=32)
    (data / FEATURES.name).write_text(json.dumps(features))
    config = f"--config={ROOT / 'EXPERIMENTS/example/demo.json'}"
    start = f"--resume={EARLIER / 'network-snapshot.pkl'}", "--cond=1", "--dry-run"
    out = f"--outdir={tmp_path / 'runs'}"
    run(train_db_stylegan2, f"--data={data}", config, *start, out, "--device=cpu")
    assert not (tmp_path / "runs").exists()
