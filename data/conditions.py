"""Conditions of a generator from files: rows of numbers, or identity features."""

from pathlib import Path
from typing import Any

import numpy as np

from data.identities import scale_features
from data.number_files import load_rows
from dnnlib import files


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
    found = [_row(content[name], f"{option} {path}: {name}") for name in sorted(content)]
    if len({len(row) for row in found}) != 1:
        raise ValueError(f"{option} {path}: all entries must be of one length")
    matrix = np.stack(found)
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
