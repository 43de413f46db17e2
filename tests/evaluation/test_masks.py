"""Masks of two folders: matched, named, compared, refused."""

import numpy as np
import pytest
from PIL import Image

from evaluation.masks import open_topic
from metrics import NotMeasuredError
from tests.helpers.images import random_pixels, write_image, write_json
from tests.helpers.measures import no_progress


def write_masks(folder, names, size=8):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        values = np.random.default_rng(i).integers(0, 3, (size, size), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    return folder


def test_masks_of_two_layouts_meet(tmp_path):
    write_masks(tmp_path / "a" / "masks", ["0.png", "1.png"])
    folder = write_masks(tmp_path / "b", ["image_0_label.png", "image_1_label.png"])
    write_image(folder / "0_RGB.png", random_pixels(0))
    topic = open_topic(tmp_path / "a", folder, seed=0)
    assert topic.classes == ("class 0", "class 1", "class 2")
    assert topic.measure(no_progress).data["score"].pixel_accuracy.value == 1


@pytest.mark.parametrize(
    ("info", "names"),
    [
        ({"classes": [{"name": "skin"}, {"name": "hair"}]}, ("skin", "hair")),
        ({"classes": 2}, ("class 0", "class 1")),
        ({"names": ["a", "b"]}, ("a", "b")),
        ({"classes": "many"}, ("class 0", "class 1", "class 2")),
        ([1], ("class 0", "class 1", "class 2")),
    ],
)
def test_names_of_classes(tmp_path, info, names):
    write_masks(tmp_path / "masks", ["0.png"])
    write_json(tmp_path / "dataset_info.json", info)
    for folder in (tmp_path, tmp_path / "masks"):
        assert open_topic(folder, folder, seed=0).classes == names


def test_masks_that_do_not_fit(tmp_path):
    for name, files, size in (("a", 2, 8), ("b", 1, 8), ("c", 2, 9)):
        write_masks(tmp_path / name, [f"{i}.png" for i in range(files)], size=size)
    for pair in ("ab", "ba"):
        with pytest.raises(ValueError, match="a: 1 masks have no counterpart in .*b: 1"):
            open_topic(*(tmp_path / name for name in pair), seed=0)
    with pytest.raises(NotMeasuredError, match=r"0.png: the mask must measure \(8, 8\)"):
        open_topic(tmp_path / "a", tmp_path / "c", seed=0).measure(no_progress)
