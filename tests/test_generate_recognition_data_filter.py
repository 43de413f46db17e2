"""Which new people and samples the filter rejects, and how its thresholds are calibrated."""

import json

import numpy as np
import pytest
from PIL import Image

from data.pixels import decode_image
from identities import filter_loading as setup
from tests.helpers.people import DarkIsNoFace, clustered_features
from tests.helpers.recognition_data import LIMITS, embed_files, lines, run, summary

# The filter


def test_planted_training_images_never_pass(shop, tmp_path):
    """Training people whose images the generator draws exactly: none of them comes out again."""
    entries, vectors = embed_files(shop, shop / "out", "rgb")
    stems = [f"{e['identity']}_{e['sample']}" for e in entries]
    content = dict(zip(stems, vectors.tolist(), strict=True))
    (tmp_path / "planted.json").write_text(json.dumps(content))
    run(shop, "--outdir", tmp_path / "o", training_ids=tmp_path / "planted.json", privacy=0.9999)
    known = {e["files"]["rgb"]["sha256"] for e in entries}
    again = lines(tmp_path / "o" / "manifest.jsonl")
    assert again
    assert not known & {entry["files"]["rgb"]["sha256"] for entry in again}
    refused = {
        (e["identity"], e["origin"]["vector"], e["origin"]["attempt"])
        for e in lines(tmp_path / "o" / "rejected.jsonl")
        if "training_person" in e["reasons"]
    }
    origins = [(e["identity"], e["origin"]["vector"], e["origin"]["attempt"]) for e in entries]
    assert all(origin in refused for origin in origins if origin[1:] == (0, 0))


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_samples_without_a_face_are_counted(shop, tmp_path, monkeypatch, rules):
    """Ours look at every sample, the published rules at the first of a person."""
    monkeypatch.setattr(setup, "build_face_check", lambda *_a, **_k: DarkIsNoFace(120))
    run(shop, "--outdir", tmp_path / "o", f"--rules={rules}", max_attempts=400)
    entries = lines(tmp_path / "o" / "manifest.jsonl")
    means = [decode_image(tmp_path / "o" / e["files"]["rgb"]["name"], 3).mean() for e in entries]
    assert all(m >= 120 for m, e in zip(means, entries, strict=True) if e["sample"] == 0)
    assert (min(means) >= 120) == (rules == "strict")
    content = summary(tmp_path / "o")
    assert content["rejected"]["faces"]["no face"] > 0
    assert content["identity"]["filter"]["face_check"] == {"kind": "dark"}


def test_published_rules(shop, tmp_path):
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", "--rules=published", ids=2, samples_per_id=2,
        max_attempts=30, **changes)  # fmt: skip
    rules = summary(tmp_path / "o")["rules"]
    assert (rules["privacy"], rules["same_identity"], rules["too_similar"]) == (0.622, 0.622, 0.853)
    assert rules["is_absolute"]
    assert rules["training"] == "first"


def test_people_who_cannot_be_found_are_reported(shop, tmp_path):
    output = run(shop, "--outdir", tmp_path / "o", privacy=-1, ids=3, max_attempts=10)
    assert "0 samples of 0 complete identities" in output
    assert "3 none; 30 candidates rejected" in output
    content = summary(tmp_path / "o")
    assert content["identities"]["failed_to_enrol"] == [0, 1, 2]
    assert content["identities"]["failure_to_enrol_rate"] == 1
    assert content["rejected"]["by_first_reason"] == {"training_person": 30}
    assert len(np.load(tmp_path / "o" / "features.npy")) == 0
    for _ in range(2):  # the second time, everything that can be is there
        output = run(
            shop, "--outdir", tmp_path / "p", "--strict", privacy=-1, max_attempts=4, code=1
        )
        assert "--strict" in output


def test_incomplete_people_keep_what_they_have(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", max_attempts=8, ids=3, samples_per_id=7)
    people = summary(tmp_path / "o")["identities"]
    found = lines(tmp_path / "o" / "manifest.jsonl")
    for entry in people["incomplete"]:
        assert entry["attempts"] == 8
        own = [e["sample"] for e in found if e["identity"] == entry["identity"]]
        assert own == list(range(entry["samples"]))
    assert people["incomplete"]


def test_disagreeing_pairs_are_counted(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", "--min-agreement=0.5", ids=2, max_attempts=20)
    content = summary(tmp_path / "o")
    assert content["rejected"]["by_any_reason"]["disagreement"] > 0
    agreements = [entry["agreement"] for entry in lines(tmp_path / "o" / "manifest.jsonl")]
    assert all(agreement >= 0.5 for agreement in agreements)


# Calibration


@pytest.fixture
def many_people(shop, tmp_path):
    """Features of 90 people in the recogniser's space, as if it had made them."""
    features = clustered_features(90, 3, width=6, spread=0.2)
    content = dict(zip(features.stems, features.vectors.tolist(), strict=True))
    path = tmp_path / "identity_features.json"
    path.write_text(json.dumps(content))
    return path


def test_calibrate_alone_writes_thresholds_and_a_plot(shop, many_people, tmp_path):
    wanted = {"training_ids": many_people, "gen_model": None}
    output = run(shop, "--calibrate", "--dry-run", **wanted)
    assert "privacy" in output
    assert not (tmp_path / "thresholds.json").exists()
    run(shop, "--calibrate=0.01", **wanted)
    thresholds = json.loads((tmp_path / "thresholds.json").read_text())
    assert thresholds["fmr"] == 0.01
    assert thresholds["identities"] == 90
    with Image.open(tmp_path / "thresholds.png") as image:
        assert image.format == "PNG"
    # They are found beside the features, and kept with the data set.
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", training_ids=many_people, ids=1, samples_per_id=2,
        max_attempts=5, **changes)  # fmt: skip
    assert summary(tmp_path / "o")["rules"]["privacy"] == thresholds["privacy"]
    assert json.loads((tmp_path / "o" / "thresholds.json").read_text()) == thresholds


def test_without_thresholds_strict_rules_calibrate(shop, many_people, tmp_path):
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", training_ids=many_people, ids=1, samples_per_id=2,
        max_attempts=5, **changes)  # fmt: skip
    assert json.loads((tmp_path / "o" / "thresholds.json").read_text())["fmr"] == 0.001
    assert not (tmp_path / "thresholds.json").exists()


def test_thresholds_of_other_features_are_refused(shop, many_people, tmp_path):
    run(shop, "--calibrate", training_ids=many_people, gen_model=None)
    content = json.loads((tmp_path / "thresholds.json").read_text())
    content["features"] = "f" * 64
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    changes = {name: None for name in LIMITS}
    output = run(shop, "--outdir", tmp_path / "o", training_ids=many_people, code=2, **changes)
    assert "calibrated on other features" in output
