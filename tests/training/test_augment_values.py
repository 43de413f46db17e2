"""Colour, frequency bands, noise and cutout: closed forms and statistics."""

import math

import numpy as np
import pytest
import torch

from tests.helpers.augmentation import augment, noise_images, seeded
from training.augmentation.color import apply_color, color_matrix, color_transforms
from training.augmentation.config import AUGPIPES, AugmentConfig
from training.augmentation.corruption import add_noise, cut_out, noise_levels
from training.augmentation.draws import Draws
from training.augmentation.image_filter import (
    EXPECTED_POWER,
    SYM2,
    amplify,
    band_filters,
    band_gains,
    reflect_pad,
)

# Colour


def colored(contrast=1.0, flip=0.0, degrees=0.0, saturation=1.0):
    values = (contrast, flip, math.radians(degrees), saturation)
    return color_matrix(*(torch.tensor([value], dtype=torch.float64) for value in values))


def mapped(images, matrix, shift=0.0):
    column = torch.full([len(matrix), 3, 1], shift, dtype=torch.float64)
    return apply_color(images, torch.cat([matrix, column], dim=2))


@pytest.mark.parametrize("degrees", [0, 360, -720])
def test_full_turns_of_hue_are_the_identity(degrees):
    torch.testing.assert_close(colored(degrees=degrees)[0], torch.eye(3, dtype=torch.float64))


def test_a_third_of_a_turn_of_hue_exchanges_channels():
    images = noise_images(1, 3, 4, 4)
    result = mapped(images, colored(degrees=120))
    torch.testing.assert_close(result, images[:, [2, 0, 1]], rtol=0, atol=1e-6)


def test_hue_turns_about_the_grey_axis_and_keeps_lengths():
    matrix = colored(degrees=77)[0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(1), torch.ones(3, dtype=torch.float64))
    assert torch.linalg.det(matrix) == pytest.approx(1)


def test_saturation_zero_is_grey():
    images = noise_images(2, 3, 4, 4)
    result = mapped(images, colored(saturation=0.0).repeat(2, 1, 1))
    torch.testing.assert_close(result, images.mean(1, keepdim=True).expand(-1, 3, -1, -1))


def test_luma_flip_negates_brightness_and_keeps_colour_differences():
    images = noise_images(1, 3, 4, 4)
    result = mapped(images, colored(flip=1.0))
    torch.testing.assert_close(result.mean(1), -images.mean(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(result[:, 0] - result[:, 1], images[:, 0] - images[:, 1])


def test_brightness_comes_before_contrast():
    q, images = 0.8, noise_images(2, 3, 4, 4)
    draw = torch.erfinv(torch.tensor(2 * q - 1)).item()
    expected = (images + 0.2 * draw) * 2 ** (0.5 * draw)
    torch.testing.assert_close(augment(images, q, brightness=1, contrast=1), expected)


def test_one_channel_is_a_grey_colour():
    grey = noise_images(6, 1, 4, 4)
    transforms = color_transforms(Draws(6, seeded()), AUGPIPES["color"], 1.0)
    expected = apply_color(grey.expand(-1, 3, -1, -1), transforms)
    result = apply_color(grey, transforms)
    torch.testing.assert_close(result.expand(-1, 3, -1, -1), expected, rtol=0, atol=1e-5)


def test_hue_and_saturation_leave_one_channel_alone():
    grey = noise_images(6, 1, 4, 4)
    torch.testing.assert_close(augment(grey, hue=1, saturation=1), grey, rtol=0, atol=1e-6)


# Frequency bands


def test_sym2_is_orthonormal_with_two_vanishing_moments():
    taps, k = np.array(SYM2), np.arange(4)
    np.testing.assert_allclose([taps @ taps, taps[2:] @ taps[:2]], [1, 0], atol=1e-12)
    moments = [np.sum((-1.0) ** k * k**m * taps) for m in range(2)]
    np.testing.assert_allclose(moments, 0, atol=1e-10)


def test_bands_are_symmetric_and_sum_to_the_identity():
    filters = band_filters()
    assert filters.shape == (4, 43)
    torch.testing.assert_close(filters, filters.flip(1))
    impulse = torch.zeros(43, dtype=torch.float64)
    impulse[21] = 1
    torch.testing.assert_close(filters.sum(0), impulse, rtol=0, atol=1e-10)


def test_each_band_passes_its_octave():
    response = np.abs(np.fft.rfft(band_filters().numpy(), 1024, axis=1))  # 512 bins up to Nyquist
    octaves = [(0, 64), (64, 128), (128, 256), (256, 512)]
    power = np.array([[(row[a:b] ** 2).mean() for a, b in octaves] for row in response])
    assert power.argmax(1).tolist() == [0, 1, 2, 3]
    assert (np.diag(power) > 5 * (power - np.diag(np.diag(power))).max(1)).all()
    np.testing.assert_allclose(response[:, 0], [1, 0, 0, 0], atol=1e-10)
    np.testing.assert_allclose(response[:, 512], [0, 0, 0, 1], atol=1e-10)


def test_unit_gains_are_the_identity():
    images = noise_images(2, 3, 16, 20)
    result = amplify(images, torch.ones(2, 4, dtype=torch.float64), band_filters())
    torch.testing.assert_close(result, images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(30, 24), (5, 9)])
def test_amplify_equals_convolutions_of_rows_and_columns(size):
    images = noise_images(2, 3, *size, dtype=torch.float64)
    gains = torch.rand(2, 4, generator=seeded(), dtype=torch.float64) * 2
    taps = (gains @ band_filters()).numpy()
    result = amplify(images, gains, band_filters()).numpy()
    expected = np.pad(images.numpy(), [(0, 0), (0, 0), (21, 21), (21, 21)], mode="reflect")
    for axis in (2, 3):
        expected = np.stack(
            [
                np.apply_along_axis(np.convolve, axis - 1, image, row, "valid")
                for image, row in zip(expected, taps, strict=True)
            ]
        )
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 3), (5, 50), (22, 22)])
def test_reflection_goes_back_and_forth(size):
    images = noise_images(1, 2, *size)
    expected = np.pad(images.numpy(), [(0, 0), (0, 0), (21, 21), (21, 21)], mode="reflect")
    np.testing.assert_array_equal(reflect_pad(images, 21).numpy(), expected)


