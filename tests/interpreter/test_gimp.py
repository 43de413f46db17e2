import sys
from pathlib import Path

import numpy as np
import pytest

from data.class_list import AnnotationClass, ClassList
from interpreter.gimp import Layer, flatten_layers, read_xcf_mask

OCULAR = Path(__file__).resolve().parents[3] / "shared" / "ocular" / "experiment"
CLASSES = ClassList()


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


@pytest.mark.skipif(not OCULAR.is_dir(), reason="needs the annotations in ../shared")
@pytest.mark.parametrize("number", [0, 2, 20, 83, 91])
def test_real_annotations_in_every_pixel(number):
    pytest.importorskip("gimpformats", reason="needs requirements-extras.txt")
    mask = read_xcf_mask(OCULAR / "eyes_GIMP" / f"image_{number}.xcf", CLASSES)
    expected = np.load(OCULAR / "expected_masks" / f"image_{number}.npy")
    assert np.array_equal(mask, expected)
