"""Class masks of two folders, compared sample by sample."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.info import read_classes
from data.sample_index import MASK, SampleIndex, shorten
from data.samples import open_masks


def open_mask_sets(truth: Path, found: Path) -> tuple[SampleIndex, SampleIndex]:
    """Return the masks of two folders, which must have the same samples.

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
    return sets


def class_names(truth: SampleIndex, found: SampleIndex) -> list[str]:
    """Return the names of the classes: those that a folder states, or as many as the masks use."""
    for samples in (truth, found):
        stated = read_classes(samples.base)
        if stated.names:
            return list(stated.names)
        if stated.count is not None:
            return [f"class {k}" for k in range(stated.count)]
    highest = max(int(mask.max()) for masks in mask_pairs(truth, found) for mask in masks)
    return [f"class {k}" for k in range(max(highest + 1, 2))]


def mask_pairs(truth: SampleIndex, found: SampleIndex) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the two masks of each sample. Raises: ValueError where their sizes differ."""
    for index in range(len(truth)):
        true, other = truth.mask(index), found.mask(index)
        assert true is not None, "sets of masks have one a sample"
        assert other is not None, "sets of masks have one a sample"
        if true.shape != other.shape:
            raise ValueError(
                f"{found.describe(MASK, index)}: the mask must measure {true.shape} as the true "
                f"one does, got {other.shape}"
            )
        yield true, other
