"""Conditions of a generator from files: rows of numbers, or identity features."""

from pathlib import Path

import numpy as np

from data.number_files import load_rows, rows_of
from dnnlib import files

DEFAULT_FEATURE_SCALE = 4.0  # what the published generate_recognition_data.py multiplies with


def scale_features(vectors: np.ndarray, scale: float | None) -> np.ndarray:
    """Return identity features as conditions: rows of length `scale`, or as they are for None.

    The published training takes features as they are, the published generation 4 times a unit
    vector; one recorded scale for both is ours.

    Args:
        vectors: [N, E] float; rows that are not zero.
    Returns: [N, E] float32.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if scale is None:
        return vectors
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors * (scale / lengths)).astype(np.float32)


def load_conditions(path: Path, option: str, scale: float | None) -> np.ndarray:
    """Read conditions from a .npy file, or from identity features by sorted file names.

    Args:
        path: .npy file of [N, c_dim] numbers, or JSON object {file name: [numbers]}.
        option: named in messages.
        scale: length that identity features get, see `Snapshot.feature_scale`; None leaves them as
            they are. A .npy file has conditions as they are.
    Returns: [N, c_dim] float32.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    if path.suffix.lower() != ".json":
        rows = load_rows(path, option)
        if rows.ndim != 2:
            raise ValueError(f"{option} {path}: shape must be [N, c_dim], got {list(rows.shape)}")
        return rows.astype(np.float32)
    content = files.read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{option} {path}: expected an object of file names and numbers")
    matrix = rows_of({name: content[name] for name in sorted(content)}, f"{option} {path}")
    if scale is not None and not matrix.any(axis=1).all():
        raise ValueError(f"{option} {path}: features must not all be zero")
    return scale_features(matrix, scale)
