"""Class masks and uncertainty maps on disk."""

from typing import Any

import numpy as np
from PIL import Image

MASK_FOLDER = "masks"
IGNORED = 255  # of a mask: counts neither in training nor in evaluation
MAX_UNCERTAINTY = 65535  # of a map on disk: ln(classes)


def read_mask(file: Any, name: str) -> np.ndarray:
    """Return the numbers of an indexed or grey PNG, which are the classes.

    Args:
        file: path or binary file.
        name: shown in messages.
    Returns: [H, W] uint8.
    Raises: ValueError that names the file.
    """
    mode, values = _read_png(file, name, "mask")
    if mode not in ("P", "L", "1"):
        raise ValueError(f"{name}: a mask must be an indexed or grey PNG, got mode {mode}")
    return values.astype(np.uint8)


def read_uncertainty(file: Any, name: str) -> np.ndarray:
    """Return a map of uncertainty, [H, W] uint16; `MAX_UNCERTAINTY` is ln(classes).

    Raises: ValueError that names a file that is no 16-bit grey PNG.
    """
    mode, values = _read_png(file, name, "map of uncertainty")
    if not mode.startswith("I"):
        raise ValueError(f"{name}: a map of uncertainty must be a 16-bit PNG, got mode {mode}")
    return values.astype(np.uint16)


def _read_png(file: Any, name: str, noun: str) -> tuple[str, np.ndarray]:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.load()
            return image.mode, np.asarray(image)
    except Exception as error:  # damaged bytes raise OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{name}: not a PNG {noun}: {error}") from error
