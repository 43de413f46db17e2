"""Numbers in .npy files: nothing is executed, and a header that lies allocates nothing."""

from pathlib import Path

import numpy as np

from dnnlib import files


def open_numbers(path: Path, where: str, kinds: str = "fiu") -> np.ndarray:
    """Return the array of a .npy file, mapped: a header that lies about its size allocates nothing.

    Args:
        path: the file.
        where: option or place named in messages, with the file.
        kinds: NumPy's letters of the types that are taken: floats, integers, unsigned integers.
    Raises: FileNotFoundError; ValueError where it holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of the header raises whatever its text leads to
        raise ValueError(f"{where}: not a .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        raise ValueError(f"{where}: not a .npy file of numbers")
    return array


def load_rows(path: Path, option: str, width: int | None = None) -> np.ndarray:
    """Read a .npy file of finite numbers with one row a sample.

    Args:
        path: of the file.
        option: named in messages.
        width: numbers a row; None takes rows of any one or two dimensions.
    Returns: [N, width] or [N, ...] as stored, N >= 1.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    array = open_numbers(path, f"{option} {path}")
    if width is not None and array.shape[1:] != (width,):
        raise ValueError(f"{option} {path}: shape must be [N, {width}], got {list(array.shape)}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        shape = list(array.shape)
        raise ValueError(f"{option} {path}: expected one row of numbers a sample, got {shape}")
    rows = np.array(array)
    if not np.isfinite(rows).all():
        raise ValueError(f"{option} {path}: all numbers must be finite")
    return rows


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    with files.atomic_write(path) as file:
        np.save(file, array)
