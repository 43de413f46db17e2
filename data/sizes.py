"""The rule for image sizes: one size for all, square, a power of two."""

from collections import Counter
from collections.abc import Mapping

from data.pairs import shorten

MIN_RESOLUTION = 8

_IMPORT_HINT = "`prepare_dataset.py import` crops and resizes to one power of two"


def check_sizes(
    sizes: Mapping[str, tuple[int, int]], root: str, expected: int | None = None
) -> int:
    """Return the side that all images share.

    Args:
        sizes: file -> (width, height), at least one.
        root: the data set, for messages.
        expected: the side that they must have, None for any.
    Raises: ValueError where sizes differ, or are not square, a power of two of at least
        MIN_RESOLUTION, or `expected`.
    """
    (usual, _), *others = Counter(sizes.values()).most_common()
    width, height = usual
    if others:
        odd = [f"{file} ({w}x{h})" for file, (w, h) in sizes.items() if (w, h) != usual]
        raise ValueError(
            f"{root}: all images must have one size; most have {width}x{height}, but {len(odd)} "
            f"not: {shorten(odd)}; {_IMPORT_HINT}"
        )
    if width != height or not is_resolution(width):
        raise ValueError(
            f"{root}: images must be square, with a side that is a power of two of at least "
            f"{MIN_RESOLUTION}, got {width}x{height}; {_IMPORT_HINT}"
        )
    if expected not in (None, width):
        raise ValueError(f"{root}: images must have {expected} pixels a side, got {width}")
    return width


def is_resolution(side: int) -> bool:
    """Return whether images may have this side.

    >>> [side for side in (4, 8, 12, 64) if is_resolution(side)]
    [8, 64]
    """
    return side >= MIN_RESOLUTION and side & (side - 1) == 0


def largest_resolution(side: int) -> int:
    """Return the largest power of two that is at most `side`.

    >>> largest_resolution(100)
    64
    """
    return 1 << (side.bit_length() - 1)
