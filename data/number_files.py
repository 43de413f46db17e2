"""Numbers in .npy files: nothing is executed, and a header that lies allocates nothing."""

from pathlib import Path

import numpy as np


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
