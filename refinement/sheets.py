"""Pictures of refined images beside their originals."""

from collections.abc import Mapping, Sequence

import numpy as np

from data.pictures import Pixels, image_grid

_SHOWN_PX = 96
_GAP_PX = 2
_GAIN = 4  # differences are small


def before_after(
    before: Sequence[Mapping[str, Pixels]],
    after: Sequence[Mapping[str, Pixels]],
    columns: int = 2,
) -> Pixels:
    """Draw images as they were, refined, and the difference between them, four times enhanced.

    Args:
        before: samples, each modality -> [C, R, R] uint8.
        after: the same samples, refined.
        columns: samples a row.
    Returns: [3, h, w] uint8.
    Raises: ValueError where there is no sample.
    """
    if not before:
        raise ValueError("before_after: there is no image to show")
    cells = []
    for old, new in zip(before, after, strict=True):
        tiles = [
            enlarge(tile)
            for name in new
            for tile in (old[name], new[name], difference(old[name], new[name]))
        ]
        cells.append(np.pad(np.concatenate(tiles, axis=2), ((0, 0), (0, 0), (0, 2 * _GAP_PX))))
    return image_grid(cells, columns)


def difference(before: Pixels, after: Pixels) -> Pixels:
    """Return how each channel changed, four times enhanced around grey: the shape of both."""
    change = _GAIN * (after.astype(np.int16) - before) + 128
    return change.clip(0, 255).astype(np.uint8)


def enlarge(pixels: Pixels) -> Pixels:
    """Return [3, h, w] uint8 with a gap at the right and below: whole copies of small pixels."""
    factor = max(1, _SHOWN_PX // pixels.shape[-1])
    colour = np.broadcast_to(pixels, (3, *pixels.shape[1:]))
    shown = colour.repeat(factor, axis=1).repeat(factor, axis=2)
    return np.pad(shown, ((0, 0), (0, _GAP_PX), (0, _GAP_PX)))
