import json

import numpy as np
import pytest

from data.class_list import (
    OCULAR_CLASSES,
    AnnotationClass,
    ClassList,
    class_list_as_json,
    class_list_from_json,
    load_class_list,
    unique_colours,
)


def rgb(*rows):
    return np.array(rows, np.uint8)


def test_grey_values_of_the_published_colours():
    assert [entry.grey_value for entry in OCULAR_CLASSES] == [0, 29, 76, 149]


def test_colours_become_the_nearest_class_within_the_distance():
    classes = ClassList()
    found = classes.classes_of_colours(rgb((0, 0, 250), (255, 10, 10), (0, 0, 0)), "x.png")
    assert found.tolist() == [1, 2, 0]


def test_unknown_colours_are_listed_with_their_counts():
    pixels = rgb(*[(128, 128, 128)] * 5, *[(0, 255, 255)] * 9, (0, 0, 255))
    with pytest.raises(ValueError, match=r"x\.png: .*\[0, 255, 255\] \(9 pixels\), \[128.*5 pix"):
        ClassList().classes_of_colours(pixels, "x.png")


def test_no_distance_means_exact():
    exact = ClassList(max_distance=0)
    assert exact.classes_of_colours(rgb((0, 255, 0)), "x").tolist() == [3]
    with pytest.raises(ValueError, match="near none"):
        exact.classes_of_colours(rgb((0, 254, 0)), "x")


def test_names_and_aliases_are_known_in_any_case():
    classes = ClassList(
        (
            AnnotationClass(name="bg", colour=(0, 0, 0)),
            AnnotationClass(name="Iris", colour=(0, 0, 255), aliases=("ring",)),
        )
    )
    assert classes.number_of(" iris ") == classes.number_of("RING") == 1
    assert classes.number_of("pupil") is None


def test_a_list_survives_its_file(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(class_list_as_json(ClassList())))
    loaded = load_class_list(path)
    assert class_list_as_json(loaded) == class_list_as_json(ClassList())


def test_an_example_data_sets_info_is_read(tmp_path):
    path = tmp_path / "info.json"
    entries = [{"id": 0, "name": "a", "color": [0, 0, 0]}, {"id": 1, "name": "b", "color": [9] * 3}]
    path.write_text(json.dumps({"classes": entries}))
    assert len(load_class_list(path)) == 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "", "color": [1, 2, 3]}, "name must be a text"),
        ({"name": "b", "color": [1, 2]}, "color must be"),
        ({"name": "b", "color": [1, 2, 256]}, "color must be"),
        ({"name": "b", "color": [1, 2, 3], "grey": 300}, "grey must be"),
        ({"name": "b", "color": [1, 2, 3], "aliases": "x"}, "aliases must be"),
        ({"name": "b", "color": [1, 2, 3], "colour": 1}, "unknown key 'colour'"),
        ({"name": "b", "color": [1, 2, 3], "id": 5}, "id must be its index"),
        ({"name": "b", "color": [0, 0, 0]}, "belongs to two classes"),
        ({"name": "A", "color": [1, 2, 3]}, "name 'A' belongs to two classes"),
        ("b", "expected an object"),
    ],
)
def test_wrong_lists_are_refused_by_file(tmp_path, entry, message):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps([{"name": "a", "color": [0, 0, 0]}, entry]))
    with pytest.raises(ValueError, match=rf"classes\.json: .*{message}"):
        load_class_list(path)


def test_one_class_is_too_few(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps([{"name": "a", "color": [0, 0, 0]}]))
    with pytest.raises(ValueError, match="2 to 255 are possible"):
        load_class_list(path)
    path.write_text("3")
    with pytest.raises(ValueError, match="expected a list"):
        load_class_list(path)


# Mirrored classes

PAIRED = [
    {"name": "background", "color": [0, 0, 0]},
    {"name": "left eye", "color": [1, 0, 0], "mirror": "right eye"},
    {"name": "right eye", "color": [2, 0, 0], "aliases": ["right"], "mirror": "LEFT eye"},
]


def test_a_flipped_image_swaps_mirrored_classes():
    classes = class_list_from_json(PAIRED, "x")
    assert classes.mirrored() == (0, 2, 1)
    again = class_list_from_json(class_list_as_json(classes), "x")
    assert [entry.mirror for entry in again.classes] == [None, "right eye", "LEFT eye"]
    assert "mirror" not in class_list_as_json(ClassList())[0]


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("nose", "x: class 1: its mirror 'nose' is no class"),
        ("background", "x: classes: .* but not the reverse"),
        (3, "x: class 1: mirror must be the name of a class, got 3"),
    ],
)
def test_a_mirror_must_be_a_class_and_mutual(mirror, message):
    content = [PAIRED[0], {**PAIRED[1], "mirror": mirror}, PAIRED[2]]
    with pytest.raises(ValueError, match=message):
        class_list_from_json(content, "x")


def test_unique_colours_are_those_of_numpy():
    pixels = np.random.default_rng(0).integers(0, 256, [500, 3], np.uint8)[np.arange(700) % 500]
    expected = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    for found, wanted in zip(unique_colours(pixels), expected, strict=True):
        assert np.array_equal(found, wanted.reshape(found.shape))
