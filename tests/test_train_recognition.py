"""train_recognition.py: sources, mixups, verification, and clear ends, on tiny people."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import generate_recognition_data
import train_recognition
from recognition.task import MODEL_FILE, RecognitionTask
from recognition.verification import verification_numbers
from tests.helpers.images import (
    random_pixels,
    truncate,
    write_image,
    write_pairs,
    zip_folder,
)
from tests.helpers.people import (
    save_recogniser,
    save_varied_snapshot,
    write_people,
)
from torch_utils.trainer import CHECKPOINT_FILE, Trainer

STEMS = [f"{p}_{i}" for p in range(3) for i in range(2)]
SMALL = ["--backbone=r18", "--width=0.0625", "--embedding=8", "--size=16", "--scale=8",
         "--batch=4", "--epochs=1", "--device=cpu"]  # fmt: skip


def run(*arguments, code=0):
    line = [str(argument) for argument in (*SMALL, *arguments)]
    result = CliRunner().invoke(train_recognition.main, line)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def faces(tmp_path):
    return write_pairs(tmp_path / "faces", STEMS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A conditional network, new people drawn at random, and such mixed of two."""
    folder = tmp_path_factory.mktemp("made")
    save_recogniser(folder / "rec.pth")
    save_varied_snapshot(folder / "net.pkl")
    features = write_people(folder / "real", folder / "rec.pth", people=4)
    for name in ("random", "interpolate"):
        line = [
            f"--gen_model={folder / 'net.pkl'}",
            f"--rec_model={folder / 'rec.pth'}",
            f"--training_ids={features}",
            f"--outdir={folder / name}",
            f"--identity-source={name}",
            *("--ids=3", "--samples_per_id=2", "--truncation=1", "--device=cpu"),
            *("--privacy=0.9999", "--same-identity=-0.9", "--too-similar=1"),
        ]
        result = CliRunner().invoke(generate_recognition_data.main, line)
        assert result.exit_code == 0, result.output
    return folder


def options_of(folder):
    return json.loads((folder / "training_options.json").read_text())


def test_verification_is_measured_and_recorded(faces, tmp_path):
    others = write_pairs(tmp_path / "others", ["8_0", "8_1", "9_0", "9_1"])
    line = ["--data", faces, "--heldout", others, "--outdir", tmp_path / "out"]
    run(*line, "--modality=rgb", "--modality=nir")
    (row,) = [json.loads(line) for line in (tmp_path / "out/stats.jsonl").read_text().splitlines()]
    for name in ("eer", "tar_at_fmr_0.01", "auc", "accuracy_best"):
        assert 0 <= row[f"Metrics/{name}"]["mean"] <= 1
        assert 0 <= row[f"Metrics/{name}_nir"]["mean"] <= 1


def test_verification_numbers_of_known_scores():
    """Two people at right angles, one image of the first half way between them."""
    vectors = torch.tensor([[1.0, 0], [1, 0], [0.5**0.5, 0.5**0.5], [0, 1], [0, 1]])
    numbers = verification_numbers(vectors, ["a", "a", "a", "b", "b"])
    # Mated 1, s, s, 1 with s = sqrt(1/2); non-mated 0 four times, s twice.
    assert numbers["accuracy_best"] == pytest.approx(1 - (2 / 6) / 2)
    assert numbers["auc"] == pytest.approx((2 * 6 + 2 * (4 + 1)) / 24)
    assert numbers["tar_at_fmr_0.01"] == pytest.approx(0.5)
    assert 0 < numbers["eer"] < 0.5


def test_several_sets_and_parts_of_them(faces, tmp_path):
    more = write_pairs(tmp_path / "more", STEMS[::-1])
    text = run("--data", faces, "--data", more, "--people=2", "--samples=1", "--batch=2",
               "--outdir", tmp_path / "out", "--dry-run")  # fmt: skip
    assert '"people": 4, "images": 4, "steps": 2' in text
    assert not (tmp_path / "out").exists()


def test_domain_mixup(made, tmp_path):
    line = ["--data", made / "random", "--mix-data", made / "real", "--mix-identities=2"]
    run(*line, "--outdir", tmp_path / "out")
    record = options_of(tmp_path / "out")
    assert record["people"] == 3 + 2
    assert record["identity"]["domain_mixup"]["share"] == 1.0
    text = run(*line, "--mix-share=0.5", "--outdir", tmp_path / "out", code=2)
    assert "was made with other options (domain_mixup" in text


def test_identity_mixup_of_new_people(made, tmp_path):
    line = ["--data", made / "random", "--identity-mix", made / "net.pkl"]
    for name in ("a", "b"):
        run(*line, "--identity-images=5", "--outdir", tmp_path / name)
    first, second = ((tmp_path / name / MODEL_FILE).read_bytes() for name in ("a", "b"))
    assert first == second
    record = options_of(tmp_path / "a")["identity"]["identity_mixup"]
    assert record["images"] == 5
    assert record["scale"] == 4.0
    run("--data", made / "random", "--outdir", tmp_path / "plain")
    assert (tmp_path / "plain" / MODEL_FILE).read_bytes() != first


def test_identity_mixup_of_real_and_of_mixed_people(made, tmp_path):
    features = made / "real/identity_features.json"
    mix = ["--identity-mix", made / "net.pkl", "--dry-run", "--outdir", tmp_path / "out"]
    run("--data", made / "real", "--conditions", features, *mix)
    run("--data", made / "interpolate", "--parents", features, *mix)
    text = run("--data", made / "interpolate", *mix, code=2)
    assert "mixed identities need the features that they were mixed of" in text
    text = run("--data", made / "real", "--conditions", made / "random", *mix, code=2)
    assert "no vector for 4 of 4 identities" in text
    text = run("--data", made / "random", "--data", made / "real", *mix, code=2)
    assert "mixes the identities of one --data, got 2" in text


