"""Pictures for people: contact sheets of pairs, and masks over images."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

_GAP_PX = 2
_CAPTION_PX = 12
_SHOWN_PX = 128
_MAX_SHEET_PX = 4096
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


def contact_sheet(cells: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Lay captioned pictures out in rows.

    Args:
        cells: caption and [h, w, 3] uint8, all of one size; small ones are enlarged.
    Returns: [H, W, 3] uint8.
    """
    height, width = cells[0][1].shape[:2]
    factor = max(1, _SHOWN_PX // height)
    across = width * factor + _GAP_PX
    columns = max(1, min(len(cells), _MAX_SHEET_PX // across, round((2 * len(cells)) ** 0.5)))
    down = height * factor + _CAPTION_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * across, -(-len(cells) // columns) * down))
    draw = ImageDraw.Draw(sheet)
    for index, (caption, picture) in enumerate(cells):
        x, y = index % columns * across, index // columns * down
        size = (width * factor, height * factor)
        tile = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
        sheet.paste(tile, (x, y + _CAPTION_PX))
        draw.text((x + 1, y), caption, fill=(255, 255, 255))
    return np.asarray(sheet)
