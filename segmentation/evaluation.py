"""Measures a network on labelled samples, as plain JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from data.sample_index import identity_of
from data.sheets import save_image
from metrics.segmentation import confusion_matrix, intersection_over_union, score_masks
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import (
    Segmenter,
    predicted_masks,
    prediction_sheet,
    scored_pixels,
)

EVALUATION_FILE = "evaluation.json"
SHEET_FILE = "predictions.png"

Report = dict[str, Any]


def evaluate_masks(segmenter: Segmenter, labelled: LabelledSet) -> Report:
    """Return IoU, pixel accuracy and boundary F1, with intervals over identities.

    Where some pixels are ignored, numbers come without intervals and boundaries.
    """
    if labelled.has_ignored:
        return count_masks(segmenter, labelled)
    identities = [identity_of(stem) for stem in labelled.stems]
    masks = predicted_masks(segmenter, labelled)
    score = score_masks(masks, labelled.classes.names, groups=identities)
    classes = [
        {
            "name": entry.name,
            "pixels": entry.pixels,
            "iou": entry.iou and entry.iou.to_json(),
            "boundary_f1": entry.boundary_f1 and entry.boundary_f1.to_json(),
        }
        for entry in score.classes
    ]
    return {
        "images": score.images,
        "mean_iou": score.mean_iou.to_json(),
        "pixel_accuracy": score.pixel_accuracy.to_json(),
        "classes": classes,
        "confusion": score.confusion.tolist(),
    }


def count_masks(segmenter: Segmenter, labelled: LabelledSet) -> Report:
    """Return IoU and pixel accuracy from the confusion matrix alone, without intervals."""
    names = labelled.classes.names
    confusion = np.zeros((len(names), len(names)), np.int64)
    for truth, found in scored_pixels(segmenter, labelled):
        confusion += confusion_matrix(truth, found, len(names))
    iou = intersection_over_union(confusion)
    classes = [
        {"name": name, "pixels": int(row.sum()), "iou": None if np.isnan(one) else _plain(one)}
        for name, row, one in zip(names, confusion, iou, strict=True)
    ]
    return {
        "images": len(labelled),
        "mean_iou": _plain(np.nanmean(iou)),
        "pixel_accuracy": _plain(np.trace(confusion) / confusion.sum()),
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def flat_numbers(report: Report, prefix: str) -> dict[str, float]:
    """Return mean IoU, pixel accuracy and each class's IoU under names with a prefix."""
    row = {
        f"{prefix}_mean_iou": report["mean_iou"]["value"],
        f"{prefix}_accuracy": report["pixel_accuracy"]["value"],
    }
    ious = {entry["name"]: entry["iou"] for entry in report["classes"]}
    return row | {f"{prefix}_iou_{name}": iou["value"] for name, iou in ious.items() if iou}


def save_sheet(folder: Path, segmenter: Segmenter, labelled: LabelledSet) -> None:
    """Write a sheet of images with true and found masks."""
    save_image(folder / SHEET_FILE, prediction_sheet(segmenter, labelled))


def report_sentence(report: Report) -> str:
    """Return the mean IoU and each class's as text."""
    numbers = [f"mean IoU {report['mean_iou']['value']:.4f}"]
    ious = {entry["name"]: entry["iou"] for entry in report["classes"]}
    numbers += [f"{name} {iou['value']:.4f}" for name, iou in ious.items() if iou]
    return ", ".join(numbers)


def _plain(value: float) -> dict[str, float]:
    return {"value": float(value)}
