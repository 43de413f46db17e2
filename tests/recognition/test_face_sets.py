"""Sources of faces: every layout gives the same people and pixels, and bad ones are refused."""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from data.pixels import decode_image
from data.recordio import Record, write_record
from identities.export import export_manifest
from identities.options import ExportKind
from recognition.face_sets import FaceSet, Target
from recognition.face_sources import open_faces, take_part
from recognition.options import LabelKind
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs, zip_folder

PEOPLE, SAMPLES = 3, 2
PLACES = {"rgb": "VIS", "nir": "NIR"}


def write_manifest(root, change=lambda entry: entry):
    """A data set of new people as generate_recognition_data.py writes it."""
    entries = []
    for person, sample in itertools.product(range(PEOPLE), range(SAMPLES)):
        files = {}
        for modality, place in PLACES.items():
            name = f"id_{person}/{place}/sample_{sample}_{place}.png"
            pixels = random_pixels(10 * person + sample, channels=3 if place == "VIS" else 1)
            write_image(root / name, pixels)
            files[modality] = {"name": name}
        origin = {"seed": 0, "vector": 0, "attempt": sample}
        entries.append(change({"identity": person, "origin": origin, "files": files}))
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (root / "manifest.jsonl").write_text(lines)
    return entries


@pytest.fixture
def made(tmp_path):
    root = tmp_path / "made"
    entries = write_manifest(root)
    for kind in (ExportKind.IMAGEFOLDER, ExportKind.RECORDIO, ExportKind.WEBDATASET):
        export_manifest(root, entries, kind)
    return root


def pixels_of(faces):
    labels = faces.labels.tolist()
    return [(label, faces.image(i).numpy().tobytes()) for i, label in enumerate(labels)]


@pytest.mark.parametrize("modality", ["rgb", "nir"])
@pytest.mark.parametrize("kind", ["imagefolder", "recordio", "webdataset"])
def test_exports_hold_what_the_data_set_holds(made, kind, modality):
    expected = FaceSet([open_faces(made)], [modality])
    found = FaceSet([open_faces(made / "export" / kind / PLACES[modality])], [modality])
    assert pixels_of(found) == pixels_of(expected)
    assert len(found.identities) == PEOPLE


@pytest.mark.parametrize("kind", ["recordio", "webdataset"])
def test_packed_modalities_are_joined(made, kind):
    faces = FaceSet([open_faces(made / "export" / kind)], ["rgb", "nir"], joint=True)
    expected = FaceSet([open_faces(made)], ["rgb", "nir"], joint=True)
    assert faces.channels == 4
    assert len(faces) == PEOPLE * SAMPLES
    assert pixels_of(faces) == pixels_of(expected)


def test_packed_files_are_opened_by_themselves(made):
    for path in ("recordio/VIS/train.rec", "webdataset/NIR/shard-000000.tar"):
        modality = "rgb" if "VIS" in path else "nir"
        faces = FaceSet([open_faces(made / "export" / path)], [modality])
        assert faces.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_archives_of_pairs_hold_what_their_folder_holds(tmp_path):
    root = write_pairs(tmp_path / "pairs")
    archive = zip_folder(root, tmp_path / "pairs.zip")
    both = [FaceSet([open_faces(path)], ["rgb", "nir"]) for path in (root, archive)]
    assert pixels_of(both[0]) == pixels_of(both[1])
    assert both[0].fingerprints == both[1].fingerprints


def test_names_that_tell_no_identity_are_said(tmp_path, caplog):
    open_faces(write_pairs(tmp_path / "told", ["1_0", "1_1"]))
    assert not caplog.records
    open_faces(write_pairs(tmp_path / "untold", ["1_0", "one", "two"]))
    assert "2 of 3 images are identities of their own" in caplog.text


def test_folders_inside_pair_folders_of_the_data_set_do_not_count(tmp_path):
    root = write_pairs(tmp_path / "pairs")
    write_pairs(root / "heldout", ["8_0", "9_0"])
    assert FaceSet([open_faces(root)]).identities == ("1", "2")


def test_joint_images_stack_the_modalities(tmp_path):
    root = write_pairs(tmp_path)
    faces = FaceSet([open_faces(root)], ["rgb", "nir"], joint=True)
    expected = [
        decode_image(root / name, c) for name, c in (("VIS/1_1.png", 3), ("NIR/1_1.png", 1))
    ]
    assert torch.equal(faces.image(1), torch.from_numpy(np.concatenate(expected)))
    assert len(faces) == 4


def test_people_of_several_sets_are_different_people(tmp_path):
    write_pairs(tmp_path / "a")
    write_pairs(tmp_path / "b")
    faces = FaceSet([open_faces(tmp_path / "a"), open_faces(tmp_path / "b")])
    assert faces.identities == ("a/1", "a/2", "b/1", "b/2")
    assert faces.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_memory_changes_nothing(tmp_path):
    source = open_faces(write_pairs(tmp_path))
    kept, read = (FaceSet([source], ["rgb", "nir"], memory_gib=gib) for gib in (1, 0))
    for faces in (kept, read):
        assert not faces.is_cached
        faces.cache()
    assert kept.is_cached
    assert not read.is_cached
    assert pixels_of(kept) == pixels_of(read)


def test_parents_share_the_labels_of_mixed_people(tmp_path):
    def mix(entry):
        person = entry["identity"]
        mixed = {"mixed": [f"00{person}_01", "VIS/009_03"], "phi": 0.25 * person}
        return {**entry, "origin": entry["origin"] | mixed}

    write_manifest(tmp_path, mix)
    faces = FaceSet([open_faces(tmp_path, LabelKind.PARENTS)])
    assert faces.identities == ("000", "001", "002", "009")
    assert faces.target(2) == Target((1, 3), (0.25, 0.75))
    assert FaceSet([open_faces(tmp_path)]).identities == ("id_0", "id_1", "id_2")


