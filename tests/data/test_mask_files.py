import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.class_list import OCULAR_CLASSES, AnnotationClass, ClassList, class_list_from_json
from data.mask_files import (
    Layer,
    find_annotations,
    flatten_layers,
    image_number,
    read_annotation,
    read_selection,
    read_xcf_mask,
    save_mask,
)
from tests.helpers.images import encode_png_16

CLASSES = ClassList()
MASK = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)


def saved(tmp_path, image, name="image_3_mask.png"):
    image.save(tmp_path / name)
    return tmp_path / name


def test_npy(tmp_path):
    np.save(tmp_path / "m.npy", MASK.astype(np.int64))
    assert np.array_equal(read_annotation(tmp_path / "m.npy", CLASSES), MASK)


def test_colour_png(tmp_path):
    path = saved(tmp_path, Image.fromarray(CLASSES.palette()[MASK]))
    assert np.array_equal(read_annotation(path, CLASSES), MASK)


def test_transparent_pixels_are_class_0(tmp_path):
    pixels = np.dstack([CLASSES.palette()[MASK], np.full_like(MASK, 255)])
    pixels[0, 1, 3], pixels[0, 2, 3] = 127, 128
    mask = read_annotation(saved(tmp_path, Image.fromarray(pixels)), CLASSES)
    assert mask.tolist() == [[0, 0, 2], [3, 2, 1]]


def test_grey_png_with_the_published_values(tmp_path):
    greys = np.array([0, 29, 76, 150], np.uint8)[MASK]  # 150 is a rounded 149.7
    path = saved(tmp_path, Image.fromarray(greys))
    assert np.array_equal(read_annotation(path, CLASSES), MASK)


def test_grey_png_with_class_numbers(tmp_path):
    path = saved(tmp_path, Image.fromarray(MASK))
    assert np.array_equal(read_annotation(path, CLASSES), MASK)


TWO = ClassList(
    (AnnotationClass(name="a", colour=(0, 0, 0)), AnnotationClass(name="b", colour=(255,) * 3))
)
IN_STEPS = MASK * 10  # values of an own scale


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_class_numbers_in_any_mode(tmp_path, mode):
    path = saved(tmp_path, Image.fromarray(MASK).convert(mode))
    assert np.array_equal(read_annotation(path, CLASSES), MASK)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    ("values", "classes", "listed"),
    [
        (MASK + 1, CLASSES, "4 (1 pixels);"),
        (np.where(MASK == 3, 7, MASK), CLASSES, "7 (1 pixels);"),
        (IN_STEPS, CLASSES, "10 (2 pixels), 20 (2 pixels);"),  # 30 is nearly 29
        (np.array([[0, 29, 76, 40]]), CLASSES, "40 (1 pixels);"),
        (np.array([[1, 2]]), TWO, "2 (1 pixels);"),
        (np.array([[0, 0, 9]]), TWO, "9 (1 pixels);"),
    ],
)
def test_grey_values_that_are_no_class_are_refused(tmp_path, mode, values, classes, listed):
    path = saved(tmp_path, Image.fromarray(values.astype(np.uint8)).convert(mode))
    with pytest.raises(ValueError, match=r"image_3_mask\.png: values.*" + re.escape(listed)):
        read_annotation(path, classes)


def test_own_greys_can_be_declared(tmp_path):
    path = saved(tmp_path, Image.fromarray(IN_STEPS))
    own = [replace(entry, grey=10 * number) for number, entry in enumerate(OCULAR_CLASSES)]
    assert np.array_equal(read_annotation(path, ClassList(tuple(own))), MASK)


def test_values_that_are_other_classes_as_numbers_than_as_greys_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0, 2]], np.uint8)))
    classes = ClassList((*OCULAR_CLASSES, AnnotationClass(name="x", colour=(9, 0, 0), grey=2)))
    with pytest.raises(ValueError, match="as class numbers than as greys"):
        read_annotation(path, classes)


def test_class_numbers_in_one_channel_are_refused(tmp_path):
    pixels = np.zeros([2, 3, 3], np.uint8)
    pixels[..., 0] = MASK
    with pytest.raises(ValueError, match="one channel"):
        read_annotation(saved(tmp_path, Image.fromarray(pixels)), CLASSES)


