"""A view of a folder without training people."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import filter_dataset
from biometrics.thresholds import calibrate, write_thresholds
from identities import filter_loading, folder_filter
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs
from tests.helpers.interpreters import read_tree
from tests.helpers.people import (
    DarkIsNoFace,
    clustered_features,
    save_recogniser,
    write_features,
    write_people,
)

LIMITS = {"privacy": 0.9999, "rec-model": "rec.pth", "training-ids": "data/identity_features.json"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    save_recogniser(folder / "rec.pth")
    save_recogniser(folder / "second.pth", seed=1)
    write_people(folder / "data", folder / "rec.pth", people=4)
    write_features(folder / "data", folder / "second.pth", "second.json")
    return folder


@pytest.fixture
def images(tmp_path, shop):
    """Six new pairs with masks, of which two show training images, under other names."""
    folder = tmp_path / "images"
    write_pairs(folder, [f"s{i}" for i in range(6)], size=16)
    for i in range(6):
        for place, channels in (("VIS", 3), ("NIR", 1)):
            pixels = random_pixels(5000 + i, 16, channels)
            write_image(folder / place / f"s{i}.png", pixels)
        write_image(folder / "masks" / f"s{i}.png", np.zeros((16, 16), np.uint8))
    for place in ("VIS", "NIR"):
        shutil.copy(shop / "data" / place / "2_1.png", folder / place / "s3.png")
        shutil.copy(shop / "data" / place / "0_0.png", folder / place / "s5.png")
    return folder


def run(shop, data, *more, code=0, **changes):
    values = {"data": data, **LIMITS, **changes}
    given = []
    for name, value in values.items():
        is_file = name.startswith(("rec-model", "training-ids", "audit-"))
        given.append(f"--{name}={shop / value if is_file else value}")
    if "--rules=published" not in more:
        given.append(f"--thresholds={some_thresholds(shop)}")
    line = [*given, "--device=cpu", *map(str, more)]
    result = CliRunner().invoke(filter_dataset.main, line)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def some_thresholds(shop):
    path = shop / "limits.json"
    if not path.exists():
        write_thresholds(path, calibrate(clustered_features(90, 3)))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_images_are_left_out_with_all_their_files(shop, images, tmp_path):
    before = read_tree(images)
    output = run(shop, images, "--outdir", tmp_path / "view")
    assert "4 of 6 samples kept; rejected: training_person 2" in output
    assert read_tree(images) == before
    view = tmp_path / "view"
    kept = {f"{p}/s{i}.png" for p in ("VIS", "NIR", "masks") for i in (0, 1, 2, 4)}
    ours = {"dataset_card.md", "filter_scores.jsonl", "filter_summary.json", "kept.txt"}
    ours |= {"rejected.jsonl"}
    assert set(read_tree(view)) == kept | ours
    assert (view / "VIS" / "s0.png").samefile(images / "VIS" / "s0.png")
    assert set((view / "kept.txt").read_text().split()) == kept
    rejected = lines(view / "rejected.jsonl")
    assert [(e["name"], e["training"]["rgb"]["image"]) for e in rejected] == [
        ("s3", "2_1"),
        ("s5", "0_0"),
    ]
    assert all(e["training"]["rgb"]["score"] > 0.9999 for e in rejected)
    summary = json.loads((view / "filter_summary.json").read_text())
    assert (summary["samples"], summary["kept"], summary["finished"]) == (6, 4, True)
    assert summary["scores"]["training"]["highest"] > 0.9999
    assert summary["scores"]["training_of_kept"]["highest"] < 0.9999


def test_lists_only(shop, images, tmp_path):
    run(shop, images, "--outdir", tmp_path / "view", "--list-only")
    assert not (tmp_path / "view" / "VIS").exists()
    assert len((tmp_path / "view" / "kept.txt").read_text().split()) == 12


def test_copies_where_links_are_impossible(shop, images, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    run(shop, images, "--outdir", tmp_path / "view")
    assert json.loads((tmp_path / "view" / "filter_summary.json").read_text())["copied_files"] == 12
    copy, original = tmp_path / "view" / "VIS" / "s0.png", images / "VIS" / "s0.png"
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)


def test_repeating_says_so_and_changed_images_are_refused(shop, images, tmp_path):
    run(shop, images, "--outdir", tmp_path / "view")
    before = read_tree(tmp_path / "view")
    assert "finished before" in run(shop, images, "--outdir", tmp_path / "view")
    write_image(images / "VIS" / "s9.png", random_pixels(5009))
    output = run(shop, images, "--outdir", tmp_path / "view", code=2)
    assert "was made with other options (files_sha256" in output
    assert read_tree(tmp_path / "view") == before
    run(shop, images, "--outdir", tmp_path / "view", "--fresh")
    assert (tmp_path / "view-2" / "VIS" / "s9.png").is_file()


def test_an_interrupted_view_is_finished_by_repeating(shop, images, tmp_path, monkeypatch):
    run(shop, images, "--outdir", tmp_path / "whole")

    def stop(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_filter, "count_reasons", stop)
        run(shop, images, "--outdir", tmp_path / "view", code=1)
    run(shop, images, "--outdir", tmp_path / "view")
    assert read_tree(tmp_path / "view") == read_tree(tmp_path / "whole")


def test_samples_of_the_interpreter(shop, tmp_path):
    folder = tmp_path / "samples"
    entries = []
    for i in range(3):
        write_image(folder / f"{i}_RGB.png", random_pixels(5000 + i))
        write_image(folder / f"{i}_NIR.png", random_pixels(6000 + i, channels=1))
        write_image(folder / f"image_{i}_label.png", np.zeros((16, 16), np.uint8))
        names = {"rgb": f"{i}_RGB.png", "nir": f"{i}_NIR.png", "label": f"image_{i}_label.png"}
        entries.append({"index": i, "files": {k: {"name": n} for k, n in names.items()}})
    shutil.copy(shop / "data" / "VIS" / "1_2.png", folder / "1_RGB.png")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    (folder / "dataset_info.json").write_text("{}")
    run(shop, folder, "--outdir", tmp_path / "view")
    view = tmp_path / "view"
    assert lines(view / "manifest.jsonl") == [entries[0], entries[2]]
    assert (view / "image_0_label.png").is_file()
    assert (view / "dataset_info.json").is_file()
    assert not (view / "image_1_label.png").exists()


def test_unreadable_images_are_counted_or_fatal(shop, images, tmp_path):
    truncate(images / "NIR" / "s1.png")
    (images / "VIS" / "s2.png").write_bytes(b"nonsense")
    output = run(shop, images, "--outdir", tmp_path / "view")
    assert "2 of 6 samples kept; rejected: unreadable 2, training_person 2" in output
    rejected = lines(tmp_path / "view" / "rejected.jsonl")
    errors = {entry["name"]: entry["error"] for entry in rejected if "error" in entry}
    assert "s1.png" in errors["s1"]
    assert "s2.png" in errors["s2"]
    output = run(shop, images, "--outdir", tmp_path / "strict", "--strict", code=2)
    assert "--strict:" in output


@pytest.mark.parametrize(("planted", "other"), [("a.jpg", "a.png"), ("a.png", "a.jpg")])
def test_no_image_passes_under_the_name_of_another(shop, tmp_path, planted, other):
    folder = tmp_path / "images"
    write_image(folder / "b.png", random_pixels(5001, 16))
    write_image(folder / "a.png", random_pixels(5000, 16))
    (folder / "a.png").rename(folder / other)
    shutil.copy(shop / "data" / "VIS" / "2_1.png", folder / planted)
    output = run(shop, folder, "--outdir", tmp_path / "view", code=2)
    assert "a.jpg and a.png are both the rgb of 'a'" in output
    assert not (tmp_path / "view").exists()


def test_images_of_several_sizes(shop, tmp_path):
    folder = tmp_path / "images"
    for index, size in enumerate((16, 24, 16, 40)):
        write_image(folder / f"{index}.png", random_pixels(5000 + index, size))
    assert "4 of 4 samples kept" in run(shop, folder, "--outdir", tmp_path / "view",
                                        **{"audit-model": "second.pth",
                                           "audit-features": "data/second.json"})  # fmt: skip
    names = [entry["name"] for entry in lines(tmp_path / "view" / "filter_scores.jsonl")]
    assert names == ["0", "1", "2", "3"]


def test_images_without_a_face_are_left_out(shop, images, tmp_path, monkeypatch):
    monkeypatch.setattr(filter_loading, "build_face_check", lambda *_a, **_k: DarkIsNoFace(128))
    run(shop, images, "--outdir", tmp_path / "view")
    rejected = lines(tmp_path / "view" / "rejected.jsonl")
    means = {}
    for i in range(6):
        with Image.open(images / "VIS" / f"s{i}.png") as image:
            means[f"s{i}"] = torch.from_numpy(np.array(image)).float().mean()
    dark = {name for name, mean in means.items() if mean < 128}
    assert dark
    assert {e["name"] for e in rejected if e["face"] == "no face"} == dark
    summary = json.loads((tmp_path / "view" / "filter_summary.json").read_text())
    assert summary["rejected"]["faces"] == {"no face": len(dark)}


def test_the_second_recogniser_reports(shop, images, tmp_path):
    options = {"audit-model": "second.pth", "audit-features": "data/second.json"}
    run(shop, images, "--outdir", tmp_path / "view", **options)
    audit = json.loads((tmp_path / "view" / "filter_summary.json").read_text())["audit"]
    assert audit["training"]["number"] == 4
    assert {entry["image"] for entry in audit["highest"]} <= {f"VIS/s{i}.png" for i in (0, 1, 2, 4)}


def test_nir_images_have_features_of_their_own(shop, images, tmp_path):
    """A training person's NIR image beside a new RGB image."""
    shutil.copy(shop / "data" / "NIR" / "1_0.png", images / "NIR" / "s1.png")
    write_features(shop / "data", shop / "rec.pth", "nir.json", modality="nir")
    run(shop, images, "--outdir", tmp_path / "rgb", "--rules=published")
    options = {"training-ids-nir": "data/nir.json"}
    run(shop, images, "--outdir", tmp_path / "both", "--rules=published", **options)
    reasons = [
        {e["name"]: e["reasons"] for e in lines(tmp_path / name / "rejected.jsonl")}
        for name in ("rgb", "both")
    ]
    assert "s1" not in reasons[0]
    assert reasons[1]["s1"] == ["training_person_nir"]
    assert reasons[1]["s5"] == ["training_person", "training_person_nir"]


