"""Masks in the form of COCO's instance annotations, with uncompressed run lengths."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from annotator.store import PairFiles
from data.class_list import ClassList


def export(
    images: Mapping[int, PairFiles], masks: Mapping[int, np.ndarray], classes: ClassList
) -> dict[str, Any]:
    """Return COCO's object of images, categories and one annotation a class and image.

    Class 0, what is not painted, is none of the categories.

    Source: https://cocodataset.org/#format-data; lengths count down the columns, zeros first.
    """
    annotations: list[dict[str, Any]] = []
    for number, mask in masks.items():
        for category in np.unique(mask[mask > 0]).tolist():
            is_class = mask == category
            rows, columns = (np.flatnonzero(is_class.any(axis=axis)) for axis in (1, 0))
            left, top = int(columns[0]), int(rows[0])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "iscrowd": 1,
                    "area": int(is_class.sum()),
                    "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                    "segmentation": {"size": list(mask.shape), "counts": run_lengths(is_class)},
                }
            )
    return {
        "images": [
            {"id": k, "file_name": p.paths["rgb"].name, "width": p.width, "height": p.height}
            for k, p in images.items()
            if k in masks
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes.names) if k > 0],
        "annotations": annotations,
    }


def run_lengths(is_in: np.ndarray) -> list[int]:
    """Return the lengths of runs down the columns, the first one of zeros and perhaps 0.

    >>> run_lengths(np.array([[True, False], [True, True]]))
    [0, 2, 1, 1]
    """
    flat = np.concatenate([[False], is_in.ravel(order="F")])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], ends, [is_in.size]])).tolist()
