"""Pictures to look at: grids, captioned contact sheets, masks in colours, and image files.

A picture is [C, H, W] uint8 with 1 channel (grey) or 3; whatever is composed has 3.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from dnnlib import files

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

JPEG_QUALITY = 95
_GAP_PX = 2
_CAPTION_PX = 12
_TILE_PX = 128  # height of a picture on a contact sheet
_STRIP_PX = 96  # width of a picture in a strip
_COMPARED_A_ROW = 2
_MAX_SHEET_PX = (4096, 16384)  # width and height; JPEG files end at 65500
_MASK_OPACITY = 0.5
_DIFFERENCE_GAIN = 4
# Okabe and Ito 2008: seven colours that colour-blind readers tell apart.
_FIRST_COLOURS = "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"


# Single pictures


def as_rgb(picture: np.ndarray) -> Pixels:
    """Return a picture with 3 channels."""
    return np.broadcast_to(picture, (3, *picture.shape[1:]))


def resize(picture: np.ndarray, height: int, width: int) -> Pixels:
    """Return a picture in another size: area means, whole copies of pixels where it grows."""
    if picture.shape[1:] == (height, width):
        return picture
    resized = _to_image(as_rgb(picture)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized).transpose(2, 0, 1)


def default_palette(classes: int) -> np.ndarray:
    """Return colours that differ from each other, black first: [classes, 3] uint8."""
    hues = (np.arange(max(classes, 8)) * 0.618034) % 1.0
    wheel = np.abs((hues[:, None] * 6 - np.array([3, 2, 4])) % 6 - 3)
    rgb = np.clip(np.stack([wheel[:, 0] - 1, 2 - wheel[:, 1], 2 - wheel[:, 2]], axis=1), 0, 1)
    shade = np.where(np.arange(len(hues)) % 2, 255, 190)[:, None]
    colours = (rgb * shade).astype(np.uint8)
    colours[0] = 0
    colours[1:8] = [ImageColor.getrgb(colour) for colour in _FIRST_COLOURS]
    return colours[:classes]


def colour_mask(mask: np.ndarray, palette: np.ndarray | None = None) -> Pixels:
    """Return class numbers [H, W] in the colours of a palette [K, 3], or in default ones."""
    palette = default_palette(int(mask.max()) + 1) if palette is None else palette
    return palette[mask].transpose(2, 0, 1)


def overlay(picture: np.ndarray, mask: np.ndarray, palette: np.ndarray) -> Pixels:
    """Mix class colours into a picture; class 0 leaves it as it is.

    Args:
        picture: [C, H, W] uint8.
        mask: [H, W] uint8.
        palette: [K, 3] uint8.
    Returns: [3, H, W] uint8.
    """
    mixed = picture * (1 - _MASK_OPACITY) + colour_mask(mask, palette) * np.float32(_MASK_OPACITY)
    return np.where(mask > 0, np.rint(mixed), picture).astype(np.uint8)


def difference(before: np.ndarray, after: np.ndarray) -> Pixels:
    """Return how each channel changed, four times enhanced around grey: the shape of both."""
    change = _DIFFERENCE_GAIN * (after.astype(np.int16) - before) + 128
    return change.clip(0, 255).astype(np.uint8)


# Several pictures


def side_by_side(pictures: Iterable[np.ndarray]) -> Pixels:
    """Join pictures of one height from left to right."""
    return np.concatenate([as_rgb(picture) for picture in pictures], axis=2)


def strip(pictures: Iterable[np.ndarray], width: int = _STRIP_PX) -> Pixels:
    """Join the pictures of one sample, enlarged to about `width` each, with gaps between."""
    framed = []
    for picture in pictures:
        copies = max(1, width // picture.shape[2])  # of each pixel; larger pictures stay
        large = as_rgb(picture).repeat(copies, axis=1).repeat(copies, axis=2)
        framed.append(np.pad(large, ((0, 0), (0, _GAP_PX), (0, _GAP_PX))))
    return np.pad(np.concatenate(framed, axis=2), ((0, 0), (0, 0), (0, 2 * _GAP_PX)))


def image_grid(cells: Sequence[np.ndarray], columns: int) -> Pixels:
    """Arrange [3, H, W] cells in rows: [3, rows * H, columns * W]; what is left over is black."""
    padded = [*cells, *[np.zeros_like(cells[0])] * (-len(cells) % columns)]
    starts = range(0, len(padded), columns)
    rows = [np.concatenate(padded[start : start + columns], axis=2) for start in starts]
    return np.concatenate(rows, axis=1)


def sample_grid(images: Mapping[str, np.ndarray], columns: int) -> Pixels:
    """Lay out samples row by row; the modalities of a sample stand side by side.

    Args:
        images: modality -> [N, 1 or 3, R, R] uint8.
        columns: samples a row.
    """
    samples = zip(*images.values(), strict=True)
    return image_grid([side_by_side(sample) for sample in samples], columns)


def before_after(
    before: Sequence[Mapping[str, np.ndarray]], after: Sequence[Mapping[str, np.ndarray]]
) -> Pixels:
    """Show samples as they were, as they are, and the difference between, a modality at a time.

    Args:
        before: samples, each modality -> [C, R, R] uint8.
        after: the same samples; those of their modalities are shown.
    """
    cells = [
        strip(
            picture
            for name in new
            for picture in (old[name], new[name], difference(old[name], new[name]))
        )
        for old, new in zip(before, after, strict=True)
    ]
    return image_grid(cells, _COMPARED_A_ROW)


def spread_indices(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indices below `count`, evenly spread.

    >>> spread_indices(10, 4)
    [0, 3, 6, 9]
    """
    if count <= wanted:
        return list(range(count))
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()


