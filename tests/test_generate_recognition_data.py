"""New people from start to end, on a 16x16 network and a recogniser of random weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from biometrics.features import read_identity_features
from data.dataset_card import CARD_FILE
from data.pixels import decode_image
from dnnlib.files import sha256_file
from identities import recognition_dataset
from identities.recognition_dataset import StepFiles
from tests.helpers.interpreters import read_tree
from tests.helpers.processes import run_ranks, run_script
from tests.helpers.recognition_data import (
    IDS,
    SAMPLES,
    arguments,
    embed_files,
    lines,
    run,
    summary,
)

# What is written


def test_the_layout_is_the_published_one(shop):
    names = set(read_tree(shop / "out"))
    expected = {
        f"id_{k}/{place}/sample_{i}_{place}.png"
        for k in range(IDS)
        for i in range(SAMPLES)
        for place in ("VIS", "NIR")
    }
    expected |= {f"id_{k}_samples_{place}.png" for k in range(IDS) for place in ("VIS", "NIR")}
    ours = {"dataset_card.md", "manifest.jsonl", "rejected.jsonl", "summary.json", "features.npy"}
    assert names == expected | ours | {"overview.png", "scores.png"}
    with Image.open(shop / "out" / "id_0" / "VIS" / "sample_0_VIS.png") as image:
        assert (image.mode, image.size) == ("RGB", (16, 16))
    with Image.open(shop / "out" / "id_0" / "NIR" / "sample_0_NIR.png") as image:
        assert (image.mode, image.size) == ("L", (16, 16))
    with Image.open(shop / "out" / "id_0_samples_VIS.png") as image:
        assert image.size == (16, 16 * SAMPLES)  # fewer than 8 samples: one a row, and no error


def test_what_is_saved_is_what_was_judged(shop):
    """The saved images are embedded again, and every rule and every score is looked at."""
    out = shop / "out"
    entries, vectors = embed_files(shop, out, "rgb")
    assert len(entries) == IDS * SAMPLES
    np.testing.assert_allclose(np.load(out / "features.npy"), vectors, atol=1e-6)
    nir = embed_files(shop, out, "nir")[1]
    training = read_identity_features(shop / "data" / "identity_features.json")
    cosines = vectors @ training.vectors.T
    for row, entry in enumerate(entries):
        nearest = entry["training"]["rgb"]
        assert nearest["score"] == pytest.approx(float(cosines[row].max()), abs=3e-6)
        assert nearest["image"] == training.stems[int(cosines[row].argmax())]
        assert entry["agreement"] == pytest.approx(float(vectors[row] @ nir[row]), abs=3e-6)
        assert entry["decision"] == "accepted"
        first = row - entry["sample"]
        assert entry["identity"] == row // SAMPLES
        if entry["sample"]:
            own = float(vectors[first] @ vectors[row])
            assert entry["own_first"] == pytest.approx(own, abs=3e-6)
            assert own >= 0.5 - 1e-6
    assert cosines.max() < 0.999
    others = np.repeat(np.arange(IDS), SAMPLES)
    between = (vectors @ vectors.T)[others[:, None] != others[None]]
    assert between.max() < 0.999


def test_counts_agree(shop):
    content, out = summary(shop / "out"), shop / "out"
    rejected = lines(out / "rejected.jsonl")
    assert content["finished"]
    assert content["accepted"] == IDS * SAMPLES
    assert content["rejected"]["total"] == len(rejected) > 0
    assert content["candidates"] == content["accepted"] + len(rejected) + content["surplus"]
    assert sum(content["rejected"]["by_first_reason"].values()) == len(rejected)
    assert content["identities"]["complete"] == IDS
    assert content["identities"]["failed_to_enrol"] == []
    assert content["scores"]["agreement"]["number"] == IDS * SAMPLES
    assert all(entry["reasons"] for entry in rejected)


def test_the_card_says_what_the_records_say(shop):
    content, out = summary(shop / "out"), shop / "out"
    card = (out / CARD_FILE).read_text(encoding="utf-8")
    rules = content["rules"]
    for row in (
        f"| network sha256 | {content['identity']['network_sha256']} |",
        f"| accepted | {content['accepted']} |",
        f"| rules, privacy | {rules['privacy']:.6g} |",
        f"manifest.jsonl is {sha256_file(out / 'manifest.jsonl')}",
    ):
        assert row in card


def test_every_file_has_its_hash(shop):
    for entry in lines(shop / "out" / "manifest.jsonl"):
        for file in entry["files"].values():
            assert sha256_file(shop / "out" / file["name"]) == file["sha256"]


# Repeating, continuing, other processes


def test_repeating_says_so_and_other_options_are_refused(shop):
    before = read_tree(shop / "out")
    first = summary(shop / "out")
    text = run(shop, "--outdir", shop / "out")
    assert f"{first['accepted']} samples of" in text
    output = run(shop, "--outdir", shop / "out", "--seed=5", code=2)
    assert "was made with other options (people" in output
    assert read_tree(shop / "out") == before


def test_fresh_starts_beside(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", ids=1, samples_per_id=1)
    run(shop, "--outdir", tmp_path / "o", "--fresh", ids=1, samples_per_id=1)
    assert read_tree(tmp_path / "o") == read_tree(tmp_path / "o-2")


STOPS = {
    "scores of the second step": (StepFiles, "save_scores", 1),
    "decisions of the first step": (StepFiles, "save_decisions", 0),
    "images of the second step": (StepFiles, "save_images", 1),
    "grids": (recognition_dataset, "write_identity_sheets", 2),
    "end": (recognition_dataset, "summarise_dataset", 0),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_killed_run_continues_to_the_same_bytes(shop, tmp_path, monkeypatch, name):
    owner, function, calls = STOPS[name]
    original, count = getattr(owner, function), []

    def stop(*values):
        count.append(1)
        if len(count) > calls:
            raise KeyboardInterrupt
        return original(*values)

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, stop)
        run(shop, "--outdir", tmp_path / "o", code=1)
    assert not summary(tmp_path / "o")["finished"]
    (tmp_path / "o" / ".half.png.x.part").write_bytes(b"of a write that was killed")
    run(shop, "--outdir", tmp_path / "o")
    assert read_tree(tmp_path / "o") == read_tree(shop / "out")


def test_what_is_done_is_not_done_again(shop, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(recognition_dataset, "write_overview", raise_interrupt)
        run(shop, "--outdir", tmp_path / "o", code=1)
    drawn = []
    original = recognition_dataset.CandidateSampler.sample

    def draw(self, candidates):
        drawn.append(len(candidates))
        return original(self, candidates)

    monkeypatch.setattr(recognition_dataset.CandidateSampler, "sample", draw)
    run(shop, "--outdir", tmp_path / "o")
    assert drawn == []


def test_images_that_come_out_differently_after_a_kill_are_judged_again(
    shop, tmp_path, monkeypatch
):
    """A training image stands for what another device draws."""
    with monkeypatch.context() as patch:
        patch.setattr(StepFiles, "save_images", raise_interrupt)
        run(shop, "--outdir", tmp_path / "o", code=1)
    original = recognition_dataset.CandidateSampler.sample

    def draw(self, candidates):
        drawn = original(self, candidates)
        planted = {
            name: decode_image(shop / "data" / place / "2_1.png", len(drawn[name][0]))
            for name, place in (("rgb", "VIS"), ("nir", "NIR"))
        }
        return {
            name: torch.from_numpy(image).expand_as(drawn[name]) for name, image in planted.items()
        }

    monkeypatch.setattr(recognition_dataset.CandidateSampler, "sample", draw)
    output = run(shop, "--outdir", tmp_path / "o", code=2)
    assert "come out differently now and do not pass" in output


def raise_interrupt(*_arguments):
    raise KeyboardInterrupt


def test_two_processes_write_the_same_bytes(shop, tmp_path):
    many = {"ids": 17, "samples_per_id": 3}  # several chunks a step
    run(shop, "--outdir", tmp_path / "one", **many)
    line = arguments(shop, "--outdir", tmp_path / "two", **many)
    run_ranks(2, run_script, "generate_recognition_data", *line)
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "one")
