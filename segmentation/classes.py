"""Which classes are learned, and how the numbers in a data set's masks become theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.class_list import ClassList, class_list_from_json
from data.info import StatedClasses
from data.pixels import IGNORED
from dnnlib import files
from renderer.classes import FACE_4, OCULAR_4, TO_FACE_4, TO_OCULAR_4

_VALUES = 256
_NO_CLASS = -1


@dataclass(frozen=True, kw_only=True)
class ClassMerge:
    """A map from the numbers in masks to the classes that are learned."""

    classes: ClassList  # that are learned
    numbers: tuple[int, ...]  # of each old class, in order; IGNORED where its pixels do not count


EXAMPLE_MERGES = {
    "face4": ClassMerge(classes=FACE_4, numbers=TO_FACE_4),
    "ocular4": ClassMerge(classes=OCULAR_4, numbers=TO_OCULAR_4),
}


def load_merge(text: str) -> ClassMerge:
    """Return "face4" or "ocular4" of the example's ten classes, or what a JSON file says.

    The file holds {"classes": [{"name", "color", ...}, ...], "map": [...]} where entry k of the
    map is the name or number of the class that old class k belongs to, or null to ignore it.

    Raises: FileNotFoundError; ValueError that names the file and what is wrong in it.
    """
    if text in EXAMPLE_MERGES:
        return EXAMPLE_MERGES[text]
    content = files.read_json(Path(text))
    if not isinstance(content, dict) or set(content) != {"classes", "map"}:
        raise ValueError(f'{text}: expected an object with "classes" and "map"')
    classes = class_list_from_json(content["classes"], text)
    entries = content["map"]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{text}: map must be a list with a class for each old class")
    numbers = tuple(_merged_number(entry, classes, text) for entry in entries)
    return ClassMerge(classes=classes, numbers=numbers)


def choose_classes(
    given: ClassList | None, merge: ClassMerge | None, stated: Sequence[StatedClasses]
) -> ClassList:
    """Return the classes to learn: those of the merge, given ones, or those the data state.

    Raises: ValueError where nothing says what the classes are.
    """
    if merge is not None and given is not None:
        raise ValueError("--classes: leave it out, --merge has the classes")
    chosen = merge.classes if merge is not None else given
    # of several data sets, one that names its classes goes before one that only counts them
    for entry in sorted(stated, key=lambda entry: not entry.names):
        chosen = chosen or entry.classes
    if chosen is None:
        raise ValueError("--classes must name a class list: the data set does not state its own")
    return chosen


def table_for(
    stated: StatedClasses, classes: ClassList, merge: ClassMerge | None, where: str
) -> np.ndarray:
    """Return what each value 0..255 of a set's masks becomes: [256] int16, -1 for no class.

    A set that states as many classes as are learned is taken as it is; others go through the
    merge. The value 255 is ignored wherever it is no class.

    Raises: ValueError where neither fits.
    """
    table = np.full(_VALUES, _NO_CLASS, np.int16)
    table[IGNORED] = IGNORED
    needs_merge = stated.count is None or stated.count != len(classes)
    if merge is not None and needs_merge:
        if stated.count not in (None, len(merge.numbers)):
            raise ValueError(
                f"{where}: --merge maps {len(merge.numbers)} classes, the set has {stated.count}"
            )
        table[: len(merge.numbers)] = merge.numbers
        return table
    if stated.count not in (None, len(classes)):
        raise ValueError(
            f"{where}: the set has {stated.count} classes, {len(classes)} are learned; "
            "--merge can map them"
        )
    if stated.names and stated.names != classes.names:
        raise ValueError(
            f"{where}: the set's classes are {', '.join(stated.names)}, learned are "
            f"{', '.join(classes.names)}"
        )
    table[: len(classes)] = np.arange(len(classes))
    return table


def map_mask(mask: np.ndarray, table: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Return a mask in the classes that are learned, [H, W] uint8; IGNORED stays.

    Raises: ValueError naming the file for a value that is no class.
    """
    mapped = table[mask]
    if mapped.min() == _NO_CLASS:
        value = int(mask[mapped == _NO_CLASS].max())
        known = int((table[:IGNORED] != _NO_CLASS).sum())
        raise ValueError(
            f"{where}: masks must hold 0..{known - 1} or {IGNORED} (ignored), which become "
            f"{classes} classes; got {value}"
        )
    return mapped.astype(np.uint8)


def _merged_number(entry: Any, classes: ClassList, where: str) -> int:
    if entry is None:
        return IGNORED
    number = classes.number_of(entry) if isinstance(entry, str) else entry
    if type(number) is not int or not 0 <= number < len(classes):
        raise ValueError(f"{where}: map must hold names or numbers of classes, got {entry!r}")
    return number