def test_nir_features_must_be_of_nir_images_and_this_recogniser(shop, images, tmp_path):
    for name, message in {
        "identity_features.json": "features of rgb images",
        "second.json": "cannot be compared",
    }.items():
        options = {"training-ids-nir": f"data/{name}"}
        output = run(
            shop, images, "--outdir", tmp_path / "v", "--rules=published", code=2, **options
        )
        assert message in output


def test_dry_run_writes_nothing(shop, images, tmp_path):
    output = run(shop, images, "--outdir", tmp_path / "view", "--dry-run")
    assert json.loads(output[output.index("{") :])["samples"] == 6
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("place", [".", "sub", ".."])
def test_a_view_inside_its_source_is_refused(shop, images, place):
    output = run(shop, images, "--outdir", images / place, code=2)
    assert "must lie beside the images" in output


def test_missing_things_are_named(shop, images, tmp_path):
    cases = {
        "gone: no such folder": {"data": tmp_path / "gone"},
        "gone.pth": {"rec-model": "gone.pth"},
        "gone.json: no such file": {"training-ids": "gone.json"},
    }
    for message, changes in cases.items():
        data = changes.pop("data", images)
        output = run(shop, data, "--outdir", tmp_path / "v", code=2, **changes)
        assert message in output
    assert not (tmp_path / "v").exists()
