"""The classes of the example masks, their colours, and the merges to four classes."""

import numpy as np

Palette = tuple[tuple[str, tuple[int, int, int]], ...]

BACKGROUND, SKIN, HAIR, BROWS, SCLERA, IRIS, PUPIL, NOSE, LIPS, NECK_AND_CLOTHES = range(10)

FACE_10: Palette = (
    ("background", (0, 0, 0)),
    ("skin", (240, 196, 160)),
    ("hair", (122, 78, 42)),
    ("brows", (196, 120, 40)),
    ("sclera", (245, 245, 245)),
    ("iris", (56, 148, 224)),
    ("pupil", (24, 24, 96)),
    ("nose", (232, 144, 120)),
    ("lips", (208, 48, 80)),
    ("neck_and_clothes", (72, 144, 88)),
)
FACE_4: Palette = (
    ("background", (0, 0, 0)),
    ("skin", (240, 196, 160)),
    ("hair", (122, 78, 42)),
    ("eyes_and_mouth", (208, 48, 80)),
)
OCULAR_4: Palette = (
    ("background", (0, 0, 0)),
    ("iris", (56, 148, 224)),
    ("pupil", (24, 24, 96)),
    ("sclera", (245, 245, 245)),
)

_TO_FACE_4 = (0, 1, 2, 2, 3, 3, 3, 1, 3, 0)
_TO_OCULAR_4 = (0, 0, 0, 0, 3, 1, 2, 0, 0, 0)


def merge_face(mask: np.ndarray) -> np.ndarray:
    """Merge the 10 classes to FACE_4.

    Skin takes the nose; hair the brows; eyes_and_mouth sclera, iris, pupil and lips; background
    takes neck and clothes.

    Args:
        mask: [H, W] uint8 0..9.
    Returns: [H, W] uint8 0..3.
    """
    return np.asarray(_TO_FACE_4, np.uint8)[mask]


def merge_ocular(mask: np.ndarray) -> np.ndarray:
    """Merge the 10 classes to OCULAR_4 (background, iris, pupil, sclera).

    Args:
        mask: [H, W] uint8 0..9.
    Returns: [H, W] uint8 0..3.
    """
    return np.asarray(_TO_OCULAR_4, np.uint8)[mask]


def palette_for(classes: int) -> Palette:
    """Return the class table that a mask of `classes` classes is written with.

    Raises: ValueError unless `classes` is 10 or 4.
    """
    if classes == len(FACE_10):
        return FACE_10
    if classes == len(FACE_4):
        return FACE_4
    raise ValueError(f"classes: must be 10 or 4, got {classes!r}")


def flat_palette(palette: Palette) -> list[int]:
    """Return the colours as Pillow takes them: r, g, b of class 0, r, g, b of class 1, ..."""
    return [value for _, colour in palette for value in colour]
