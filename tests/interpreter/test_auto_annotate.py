import numpy as np
import pytest
import torch

from interpreter.auto_annotate import (
    AnnotatorOptions,
    build_annotator,
    class_iou,
    example_classes,
    render_people,
)
from renderer.classes import FACE_4, FACE_10
from renderer.render import render_sample

TINY = {"resolution": 16, "classes": 4, "renders": 24, "heldout": 6, "width": 8, "steps": 40}


def test_the_classes_are_the_renderers():
    for count, palette in ((10, FACE_10), (4, FACE_4)):
        assert [entry.name for entry in example_classes(count).classes] == [n for n, _ in palette]


def test_renders_are_pixels_and_masks():
    pixels, masks = render_people(AnnotatorOptions(**TINY), range(2))
    assert pixels.shape == (2, 4, 16, 16)
    assert masks.shape == (2, 16, 16)
    assert int(masks.max()) < 4


def test_an_annotator_learns_and_is_kept(tmp_path):
    options = AnnotatorOptions(**TINY)
    annotator = build_annotator(options, tmp_path / "a.pt")
    share = float((render_people(options, range(24, 30))[1] == 0).float().mean())
    assert annotator.report["images"] == 6
    assert annotator.report["accuracy"] > share + 0.1  # better than calling all background
    sample = render_sample(5, 0, 0, 16)
    images = {"rgb": sample.rgb.transpose(2, 0, 1), "nir": sample.nir[None]}
    mask = annotator.annotate(images)
    assert mask.shape == (16, 16)
    assert mask.dtype == np.uint8
    again = build_annotator(options, tmp_path / "a.pt")  # read
    anew = build_annotator(options)  # trained again
    assert np.array_equal(again.annotate(images), mask)
    assert np.array_equal(anew.annotate(images), mask)
    assert again.report == annotator.report == anew.report


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_annotator(AnnotatorOptions(**{**TINY, "steps": 1}))
    assert torch.equal(torch.rand(2), expected)


def test_iou_of_absent_classes_is_none():
    assert class_iou(np.array([0, 1, 1]), np.array([0, 0, 1]), 3) == [0.5, 0.5, None]


@pytest.mark.parametrize("changes", [{"resolution": 48}, {"classes": 5}])
def test_wrong_options_are_refused(changes):
    with pytest.raises(ValueError, match="resolution|classes"):
        AnnotatorOptions(**{**TINY, **changes})
