"""Pictures for people: contact sheets of pairs, and masks over images."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

_GAP_PX = 2
_CAPTION_PX = 12
_SHOWN_PX = 128
_MAX_SHEET_PX = (4096, 16384)  # width and height; JPEG files end at 65500
_OPACITY = 0.5


def default_palette(classes: int) -> np.ndarray:
    """Return colours that differ from each other, black first: [classes, 3] uint8."""
    hues = (np.arange(classes) * 0.618034) % 1.0
    wheel = np.abs((hues[:, None] * 6 - np.array([3, 2, 4])) % 6 - 3)
    rgb = np.clip(np.stack([wheel[:, 0] - 1, 2 - wheel[:, 1], 2 - wheel[:, 2]], axis=1), 0, 1)
    shade = np.where(np.arange(classes) % 2, 255, 190)[:, None]
    colours = (rgb * shade).astype(np.uint8)
    colours[0] = 0
    return colours


def overlay(rgb: np.ndarray, mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Mix class colours into an image; class 0 leaves it as it is.

    Args:
        rgb: [H, W, 3] uint8.
        mask: [H, W] uint8.
        palette: [K, 3] uint8.
    Returns: [H, W, 3] uint8.
    """
    colours = palette[mask].astype(np.float32)
    mixed = rgb * (1 - _OPACITY) + colours * _OPACITY
    return np.where(mask[..., None] > 0, np.rint(mixed), rgb).astype(np.uint8)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return [C, H, W] with 1 or 3 channels as [H, W, 3]."""
    return np.repeat(pixels, 3 // len(pixels), axis=0).transpose(1, 2, 0)


def as_heat(values: np.ndarray, largest: float) -> np.ndarray:
    """Return [H, W] values 0..largest as colours from black over red and yellow to white."""
    t = np.clip(values / max(largest, 1e-12), 0, 1)[..., None] * 3
    return np.rint(np.clip(t - np.arange(3), 0, 1) * 255).astype(np.uint8)


def side_by_side(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the modalities of a sample, [C, H, W] uint8 each, in one [H, n W, 3] picture."""
    return np.concatenate([as_rgb(image) for image in images.values()], axis=1)


class ContactSheet:
    """Captioned pictures in rows, laid out as they come.

    Args:
        count: how many there will be.
        height: of each, in pixels; small ones are enlarged.
        width: of each. So many that the sheet would be too large for a JPEG file are shrunk.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self._tile, self._columns = _lay_out(count, height, width)
        self._across, self._down = self._tile[0] + _GAP_PX, self._tile[1] + _CAPTION_PX + _GAP_PX
        rows = -(-count // self._columns)
        self._sheet = Image.new("RGB", (self._columns * self._across, rows * self._down))
        self._number = 0

    def add(self, caption: str, picture: np.ndarray) -> None:
        """Add [h, w, 3] uint8 behind those that are there."""
        x = self._number % self._columns * self._across
        y = self._number // self._columns * self._down
        is_shrunk = self._tile[1] < len(picture)
        filtering = Image.Resampling.BOX if is_shrunk else Image.Resampling.NEAREST
        tile = Image.fromarray(picture).resize(self._tile, filtering)
        self._sheet.paste(tile, (x, y + _CAPTION_PX))
        ImageDraw.Draw(self._sheet).text((x + 1, y), caption, fill=(255, 255, 255))
        self._number += 1

    def pixels(self) -> np.ndarray:
        """Return the sheet: [3, H, W] uint8."""
        return np.asarray(self._sheet).transpose(2, 0, 1)


def contact_sheet(cells: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Lay captioned pictures out in rows; see ContactSheet.

    Args:
        cells: caption and [h, w, 3] uint8, all of one size.
    Returns: [3, H, W] uint8.
    """
    sheet = ContactSheet(len(cells), *cells[0][1].shape[:2])
    for caption, picture in cells:
        sheet.add(caption, picture)
    return sheet.pixels()


def _lay_out(count: int, height: int, width: int) -> tuple[tuple[int, int], int]:
    """Return width and height of a picture on the sheet, and the number of columns."""
    shown = height * max(1, _SHOWN_PX // height)
    while True:
        tile = (max(1, width * shown // height), shown)
        most = max(1, _MAX_SHEET_PX[0] // (tile[0] + _GAP_PX))
        columns = max(1, min(count, most, round((2 * count) ** 0.5)))
        rows = -(-count // columns)
        if rows * (shown + _CAPTION_PX + _GAP_PX) <= _MAX_SHEET_PX[1] or shown == 1:
            return tile, columns
        shown = (shown + 1) // 2
