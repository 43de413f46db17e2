"""Pictures of samples for a report: grids of modalities and masks, and nearest neighbours."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from data.modalities import MODALITIES
from data.pictures import Pixels, image_grid, side_by_side
from metrics.report.content import Panels, Picture

if TYPE_CHECKING:
    from metrics.image_sets import ImageSet

_CELL_PX = 96  # a sample's side on the page
_COLUMNS = 6
# Okabe and Ito 2008; further classes repeat them darker. Class 0 is black.
_CLASS_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def encode_png(pixels: Pixels) -> bytes:
    """Return [1 or 3, H, W] uint8 pixels as a PNG file."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def colour_mask(mask: np.ndarray) -> Pixels:
    """Return class numbers [H, W] as colours [3, H, W] uint8."""
    rounds = -(-int(mask.max()) // len(_CLASS_COLOURS))
    shades = [np.array(_CLASS_COLOURS) * 0.65**i for i in range(rounds)]
    palette = np.concatenate([np.zeros((1, 3)), *shades]).round().astype(np.uint8)
    return palette[mask].transpose(2, 0, 1)


def spread_indices(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indices, evenly spread.

    >>> spread_indices(10, 4)
    [0, 3, 6, 9]
    """
    if count <= wanted:
        return list(range(count))
    return np.linspace(0, count - 1, wanted).round().astype(int).tolist()


def sample_panels(images: "ImageSet", title: str, *, wanted: int = 24) -> Panels:
    """Return one grid a modality, and one of the masks, of the same samples in the same places."""
    chosen = spread_indices(len(images), wanted)
    columns = min(_COLUMNS, len(chosen))
    grids = []
    for modality in MODALITIES:
        if modality.name in images.files:
            cells = [_three(images.image(modality.name, i)) for i in chosen]
            grids.append((modality.name.upper(), cells))
    masks = [images.mask(i) for i in chosen]
    if any(mask is not None for mask in masks):
        blank = np.zeros_like(grids[0][1][0])
        grids.append(("masks", [blank if m is None else colour_mask(m) for m in masks]))
    return Panels(
        caption=f"{title}: {len(chosen)} of {len(images):,} samples, evenly spread",
        pictures=tuple(_grid_picture(title, name, cells, columns) for name, cells in grids),
    )


def neighbour_panels(
    samples: "ImageSet",
    training: "ImageSet",
    pairs: Sequence[tuple[int, int, float]],
    recogniser: str,
) -> Panels:
    """Return samples beside their nearest training images.

    Args:
        pairs: (sample, training image, similarity), in the order to be shown.
    """
    shared = [name for name in samples.files if name in training.files]
    pictures = []
    for sample, image, similarity in pairs:
        cells = [
            side_by_side({name: group.image(name, i) for name in shared})
            for group, i in ((samples, sample), (training, image))
        ]
        left, right = samples.stems[sample], training.stems[image]
        pictures.append(
            Picture(
                png=encode_png(np.concatenate(_same_height(cells), axis=2)),
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
    return Picture(
        png=encode_png(image_grid(_same_shape(cells), columns)),
        width=_CELL_PX * columns,
        alt=f"Grid of {len(cells)} samples of {title}: {name}",
        caption=name,
    )


def _three(image: np.ndarray) -> Pixels:
    return np.broadcast_to(image, (3, *image.shape[1:]))


def _same_shape(cells: list[Pixels]) -> list[Pixels]:
    height, width = (max(cell.shape[axis] for cell in cells) for axis in (1, 2))
    return [_resized(cell, height, width) for cell in cells]


def _same_height(cells: list[Pixels]) -> list[Pixels]:
    height = max(cell.shape[1] for cell in cells)
    return [_resized(c, height, round(c.shape[2] * height / c.shape[1])) for c in cells]


def _resized(cell: Pixels, height: int, width: int) -> Pixels:
    if cell.shape[1:] == (height, width):
        return cell
    image = Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0)))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
