"""Numbers in files: rows, and identity features as rows.

Nothing in a file is executed, and a header that lies allocates nothing.
"""

import errno
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dnnlib import files

DEFAULT_FEATURE_SCALE = 4.0  # what the published generate_recognition_data.py multiplies with
_MAX_ARCHIVED_BYTES = 4 << 30


def open_numbers(path: Path, where: str, kinds: str = "fiu") -> np.ndarray:
    """Return the array of a .npy file, mapped: a header that lies about its size allocates nothing.

    Args:
        path: the file.
        where: option or path named in messages, with the file.
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
    return _finite_rows(array, f"{option} {path}")


def load_archived_rows(path: Path, key: str, option: str) -> np.ndarray:
    """Read one array of a .npz file, as `load_rows` reads a .npy file.

    Raises: FileNotFoundError; ValueError naming option and file.
    """
    where = f"{option} {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file")
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            entry = archive.getinfo(f"{key}.npy")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{where}: {key} is compressed in a way that NumPy never writes")
            if entry.file_size > _MAX_ARCHIVED_BYTES:
                raise ValueError(f"{where}: {key} has more than {_MAX_ARCHIVED_BYTES} bytes")
            target = Path(folder) / "rows.npy"
            with archive.open(entry) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            return _finite_rows(np.array(open_numbers(target, f"{where}: {key}")), where)
    except KeyError as error:
        raise ValueError(f"{where}: has no array {key!r}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{where}: not a whole .npz file ({error})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the beginning of the file
            raise
        raise ValueError(f"{where}: not a whole .npz file ({error})") from error


def _finite_rows(array: np.ndarray, where: str) -> np.ndarray:
    """Return a copy of an array in memory. Raises: ValueError where it has no finite rows."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        shape = list(array.shape)
        raise ValueError(f"{where}: expected one row of numbers a sample, got {shape}")
    rows = np.array(array)
    if not np.isfinite(rows).all():
        raise ValueError(f"{where}: all numbers must be finite")
    return rows


def rows_of(entries: Mapping[str, Any], where: str, scale: float | None = None) -> np.ndarray:
    """Return lists of numbers, such as those of identity_features.json, as rows: [N, E] float32.

    The published training takes identity features as they are, the published generation 4 times a
    unit vector; one recorded scale for both is ours.

    Args:
        entries: name -> [numbers], at least one.
        where: option or file, for messages.
        scale: length that the rows get; None leaves them as they are.
    Raises: ValueError naming the entry that is no list, or of another length, not finite, or zero
        where it gets a length.
    """
    width = None
    for name, values in entries.items():
        is_list = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if not is_list or not values:
            raise ValueError(
                f"{where}: {name!r:.60}: expected a list of numbers, got {values!r:.80}"
            )
        width = len(values) if width is None else width
        if len(values) != width:
            raise ValueError(
                f"{where}: {name!r:.60}: {len(values)} numbers, but the first has {width}"
            )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        rows = np.array([_floats(values) for values in entries.values()]).astype(np.float32)
    _check_rows(np.isfinite(rows).all(axis=1), entries, where, "numbers must be finite in float32")
    if scale is None:
        return rows
    _check_rows(rows.any(axis=1), entries, where, "features must not all be zero")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows * (scale / lengths)).astype(np.float32)


def _check_rows(is_right: np.ndarray, entries: Mapping[str, Any], where: str, rule: str) -> None:
    if not is_right.all():
        name = [*entries][int(is_right.argmin())]
        raise ValueError(f"{where}: {name!r:.60}: {rule}")


def _floats(values: Sequence[float]) -> list[float]:
    try:
        return [float(value) for value in values]
    except OverflowError:  # whole numbers of more than 308 digits
        return [float("inf")] * len(values)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    with files.atomic_write(path) as file:
        # By `write` alone: NumPy's own way to a file on disk says of a full disk no more than that
        # some numbers were not written.
        np.save(SimpleNamespace(write=file.write), array)
