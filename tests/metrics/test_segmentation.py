import numpy as np
import pytest

from metrics.segmentation import (
    boundary_f1,
    confusion_matrix,
    intersection_over_union,
    score_masks,
)

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
FOUND = np.array([[0, 1, 1, 1], [0, 0, 1, 0]])


def square(size, top, left, side=10):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_iou_by_hand():
    confusion = confusion_matrix(TRUTH, FOUND, 2)
    assert confusion.tolist() == [[3, 1], [1, 3]]
    assert intersection_over_union(confusion).tolist() == [3 / 5, 3 / 5]


def test_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (2, 6, 9, 9))
    score = score_masks(zip(truth, found, strict=True), list("abcde"))
    flat = truth.ravel(), found.ravel()
    assert (score.confusion == sklearn.confusion_matrix(*flat)).all()
    assert score.pixel_accuracy.value == pytest.approx(sklearn.accuracy_score(*flat))
    iou = sklearn.jaccard_score(*flat, average=None)
    assert [c.iou.value for c in score.classes] == pytest.approx(iou.tolist())
    assert score.mean_iou.value == pytest.approx(iou.mean())
    f1 = sklearn.f1_score(*flat, average=None)
    assert [c.f1.value for c in score.classes] == pytest.approx(f1.tolist())


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_boundary_f1_of_shifted_squares(shift):
    truth, found = square(40, 10, 10), square(40, 10, 10 + shift)
    assert boundary_f1(truth, found, 3.0) == 1.0
    if shift:
        # Within half a pixel only what lies on both outlines counts: parts of the horizontal sides.
        shared = 2 * (10 - shift)
        assert boundary_f1(truth, found, 0.5) == pytest.approx(shared / 36)


def test_boundary_f1_is_symmetric_and_falls_with_distance():
    truth = square(40, 10, 10)
    values = [boundary_f1(truth, square(40, 10, 10 + s), 1.0) for s in range(6)]
    assert values == sorted(values, reverse=True)
    other = square(40, 12, 13, side=8)
    assert boundary_f1(truth, other, 1.5) == pytest.approx(boundary_f1(other, truth, 1.5))


def test_boundary_f1_of_missing_regions():
    nothing, something = np.zeros((8, 8), bool), square(8, 2, 2, side=3)
    assert np.isnan(boundary_f1(nothing, nothing, 1.0))
    assert boundary_f1(nothing, something, 1.0) == 0
    assert boundary_f1(something, nothing, 1.0) == 0
    assert boundary_f1(~nothing, ~nothing, 1.0) == 1  # all of the image: no boundary inside


def test_a_class_in_no_mask_has_no_score():
    score = score_masks([(TRUTH, FOUND)], ["a", "b", "c"])
    assert score.classes[2].iou is None
    assert score.classes[2].boundary_f1 is None
    assert score.mean_iou.value == pytest.approx(0.6)


def test_equal_masks_are_perfect_and_order_does_not_matter():
    rng = np.random.default_rng(2)
    masks = rng.integers(0, 3, (5, 12, 12))
    assert score_masks([(m, m) for m in masks], list("abc")).mean_iou.value == 1
    found = rng.integers(0, 3, (5, 12, 12))
    a = score_masks(zip(masks, found, strict=True), list("abc"))
    b = score_masks(zip(masks[::-1], found[::-1], strict=True), list("abc"))
    assert a.mean_iou.value == b.mean_iou.value
    assert a.mean_iou.low < a.mean_iou.value < a.mean_iou.high


@pytest.mark.parametrize(
    ("masks", "names", "message"),
    [
        ([], ["a", "b"], "none to compare"),
        ([(TRUTH, FOUND)], ["a"], "2 to 256 can be compared, got 1"),
        ([(TRUTH, FOUND[:1])], ["a", "b"], "mask pair 0: masks must have one shape"),
        ([(TRUTH, FOUND), (TRUTH + 1, FOUND)], ["a", "b"], r"pair 1: true mask: .* got 1\.\.2"),
        ([(TRUTH, FOUND - 1)], ["a", "b"], r"found mask: classes must be in 0\.\.1, got -1"),
    ],
)
def test_masks_that_cannot_be_compared(masks, names, message):
    with pytest.raises(ValueError, match=message):
        score_masks(masks, names)


def test_groups_must_fit():
    with pytest.raises(ValueError, match="1 pairs but 2 groups"):
        score_masks([(TRUTH, FOUND)], ["a", "b"], groups=["p", "q"])