class ContactSheet:
    """Captioned pictures in rows, laid out as they come.

    Args:
        count: how many there will be.
        height: of each, in pixels; small ones are enlarged.
        width: of each. So many that the sheet would be too large for a JPEG file are shrunk.
        lines: of a caption.
    """

    def __init__(self, count: int, height: int, width: int, lines: int = 1) -> None:
        self._caption_px = _CAPTION_PX * lines
        self._lay_out(count, height, width)
        down = -(-count // self._columns) * (self._tile[0] + self._caption_px + _GAP_PX)
        self._sheet = Image.new("RGB", (self._columns * (self._tile[1] + _GAP_PX), down))
        self._number = 0

    def add(self, caption: str, picture: np.ndarray) -> None:
        """Add a picture behind those that are there."""
        row, column = divmod(self._number, self._columns)
        x = column * (self._tile[1] + _GAP_PX)
        y = row * (self._tile[0] + self._caption_px + _GAP_PX)
        tile = _to_image(resize(as_rgb(picture), *self._tile))
        self._sheet.paste(tile, (x, y + self._caption_px))
        for number, line in enumerate(caption.split("\n")):
            place = (x + 1, y + number * _CAPTION_PX)
            ImageDraw.Draw(self._sheet).text(place, line, fill=(255, 255, 255))
        self._number += 1

    def pixels(self) -> Pixels:
        """Return the sheet: [3, H, W] uint8."""
        return np.asarray(self._sheet).transpose(2, 0, 1)

    def _lay_out(self, count: int, height: int, width: int) -> None:
        """Choose height and width of a picture on the sheet, and the number of columns."""
        shown = height * max(1, _TILE_PX // height)
        while True:
            self._tile = (shown, max(1, width * shown // height))
            most = max(1, _MAX_SHEET_PX[0] // (self._tile[1] + _GAP_PX))
            self._columns = max(1, min(count, most, round((2 * count) ** 0.5)))
            rows = -(-count // self._columns)
            if rows * (shown + self._caption_px + _GAP_PX) <= _MAX_SHEET_PX[1] or shown == 1:
                return
            shown = (shown + 1) // 2


def contact_sheet(cells: Sequence[tuple[str, np.ndarray]]) -> Pixels:
    """Lay out pairs of caption and picture, all of one size; see ContactSheet."""
    sheet = ContactSheet(len(cells), *cells[0][1].shape[1:])
    for caption, picture in cells:
        sheet.add(caption, picture)
    return sheet.pixels()


# Files


def encode_png(pixels: np.ndarray, *, optimize: bool = False) -> bytes:
    """Encode [C, H, W] pixels, C 1 or 3: uint8, or uint16 for C 1."""
    buffer = io.BytesIO()
    _to_image(pixels).save(buffer, format="PNG", optimize=optimize)
    return buffer.getvalue()


def save_image(path: Path, pixels: np.ndarray) -> None:
    """Write pixels as `encode_png` takes them, atomically, as JPEG where the name says so."""
    kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
    with files.atomic_write(path) as file:
        _to_image(pixels).save(file, kind, quality=JPEG_QUALITY, subsampling=0)  # of JPEG alone


def _to_image(pixels: np.ndarray) -> Image.Image:
    plane = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(plane)
