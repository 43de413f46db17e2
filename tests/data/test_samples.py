"""Any data set as an index of samples: which files belong together, and what is refused."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.sample_index import MASK, check_disjoint, identity_of
from data.samples import open_masks, open_samples
from data.storage import link_or_copy
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs, zip_folder


def grey(seed):
    return random_pixels(seed, channels=1)


def write_mask(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def make(folder, *names):
    for index, name in enumerate(names):
        write_image(folder / name, random_pixels(index))
    return folder


def shown(samples):
    """Return {stem: {kind: file}}."""
    kinds = samples.files
    return {
        stem: {kind: samples.file(kind, i) for kind in kinds if samples.has(kind, i)}
        for i, stem in enumerate(samples.stems)
    }


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ("dataset_info.json", "command that made it"),
        ("summary.json", "generate_recognition_data"),
        ("filter_summary.json", "filter_dataset"),
    ],
)
def test_unfinished_data_sets_are_refused(tmp_path, record, command):
    root = write_pairs(tmp_path / "set")
    for content in ("{}", '{"finished": false}', "notes of a user", '{"identity": 1}'):
        (root / record).write_text(content)
        assert len(open_samples(root)) == 4
    (root / record).write_text('{"identity": {}, "finished": false}')
    write_pairs(root / "heldout")
    for path in (root / "heldout", root, zip_folder(root, tmp_path / "set.zip", "set/")):
        with pytest.raises(ValueError, match=f"set.*: .*unfinished.* {command}"):
            open_samples(path)


# What belongs together


def test_pairs_with_masks(tmp_path):
    root = write_pairs(tmp_path / "set")
    write_mask(root / "masks" / "1_0.png", np.full((16, 16), 3))
    write_pairs(root / "heldout", ["8_0"])
    samples = open_samples(root)
    assert (samples.name, samples.modalities) == ("set", ("rgb", "nir"))
    assert samples.stems == ("1_0", "1_1", "2_0", "2_1")
    assert samples.identities == ("1", "1", "2", "2")
    assert (samples.num_identities, samples.num_masks) == (2, 1)
    assert samples.identity_numbers().tolist() == [0, 0, 1, 1]
    assert (samples.image("nir", 1) == grey(1001)[None]).all()
    assert samples.mask(0).tolist() == np.full((16, 16), 3).tolist()
    assert samples.mask(1) is None
    assert samples.describe("nir", 2) == str(root / "NIR" / "2_0.png")


def test_archives_hold_what_their_folder_holds(tmp_path):
    root = write_pairs(tmp_path / "set")
    write_mask(root / "masks" / "1_0.png", np.zeros((16, 16)))
    archive = zip_folder(root, tmp_path / "set.zip", top="set/")
    samples, packed = open_samples(root), pickle.loads(pickle.dumps(open_samples(archive)))
    assert packed.fingerprint() == samples.fingerprint()
    assert packed.content_hash() == samples.content_hash()
    assert (packed.image("rgb", 2) == random_pixels(2).transpose(2, 0, 1)).all()


def test_an_archive_is_opened_once_for_all_its_folders(tmp_path, monkeypatch):
    archive = zip_folder(write_pairs(tmp_path / "set"), tmp_path / "set.zip")
    opened, whole = [], zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: (opened.append(path), whole(path))[1])
    samples = open_samples(archive)
    opened.clear()  # the names were read
    for one in (samples, pickle.loads(pickle.dumps(samples))):
        assert [one.image(kind, 0).shape[0] for kind in ("rgb", "nir", "rgb")] == [3, 1, 3]
    assert opened == [archive, archive]


def test_folders_of_identities(tmp_path):
    for k in (0, 1):
        folder = tmp_path / f"id_{k}"
        for i in (0, 1):
            write_image(folder / "VIS" / f"sample_{i}_VIS.png", random_pixels(k))
            write_image(folder / "NIR" / f"sample_{i}_NIR.png", grey(k))
        write_image(tmp_path / f"id_{k}_samples_VIS.png", random_pixels(9))
    samples = open_samples(tmp_path)
    assert samples.identities == ("id_0", "id_0", "id_1", "id_1")
    assert shown(samples)["id_1/sample_1"] == {
        "rgb": "id_1/VIS/sample_1_VIS.png",
        "nir": "id_1/NIR/sample_1_NIR.png",
    }


def test_flat_folders_of_generated_samples(tmp_path):
    for i in (0, 1):
        write_image(tmp_path / f"{i}_RGB.png", random_pixels(i))
        write_image(tmp_path / f"{i}_NIR.png", grey(i))
        Image.fromarray(np.full((16, 16), 7, np.uint16)).save(tmp_path / f"{i}_uncertainty.png")
        write_mask(tmp_path / f"image_{i}_label.png", np.zeros((16, 16)))
        write_image(tmp_path / "vis" / f"vis_{i}.png", random_pixels(i))
    make(tmp_path, "grid.png", "contact_sheet.png")
    samples = open_samples(tmp_path)
    assert samples.stems == samples.identities == ("0", "1")
    assert samples.files[MASK] == ("image_0_label.png", "image_1_label.png")
    assert (samples.uncertainty(1) == 7).all()
    assert samples.files_of(0) == [
        "0_RGB.png",
        "0_NIR.png",
        "image_0_label.png",
        "0_uncertainty.png",
    ]


def test_incomplete_samples_where_they_are_allowed(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.png", "seed1_RGB.png", "seed1_NIR.png", "c_NIR.png")
    (tmp_path / "notes.txt").write_text("no image")
    samples = open_samples(tmp_path, is_complete=False)
    assert shown(samples) == {
        "a": {"rgb": "a.jpg"},
        "c": {"nir": "c_NIR.png"},
        "seed1": {"rgb": "seed1_RGB.png", "nir": "seed1_NIR.png"},
        "sub/b": {"rgb": "sub/b.png"},
    }
    with pytest.raises(FileNotFoundError, match="'c' has no rgb file"):
        samples.image("rgb", 1)
    with pytest.raises(ValueError, match="3 samples are not there in all of rgb, nir: a, c, sub/b"):
        open_samples(tmp_path)


@pytest.mark.parametrize("names", [("vis/a", "nir/a"), ("Images/a", "Nir/a"), ("a_rgb", "a_nir")])
def test_case_parts_no_pair(tmp_path, names):
    for name, channels in zip(names, (3, 1), strict=True):
        write_image(tmp_path / f"{name}.png", random_pixels(0, channels=channels))
    assert list(shown(open_samples(tmp_path, is_complete=False)).items()) == [
        ("a", {"rgb": f"{names[0]}.png", "nir": f"{names[1]}.png"})
    ]


def test_images_that_are_skipped_are_named(tmp_path, caplog):
    make(tmp_path, "VIS/a.png", "heldout/VIS/b.png", "VIS/reals_2.png", "grid.png")
    assert open_samples(tmp_path, is_complete=False).stems == ("a",)
    assert "3 images" in caplog.text
    assert all(name in caplog.text for name in ("heldout/VIS/b.png", "VIS/reals_2.png", "grid.png"))


def test_trees_by_their_names_alone(tmp_path):
    names = [f"{place}/1_{i}.png" for place in ("VIS", "NIR", "masks") for i in range(2)]
    make(tmp_path, *names, "VIS/1_2.png", "test/VIS/9.png")
    found = shown(open_samples(tmp_path, is_complete=False))
    assert found["1_1"] == {"rgb": "VIS/1_1.png", "nir": "NIR/1_1.png", "mask": "masks/1_1.png"}
    assert found["1_2"] == {"rgb": "VIS/1_2.png"}
    assert list(found) == ["1_0", "1_1", "1_2"]


@pytest.mark.parametrize(
    ("stem", "identity"),
    [
        ("id_3/VIS/sample_1_VIS", "id_3"),
        ("VIS/0007_003", "0007"),
        ("a_b_3", "a_b"),
        ("person/IMG_5", "person"),
        ("a", "a"),
        ("_1", "_1"),
    ],
)
def test_identities_by_name(stem, identity):
    assert identity_of(stem) == identity


# Manifests


def manifest(folder, *rows):
    path = folder / "manifest.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def row(i, **more):
    names = {"rgb": f"{i}_VIS.png", "nir": f"{i}_NIR.png"}
    return {"files": {kind: {"name": name} for kind, name in names.items()}, **more}


def test_manifests(tmp_path):
    write_image(tmp_path / "0_VIS.png", random_pixels(0))
    labelled = row(1)
    labelled["files"] |= {"label": {"name": "image_1_label.png"}, "vis": {"name": "vis/vis_1.png"}}
    path = manifest(tmp_path, row(0, identity=7), labelled)
    for given in (path, tmp_path):
        samples = open_samples(given)
        assert samples.stems == ("0", "1")
        assert samples.identities == ("id_7", "1")
        assert samples.files["nir"] == ("0_NIR.png", "1_NIR.png")
        assert samples.files[MASK] == (None, "image_1_label.png")
        assert samples.files_of(1)[-1] == "vis/vis_1.png"
        assert samples.entries[1] == labelled
    assert samples.image("rgb", 0).shape == (3, 16, 16)
    with pytest.raises(FileNotFoundError, match="0_NIR"):
        samples.fingerprint()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "manifest.jsonl.*line 1"),
        ([row(0), {"identity": 1}], "line 2: no names of files"),
        ([{"files": {"rgb": {"name": "../../etc/x.png"}}}], "is outside of the folder"),
        ([{"files": {"rgb": {"name": "/etc/x.png"}}}], "is outside of the folder"),
        ([{"files": {"rgb": 5}}], "line 1: no names of files"),
        ([row(0), {"files": {"rgb": {"name": "1"}}}], "line 2: expected files of rgb, nir"),
        ([row(0), row(0)], "two samples"),
        ([], "names no samples"),
    ],
)
def test_damaged_manifests(tmp_path, rows, message):
    manifest(tmp_path, *rows)
    with pytest.raises(ValueError, match=message):
        open_samples(tmp_path)


# Masks alone


def test_masks_of_a_folder(tmp_path):
    for name in ("a/masks/0.png", "b/image_0_label.png", "c/0.png"):
        write_mask(tmp_path / name, np.full((4, 4), 2))
    make(tmp_path, "b/0_RGB.png", "a/VIS/7.png")
    for folder in "abc":
        masks = open_masks(tmp_path / folder)
        assert masks.stems == ("0",)
        assert (masks.mask(0) == 2).all()
    write_mask(tmp_path / "b" / "0_mask.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="both masks of '0'"):
        open_masks(tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no masks"):
        open_masks(tmp_path / "empty")


def test_masks_must_be_class_numbers(tmp_path):
    root = write_pairs(tmp_path)
    write_image(root / "masks" / "1_0.png", random_pixels(0))
    with pytest.raises(ValueError, match="must be an indexed or grey PNG, got mode RGB"):
        open_samples(root).mask(0)
    truncate(root / "masks" / "1_0.png")
    with pytest.raises(ValueError, match="1_0.png: (not a PNG image|damaged)"):
        open_samples(root).mask(0)


# What is refused


def test_missing_places_and_twins_are_named(tmp_path):
    with pytest.raises(ValueError, match="no images in it"):
        open_samples(tmp_path)
    for name in ("absent", "absent/manifest.jsonl", "absent.rec"):
        with pytest.raises(FileNotFoundError, match="absent"):
            open_samples(tmp_path / name)
    make(tmp_path, "0_RGB.png", "0_VIS.png")
    with pytest.raises(ValueError, match="are both the rgb of '0'"):
        open_samples(tmp_path)


def test_one_set_under_two_names_is_found(tmp_path):
    first = open_samples(write_pairs(tmp_path / "a"))
    copy = open_samples(write_pairs(tmp_path / "b"))
    for other in (first, copy):
        with pytest.raises(ValueError, match="--test x: must hold other samples than --data y"):
            check_disjoint("--test x", other, {"--data y": first})
    for suffix in (".png", ".bmp"):  # files without compression have equal sizes
        write_pairs(tmp_path / f"c{suffix}", suffix=suffix)
        write_pairs(tmp_path / f"d{suffix}", suffix=suffix)
        write_image(tmp_path / f"d{suffix}" / "VIS" / f"1_0{suffix}", random_pixels(77))
        one, two = (open_samples(tmp_path / f"{name}{suffix}") for name in "cd")
        check_disjoint("--test x", two, {"--data y": one})


# Links


def test_a_link_shares_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    for _ in range(2):
        assert link_or_copy(tmp_path / "a", tmp_path / "sub" / "b")
        assert (tmp_path / "sub" / "b").samefile(tmp_path / "a")


def test_a_copy_where_links_are_impossible(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_bytes(b"content")
    assert not link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    assert not (tmp_path / "b").samefile(tmp_path / "a")