def test_parts_are_nested(tmp_path):
    write_pairs(tmp_path, [f"{p}_{i}" for p in range(6) for i in range(4)])
    source = open_faces(tmp_path)
    small, large = (take_part(source, people, samples) for people, samples in ((2, 1), (4, 3)))
    assert len(small.samples) == len(small.shown) == 2
    assert len(large.samples) == 12
    assert set(small.samples.stems) < set(large.samples.stems)
    assert take_part(source, None, None) is source
    assert len({part.fingerprint for part in (source, small, large)}) == 3
    with pytest.raises(ValueError, match="identities must be 1..6, got 7"):
        take_part(source, 7, None)
    with pytest.raises(ValueError, match="samples must be 1..any, got 0"):
        take_part(source, None, 0)


# Bad input


def test_one_person_is_refused(tmp_path):
    write_image(tmp_path / "anna/a.png", random_pixels(0))
    with pytest.raises(ValueError, match="at least 2 identities, got 1"):
        FaceSet([open_faces(tmp_path)])


def test_a_person_without_images_is_refused(tmp_path):
    for name in ("anna", "berta"):
        write_image(tmp_path / name / "a.png", random_pixels(0))
    (tmp_path / "carla").mkdir()
    with pytest.raises(ValueError, match="carla: .*without images"):
        open_faces(tmp_path)


def test_missing_and_unknown_modalities_are_refused(tmp_path):
    for name in ("anna", "berta"):
        write_image(tmp_path / name / "a.png", random_pixels(0))
    with pytest.raises(ValueError, match="2 of 2 samples have no nir image, such as anna"):
        FaceSet([open_faces(tmp_path)], ["rgb", "nir"])
    with pytest.raises(ValueError, match=r"among \['rgb', 'nir'\], got \['x'\]"):
        FaceSet([open_faces(tmp_path)], ["x"])
    with pytest.raises(ValueError, match=r"joint images take \['rgb', 'nir'\], got \['rgb'\]"):
        FaceSet([open_faces(tmp_path)], ["rgb"], joint=True)


def test_joint_images_of_unequal_sizes_are_refused(tmp_path):
    root = write_pairs(tmp_path)
    write_image(root / "NIR/1_0.png", random_pixels(0, size=8, channels=1))
    reason = r"NIR/1_0\.png: joint images must be of one size, got 8x8 beside 16x16 of .*VIS/1_0"
    with pytest.raises(ValueError, match=reason):
        FaceSet([open_faces(root)], ["rgb", "nir"], joint=True).verify()


def test_images_can_be_verified(tmp_path):
    root = write_pairs(tmp_path)
    faces = FaceSet([open_faces(root)], ["rgb", "nir"])
    faces.verify()
    assert not faces.is_cached
    truncate(root / "NIR/2_1.png")
    with pytest.raises(ValueError, match=r"NIR/2_1\.png: damaged or unusable image"):
        faces.verify()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2,16,16", "label 2 is outside 0..1 of property"),
        ("4,16,16", "identity 3 of 4 in property has no image"),
        ("many", "expected IDENTITIES,HEIGHT,WIDTH, got 'many'"),
    ],
)
def test_labels_of_records_must_agree_with_their_property(made, text, reason):
    folder = made / "export/recordio/VIS"
    (folder / "property").write_text(text)
    with pytest.raises(ValueError, match=reason):
        open_faces(folder)


def test_records_without_ranges(made, tmp_path):
    content = (made / "id_0/VIS/sample_0_VIS.png").read_bytes()
    for labels, reason in (((2.0, 0.0), None), ((1.5, 0.0), "labels must be whole numbers")):
        path = tmp_path / "faces.rec"
        with path.open("wb") as rec, path.with_suffix(".idx").open("w") as idx:
            for number, label in enumerate(labels):
                write_record(rec, idx, Record(number, (label,), content))
        if reason is None:
            assert FaceSet([open_faces(path)]).labels.tolist() == [1, 0]
            continue
        with pytest.raises(ValueError, match=reason):
            open_faces(path)


def test_shards_need_labels(made, tmp_path):
    from data.shards import write_shard  # noqa: PLC0415

    content = (made / "id_0/VIS/sample_0_VIS.png").read_bytes()
    for parts, reason in (
        ({"png": content}, "has no identity"),
        ({"png": content, "cls": b"-1"}, "must be a whole number"),
        ({"cls": b"1"}, "the sample has no image"),
    ):
        path = tmp_path / "one.tar"
        with path.open("wb") as file:
            write_shard(file, [("0", parts)])
        with pytest.raises(ValueError, match=reason):
            open_faces(path)
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match="not a whole tar file"):
        open_faces(path)


def test_manifests_must_name_people_and_parents(tmp_path):
    write_manifest(tmp_path, lambda entry: {"files": entry["files"]})
    with pytest.raises(ValueError, match="names no identity"):
        open_faces(tmp_path)
    with pytest.raises(ValueError, match="names no two parents"):
        open_faces(tmp_path, LabelKind.PARENTS)
    shutil.move(tmp_path / "manifest.jsonl", tmp_path / "x")
    with pytest.raises(ValueError, match="no manifest.jsonl that names the parents"):
        open_faces(tmp_path, LabelKind.PARENTS)


def test_missing_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        open_faces(tmp_path / "gone")
    write_manifest(tmp_path)
    (tmp_path / "id_0/VIS/sample_0_VIS.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"sample_0_VIS\.png: no such file"):
        open_faces(tmp_path)
