"""Conditions of a generator from a file of identity features."""

from pathlib import Path
from typing import Any

import numpy as np

from data.identities import scale_features
from dnnlib import files


def read_feature_conditions(path: Path, option: str, scale: float | None) -> np.ndarray:
    """Read identity_features.json as conditions, in the order of sorted file names.

    Args:
        path: JSON object {file name: [numbers]}.
        option: named in messages.
        scale: length of a condition, which a snapshot of ours records; None leaves the features as
            they are.
    Returns: [N, c_dim] float32.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    content = files.read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{option} {path}: expected an object of file names and numbers")
    rows = [_row(content[name], f"{option} {path}: {name}") for name in sorted(content)]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{option} {path}: all entries must be of one length")
    matrix = np.stack(rows)
    if scale is not None and not matrix.any(axis=1).all():
        raise ValueError(f"{option} {path}: features must not all be zero")
    return scale_features(matrix, scale)


def _row(values: Any, where: str) -> np.ndarray:
    try:
        row = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected a list of numbers") from error
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        raise ValueError(f"{where}: expected a list of finite numbers")
    return row
