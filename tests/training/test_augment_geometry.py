"""Flips, turns, shifts and stretches: closed forms, statistics, margins."""

import math

import numpy as np
import pytest
import torch

from tests.helpers.augmentation import augment, noise_images, seeded
from torch_utils.ops.upfirdn2d import setup_filter
from training.augmentation import geometric
from training.augmentation.config import AugmentConfig
from training.augmentation.draws import Draws
from training.augmentation.geometric import SYM6, inverse_transforms, reflect_margins, resample

# sym6 is not quite symmetric: what is turned or mirrored ends up to 0.1 pixel beside its place.
SYM6_OFFSET = 0.03


def waves(height, width, x, y):
    """Cosines that continue themselves when reflected at the centres of the border pixels."""
    return torch.cos(3 * math.pi * x / (width - 1)) * torch.cos(2 * math.pi * y / (height - 1))


def wave_image(height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return waves(height, width, x.double(), y.double())[None, None]


def moved(images, inverse):
    return resample(images, inverse, setup_filter(SYM6, separable=True))


def affine(a, b, c, d, *shift):
    x, y = shift or (0, 0)
    return torch.tensor([[[a, b, x], [c, d, y], [0, 0, 1]]], dtype=torch.float64)


def turn(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return affine(c, -s, s, c)


# The transforms drawn


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_flips_happen_to_half_of_those_chosen(p):
    inverse = inverse_transforms(Draws(20_000, seeded()), AugmentConfig(xflip=1), p, 8, 8)
    share = (torch.linalg.det(inverse) < 0).double().mean()
    assert share == pytest.approx(p / 2, abs=0.015)


def test_either_rotation_happens_with_probability_p():
    inverse = inverse_transforms(Draws(20_000, seeded()), AugmentConfig(rotate=1), 0.3, 8, 8)
    share = (inverse[:, 0, 1] != 0).double().mean()
    assert share == pytest.approx(0.3, abs=0.015)


def test_zoom_has_the_configured_spread_in_octaves():
    config = AugmentConfig(scale=1, scale_std=0.5)
    zoom = -torch.log2(inverse_transforms(Draws(20_000, seeded()), config, 1.0, 8, 8)[:, 0, 0])
    assert zoom.mean() == pytest.approx(0, abs=0.015)
    assert zoom.std() == pytest.approx(0.5, abs=0.015)


def test_stretching_keeps_the_area_and_the_axes():
    inverse = inverse_transforms(Draws(100, seeded()), AugmentConfig(aniso=1), 1.0, 8, 8)
    torch.testing.assert_close(torch.linalg.det(inverse), torch.ones(100, dtype=torch.float64))
    assert torch.equal(inverse, torch.diag_embed(inverse.diagonal(dim1=1, dim2=2)))
    assert torch.log2(inverse[:, 0, 0]).std() == pytest.approx(0.2, abs=0.06)


def test_shifts_follow_width_and_height():
    config = AugmentConfig(xint=1, xint_max=0.25)
    inverse = inverse_transforms(Draws(2_000, seeded()), config, 1.0, 8, 80)
    assert inverse[:, 0, 2].abs().max() == 20
    assert inverse[:, 1, 2].abs().max() == 2
    assert torch.equal(inverse, inverse.round())


# Their execution


def test_sym6_is_orthonormal_with_six_vanishing_moments():
    taps, k = np.array(SYM6), np.arange(12)
    shifted = [np.dot(taps[2 * i :], taps[: 12 - 2 * i]) for i in range(6)]
    np.testing.assert_allclose(shifted, [1, 0, 0, 0, 0, 0], atol=1e-11)
    moments = [np.sum((-1.0) ** k * (k / 11) ** m * taps) for m in range(6)]
    np.testing.assert_allclose(moments, 0, atol=1e-11)


def test_identity_reconstructs_white_noise():
    images = noise_images(2, 3, 9, 14)
    torch.testing.assert_close(
        moved(images, affine(1, 0, 0, 1).repeat(2, 1, 1)), images, rtol=0, atol=5e-6
    )


@pytest.mark.parametrize(
    ("inverse", "tolerance"),
    [
        (affine(1, 0, 0, 1, 3.3, -2.6), 0.03),
        (affine(0.8, 0, 0, 0.8), 0.03),
        (affine(1.25, 0, 0, 1.25), 0.03),
        (affine(1.2, 0, 0, 1 / 1.2), 0.03),
        (turn(30), 0.03),
        (turn(-115), 0.03),
        (turn(45) @ affine(1.1, 0, 0, 0.8) @ turn(20) @ affine(1, 0, 0, 1, -2.4, 1.7), 0.03),
    ],
)
@pytest.mark.parametrize("size", [(40, 40), (48, 40)])
def test_waves_are_found_where_the_transform_says(inverse, tolerance, size):
    height, width = size
    cx, cy = (width - 1) / 2, (height - 1) / 2
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ones = torch.ones(height, width, dtype=torch.float64)
    places = torch.einsum("ij,jhw->ihw", inverse[0], torch.stack([x - cx, y - cy, ones]))
    expected = waves(height, width, places[0] + cx, places[1] + cy)
    result = moved(wave_image(height, width), inverse)[0, 0]
    assert (result - expected).abs().max() < tolerance


@pytest.mark.parametrize("size", [(40, 40), (32, 48)])
def test_xflip_mirrors(size):
    images = wave_image(*size) + torch.linspace(0, 0.5, size[1], dtype=torch.float64)
    result = augment(images, 0.75, xflip=1)
    inner = (..., slice(2, -2), slice(4, -4))
    assert (result - images.flip(3))[inner].abs().max() < SYM6_OFFSET
    assert (result - images)[inner].abs().max() > 0.5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotate90_turns(turns):
    height = width = 40
    ramp = torch.linspace(0, 0.5, width, dtype=torch.float64)
    images = wave_image(height, width) + ramp + 2 * ramp[:, None]
    result = augment(images, (turns + 0.5) / 4, rotate90=1)
    inner = (..., slice(4, -4), slice(4, -4))
    assert (result - torch.rot90(images, turns, (2, 3)))[inner].abs().max() < SYM6_OFFSET


@pytest.mark.parametrize("size", [(32, 32), (16, 40)])
@pytest.mark.parametrize("q", [0.02, 0.3, 0.9])
def test_integer_shift_is_a_shift_of_the_reflected_image(size, q):
    height, width = size
    images = noise_images(2, 3, height, width)
    by_x, by_y = (round((2 * q - 1) * 0.125 * length) for length in (width, height))
    pad = np.pad(images.numpy(), [(0, 0), (0, 0), (8, 8), (8, 8)], mode="reflect")
    expected = np.roll(pad, (by_y, by_x), (2, 3))[:, :, 8:-8, 8:-8]
    np.testing.assert_allclose(augment(images, q, xint=1).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("inverse", [turn(40), affine(1.5, 0.2, 0, 1.4), affine(1, 0, 0, 1, 4, -3)])
def test_wider_margins_change_nothing(inverse, monkeypatch):
    images = noise_images(1, 3, 32, 24)
    expected = moved(images, inverse)
    margins = reflect_margins(inverse, 32, 24)
    wider = (min(m + 2, size - 1) for m, size in zip(margins, (24, 24, 32, 32), strict=True))
    wider = tuple(wider)
    assert wider != margins
    monkeypatch.setattr(geometric, "reflect_margins", lambda *_: wider)
    torch.testing.assert_close(moved(images, inverse), expected, rtol=0, atol=2e-5)


def test_margins_end_where_a_reflection_ends():
    assert reflect_margins(affine(9, 0, 0, 9), 8, 16) == (15, 15, 7, 7)


def test_samples_that_do_not_move_keep_their_bits():
    images = noise_images(32, 1, 8, 8)
    result = augment(images, p=0.3, rotate=1)
    same = (result == images).flatten(1).all(1)
    inverse = inverse_transforms(Draws(32, seeded()), AugmentConfig(rotate=1), 0.3, 8, 8)
    assert same.tolist() == (inverse[:, 0, 1] == 0).tolist()
    assert 0 < same.sum() < 32
