"""Measures a network on labelled samples, as plain JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data import sheets
from data.pixels import IGNORED
from data.sample_index import identity_of
from metrics.segmentation import confusion_matrix, intersection_over_union, score_masks
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import BATCH, Segmenter, check_fits

EVALUATION_FILE = "evaluation.json"
SHEET_FILE = "predictions.png"
_IGNORED_COLOUR = (128, 128, 128)
_SHOWN, _COLUMNS = 24, 4  # samples of a sheet

Report = dict[str, Any]


def predicted_masks(
    segmenter: Segmenter, labelled: LabelledSet
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the true and the found mask of each sample, each [H, W] uint8.

    Raises: ValueError where images, classes or size are not what the network takes.
    """
    check_fits(segmenter.config, labelled)
    for start in range(0, len(labelled), BATCH):
        samples = [labelled[k] for k in range(start, min(start + BATCH, len(labelled)))]
        found = segmenter.predict(torch.stack([sample.image for sample in samples]))
        for sample, mask in zip(samples, found, strict=True):
            yield sample.mask.numpy(), mask.numpy()


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
    for truth, found in predicted_masks(segmenter, labelled):
        counts = truth != IGNORED
        if counts.any():
            confusion += confusion_matrix(truth[counts], found[counts], len(names))
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


def report_sentence(report: Report) -> str:
    """Return the mean IoU and each class's as text."""
    numbers = [f"mean IoU {report['mean_iou']['value']:.4f}"]
    ious = {entry["name"]: entry["iou"] for entry in report["classes"]}
    numbers += [f"{name} {iou['value']:.4f}" for name, iou in ious.items() if iou]
    return ", ".join(numbers)


def _plain(value: float) -> dict[str, float]:
    return {"value": float(value)}


def save_masks(folder: Path, segmenter: Segmenter, labelled: LabelledSet) -> None:
    """Write the found mask of each sample as a grey PNG of class numbers, named as the sample."""
    masks = predicted_masks(segmenter, labelled)
    for stem, (_, found) in zip(labelled.stems, masks, strict=True):
        sheets.save_image(folder / f"{stem}.png", found[None])


def save_sheet(folder: Path, segmenter: Segmenter, labelled: LabelledSet) -> None:
    """Write samples spread over a set, each as its images, true mask and found mask.

    Masks are in the classes' colours, ignored pixels grey.
    """
    palette = np.full((256, 3), _IGNORED_COLOUR, np.uint8)
    palette[: len(segmenter.classes)] = segmenter.classes.palette()
    ends = np.cumsum([modality.channels for modality in segmenter.modalities])[:-1]
    cells = []
    for index in sheets.spread_indices(len(labelled), _SHOWN):
        sample = labelled[index]
        found = segmenter.predict(sample.image[None])[0].numpy()
        masks = [sheets.colour_mask(mask, palette) for mask in (sample.mask.numpy(), found)]
        cells.append(sheets.strip([*np.split(sample.image.numpy(), ends), *masks]))
    grid = sheets.image_grid(cells, min(_COLUMNS, len(cells)))
    sheets.save_image(folder / SHEET_FILE, grid)
