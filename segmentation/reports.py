"""Numbers of a measured network as plain JSON; the measuring itself is handed in as results."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Report = dict[str, Any]


class Number(Protocol):
    """A number with its interval."""

    def to_json(self) -> dict[str, Any]:
        """Return {"value": ..., "low": ..., "high": ...}."""


class ClassNumbers(Protocol):
    """Of one class; None where it occurs in no mask."""

    name: str
    pixels: int
    iou: Number | None
    boundary_f1: Number | None


class MaskScore(Protocol):
    """Agreement of masks; see metrics.segmentation."""

    images: int
    classes: Sequence[ClassNumbers]
    mean_iou: Number
    pixel_accuracy: Number
    confusion: np.ndarray


def report_of_score(score: MaskScore) -> Report:
    """Return numbers with intervals."""
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


def report_of_counts(
    confusion: np.ndarray, iou: np.ndarray, names: Sequence[str], images: int
) -> Report:
    """Return numbers without intervals, as `report_of_score` does otherwise.

    Args:
        confusion: [K, K] pixels, true class by row.
        iou: [K] float64, NaN where a class occurs in no mask.
        names: of the classes.
        images: that were counted.
    """
    classes = [
        {"name": name, "pixels": int(row.sum()), "iou": None if np.isnan(one) else _plain(one)}
        for name, row, one in zip(names, confusion, iou, strict=True)
    ]
    return {
        "images": images,
        "mean_iou": _plain(np.nanmean(iou)),
        "pixel_accuracy": _plain(np.trace(confusion) / confusion.sum()),
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def flat_numbers(report: Report, prefix: str) -> dict[str, float]:
    """Return mean IoU, accuracy and each class's IoU under names that begin with `prefix`."""
    row = {
        f"{prefix}_mean_iou": report["mean_iou"]["value"],
        f"{prefix}_accuracy": report["pixel_accuracy"]["value"],
    }
    ious = {entry["name"]: entry["iou"] for entry in report["classes"]}
    return row | {f"{prefix}_iou_{name}": iou["value"] for name, iou in ious.items() if iou}


def report_sentence(report: Report) -> str:
    """Return mean IoU and each class's for people."""
    numbers = [f"mean IoU {report['mean_iou']['value']:.4f}"]
    ious = {entry["name"]: entry["iou"] for entry in report["classes"]}
    numbers += [f"{name} {iou['value']:.4f}" for name, iou in ious.items() if iou]
    return ", ".join(numbers)


def _plain(value: float) -> dict[str, float]:
    return {"value": float(value)}
