import numpy as np
import pytest
import torch

from renderer.auto_annotate import AnnotatorOptions, build_annotator, render_identities
from renderer.render import render_sample

TINY = {
    "resolution": 16,
    "classes": 4,
    "renders": 24,
    "heldout": 6,
    "width": 8,
    "steps": 40,
    "batch": 8,
}


def test_renders_are_pixels_and_masks():
    pixels, masks = render_identities(AnnotatorOptions(**TINY), range(2))
    assert pixels.shape == (2, 4, 16, 16)
    assert masks.shape == (2, 16, 16)
    assert int(masks.max()) < 4


def test_an_annotator_learns_and_is_kept(tmp_path):
    options = AnnotatorOptions(**TINY)
    annotator = build_annotator(options, tmp_path / "a")
    confusion = np.array(annotator.report["confusion"])
    assert confusion.sum() == 6 * 16 * 16
    masks = render_identities(options, range(24, 30))[1]
    assert confusion.sum(axis=1).tolist() == torch.bincount(masks.flatten(), minlength=4).tolist()
    # better than calling all background
    assert annotator.report["accuracy"] > float((masks == 0).float().mean()) + 0.1
    images = render_sample(5, 0, 0, 16).images
    mask = annotator.annotate(images)
    assert mask.shape == (16, 16)
    assert mask.dtype == np.uint8
    again = build_annotator(options, tmp_path / "a")  # read
    anew = build_annotator(options, tmp_path / "b")  # trained again
    assert np.array_equal(again.annotate(images), mask)
    assert np.array_equal(anew.annotate(images), mask)
    assert again.report == annotator.report == anew.report


def test_building_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_annotator(AnnotatorOptions(**{**TINY, "steps": 1}), tmp_path / "a")
    assert torch.equal(torch.rand(2), expected)


def test_only_classes_that_renders_have_are_learned():
    with pytest.raises(ValueError, match="classes: .* 10 or 4, got 6"):
        AnnotatorOptions(resolution=32, classes=6)


def test_a_resolution_that_is_not_rendered_is_refused():
    with pytest.raises(ValueError, match="resolution"):
        AnnotatorOptions(**{**TINY, "resolution": 48})
