"""Contact sheets for a report: grids of modalities and masks, and nearest neighbours."""

import numpy as np

from data import sheets
from data.sample_index import SampleIndex
from data.sheets import Pixels
from evaluation.report import Panels, Picture
from metrics.nearest import Nearest

_CELL_PX = 96  # a sample's side on the page
_COLUMNS = 6
_CLOSEST = 12


def sample_panels(images: SampleIndex, title: str, *, wanted: int = 24) -> Panels:
    """Return one grid a modality, and one of the masks; a position is the same sample in all."""
    chosen = sheets.spread_indices(len(images), wanted)
    columns = min(_COLUMNS, len(chosen))
    grids = []
    for modality in images.modalities:
        cells = [sheets.as_rgb(images.image(modality, i)) for i in chosen]
        grids.append((modality.upper(), cells))
    masks = [images.mask(i) for i in chosen]
    if any(mask is not None for mask in masks):
        blank = np.zeros_like(grids[0][1][0])
        grids.append(("masks", [blank if m is None else sheets.colour_mask(m) for m in masks]))
    return Panels(
        caption=f"{title}: {len(chosen)} of {len(images):,} samples, evenly spread",
        pictures=tuple(_grid_picture(title, name, cells, columns) for name, cells in grids),
    )


def neighbour_panels(
    samples: SampleIndex, training: SampleIndex, nearest: Nearest, recogniser: str
) -> Panels:
    """Return the samples that are closest to a training image beside that image."""
    shared = [name for name in samples.modalities if name in training.modalities]
    pictures = []
    for sample in np.argsort(-nearest.scores, kind="stable")[:_CLOSEST].tolist():
        image, similarity = int(nearest.indices[sample]), float(nearest.scores[sample])
        cells = [
            sheets.side_by_side(group.image(name, i) for name in shared)
            for group, i in ((samples, sample), (training, image))
        ]
        left, right = samples.stems[sample], training.stems[image]
        pictures.append(
            Picture(
                png=sheets.encode_png(sheets.side_by_side(_same_height(cells)), optimize=True),
                width=2 * _CELL_PX * len(shared),
                alt=f"Left: sample {left}. Right: training image {right}, similarity "
                f"{similarity:.3f}.",
                caption=f"sample {left} | training {right}: {similarity:.3f}",
            )
        )
    return Panels(
        caption="Samples that are closest to a training image (left: sample, right: that image; "
        f"{' and '.join(name.upper() for name in shared)} of each), by {recogniser}",
        pictures=tuple(pictures),
    )


def _grid_picture(title: str, name: str, cells: list[Pixels], columns: int) -> Picture:
    height, width = (max(cell.shape[axis] for cell in cells) for axis in (1, 2))
    grid = sheets.image_grid([sheets.resize(cell, height, width) for cell in cells], columns)
    return Picture(
        png=sheets.encode_png(grid, optimize=True),
        width=_CELL_PX * columns,
        alt=f"Grid of {len(cells)} samples of {title}: {name}",
        caption=name,
    )


def _same_height(cells: list[Pixels]) -> list[Pixels]:
    height = max(cell.shape[1] for cell in cells)
    return [sheets.resize(c, height, round(c.shape[2] * height / c.shape[1])) for c in cells]