@pytest.mark.parametrize("band", range(4))
def test_one_band_at_a_time_keeps_the_expected_power(band):
    bands = tuple(float(i == band) for i in range(4))
    config = AugmentConfig(imgfilter=1, imgfilter_bands=bands)
    gains = band_gains(Draws(50, seeded()), config, 0.5)
    power = (torch.tensor(EXPECTED_POWER, dtype=torch.float64) * gains.square()).sum(1)
    torch.testing.assert_close(power, torch.ones_like(power))
    others = [i for i in range(4) if i != band]
    torch.testing.assert_close(gains[:, others[0]], gains[:, others[1]])
    is_changed = gains[:, band] != 1
    assert 0 < is_changed.sum() < 50
    assert (gains[~is_changed] == 1).all()


# Noise and cutout


def test_noise_has_the_level_asked_for():
    images = torch.zeros(3, 3, 64, 64)
    levels = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)
    result = add_noise(images, levels, [1, 2, 3])
    np.testing.assert_allclose(result.flatten(1).std(1), levels, rtol=0.03, atol=1e-12)
    assert result[1].mean().abs() < 0.005
    assert torch.equal(add_noise(images[2:], levels[2:], [3]), result[2:])
    assert torch.corrcoef(result[1:].flatten(1))[0, 1].abs() < 0.05


def test_noise_levels_are_half_normal_where_on():
    levels = noise_levels(Draws(20_000, seeded()), AugmentConfig(noise=1, noise_std=0.3), 0.4)
    is_on = levels > 0
    assert is_on.double().mean() == pytest.approx(0.4, abs=0.015)
    assert levels[is_on].square().mean().sqrt() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(("size", "share"), [(0.5, 1 / 4), (0.25, 1 / 16), (0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_central_cutout_blanks_its_share(size, share, channels):
    center = torch.full([2], 0.5, dtype=torch.float64)
    sizes = torch.full([2], size, dtype=torch.float64)
    result = cut_out(torch.ones(2, channels, 16, 32), sizes, center, center)
    assert (result == 0).double().mean() == share
    assert ((result == 0) | (result == 1)).all()


def test_cutout_hangs_over_the_border_where_its_centre_is_near():
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    result = cut_out(torch.ones(1, 1, 8, 16), one / 2, zero, one)
    expected = torch.ones(8, 16)
    expected[-2:, :4] = 0
    assert torch.equal(result[0, 0], expected)


def test_cutout_hits_with_probability_p():
    images = torch.ones(2_000, 1, 4, 4)
    share = (augment(images, p=0.3, cutout=1) == 0).flatten(1).any(1).double().mean()
    assert share == pytest.approx(0.3, abs=0.04)


def test_cutout_is_placed_apart_in_both_directions():
    blank = augment(torch.ones(100, 1, 16, 16), cutout=1, cutout_size=0.25)[:, 0] == 0
    columns, rows = blank.any(1).double(), blank.any(2).double()
    centers = torch.stack(
        [(side * torch.arange(16)).sum(1) / side.sum(1) for side in (columns, rows)]
    )
    assert torch.corrcoef(centers)[0, 1].abs() < 0.3
    assert (centers.amin(1) < 3).all()
    assert (centers.amax(1) > 12).all()
