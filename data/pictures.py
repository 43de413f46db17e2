"""Pictures for people: modalities side by side, cells in a grid, PNG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib import files

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def side_by_side(pixels: Mapping[str, Pixels]) -> Pixels:
    """Join the modalities of a sample: [1 or 3, R, R] each -> [3, R, R * modalities]."""
    return np.concatenate([np.broadcast_to(p, (3, *p.shape[1:])) for p in pixels.values()], axis=2)


def image_grid(cells: Sequence[Pixels], columns: int) -> Pixels:
    """Arrange [3, H, W] cells in rows: [3, rows * H, columns * W]; what is left over is black."""
    blank = [np.zeros_like(cells[0])] * (-len(cells) % columns)
    padded = [*cells, *blank]
    rows = [
        np.concatenate(padded[start : start + columns], axis=2)
        for start in range(0, len(padded), columns)
    ]
    return np.concatenate(rows, axis=1)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode [C, H, W] pixels, C 1 or 3: uint8, or uint16 for C 1."""
    plane = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, pixels: Pixels) -> None:
    """Write [C, H, W] uint8 pixels, C 1 or 3, atomically."""
    with files.atomic_write(path) as file:
        file.write(encode_png(pixels))