def test_16_bit_colours_without_an_upper_byte_are_refused(tmp_path):
    content = encode_png_16(np.repeat(MASK[..., None], 3, axis=2))
    (tmp_path / "mask_1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"mask_1\.png: 16-bit colours"):
        read_annotation(tmp_path / "mask_1.png", CLASSES)


def test_a_palette_of_other_classes_by_colour_than_by_index_is_refused(tmp_path):
    image = Image.fromarray(MASK)
    nearly = CLASSES.palette()[[0, 2, 1, 3]].astype(int)
    image.putpalette(np.abs(nearly - 1).ravel().tolist())
    with pytest.raises(ValueError, match=r"indices \[0, 1, 2, 3\], .*classes \[0, 2, 1, 3\]"):
        read_annotation(saved(tmp_path, image), CLASSES)


def test_indexed_png_by_number_and_by_colour(tmp_path):
    by_number = Image.fromarray(MASK)
    by_number.putpalette([7, 7, 7, 60, 60, 60, 90, 90, 90, 99, 99, 99])
    assert np.array_equal(read_annotation(saved(tmp_path, by_number), CLASSES), MASK)
    order = [3, 2, 1, 0]
    by_colour = Image.fromarray(np.array(order, np.uint8)[MASK])
    by_colour.putpalette(CLASSES.palette()[order].ravel().tolist())
    assert np.array_equal(read_annotation(saved(tmp_path, by_colour), CLASSES), MASK)


def test_a_class_beyond_the_list(tmp_path):
    np.save(tmp_path / "m.npy", MASK + 1)
    with pytest.raises(ValueError, match=r"m\.npy: classes must be from 0 to 3, got 1\.\.4"):
        read_annotation(tmp_path / "m.npy", CLASSES)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "m.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"m\.png: not a PNG"):
        read_annotation(tmp_path / "m.png", CLASSES)
    noise = np.random.default_rng(0).integers(0, 4, [64, 64], np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise))
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"image_3_mask\.png: damaged"):
        read_annotation(whole, CLASSES)
    np.save(tmp_path / "f.npy", MASK.astype(np.float32))
    with pytest.raises(ValueError, match="whole numbers"):
        read_annotation(tmp_path / "f.npy", CLASSES)
    (tmp_path / "g.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"g\.npy: not a \.npy"):
        read_annotation(tmp_path / "g.npy", CLASSES)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_annotation(tmp_path / "absent.npy", CLASSES)


def test_equal_greys_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.full([2, 2], 76, np.uint8)))
    classes = ClassList((*OCULAR_CLASSES, AnnotationClass(name="x", colour=(254, 0, 0), grey=76)))
    with pytest.raises(ValueError, match="same grey value"):
        read_annotation(path, classes)


def test_annotations_are_found_by_number(tmp_path):
    for name in (
        "image_20.xcf",
        "image_3_mask.png",
        "image_mask100.npy",
        "image_20_mask.png",
        "image_20.jpg",
        "image_4.png",
        "latent_stylegan1.npy",
        "notes.txt",
        "mask.png",
    ):
        (tmp_path / name).touch()
    found = [(number, path.name) for number, path in find_annotations(tmp_path).items()]
    assert found == [(3, "image_3_mask.png"), (20, "image_20.xcf"), (100, "image_mask100.npy")]


