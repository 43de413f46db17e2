"""Sheets: cells keep their pixels and places, masks their colours, and files every value."""

import io

import numpy as np
import pytest
from PIL import Image

from data import sheets


def random_pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("count", "columns"), [(6, 2), (5, 3), (4, 1)])
def test_samples_stand_row_by_row_and_modalities_side_by_side(count, columns):
    images, side = {"rgb": random_pixels(count, 3, 4, 4), "nir": random_pixels(count, 1, 4, 4)}, 4
    rows = -(-count // columns)
    expected = np.zeros((3, rows * side, columns * 2 * side), np.uint8)
    for index in range(count):
        for place, name in enumerate(images):
            top, left = index // columns * side, (index % columns * 2 + place) * side
            expected[:, top : top + side, left : left + side] = images[name][index]
    np.testing.assert_array_equal(sheets.sample_grid(images, columns), expected)


def test_small_pictures_are_enlarged_in_strips():
    rgb, nir = random_pixels(3, 8, 8), random_pixels(1, 8, 8)
    row = sheets.strip([rgb, nir], 16)
    assert np.array_equal(row[:, :16:2, :16:2], rgb)
    assert (row[:, :16:2, 18:34:2] == nir).all()


def test_sizes_change_by_means_and_whole_copies():
    picture = random_pixels(3, 4, 4)
    small = sheets.resize(picture, 2, 2)
    means = picture.reshape(3, 2, 2, 2, 2).mean(axis=(2, 4))
    assert np.abs(small - means).max() <= 1
    large = sheets.resize(picture, 8, 12)
    assert np.array_equal(large, picture.repeat(2, axis=1).repeat(3, axis=2))


def test_differences_are_shown_around_grey():
    before = np.array([[[10, 10, 10, 200]]], np.uint8)
    after = np.array([[[10, 12, 8, 0]]], np.uint8)
    assert sheets.difference(before, after).tolist() == [[[128, 136, 120, 0]]]


def test_overlays_leave_class_0_alone():
    palette = np.array([[9, 9, 9], [255, 0, 0]], np.uint8)
    for channels in (1, 3):
        picture = np.full([channels, 1, 2], 100, np.uint8)
        mixed = sheets.overlay(picture, np.array([[0, 1]], np.uint8), palette)
        assert mixed.transpose(1, 2, 0).tolist() == [[[100, 100, 100], [178, 50, 50]]]


def test_default_colours_differ():
    assert sheets.default_palette(2).tolist()[0] == [0, 0, 0]
    colours = sheets.default_palette(255)
    assert len(np.unique(colours, axis=0)) == 255
    assert np.array_equal(colours[:5], sheets.default_palette(5))


def test_samples_are_evenly_spread():
    assert sheets.spread_indices(3, 5) == [0, 1, 2]
    found = sheets.spread_indices(1000, 24)
    assert (found[0], found[-1], len(set(found))) == (0, 999, 24)


def test_contact_sheets_hold_every_cell():
    cells = [(str(k), np.full([3, 16, 32], 10 + k, np.uint8)) for k in range(7)]
    sheet = sheets.contact_sheet(cells)
    for k in range(7):
        assert (sheet == 10 + k).all(axis=0).sum() >= 128 * 256


@pytest.mark.parametrize(
    ("count", "side", "shown"),
    [(100, 256, 256), (60, 512, 512), (100, 512, 256), (5000, 1024, 64)],
)
def test_sheets_of_many_large_pictures_fit_into_a_file(count, side, shown):
    sheet = sheets.ContactSheet(count, side, 2 * side)
    sheet.add("", np.full([3, side, 2 * side], 100, np.uint8))
    pixels = sheet.pixels()
    assert max(pixels.shape) <= 16384
    tile = pixels[:, 12 : 13 + shown, : 2 * shown + 1]  # below its caption, and what is around it
    assert (tile[:, :-1, :-1] == 100).all()
    assert not tile[:, -1].any()
    assert not tile[..., -1].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(tmp_path, channels):
    pixels = random_pixels(channels, 4, 5)
    sheets.save_image(tmp_path / "grid.png", pixels)
    read = np.asarray(Image.open(tmp_path / "grid.png"))
    np.testing.assert_array_equal(read, pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_16_bit_grey_keeps_every_value():
    pixels = np.array([[[0, 1, 256, 65535]]], np.uint16)
    with Image.open(io.BytesIO(sheets.encode_png(pixels))) as image:
        assert np.asarray(image).tolist() == pixels[0].tolist()
