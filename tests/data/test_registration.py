import numpy as np
import pytest

from data.registration import common_box, displacement, edge_correlation, edge_strength
from tests.helpers.images import moved, texture


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (1.3, -2.65), (-0.4, 0.25), (7.5, 0)])
def test_a_known_shift_is_found(shift):
    image = texture(0)
    assert displacement(image, moved(image, shift)) == pytest.approx(shift, abs=0.08)


def test_rectangles_and_odd_sizes():
    image = texture(1, 61)[:, :40]
    assert displacement(image, moved(image, (2, -3))) == pytest.approx((2, -3), abs=0.15)


def test_the_shift_back_is_the_opposite():
    a, b = texture(2), moved(texture(2), (2.2, 1.1))
    there, back = displacement(a, b), displacement(b, a)
    assert there == pytest.approx([-value for value in back], abs=0.051)


def test_constant_images_are_not_displaced():
    assert displacement(np.ones((16, 16)), texture(0, 16)) == (0, 0)
    assert edge_correlation(np.ones((4, 4)), np.eye(4)) == 0


def test_other_contrast_keeps_the_edges():
    image = texture(3)
    assert edge_correlation(edge_strength(image), edge_strength(255 - image)) == pytest.approx(1)
    colours = np.stack([image, image, image])
    assert edge_strength(colours) == pytest.approx(edge_strength(image))


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match=r"two images of one size, at least 8 x 8, got \(4, 4\)"):
        displacement(np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match="two images of one size"):
        displacement(texture(0, 16), texture(0, 20))


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (1.3, -2.65), (-0.4, 0.25), (7.5, 0)])
def test_the_common_box_lies_in_both_images(shift):
    left, upper, right, lower = common_box((40, 30), shift)
    for x in (left, right):
        assert 0 <= x <= 40
        assert 0 <= x + shift[1] <= 40
    for y in (upper, lower):
        assert 0 <= y <= 30
        assert 0 <= y + shift[0] <= 30
    assert (right - left, lower - upper) >= (40 - abs(shift[1]) - 1, 30 - abs(shift[0]) - 1)
