"""A picture for people: images, true masks and found masks side by side."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from data.modalities import Modality
from data.pictures import Pixels, image_grid
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import Segmenter

_IGNORED_COLOUR = (128, 128, 128)
_SHOWN_PX = 96
_SAMPLES = 24
_COLUMNS = 4


def prediction_sheet(segmenter: Segmenter, labelled: LabelledSet) -> Pixels:
    """Show up to 24 samples, spread over the set: [3, H, W] uint8.

    A cell holds the images, the true mask and the found one, in the classes' colours; ignored
    pixels are grey.
    """
    count = min(_SAMPLES, len(labelled))
    chosen = [labelled[place * len(labelled) // count] for place in range(count)]
    palette = np.full((256, 3), _IGNORED_COLOUR, np.uint8)
    palette[: len(segmenter.classes)] = segmenter.classes.palette()
    cells = []
    for sample in chosen:
        found = segmenter.predict(sample.image[None])[0].numpy()
        pictures = _pictures(sample.image.numpy(), segmenter.modalities)
        pictures += [_coloured(sample.mask.numpy(), palette), _coloured(found, palette)]
        cells.append(_enlarged(np.concatenate(pictures, axis=2)))
    return image_grid(cells, min(_COLUMNS, count))


def _pictures(image: np.ndarray, modalities: Sequence[Modality]) -> list[np.ndarray]:
    """Split [C, H, W] into one [3, H, W] a modality."""
    ends = np.cumsum([0, *(modality.channels for modality in modalities)]).tolist()
    return [
        np.broadcast_to(image[start:end], (3, *image.shape[1:])) for start, end in pairwise(ends)
    ]


def _coloured(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    return palette[mask].transpose(2, 0, 1)


def _enlarged(cell: np.ndarray) -> np.ndarray:
    factor = max(1, _SHOWN_PX // cell.shape[1])
    framed = np.pad(cell, ((0, 0), (0, 1), (0, 1)))
    return framed.repeat(factor, axis=1).repeat(factor, axis=2)
