"""The three interpreter scripts, one after the other, on a 16x16 network."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import train_interpreter
from biometrics.embedding import load_embedder
from biometrics.thresholds import calibrate, write_thresholds
from data.pixels import decode_image
from tests.helpers.interpreters import (
    read_tree,
    save_small_models,
    save_small_snapshot,
    write_workshop,
)
from tests.helpers.people import clustered_features, save_recogniser
from tests.helpers.processes import run_ranks, run_script


def run(script, *arguments, code=0):
    result = CliRunner().invoke(script.main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A snapshot, drawn images, masks, a processed folder, and trained models."""
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    run(train_interpreter, "--exp", folder / "exp.json")
    return folder


def train(workshop, *arguments, code=0):
    return run(train_interpreter, "--exp", workshop / "exp.json", *arguments, code=code)


def generate(workshop, *arguments, code=0):
    resume = () if "--resume" in arguments else ("--resume", workshop / "models")
    return train(workshop, "--generate_data", "True", *resume, *arguments, code=code)


def changed(workshop, tmp_path, **content):
    exp = json.loads((workshop / "exp.json").read_text())
    path = tmp_path / "exp.json"
    path.write_text(json.dumps({**exp, **content}))
    return path


def test_training_wrote_models_and_a_record(workshop):
    names = {path.name for path in (workshop / "models").iterdir()}
    assert {"model_0.pth", "model_1.pth", "interpreter.json", "train_data.jpg"} <= names
    assert "checkpoint.pt" not in names
    record = json.loads((workshop / "models" / "interpreter.json").read_text())
    assert record["finished"]
    assert record["identity"]["feature_channels"] == [16, 16, 16, 16, 8, 8]
    assert record["steps"] == 20
    rows = (workshop / "models" / "stats.jsonl").read_text().splitlines()
    assert len(rows) == 2


def test_repeating_training_says_so(workshop):
    before = read_tree(workshop / "models")
    assert "finished before" in train(workshop)
    assert {k: v for k, v in before.items() if k in read_tree(workshop / "models")} == before


def test_training_with_other_options_is_refused_and_fresh_starts_beside(workshop, tmp_path):
    exp = changed(workshop, tmp_path, seed=5)
    output = run(train_interpreter, "--exp", exp, code=2)
    assert "was made with other options" in output
    run(train_interpreter, "--exp", exp, "--outdir", tmp_path / "m")
    run(train_interpreter, "--exp", exp, "--outdir", tmp_path / "m", "--seed", 6, "--fresh")
    assert (tmp_path / "m-2" / "model_1.pth").is_file()


def test_a_killed_training_continues_to_the_same_bytes(workshop, tmp_path, monkeypatch):
    from interpreter import task  # noqa: PLC0415  # torch after the scripts' --help

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(task, "save_models", killed)
        train(workshop, "--outdir", tmp_path / "m", code=1)
    assert (tmp_path / "m" / "checkpoint.pt").is_file()
    train(workshop, "--outdir", tmp_path / "m")
    for name in ("model_0.pth", "model_1.pth"):
        assert (tmp_path / "m" / name).read_bytes() == (workshop / "models" / name).read_bytes()


