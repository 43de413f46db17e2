"""The section on class masks."""

from collections.abc import Sequence

import numpy as np

from evaluation.report.content import Headline, Section, Table
from metrics.estimates import Estimate
from metrics.segmentation import SegmentationScore


def mask_section(score: SegmentationScore, truth: str, found: str) -> Section:
    """Return tables of a comparison of masks.

    Args:
        truth, found: what the two sets of masks are called.
    """
    f1 = [entry.boundary_f1.value for entry in score.classes if entry.boundary_f1]
    classes = Table(
        caption=f"Classes, {score.images:,} masks",
        columns=("Class", "Pixels", "IoU", "F1", "Boundary F1"),
        rows=tuple(
            (entry.name, entry.pixels, entry.iou, entry.f1, entry.boundary_f1)
            for entry in score.classes
        ),
        note="Intervals are 95 %, from resampling people (images where people are not known); "
        "n counts masks. A boundary pixel counts as found within "
        f"{score.tolerance:.2%} of the diagonal, at least one pixel.",
    )
    overall = Table(
        caption="All classes",
        columns=("Measure", "Value"),
        rows=(
            ("Mean IoU", score.mean_iou),
            ("Pixel accuracy", score.pixel_accuracy),
            ("Mean boundary F1", float(np.mean(f1)) if f1 else None),
        ),
    )
    names = [entry.name for entry in score.classes]
    return Section(
        key="masks",
        title="Masks",
        lead=f"How well the masks of {found} agree with those of {truth}.",
        blocks=(overall, classes, _confusion(score.confusion, names)),
        data={"true": truth, "found": found, "score": score},
        headlines=(Headline(label="Mean IoU", value=score.mean_iou, meaning="masks; 1 is best"),),
    )


def _confusion(confusion: np.ndarray, names: Sequence[str]) -> Table:
    rows: list[tuple[str | int | float | Estimate | None, ...]] = []
    for name, counts in zip(names, confusion, strict=True):
        total = int(counts.sum())
        shares = [float(count) / total if total else None for count in counts]
        rows.append((name, total, *(None if s is None else f"{s:.3f}" for s in shares)))
    return Table(
        caption="Confusion: share of each true class (row) found as each class (column)",
        columns=("True class", "Pixels (n)", *names),
        rows=tuple(rows),
    )