def test_generated_mixtures_have_their_parents_labels(made, tmp_path):
    run("--data", made / "interpolate", "--labels=parents", "--outdir", tmp_path / "out")
    assert 2 <= options_of(tmp_path / "out")["people"] <= 4
    text = run("--data", made / "random", "--labels=parents", "--outdir", tmp_path / "x", code=2)
    assert "names no two parents and phi" in text


def test_a_finished_run_stays(faces, tmp_path):
    line = ["--data", faces, "--outdir", tmp_path / "out"]
    run(*line)
    before = (tmp_path / "out" / MODEL_FILE).stat().st_mtime_ns
    assert "finished before" in run(*line, "--workers=1", "--memory-gib=0")
    assert (tmp_path / "out" / MODEL_FILE).stat().st_mtime_ns == before


# Bad input


def test_a_diverging_loss_ends_with_code_1_and_keeps_the_checkpoint(faces, tmp_path, monkeypatch):
    step = RecognitionTask.step

    def diverge(task, index):
        if index > 0:
            task.head.centres.data.fill_(np.inf)
        step(task, index)

    monkeypatch.setattr(RecognitionTask, "step", diverge)
    line = ["--data", faces, "--epochs=3", "--outdir", tmp_path / "out"]
    assert "at step 2: lower --lr" in run(*line, code=1)
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    assert state["step"] == 1
    monkeypatch.undo()
    run(*line)
    assert (tmp_path / "out" / MODEL_FILE).is_file()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--precision=fp16"], "--precision=fp16 needs a GPU"),
        (["--people=9"], "identities must be 1..3, got 9"),
        (["--data=gone"], "gone: no such"),
    ],
)
def test_bad_options(faces, tmp_path, more, reason):
    assert reason in run("--data", faces, "--outdir", tmp_path / "out", *more, code=2)
    assert not (tmp_path / "out").exists()


def test_held_out_people_with_one_image_each_are_refused_before_training(faces, tmp_path):
    write_pairs(tmp_path / "held", ["7_0", "8_0"])
    line = ["--data", faces, "--heldout", tmp_path / "held", "--outdir", tmp_path / "out"]
    assert "--heldout" in (text := run(*line, code=2))
    assert "two images of one identity" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--conditions=nosuch.json"], "--conditions goes with --identity-mix, which is not given"),
        (["--truncation=0.7"], "--truncation goes with --identity-mix"),
        (["--mix-identities=2"], "--mix-identities goes with --mix-data, which is not given"),
    ],
)
def test_options_of_a_mixup_that_is_not_there_are_refused(faces, tmp_path, more, reason):
    assert reason in run("--data", faces, "--outdir", tmp_path / "out", *more, code=2)
    assert not (tmp_path / "out").exists()


def test_no_set_is_taken_twice(faces, tmp_path):
    line = ["--data", faces, "--outdir", tmp_path / "out"]
    copy = zip_folder(faces, tmp_path / "copy.zip")
    for more in (
        ["--data", faces],
        ["--mix-data", copy, "--mix-people=2"],
        ["--people=2", "--heldout", copy],
    ):
        text = run(*line, *more, code=2)
        option = next(word for word in more if word in ("--data", "--mix-data", "--heldout"))
        assert f"{option} " in text
        assert f"must hold other samples than --data {faces}, got the same" in text
    others = write_pairs(tmp_path / "others", ["8_0", "8_1", "9_0", "9_1"])
    text = run(*line, "--mix-data", others, "--heldout", others, code=2)
    assert f"--heldout {others}: must hold other samples than --mix-data" in text
    assert not (tmp_path / "out").exists()


def test_held_out_images_are_read_before_the_first_step(faces, tmp_path):
    others = write_pairs(tmp_path / "others", ["8_0", "8_1", "9_0", "9_1"])
    line = ["--data", faces, "--heldout", others, "--outdir", tmp_path / "out"]
    write_image(others / "NIR/9_1.png", random_pixels(0, size=32, channels=1))
    text = run(*line, "--joint", code=2)
    assert "NIR/9_1.png: joint images must be of one size, got 32x32 beside 16x16" in text
    truncate(others / "VIS/9_1.png")
    for gib in (1, 0):
        text = run(*line, f"--memory-gib={gib}", code=2)
        assert "VIS/9_1.png: damaged or unusable image" in text
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_met_by_a_worker_is_one_line_and_the_checkpoint_stays(
    faces, tmp_path, monkeypatch
):
    image, save = faces / "VIS/2_1.png", Trainer._save
    whole = image.read_bytes()

    def save_and_damage(trainer):
        save(trainer)
        image.write_bytes(whole[:100].ljust(len(whole), b"x"))

    line = ["--data", faces, "--epochs=15", "--outdir", tmp_path / "out"]
    line += ["--memory-gib=0", "--workers=2"]
    monkeypatch.setattr(Trainer, "_save", save_and_damage)
    text = run(*line, code=2)
    assert "VIS/2_1.png: damaged or unusable image" in text
    assert "Traceback" not in text
    assert len(text.partition("Error: ")[2]) < 300
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    assert 1 <= state["step"] < 15
    monkeypatch.undo()
    image.write_bytes(whole)
    run(*line)
    assert (tmp_path / "out" / MODEL_FILE).is_file()


def test_an_unconditional_network_is_refused(faces, tmp_path):
    from tests.helpers.interpreters import save_small_snapshot  # noqa: PLC0415

    network = save_small_snapshot(tmp_path / "net.pkl")
    text = run("--data", faces, "--identity-mix", network, "--outdir", tmp_path / "out", code=2)
    assert "is unconditional" in text
