"""The example data set on disk: layout, splits, masks, restart and refusal."""

import json
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from dnnlib.files import sha256_file
from renderer import writer
from renderer.classes import FACE_4, FACE_10
from renderer.render import render_sample
from renderer.writer import ExampleOptions, prepare, split_identities

OPTIONS = {"identities": 5, "samples": 2, "resolution": 16, "seed": 9, "workers": 1}


def hashes(root):
    paths = [p for p in root.rglob("*") if p.is_file() and p.name != "dataset_info.json"]
    return {str(path.relative_to(root)): sha256_file(path) for path in paths}


def write(root, progress=lambda _: None, **options):
    return prepare(ExampleOptions(outdir=root, **options)).run(lambda *_: progress)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("example") / "set"
    return root, write(root, **OPTIONS)


def test_the_tree_is_as_described(dataset):
    root, message = dataset
    assert "6 train, 2 heldout, 2 test" in message
    for folder in (root, root / "heldout", root / "test"):
        stems = [{p.stem for p in (folder / name).iterdir()} for name in ("VIS", "NIR", "masks")]
        assert stems[0] == stems[1] == stems[2]
    assert {p.name for p in (root / "VIS").iterdir()} == {
        f"000{identity}_00{sample}.png" for identity in range(3) for sample in range(2)
    }
    assert not list(root.rglob(".*.part"))


def test_the_files_hold_what_the_renderer_returns(dataset):
    root, _ = dataset
    picture = render_sample(OPTIONS["seed"], 4, 1, OPTIONS["resolution"])
    for folder, mode, expected in (
        ("VIS", "RGB", picture.images["rgb"].transpose(1, 2, 0)),
        ("NIR", "L", picture.images["nir"][0]),
        ("masks", "P", picture.mask),
    ):
        with Image.open(root / "test" / folder / "0004_001.png") as image:
            assert image.mode == mode
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_masks_show_the_classes_colours(dataset):
    root, _ = dataset
    with Image.open(root / "masks" / "0000_000.png") as image:
        ids, colours = np.asarray(image), np.asarray(image.convert("RGB"))
    palette = FACE_10.palette()
    np.testing.assert_array_equal(colours, palette[ids])


def test_attributes_and_info_tell_what_is_there(dataset):
    root, _ = dataset
    attributes = json.loads((root / "attributes.json").read_text())
    assert len(attributes) == OPTIONS["identities"] * OPTIONS["samples"]
    for stem, entry in attributes.items():
        assert int(stem.split("_")[0]) == entry["identity"]
        folder = root if entry["split"] == "train" else root / entry["split"]
        assert (folder / "VIS" / f"{stem}.png").is_file()
        assert {"pose", "expression", "light", "glasses"} <= entry.keys()
    info = json.loads((root / "dataset_info.json").read_text())
    assert [entry["name"] for entry in info["classes"]] == list(FACE_10.names)
    assert info["options"]["seed"] == OPTIONS["seed"]
    assert info["images"] == {"train": 6, "heldout": 2, "test": 2}
    assert info["people"] == {"train": 3, "heldout": 1, "test": 1}
    with Image.open(root / "contact_sheet.png") as sheet:
        assert sheet.width > sheet.height > 0


def test_bytes_do_not_depend_on_the_number_of_processes(dataset, tmp_path):
    root, _ = dataset
    seen, before = [], multiprocessing.active_children()
    write(tmp_path / "two", seen.append, **{**OPTIONS, "workers": 2})
    assert hashes(tmp_path / "two") == hashes(root)
    assert sum(seen) == OPTIONS["identities"] * OPTIONS["samples"]
    assert set(multiprocessing.active_children()) <= set(before)


def test_four_classes(tmp_path):
    options = {**OPTIONS, "identities": 1, "samples": 1}
    write(tmp_path / "four", **options, classes=4)
    with Image.open(tmp_path / "four" / "masks" / "0000_000.png") as image:
        assert np.asarray(image).max() < len(FACE_4)
    info = json.loads((tmp_path / "four" / "dataset_info.json").read_text())
    assert [entry["name"] for entry in info["classes"]] == list(FACE_4.names)
    assert info["people"] == {"train": 1, "heldout": 0, "test": 0}
    assert not (tmp_path / "four" / "test").exists()


def test_a_failed_command_is_repeated(dataset, tmp_path, monkeypatch):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("disk full")
        return render_sample(*arguments)

    monkeypatch.setattr(writer, "render_sample", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "set", **OPTIONS)
    assert not json.loads((tmp_path / "set" / "dataset_info.json").read_text())["finished"]
    write(tmp_path / "set", **OPTIONS)
    assert hashes(tmp_path / "set") == hashes(dataset[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 100}, "resolution: must be one of"),
        ({"style": "x"}, "--style must be one of photo, plain"),
        ({"test_fraction": float("nan")}, "--test-fraction must be"),
        ({"heldout_fraction": 0.5, "test_fraction": 0.5}, "must leave identities to train on"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "set", **{**OPTIONS, **change})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 99, 1000])
@pytest.mark.parametrize("fractions", [(0.1, 0.1), (0, 0.3), (0.45, 0.5), (0, 0)])
def test_each_identity_is_in_one_split(count, fractions):
    options = ExampleOptions(
        identities=count,
        samples=1,
        resolution=16,
        heldout_fraction=fractions[0],
        test_fraction=fractions[1],
    )
    found = split_identities(options)
    numbers = [number for split in found for number in found[split]]
    assert numbers == list(range(count))
    assert len(found["train"]) >= 1
    if count >= 10:
        assert abs(len(found["heldout"]) - fractions[0] * count) <= 1
        assert abs(len(found["test"]) - fractions[1] * count) <= 1


def test_identities_for_an_auditor_leave_all_others_as_they_are(dataset, tmp_path):
    root, _ = dataset
    write(tmp_path / "more", **OPTIONS, audit_identities=2)
    before = {p.relative_to(root): p.read_bytes() for p in root.rglob("*.png")}
    after = {p.relative_to(tmp_path / "more"): p.read_bytes() for p in tmp_path.rglob("*.png")}
    assert before.items() <= after.items()
    new = [path for path in after.keys() - before.keys() if path.parts[:2] == ("audit", "VIS")]
    assert len(new) == 2 * OPTIONS["samples"]
