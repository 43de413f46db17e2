"""A contact sheet of an example data set: a row a person, RGB, NIR and mask of some images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_GAP_PX = 2
_SHOWN_PX = 128


def save_contact_sheet(path: Path, rows: Sequence[Sequence[Path]], folders: Sequence[str]) -> None:
    """Draw the named images of each row side by side, each as RGB, NIR and mask.

    Args:
        path: the PNG to write.
        rows: for each row its images as `data folder / file name`.
        folders: the modality folders below each data folder, in the order shown.
    Raises: ValueError where there is no image at all.
    """
    if not rows or not rows[0]:
        raise ValueError(f"{path}: nothing to show")
    lines = [np.concatenate([_shown(name, folders) for name in row], axis=1) for row in rows]
    width = max(line.shape[1] for line in lines)
    padded = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0))) for line in lines]
    Image.fromarray(np.concatenate(padded)).save(path)


def _shown(name: Path, folders: Sequence[str]) -> np.ndarray:
    """Return one image's modalities side by side, [h, w, 3] uint8, enlarged where small."""
    tiles = []
    for folder in folders:
        with Image.open(name.parent / folder / name.name) as image:
            factor = max(1, _SHOWN_PX // image.width)
            size = (image.width * factor, image.height * factor)
            tile = np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))
        tiles.append(np.pad(tile, ((0, _GAP_PX), (0, _GAP_PX), (0, 0))))
    return np.concatenate(tiles, axis=1)
