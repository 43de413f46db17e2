"""Masks: agreement of class masks with true ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.info import read_classes
from data.sample_index import MASK, SampleIndex, shorten
from data.samples import open_masks
from dnnlib.options import Progress
from evaluation.options import MaskOptions
from evaluation.report import Cell, Headline, Section, Table
from evaluation.topic import ReportJob, Topic, damage_is_unmeasured
from metrics import NotMeasuredError
from metrics.segmentation import DEFAULT_TOLERANCE, SegmentationScore, score_masks


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskTopic(Topic):
    """Two sets of masks of the same samples.

    Attributes:
        truth, found: the true masks, and those compared with them; in the same order.
        names: what the two are called.
        classes: names, class 0 first.
        tolerance: of boundaries, as a share of the image's diagonal.
        seed: of resampling.
    """

    key = "masks"
    title = "Masks"

    truth: SampleIndex
    found: SampleIndex
    names: tuple[str, str]
    classes: tuple[str, ...]
    tolerance: float = DEFAULT_TOLERANCE
    seed: int

    def measure(self, progress: Progress) -> Section:
        """Compare all masks. Raises: NotMeasuredError for masks that do not fit each other."""
        score = score_masks(
            self._pairs(progress(0, len(self.truth))),
            self.classes,
            groups=self.truth.identities,
            tolerance=self.tolerance,
            seed=self.seed,
        )
        truth, found = self.names
        boundaries = [c.boundary_f1.value for c in score.classes if c.boundary_f1]
        overall = Table(
            caption="All classes",
            columns=("Measure", "Value"),
            rows=(
                ("Mean IoU", score.mean_iou),
                ("Pixel accuracy", score.pixel_accuracy),
                ("Mean boundary F1", float(np.mean(boundaries)) if boundaries else None),
            ),
        )
        classes = Table(
            caption=f"Classes, {score.images:,} masks",
            columns=("Class", "Pixels", "IoU", "F1", "Boundary F1"),
            rows=tuple((c.name, c.pixels, c.iou, c.f1, c.boundary_f1) for c in score.classes),
            note="Intervals are 95 %, from resampling identities (images where identities are not "
            "known); n counts masks. A boundary pixel counts as found within "
            f"{score.tolerance:.2%} of the diagonal, at least one pixel.",
        )
        return Section(
            key=self.key,
            title=self.title,
            lead=f"How well the masks of {found} agree with those of {truth}.",
            blocks=(overall, classes, _confusion(score)),
            data={"true": truth, "found": found, "score": score},
            headlines=(
                Headline(label="Mean IoU", value=score.mean_iou, meaning="masks; 1 is best"),
            ),
        )

    def _pairs(self, advance: Callable[[int], None]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in range(len(self.truth)):
            with damage_is_unmeasured():
                truth, found = self.truth.mask(index), self.found.mask(index)
            assert truth is not None, "every sample has a mask"
            assert found is not None, "every sample has a mask"
            if truth.shape != found.shape:
                raise NotMeasuredError(
                    f"{self.found.describe(MASK, index)}: the mask must measure {truth.shape} as "
                    f"the true one does, got {found.shape}"
                )
            yield truth, found
            advance(1)


def open_topic(
    truth: Path, found: Path, *, tolerance: float = DEFAULT_TOLERANCE, seed: int
) -> MaskTopic:
    """Open the masks of two folders, which must hold the same samples.

    Raises: FileNotFoundError; ValueError that counts and names the samples which only one has.
    """
    sets = open_masks(truth), open_masks(found)
    for one, other in (sets, sets[::-1]):
        alone = sorted(set(one.stems) - set(other.stems))
        if alone:
            raise ValueError(
                f"{one.storage.describe()}: {len(alone)} masks have no counterpart in "
                f"{other.storage.describe()}: {shorten(alone)}"
            )
    return MaskTopic(
        truth=sets[0],
        found=sets[1],
        names=(str(truth), str(found)),
        classes=_name_classes(sets),
        tolerance=tolerance,
        seed=seed,
    )


def prepare(options: MaskOptions) -> ReportJob:
    """Open two folders of masks. Raises: as `open_topic`."""
    topic = open_topic(options.truth, options.found, tolerance=options.tolerance, seed=options.seed)
    return ReportJob(
        name="masks",
        title="Masks",
        subtitle=f"{options.found} against {options.truth}",
        topics=[topic],
        plan={"masks": len(topic.truth), "classes": topic.classes},
        options=options,
        inputs=dict,
    )


def _name_classes(sets: tuple[SampleIndex, SampleIndex]) -> tuple[str, ...]:
    """Return the names that a data set states; else as many as the masks use classes."""
    for samples in sets:
        stated = read_classes(samples.base)
        if stated.count is not None:
            return stated.names or tuple(f"class {k}" for k in range(stated.count))
    masks = (samples.mask(index) for samples in sets for index in range(len(samples)))
    highest = max(int(mask.max()) for mask in masks if mask is not None)
    return tuple(f"class {k}" for k in range(max(highest + 1, 2)))


def _confusion(score: SegmentationScore) -> Table:
    names = [entry.name for entry in score.classes]
    rows: list[tuple[Cell, ...]] = []
    for name, counts in zip(names, score.confusion, strict=True):
        total = int(counts.sum())
        shares = [f"{count / total:.3f}" if total else None for count in counts]
        rows.append((name, total, *shares))
    return Table(
        caption="Confusion: share of each true class (row) found as each class (column)",
        columns=("True class", "Pixels (n)", *names),
        rows=tuple(rows),
    )
