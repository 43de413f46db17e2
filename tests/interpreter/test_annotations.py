import numpy as np
import pytest
from PIL import Image

from data.class_list import AnnotationClass, ClassList
from dnnlib import files
from dnnlib.runs import find_output
from interpreter.annotations import (
    RECORD,
    AnnotationsJob,
    _chosen_numbers,
    annotations_identity,
    collect_annotations,
)
from interpreter.experiment import Experiment
from interpreter.options import AnnotationOptions
from interpreter.training import drop_small_classes, load_annotations
from tests.helpers.interpreters import paint_masks

CLASSES = ClassList(
    tuple(
        AnnotationClass(name=name, colour=colour)
        for name, colour in (("a", (0, 0, 0)), ("b", (255, 0, 0)), ("c", (0, 255, 0)))
    )
)


@pytest.fixture
def painted(tmp_path):
    """Annotations of images 10 and 2, with images and 12 latents."""
    folder = paint_masks(tmp_path / "painted", [10, 2])
    for number in (2, 10):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"image_{number}.jpg")
        Image.new("L", (16, 16), number).save(folder / f"image_{number}_NIR.jpg")
    np.save(tmp_path / "latents.npy", np.arange(12 * 8, dtype=np.float64).reshape(12, 8))
    return folder


def sources(painted, **changes):
    given = {"annotations": painted, "outdir": painted, "latents": painted.parent / "latents.npy"}
    return AnnotationOptions(**given | changes)


def write(painted, outdir):
    collected = collect_annotations(sources(painted), CLASSES)
    output = find_output(outdir, RECORD, annotations_identity(collected, CLASSES, None))
    AnnotationsJob(output=output, collected=collected, classes=CLASSES).run(None)


def load(folder, latents, labels="", most=8):
    experiment = Experiment(
        annotation_mask_path=str(folder),
        annotation_image_latent_path=str(latents),
        annotation_label_path=str(labels),
        max_training=most,
        min_region_pixels=0,
    )
    return load_annotations(experiment)


def test_latents_follow_image_numbers_and_images_numeric_order(painted, tmp_path):
    write(painted, tmp_path / "out")
    latents = np.load(tmp_path / "out" / "latent_stylegan.npy")
    assert latents[:, 0].tolist() == [16, 80]
    for place, number in enumerate((2, 10)):
        mask = np.load(tmp_path / "out" / f"image_mask{place}.npy")
        with Image.open(painted / f"image_{number}_mask.png") as image:
            assert np.array_equal(mask, np.asarray(image))
        copy = (tmp_path / "out" / f"image_{place}.jpg").read_bytes()
        assert copy == (painted / f"image_{number}.jpg").read_bytes()
        assert (tmp_path / "out" / f"image_{place}_NIR.jpg").is_file()
    assert (tmp_path / "out" / "check_sheet.jpg").is_file()


def test_what_is_written_is_read(painted, tmp_path, caplog):
    write(painted, tmp_path / "out")
    latents = tmp_path / "out" / "latent_stylegan.npy"
    read = load(tmp_path / "out", latents)
    assert read.masks.shape == (2, 16, 16)
    assert [entry["name"] for entry in read.classes] == ["a", "b", "c"]
    assert read.names == ["image_mask0.npy", "image_mask1.npy"]
    assert not caplog.text
    one = load(tmp_path / "out", latents, most=1)
    assert len(one.masks) == len(one.latents) == 1
    assert "max_training is 1: the first 1 of 2 masks are used" in caplog.text


def test_published_latents_are_taken_as_they_are(painted, tmp_path):
    np.save(tmp_path / "latents.npy", np.array([[5.0] * 8, [7.0] * 8]))
    collected = collect_annotations(sources(painted, latent_rows="order"), CLASSES)
    assert [item.latent[0] for item in collected] == [5, 7]
    np.save(tmp_path / "latents.npy", np.zeros([3, 8]))
    with pytest.raises(ValueError, match=r"one row an annotation is wanted \(2\), got 3"):
        collect_annotations(sources(painted, latent_rows="order"), CLASSES)


def test_a_mask_without_its_latent(painted, tmp_path):
    np.save(tmp_path / "latents.npy", np.zeros([10, 8]))
    with pytest.raises(ValueError, match="image 10 has no latent, .*rows 0 to 9"):
        collect_annotations(sources(painted), CLASSES)


