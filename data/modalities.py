"""The image modalities of a pair, in their fixed order, and the sizes that images may have.

Everything else loops over this list.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of image of a pair."""

    name: str  # key of tensors, heads and options, such as "rgb"
    channels: int  # of its images
    folders: tuple[str, ...]  # names under which data sets keep it; the first is the one we write
    suffix: str  # ending of published statistic and file names, such as "_NIR"


RGB = Modality("rgb", 3, ("VIS", "images"), "")
NIR = Modality("nir", 1, ("NIR",), "_NIR")
MODALITIES = (RGB, NIR)
JOINT = "joint"  # all of them at once, in this order

MIN_RESOLUTION = 8


def choose_modalities(names: Sequence[str]) -> tuple[Modality, ...]:
    """Return the modalities of these names, in their fixed order.

    Raises: ValueError for an unknown name, or none at all.
    """
    known = {modality.name: modality for modality in MODALITIES}
    if not names or set(names) - set(known):
        raise ValueError(f"modalities must be among {list(known)}, got {list(names)}")
    return tuple(modality for modality in MODALITIES if modality.name in names)


def is_resolution(side: int) -> bool:
    """Return whether images may have this side.

    >>> [side for side in (4, 8, 12, 64) if is_resolution(side)]
    [8, 64]
    """
    return side >= MIN_RESOLUTION and side & (side - 1) == 0
