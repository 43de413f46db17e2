"""Pictures: cells keep their pixels and places, and PNG files keep every value."""

import io

import numpy as np
import pytest
from PIL import Image

from data.pictures import encode_png, image_grid, save_png, side_by_side


def test_modalities_stand_side_by_side():
    rgb = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    nir = np.full((1, 2, 2), 200, np.uint8)
    cell = side_by_side({"rgb": rgb, "nir": nir})
    assert cell.shape == (3, 2, 4)
    assert np.array_equal(cell[:, :, :2], rgb)
    assert (cell[:, :, 2:] == 200).all()


def test_grid_is_filled_row_by_row():
    cells = [np.full((3, 2, 4), value, np.uint8) for value in (1, 2, 3, 4, 5)]
    grid = image_grid(cells, 3)
    assert grid.shape == (3, 4, 12)
    assert grid[0, ::2, ::4].tolist() == [[1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 4, 5), dtype=np.uint8)
    save_png(tmp_path / "grid.png", pixels)
    read = np.asarray(Image.open(tmp_path / "grid.png"))
    expected = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(read, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_16_bit_grey_keeps_every_value():
    pixels = np.array([[[0, 1, 256, 65535]]], np.uint16)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert np.asarray(image).tolist() == pixels[0].tolist()
