"""Arrays on disk: latents and conditions, read with named errors and written whole."""

from pathlib import Path

import numpy as np

from data.conditions import read_feature_conditions
from data.number_files import open_numbers
from dnnlib import files


def load_rows(path: Path, option: str) -> np.ndarray:
    """Read a .npy file of finite numbers with one row a sample.

    Returns: [N, ...] float64 or as stored, N >= 1, two or three dimensions.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    array = open_numbers(path, f"{option} {path}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        shape = list(array.shape)
        raise ValueError(f"{option} {path}: expected one row of numbers a sample, got {shape}")
    rows = np.array(array)
    if not np.isfinite(rows).all():
        raise ValueError(f"{option} {path}: all numbers must be finite")
    return rows


def load_labels(path: Path, option: str, feature_scale: float | None = None) -> np.ndarray:
    """Read conditions from a .npy file, or from identity_features.json by sorted file names.

    Args:
        path: of the file.
        option: named in messages.
        feature_scale: length that identity features get; a .npy file has conditions as they are.
    Returns: [N, c_dim] float32.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    if path.suffix.lower() == ".json":
        return read_feature_conditions(path, option, feature_scale)
    rows = load_rows(path, option)
    if rows.ndim != 2:
        raise ValueError(f"{option} {path}: shape must be [N, c_dim], got {list(rows.shape)}")
    return rows.astype(np.float32)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    with files.atomic_write(path) as file:
        np.save(file, array)
