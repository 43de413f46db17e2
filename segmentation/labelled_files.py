"""Labelled data sets that were found but not read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.info import StatedClasses, read_classes
from data.modalities import Modality
from data.sample_index import SampleIndex
from data.samples import MANIFEST, open_samples


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSource:
    """A labelled data set that was found but not read."""

    samples: SampleIndex  # images, masks and, where there are some, maps of uncertainty
    modalities: tuple[Modality, ...]  # of the images that are wanted
    stated: StatedClasses  # what it says of its classes
    # Uncertainty of each sample, 0..1 as a share of ln(classes); None where unknown.
    scores: tuple[float | None, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def describe(self) -> str:
        """Return how messages show the set."""
        return self.samples.base.describe()


def open_source(path: Path, modalities: Sequence[Modality]) -> LabelledSource:
    """Find the samples of a folder or zip archive; only the wanted modalities must be there.

    Raises: FileNotFoundError; ValueError as `data.samples.open_samples`.
    """
    samples = open_samples(path, modalities)
    stated = read_classes(samples.base)
    return LabelledSource(
        samples=samples,
        modalities=tuple(modalities),
        stated=stated,
        scores=_scores(samples, stated.count),
    )


def drop_most_uncertain(source: LabelledSource, share: float) -> LabelledSource:
    """Return a set without those samples that have the highest scores, of equal ones the later.

    Args:
        source: with scores.
        share: of the samples, 0 to below 1; their number is rounded down.
    Raises: ValueError where the set has no scores.
    Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3, which removes 10 %.
    """
    if share == 0:
        return source
    if None in source.scores:
        raise ValueError(f"--drop-uncertain: {source.describe()} has no scores of uncertainty")
    count = len(source) - math.floor(len(source) * share + 1e-9)
    kept = np.sort(np.argsort(np.array(source.scores, float), kind="stable")[:count]).tolist()
    scores = tuple(source.scores[k] for k in kept)
    return replace(source, samples=source.samples.select(kept), scores=scores)


def _scores(samples: SampleIndex, classes: int | None) -> tuple[float | None, ...]:
    """Return scores, which manifests hold in nats, as shares of the largest possible one."""
    if not samples.entries or classes is None:
        return (None,) * len(samples)
    scores: list[float | None] = []
    for number, entry in enumerate(samples.entries, start=1):
        value = entry.get("score")
        if value is not None:
            if type(value) not in (int, float) or not math.isfinite(value):
                where = f"{samples.base.describe(MANIFEST)}: line {number}"
                raise ValueError(f"{where}: score must be a number, got {value!r}")
            value = min(max(value / math.log(max(2, classes)), 0.0), 1.0)
        scores.append(value)
    return tuple(scores)
