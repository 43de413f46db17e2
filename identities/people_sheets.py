"""Pictures of a data set of new identities: a grid an identity, and a sheet with a row for each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.pixels import decode_image
from data.sheets import Pixels, image_grid, resize, save_image

OVERVIEW = "overview.png"
_ROWS = 64
_COLUMNS = 16
_CELL_PX = 64
_GAP_PX = 6
_LINES = 4  # rows of an identity's grid, as published


def write_person_sheets(
    folder: Path, identity: int, samples: int, wanted: int, places: Sequence[str]
) -> None:
    """Write id_N_samples_PLACE.png for each modality's folder.

    Args:
        folder: of the data set.
        identity: N.
        samples: that the identity has.
        wanted: samples of a complete identity; a grid has a quarter of them a row, at least one.
        places: folders of the modalities, such as VIS.
    """
    for place in places:
        cells = [_read(folder, identity, place, sample) for sample in range(samples)]
        grid = image_grid(cells, max(1, wanted // _LINES))
        save_image(folder / f"id_{identity}_samples_{place}.png", grid)


def write_overview(folder: Path, counts: Sequence[tuple[int, int]], places: Sequence[str]) -> None:
    """Write a sheet of the first identities: a row each, the modalities side by side.

    Args:
        folder: of the data set.
        counts: samples and attempts of each identity.
        places: folders of the modalities.
    """
    shown = [number for number, (samples, _) in enumerate(counts) if samples][:_ROWS]
    if not shown:
        return
    columns = min(_COLUMNS, max(counts[number][0] for number in shown))
    parts = []
    for place in places:
        cells = []
        for number in shown:
            own = range(min(columns, counts[number][0]))
            cells += [resize(_read(folder, number, place, i), _CELL_PX, _CELL_PX) for i in own]
            cells += [np.zeros_like(cells[0])] * (columns - len(own))
        grid = image_grid(cells, columns)
        parts += [grid, np.full([3, grid.shape[1], _GAP_PX], 255, np.uint8)]
    save_image(folder / OVERVIEW, np.concatenate(parts[:-1], axis=2))


def _read(folder: Path, identity: int, place: str, sample: int) -> Pixels:
    return decode_image(folder / f"id_{identity}" / place / f"sample_{sample}_{place}.png", 3)