def test_a_data_set(workshop, tmp_path):
    output = generate(workshop, "--num_sample", 20, "--outdir", tmp_path / "s", "--save_vis",
                      "True", "--drop-uncertain", "10%", "--archive", "webdataset")  # fmt: skip
    assert "18 samples, 2 dropped" in output
    lines = (tmp_path / "s" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 18
    tree = read_tree(tmp_path / "s")
    assert "shard-000000.tar" in tree
    index = json.loads(lines[0])["index"]
    for name in (f"{index}_RGB.png", f"{index}_NIR.png", f"image_{index}_label.png"):
        assert name in tree
    assert "finished before" in generate(
        workshop, "--num_sample", 20, "--outdir", tmp_path / "s", "--save_vis", "True",
        "--drop-uncertain", "10%", "--archive", "webdataset")  # fmt: skip


def test_the_default_folder_is_named_after_count_and_start(workshop):
    generate(workshop, "--num_sample", 2, "--start_step", 3)
    assert (workshop / "models" / "samples_2_from_3" / "4_RGB.png").is_file()


def test_another_network_than_the_annotated_ones(workshop, tmp_path):
    other = save_small_snapshot(tmp_path / "other.pkl", seed=7)
    output = train(workshop, "--network", other, "--outdir", tmp_path / "m", code=2)
    assert "the annotated images were drawn with network_sha256" in " ".join(output.split())
    output = generate(workshop, "--network", other, "--outdir", tmp_path / "s", code=2)
    assert "the models were trained with network_sha256" in " ".join(output.split())
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "s").exists()


def test_features_that_do_not_match_the_models(workshop, tmp_path):
    save_small_models(tmp_path / "published", features=99)
    output = generate(workshop, "--resume", tmp_path / "published", code=2)
    assert "the models read 99 feature channels" in " ".join(output.split())


def test_published_models_and_latents_in_w(workshop, tmp_path):
    """No records beside masks, latents and models: nothing to compare, everything else works."""
    processed = tmp_path / "processed"
    processed.mkdir()
    for index in range(2):
        np.save(processed / f"image_mask{index}.npy", np.eye(16, dtype=np.uint8))
    np.save(processed / "w.npy", np.random.default_rng(0).standard_normal((2, 12)))
    exp = changed(workshop, tmp_path, annotation_mask_path=str(processed), number_class=3,
                  annotation_image_latent_path=str(processed / "w.npy"),
                  annotation_data_from_w=True, stopping="published")  # fmt: skip
    run(train_interpreter, "--exp", exp, "--outdir", tmp_path / "m")
    (tmp_path / "m" / "interpreter.json").unlink()
    output = run(train_interpreter, "--exp", exp, "--generate-data", "--resume", tmp_path / "m",
                 "--num-sample", 2)  # fmt: skip
    assert "2 samples" in output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"number_class": 2}, "image_mask0.npy: classes must be from 0 to 1"),
        ({"annotation_image_latent_path": "drawn/avg_latent_stylegan.npy"}, "shape must be"),
        ({"annotation_mask_path": "absent"}, "annotation_mask_path: neither"),
        ({"stylegan_checkpoint": "exp.json"}, "exp.json"),
        ({"use_raw_g": True}, "were drawn with network G_ema, this is G"),
        ({"truncation_psi": 0.9}, "were drawn with truncation_psi 0.5, this is 0.9"),
    ],
)
def test_bad_experiments_end_with_one_message(workshop, tmp_path, content, message):
    exp = changed(workshop, tmp_path, **content)
    output = run(train_interpreter, "--exp", exp, "--outdir", tmp_path / "m", code=2)
    assert message in " ".join(output.split())
    assert not (tmp_path / "m").exists()


def test_a_mask_of_another_size(workshop, tmp_path):
    np.save(tmp_path / "image_mask0.npy", np.zeros([32, 32], np.uint8))
    np.save(tmp_path / "z.npy", np.zeros([1, 8]))
    exp = changed(workshop, tmp_path, annotation_mask_path=str(tmp_path),
                  annotation_image_latent_path=str(tmp_path / "z.npy"))  # fmt: skip
    output = run(train_interpreter, "--exp", exp, "--outdir", tmp_path / "m", code=2)
    assert "must have the network's size 16x16, got 32x32" in " ".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter-identities", "x.json"], "a filter needs both --filter-identities and"),
        (["--rec-model", "x.pth"], "a filter needs both --filter-identities and --rec-model"),
        (["--face-check", "mtcnn"], "a filter needs both --filter-identities and --rec-model"),
        (["--filter-identities", "x.json", "--rec-model", "x.pth"], "x.json: no such file"),
        (["--drop-uncertain", "100%"], "--drop-uncertain must be"),
        (["--drop-uncertain", "some"], "expected a share"),
        (["--num-sample", "0"], "--num-sample"),
        (["--labels", "absent.npy"], "no such file"),
        (["--resume", "absent"], "no such folder"),
    ],
)
def test_bad_options_end_with_one_message(workshop, tmp_path, arguments, message):
    output = generate(workshop, *arguments, "--outdir", tmp_path / "s", code=2)
    assert message in " ".join(output.split())
    assert not (tmp_path / "s").exists()


