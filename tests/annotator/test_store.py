import json
import shutil

import numpy as np
import pytest
from PIL import Image

import annotator.store
from annotator import coco
from annotator.store import ConflictError, version
from data.mask_files import find_annotations, read_annotation
from tests.helpers.annotating import CLASS_LIST, CLASSES, SIDE, mask_of, open_store, write_drawn


@pytest.fixture
def folder(tmp_path):
    return write_drawn(tmp_path)


def test_a_draft_is_no_annotation_until_it_is_finished(folder):
    store = open_store(folder)
    store.save(1, mask_of(1))
    assert store.status() == {0: "empty", 1: "draft", 2: "empty"}
    with pytest.raises(ValueError, match="no annotations"):
        find_annotations(folder / "annotations")
    store.finish(1)
    assert open_store(folder).status()[1] == "done"
    found = find_annotations(folder / "annotations")
    assert list(found) == [1]
    assert np.array_equal(read_annotation(found[1], CLASSES), mask_of(1))
    assert Image.open(found[1]).getpalette()[3:6] == [255, 0, 0]
    names = [entry["name"] for entry in json.loads((found[1].parent / "classes.json").read_text())]
    assert names == [entry["name"] for entry in CLASS_LIST]


def test_a_finished_mask_stays_finished_until_it_is_reopened(folder):
    store = open_store(folder)
    store.save(1, mask_of(1))
    store.finish(1)
    store.save(1, mask_of(2))
    assert store.status()[1] == "done"
    assert np.array_equal(store.finished_masks()[1], mask_of(2))
    store.reopen(1)
    assert (store.status()[1], store.finished_masks()) == ("draft", {})
    assert np.array_equal(open_store(folder).mask(1), mask_of(2))


def test_a_mask_is_saved_over_the_one_it_was_made_from(folder):
    store = open_store(folder)
    empty = version(store.mask(0))
    store.save(0, mask_of(0), empty)
    with pytest.raises(ConflictError):
        store.save(0, mask_of(1), empty)
    assert np.array_equal(store.mask(0), mask_of(0))


def test_a_folder_is_listed_once_for_all_images(folder, monkeypatch):
    store, listed = open_store(folder), []
    store.save(1, mask_of(1))
    store.finish(1)
    list_annotations = annotator.store.list_annotations
    monkeypatch.setattr(
        annotator.store,
        "list_annotations",
        lambda path: listed.append(path) or list_annotations(path),
    )
    open_store(folder)
    assert len(listed) == 1
    store.status()
    assert len(listed) == 2
    assert list(store.finished_masks()) == [1]
    assert len(listed) == 3


@pytest.mark.parametrize("name", ["image_mask1.npy", "image_1_label.png", "image_1_mask.png"])
@pytest.mark.parametrize("way", ["save", "reopen"])
def test_files_of_other_programs_are_read_and_kept(folder, name, way):
    painted = folder / "annotations" / name
    painted.parent.mkdir()
    if name.endswith("npy"):
        np.save(painted, mask_of(1))
    else:
        Image.fromarray(mask_of(1)).save(painted)
    before = painted.read_bytes()
    store = open_store(folder)
    assert store.status()[1] == "done"
    assert np.array_equal(store.mask(1), mask_of(1))
    if way == "save":
        store.save(1, mask_of(2))
        assert np.array_equal(store.finished_masks()[1], mask_of(2))
        assert list(find_annotations(painted.parent)) == [1]
    else:
        store.reopen(1)
        assert store.status()[1] == "draft"
    assert (painted.parent / "originals" / name).read_bytes() == before


def test_an_export_of_another_program_over_a_draft_is_a_conflict_and_kept(folder):
    store = open_store(folder)
    store.save(1, mask_of(1))
    seen = version(store.mask(1))
    exported = folder / "annotations" / "image_1_mask.png"
    Image.fromarray(mask_of(2)).save(exported)
    before = exported.read_bytes()
    with pytest.raises(ConflictError):
        store.finish(1, seen)
    assert (store.status()[1], np.array_equal(store.mask(1), mask_of(2))) == ("done", True)
    store.save(1, mask_of(3), version(store.mask(1)))
    assert np.array_equal(open_store(folder).finished_masks()[1], mask_of(3))
    kept = [*(folder / "annotations" / "originals").iterdir()]
    assert {version(read_annotation(path, CLASSES)) for path in kept} == {seen, version(mask_of(2))}
    assert before in [path.read_bytes() for path in kept]


def test_a_second_file_of_an_image_concerns_that_image_alone(folder):
    store = open_store(folder)
    store.folder.mkdir()
    for name in ("image_1_mask.png", "image_1_label.png"):
        Image.fromarray(mask_of(1)).save(store.folder / name)
    store.save(0, mask_of(0))
    assert store.status() == {0: "draft", 1: "done", 2: "empty"}
    with pytest.raises(ValueError, match="also annotated by"):
        store.mask(1)


def test_what_does_not_fit_is_refused(folder):
    painted = folder / "annotations"
    painted.mkdir()
    for name, side, fault in (("image_1_mask.png", 9, "size"), ("image_7_mask.png", SIDE, "lacks")):
        Image.fromarray(mask_of(1, side)).save(painted / name)
        with pytest.raises(ValueError, match=fault):
            open_store(folder)
        (painted / name).unlink()
    images = folder / "drawn/images_to_annotate"
    (images / "image_9.jpg").mkdir()
    (images / "image_8.jpg").symlink_to("nowhere")
    assert list(open_store(folder).images) == [0, 1, 2]
    Image.fromarray(mask_of(0, 9)).save(images / "image_1_NIR.jpg")
    with pytest.raises(ValueError, match="image 1 differs in size"):
        open_store(folder)
    shutil.rmtree(folder / "drawn")
    with pytest.raises(FileNotFoundError, match="--drawn"):
        open_store(folder)


def test_coco_run_lengths_give_the_masks_again(folder):
    store = open_store(folder)
    blob = np.zeros([SIDE, SIDE], np.uint8)
    blob[3:5, 7:12] = 2
    (entry,) = coco.export(store.images, {1: blob}, CLASSES)["annotations"]
    assert (entry["bbox"], entry["area"], entry["category_id"]) == ([7, 3, 5, 2], 10, 2)
    content = coco.export(store.images, {1: mask_of(1)}, CLASSES)
    assert [entry["id"] for entry in content["images"]] == [1]
    assert [entry["id"] for entry in content["categories"]] == [1, 2, 3]
    mask = np.zeros([SIDE, SIDE], np.uint8)
    for entry in content["annotations"]:
        counts, pieces = entry["segmentation"]["counts"], []
        for k, count in enumerate(counts):
            pieces += [k % 2 == 1] * count
        is_class = np.array(pieces).reshape(SIDE, SIDE, order="F")
        assert entry["area"] == is_class.sum()
        mask[is_class] = entry["category_id"]
    assert np.array_equal(mask, mask_of(1))