def test_two_annotations_of_one_image_are_refused(tmp_path):
    for name in ("image_3_mask.png", "image_label_3.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="image 3 is also annotated by image_3_mask"):
        find_annotations(tmp_path)


def test_a_folder_without_annotations(tmp_path):
    with pytest.raises(ValueError, match="no annotations"):
        find_annotations(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_annotations(tmp_path / "absent")


def test_a_name_without_number_has_none():
    assert image_number(Path("mask.png")) is None
    assert image_number(Path("image_99999999999.npy")) is None


# GIMP


def layer(colour, alpha, name="layer", left=0, top=0):
    alpha = np.asarray(alpha, np.uint8)
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = colour, alpha
    return Layer(name, pixels, left, top)


def test_upper_layers_cover_lower_ones_where_alpha_is_at_least_128():
    layers = [
        layer((0, 255, 0), [[255, 255, 255]]),
        layer((0, 0, 255), [[255, 128, 127]]),
        layer((255, 0, 0), [[200, 0, 0]]),
    ]
    assert flatten_layers((1, 3), layers, CLASSES, "x.xcf").tolist() == [[2, 1, 3]]


def test_what_no_layer_covers_is_class_0():
    assert flatten_layers(
        (2, 2), [layer((255, 0, 0), [[255]], left=1, top=1)], CLASSES, "x"
    ).tolist() == [[0, 0], [0, 2]]


def test_layers_that_reach_over_the_edge_are_clipped():
    layers = [
        layer((255, 0, 0), np.full([3, 3], 255), left=-2, top=-2),
        layer((0, 0, 255), np.full([3, 3], 255), left=5, top=5),
    ]
    assert flatten_layers((2, 2), layers, CLASSES, "x").tolist() == [[2, 0], [0, 0]]


@pytest.mark.parametrize("empty", [{"alpha": [[127]]}, {"alpha": [[255]], "left": 9}])
def test_a_layer_that_covers_nothing_is_said(caplog, empty):
    layers = [layer((255, 0, 0), [[255]]), layer((0, 0, 255), name="ring", **empty)]
    assert flatten_layers((1, 1), layers, CLASSES, "x.xcf").tolist() == [[2]]
    assert [record.getMessage() for record in caplog.records if "ring" in record.getMessage()]


def test_a_layer_named_like_a_class_takes_it_whatever_its_colour():
    classes = ClassList(
        (
            AnnotationClass(name="bg", colour=(0, 0, 0)),
            AnnotationClass(name="iris", colour=(0, 0, 255), aliases=("Regenbogenhaut",)),
        )
    )
    layers = [layer((12, 200, 77), [[255, 0]], name="regenbogenhaut")]
    assert flatten_layers((1, 2), layers, classes, "x").tolist() == [[1, 0]]


def test_photographs_are_ignored():
    pixels = np.random.default_rng(0).integers(0, 256, [32, 32, 4], np.uint8)
    pixels[..., 3] = 255
    layers = [Layer("a photo", pixels, 0, 0), layer((255, 0, 0), np.full([32, 32], 255))]
    assert (flatten_layers((32, 32), layers[::-1], CLASSES, "x") == 2).all()
    named = layer((1, 2, 3), np.full([32, 32], 255), name="image_0.JPG")
    assert (flatten_layers((32, 32), [layers[1], named], CLASSES, "x") == 2).all()
    with pytest.raises(ValueError, match=r"x\.xcf: no visible layer with an annotation"):
        flatten_layers((32, 32), [named], CLASSES, "x.xcf")


def test_unknown_colours_name_the_layer():
    with pytest.raises(ValueError, match=r"x\.xcf, layer 'skin': .*\[90, 90, 90\] \(2 pixels\)"):
        flatten_layers((1, 2), [layer((90, 90, 90), [[255, 255]], "skin")], CLASSES, "x.xcf")


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "image_0.xcf").write_bytes(b"gimp xcf v011\0")
    monkeypatch.setitem(sys.modules, "gimpformats.gimpXcfDocument", None)
    with pytest.raises(ValueError, match=r"gimpformats \(pip install -r requirements-extras"):
        read_xcf_mask(tmp_path / "image_0.xcf", CLASSES)


def test_an_absent_file():
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_xcf_mask(Path("absent.xcf"), CLASSES)


@pytest.mark.parametrize(
    "content", [b"", b"gimp xcf v011\0", b"GIF89a", b"gimp xcf " + b"\xff" * 99]
)
def test_an_unreadable_file(tmp_path, content):
    pytest.importorskip("gimpformats", reason="needs requirements-extras.txt")
    (tmp_path / "image_0.xcf").write_bytes(content)
    with pytest.raises(ValueError, match=r"image_0\.xcf: not a readable \.xcf"):
        read_xcf_mask(tmp_path / "image_0.xcf", CLASSES)


def test_a_saved_mask_is_read_again_though_colours_look_like_class_numbers(tmp_path):
    colours = [{"name": f"class {k}", "color": [k, k, k]} for k in range(4)]
    classes = class_list_from_json(colours, "here")
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    save_mask(tmp_path / "mask.png", mask, classes)
    assert np.array_equal(read_annotation(tmp_path / "mask.png", classes), mask)


@pytest.mark.parametrize("numbers", [[3, 1], ["3", 1], [3.0, 1]], ids=str)
def test_a_selection_may_be_written_in_several_ways(tmp_path, numbers):
    (tmp_path / "selection.json").write_text(json.dumps({"images": numbers}))
    assert read_selection(tmp_path / "selection.json") == [3, 1]


@pytest.mark.parametrize("number", [True, 2.5, "x", None, 1e999, [1]], ids=repr)
def test_a_selection_of_other_things_is_refused(tmp_path, number):
    (tmp_path / "selection.json").write_text(json.dumps({"images": [1, number]}))
    with pytest.raises(ValueError, match=r"selection\.json"):
        read_selection(tmp_path / "selection.json")