def test_generating_needs_models(workshop):
    assert "needs --resume" in train(workshop, "--generate-data", code=2)
    assert "--resume names models" in train(workshop, "--resume", "x", code=2)
    assert "--face-check" in train(workshop, "--face-check=mtcnn", code=2)


def test_dry_runs_write_nothing(workshop, tmp_path):
    plan = json.loads(train(workshop, "--outdir", tmp_path / "m", "--face-check=none", "--dry-run"))
    assert plan["training"]["model_num"] == 2
    generate(workshop, "--outdir", tmp_path / "s", "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_of_torchrun_variables_write_what_one_does(workshop, tmp_path):
    """Really two processes at once: the folder, the records and the manifest are shared."""
    line = ("--num-sample", 48, "--device", "cpu", "--outdir")
    command = ("--exp", workshop / "exp.json", "--generate-data", "--resume", workshop / "models")
    run_ranks(2, run_script, "train_interpreter", *command, *line, tmp_path / "two")
    generate(workshop, *line, tmp_path / "one")
    one, two = read_tree(tmp_path / "one"), read_tree(tmp_path / "two")
    assert one.pop("dataset_info.json")  # it has the command
    assert two.pop("dataset_info.json")
    assert one == two


# The filter of training identities


def test_samples_near_a_training_identity_are_dropped(workshop, tmp_path):
    model = save_recogniser(tmp_path / "rec.pth")
    generate(workshop, "--num_sample", 8, "--outdir", tmp_path / "all")
    embedder = load_embedder(model)
    names = [f"{i}_RGB.png" for i in range(8)]
    images = np.stack([decode_image(tmp_path / "all" / name, 3) for name in names])
    vectors = embedder.embed(torch.from_numpy(images)).numpy()
    features = {f"{i}_0": vectors[i].tolist() for i in (2, 5)}
    (tmp_path / "known.json").write_text(json.dumps(features))
    write_thresholds(tmp_path / "thresholds.json", limits(privacy=0.99999))
    options = ["--filter-identities", tmp_path / "known.json", "--rec-model", model,
               "--num_sample", 8, "--outdir", tmp_path / "some"]  # fmt: skip
    expected = ((vectors @ vectors[[2, 5]].T).max(1) >= 0.99999).nonzero()[0].tolist()
    assert {2, 5} <= set(expected)
    assert f"{8 - len(expected)} samples, {len(expected)} dropped" in generate(workshop, *options)
    gone = (tmp_path / "some" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in gone] == expected
    assert {json.loads(line)["dropped"] for line in gone} == {"training_person"}
    for index in range(8):
        assert (tmp_path / "some" / names[index]).exists() == (index not in expected)
    write_thresholds(tmp_path / "thresholds.json", limits(privacy=0.9999))
    assert "was made with other options (filter" in generate(workshop, *options, code=2)


def limits(privacy):
    thresholds = calibrate(clustered_features(90, 3))
    return dataclasses.replace(thresholds, privacy=privacy, same_identity=privacy, too_similar=1.0)


def test_a_filter_is_for_generated_data(workshop):
    output = train(workshop, "--filter-identities", "x.json", "--rec-model", "x.pth", code=2)
    assert "--filter-identities goes with --generate-data" in " ".join(output.split())