def test_a_mask_of_another_size(painted):
    Image.new("RGB", (32, 16)).save(painted / "image_2.jpg")
    with pytest.raises(ValueError, match="must have the size of image_2.jpg, 32x16, got 16x16"):
        collect_annotations(sources(painted), CLASSES)


def test_a_mask_without_its_image(painted):
    (painted / "image_2.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="image_2.jpg is not in"):
        collect_annotations(sources(painted), CLASSES)


def test_latents_must_be_given(painted):
    with pytest.raises(ValueError, match="--latents must name"):
        collect_annotations(sources(painted, latents=None), CLASSES)


def test_conditions_come_with_the_latents(painted, tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(24.0).reshape(12, 2))
    found = collect_annotations(sources(painted, labels=tmp_path / "labels.npy"), CLASSES)
    assert [item.condition.tolist() for item in found] == [[4, 5], [20, 21]]
    identity = annotations_identity(found, CLASSES, None)
    np.save(tmp_path / "labels.npy", np.arange(24.0).reshape(12, 2) + 1)
    others = collect_annotations(sources(painted, labels=tmp_path / "labels.npy"), CLASSES)
    assert annotations_identity(others, CLASSES, None) != identity
    np.save(tmp_path / "labels.npy", np.zeros([5, 2]))
    with pytest.raises(ValueError, match="12 rows wanted, one a latent, got 5"):
        collect_annotations(sources(painted, labels=tmp_path / "labels.npy"), CLASSES)


def test_small_classes_become_class_0():
    mask = np.zeros([10, 10], np.uint8)
    mask[0, :5], mask[1] = 2, 1
    assert np.bincount(drop_small_classes(mask, 6).ravel(), minlength=3).tolist() == [90, 10, 0]
    assert np.array_equal(drop_small_classes(mask, 0), mask)


def test_bad_folders(painted, tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a folder of masks"):
        load(tmp_path / "latents.npy", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no image_maskN\.npy"):
        load(painted, tmp_path)
    folder = tmp_path / "processed"
    folder.mkdir()
    np.save(folder / "image_mask0.npy", np.zeros([4, 4], np.uint8))
    np.save(folder / "image_mask1.npy", np.zeros([4, 8], np.uint8))
    np.save(tmp_path / "one.npy", np.zeros([1, 8]))
    with pytest.raises(ValueError, match=r"image_mask1\.npy has no latent, there are 1 rows"):
        load(folder, tmp_path / "one.npy")
    np.save(tmp_path / "two.npy", np.zeros([2, 8]))
    with pytest.raises(ValueError, match=r"image_mask1\.npy: all masks must have one size"):
        load(folder, tmp_path / "two.npy")


def test_a_mask_that_was_taken_away_moves_no_latent(painted, tmp_path):
    write(painted, tmp_path / "out")
    latents = tmp_path / "out" / "latent_stylegan.npy"
    (tmp_path / "out" / "image_mask0.npy").unlink()
    with pytest.raises(ValueError, match="without gaps .* got 1 masks and 2 rows"):
        load(tmp_path / "out", latents)
    np.save(latents, np.load(latents)[1:])
    assert load(tmp_path / "out", latents).names == ["image_mask1.npy"]


def test_conditions_beside_the_latents_are_found(painted, tmp_path):
    write(painted, tmp_path / "out")
    latents = tmp_path / "out" / "latent_stylegan.npy"

    def conditions(labels=""):
        found = load(tmp_path / "out", latents, labels).conditions
        return None if found is None else found.tolist()

    assert conditions() is None
    np.save(tmp_path / "out" / "labels.npy", np.array([[1.0, 2], [3, 4]]))
    np.save(tmp_path / "other.npy", np.array([[5.0, 6], [7, 8]]))
    assert conditions() == [[1, 2], [3, 4]]
    assert conditions(tmp_path / "other.npy") == [[5, 6], [7, 8]]


def test_a_selection_is_sorted(tmp_path):
    files.write_json(tmp_path / "selection.json", {"images": [3, 1, "3"]})
    assert _chosen_numbers(None, tmp_path, 5) == [1, 3]
