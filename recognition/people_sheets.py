"""Pictures of new people for a look at: a grid a person, and one sheet with a row a person."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.pictures import image_grid, save_png
from data.pixels import decode_image

OVERVIEW = "overview.png"
_ROWS = 64
_COLUMNS = 16
_CELL_PX = 64
_GAP_PX = 6
_LINES = 4  # rows of a person's grid, as published


def write_person_sheets(
    folder: Path, identity: int, samples: int, wanted: int, places: Sequence[str]
) -> None:
    """Write id_N_samples_PLACE.png for each modality's folder.

    Args:
        folder: of the data set.
        identity: N.
        samples: that the person has.
        wanted: samples of a whole person; a grid has a quarter of them a row, at least one.
        places: folders of the modalities, such as VIS.
    """
    columns = max(1, wanted // _LINES)
    for place in places:
        cells = [_read(folder, identity, place, sample) for sample in range(samples)]
        save_png(folder / f"id_{identity}_samples_{place}.png", image_grid(cells, columns))


def write_overview(folder: Path, counts: Sequence[tuple[int, int]], places: Sequence[str]) -> None:
    """Write a sheet of the first people: a row each, the modalities side by side.

    Args:
        folder: of the data set.
        counts: samples and attempts of each person.
        places: folders of the modalities.
    """
    people = [number for number, (samples, _) in enumerate(counts) if samples][:_ROWS]
    if not people:
        return
    most = min(_COLUMNS, max(counts[number][0] for number in people))
    rows = []
    for number in people:
        parts = []
        for place in places:
            cells = [
                _shown(_read(folder, number, place, sample))
                for sample in range(min(most, counts[number][0]))
            ]
            blank = [np.zeros_like(cells[0])] * (most - len(cells))
            parts += [*cells, *blank, np.full([3, cells[0].shape[1], _GAP_PX], 255, np.uint8)]
        rows.append(np.concatenate(parts[:-1], axis=2))
    save_png(folder / OVERVIEW, np.concatenate(rows, axis=1))


def _read(folder: Path, identity: int, place: str, sample: int) -> np.ndarray:
    path = folder / f"id_{identity}" / place / f"sample_{sample}_{place}.png"
    return decode_image(path, 3)


def _shown(pixels: np.ndarray) -> np.ndarray:
    """Return [3, H, H] at the size of the overview's cells, as near as whole factors bring it."""
    side = pixels.shape[1]
    if side <= _CELL_PX:
        return pixels.repeat(_CELL_PX // side, axis=1).repeat(_CELL_PX // side, axis=2)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    small = image.resize((_CELL_PX, _CELL_PX), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)
