"""How numbers in masks become the classes that are learned."""

import json

import numpy as np
import pytest

from data.class_list import class_list_from_json
from data.info import parse_classes
from data.pixels import IGNORED
from renderer.classes import FACE_4, FACE_10, TO_FACE_4, TO_OCULAR_4
from segmentation.classes import (
    ClassMerge,
    choose_classes,
    load_merge,
    map_mask,
    table_for,
)
from tests.helpers.labelled import CLASSES


def listed(classes):
    return [
        {"id": k, "name": entry.name, "color": list(entry.colour)}
        for k, entry in enumerate(classes)
    ]


TEN = parse_classes({"classes": listed(FACE_10.classes)}, "ten")
FOUR = parse_classes({"classes": 4, "palette": FACE_4.palette().tolist()}, "four")


@pytest.mark.parametrize(("name", "merge"), [("face4", TO_FACE_4), ("ocular4", TO_OCULAR_4)])
def test_the_example_s_merges_are_the_renderer_s(name, merge):
    mask = np.random.default_rng(0).integers(0, 10, (16, 16)).astype(np.uint8)
    loaded = load_merge(name)
    table = table_for(TEN, loaded.classes, loaded, "x")
    assert (map_mask(mask, table, 4, "x") == np.array(merge)[mask]).all()


def test_a_set_that_has_the_classes_already_is_not_merged():
    merge = load_merge("face4")
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    table = table_for(FOUR, merge.classes, merge, "x")
    assert (map_mask(mask, table, 4, "x") == mask).all()


def test_a_file_maps_by_name_number_or_to_nothing(tmp_path):
    path = tmp_path / "merge.json"
    path.write_text(json.dumps({"classes": CLASSES, "map": ["ground", 2, "LEFT", None]}))
    merge = load_merge(str(path))
    assert merge.numbers == (0, 2, 1, IGNORED)
    table = table_for(parse_classes(None, "x"), merge.classes, merge, "x")
    found = map_mask(np.array([[0, 1, 2, 3, 255]], np.uint8), table, 3, "x")
    assert found.tolist() == [[0, 2, 1, IGNORED, IGNORED]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], 'expected an object with "classes" and "map"'),
        ({"classes": CLASSES, "map": []}, "map must be a list"),
        ({"classes": CLASSES, "map": ["nose"]}, "map must hold names .* got 'nose'"),
        ({"classes": CLASSES, "map": [3]}, "map must hold names .* got 3"),
        ({"classes": CLASSES, "map": [True]}, "map must hold names .* got True"),
        ({"classes": CLASSES[:1], "map": [0]}, "merge.json: classes: 2 to 255"),
    ],
)
def test_bad_merges_are_refused(tmp_path, content, message):
    path = tmp_path / "merge.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_merge(str(path))


def test_a_class_beyond_the_list_is_named():
    classes = class_list_from_json(CLASSES, "x")
    table = table_for(parse_classes(None, "x"), classes, None, "x")
    with pytest.raises(ValueError, match=r"a\.png: masks must hold 0\.\.2 or 255 .* got 7"):
        map_mask(np.array([[0, 7, 1]], np.uint8), table, 3, "a.png")


def test_sets_with_other_classes_are_refused():
    classes = class_list_from_json(CLASSES, "x")
    with pytest.raises(ValueError, match="set: the set has 10 classes, 3 are learned; --merge"):
        table_for(TEN, classes, None, "set")
    merge = ClassMerge(classes=classes, numbers=(0, 1, 2, 2))
    with pytest.raises(ValueError, match="set: --merge maps 4 classes, the set has 10"):
        table_for(TEN, classes, merge, "set")
    others = parse_classes({"classes": listed(FACE_10.classes[:3])}, "x")
    with pytest.raises(ValueError, match="classes are background, skin, hair, learned are ground"):
        table_for(others, classes, None, "set")


def test_classes_come_from_the_merge_the_option_or_the_data():
    merge, given = load_merge("face4"), class_list_from_json(CLASSES, "x")
    assert choose_classes(None, merge, [TEN]) is merge.classes
    assert choose_classes(given, None, [TEN]) is given
    assert choose_classes(None, None, [FOUR, TEN]) is TEN.classes
    assert choose_classes(None, None, [FOUR]).names == ("class 0", "class 1", "class 2", "class 3")
    with pytest.raises(ValueError, match="--classes must name a class list"):
        choose_classes(None, None, [parse_classes({"classes": 4}, "x")])
    with pytest.raises(ValueError, match="--classes: leave it out"):
        choose_classes(given, merge, [])
