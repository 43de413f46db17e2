"""Reads pickles and torch.save archives without executing anything in them.

The model of this security boundary:

- Neither Python's nor PyTorch's unpickler is used. Our interpreter (pickle_machine.py) knows only
  the opcodes that build plain containers, and resolves no name: a global is a key of a closed
  table below, whose builders are functions of ours that check their arguments. Any other global,
  opcode, dict key, persistent id or state is refused with a ValueError that names the file and what
  it asked for. Source text inside a pickle (`module_src`) is skipped.
- Pickles inside pickles (tensor storages) go through the same interpreter with a smaller table.
- Work and memory are bounded: by a number of opcodes, by copies of at most twice the file's size,
  and every declared size is compared with the bytes that are there.
- The result is a tree of plain containers, numbers, text, bytes, NumPy arrays, tensors and the two
  records below. It has no cycles, bounded depth, and a bounded number of nodes with shared parts
  counted each time: whoever walks, compares or prints it needs no care. A tensor is a view of its
  storage; several may share one.
"""

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch_utils import pickle_values as values
from torch_utils.pickle_machine import Budget, Builder, PickleMachine, RefusedError
from torch_utils.pickle_values import PersistentObject, TensorflowNetwork

MAX_FILE_BYTES = 8 << 30

__all__ = ["PersistentObject", "RefusedError", "TensorflowNetwork", "load_archive", "load_pickle"]


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle that a StyleGAN2 system wrote, in protocol 2 to 5.

    Returns: plain containers, numbers, str, bytes, ndarrays, CPU tensors, `PersistentObject` and
        `TensorflowNetwork` records.
    Raises: FileNotFoundError; ValueError, naming the file, for what the module docstring excludes.
    """
    return _read(path, "pickle", lambda file: _read_pickle(file.read_bytes()))


def load_archive(path: str | os.PathLike[str]) -> Any:
    """Read a zip archive that `torch.save` wrote: plain containers and tensors, nothing else.

    The same values as `torch.load(path, weights_only=True)`, within this module's bounds.

    Raises: FileNotFoundError; ValueError, naming the file, for another or damaged file.
    """
    return _read(path, "archive", _read_archive)


def _read(path: str | os.PathLike[str], noun: str, read: Callable[[Path], Any]) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: the {noun} is larger than {MAX_FILE_BYTES >> 30} GiB")
    try:
        return read(path)
    except RefusedError as error:
        raise ValueError(f"{path}: the {noun} is refused: {error}") from error


def _read_pickle(data: bytes) -> Any:
    budget = Budget(len(data))
    value = PickleMachine(memoryview(data), _published_table(budget), budget).run()
    return values.Settler(budget).settle(value)


def _read_archive(path: Path) -> Any:
    budget = Budget(path.stat().st_size)
    with contextlib.ExitStack() as stack:
        with _named_damage():
            archive = stack.enter_context(zipfile.ZipFile(path))
        return _read_entries(archive, budget)


@contextlib.contextmanager
def _named_damage() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile's parser raises whatever damaged bytes lead to
        raise RefusedError(f"it is damaged or cut short ({str(error)[:100]})") from error


def _read_entries(archive: zipfile.ZipFile, budget: Budget) -> Any:
    present = set(archive.namelist())
    names = [name for name in present if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise RefusedError("it has no data.pkl, so torch.save did not write it")
    folder = names[0].removesuffix("data.pkl")

    def read_entry(name: str) -> memoryview:
        if folder + name not in present:
            raise RefusedError("an entry is missing")
        entry = archive.getinfo(folder + name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise RefusedError("an entry is compressed, which torch.save never does")
        budget.spend_bytes(entry.file_size)
        with _named_damage():
            return memoryview(archive.read(entry))

    if folder + "byteorder" in present and read_entry("byteorder") != b"little":
        raise RefusedError("it is not little-endian")
    storages: dict[str, values.Storage] = {}

    def read_storage(identity: Any) -> values.Storage:
        wanted = values.read_storage_id(identity)
        if wanted.key not in storages:
            data = read_entry(f"data/{wanted.key}")
            storages[wanted.key] = values.read_storage(wanted, data, budget)
        return storages[wanted.key]

    table = {**values.storage_classes(), **_tensor_table()}
    machine = PickleMachine(read_entry("data.pkl"), table, budget, persistent=read_storage)
    return values.Settler(budget).settle(machine.run())


def _tensor_table() -> dict[str, Builder]:
    return {
        "collections.OrderedDict": values.build_dict,
        "torch._utils._rebuild_parameter": values.build_parameter,
        "torch._utils._rebuild_tensor_v2": values.build_tensor,
    }


def _published_table(budget: Budget) -> dict[str, Builder]:
    """Return the closed list of globals of published snapshots."""
    table: dict[str, Builder] = {
        **_tensor_table(),
        "torch.storage._load_from_bytes": lambda given: values.build_storage(given, budget),
        "torch_utils.persistence._reconstruct_persistent_obj": values.build_persistent_object,
        "dnnlib.util.EasyDict": values.build_dict,
        "dnnlib.tflib.network.Network": values.build_network,
        "_codecs.encode": lambda given: values.build_latin1(given, budget),
        "numpy.dtype": values.build_dtype,
        "numpy.ndarray": values.refuse_call,
        "builtins.set": values.build_set,  # protocol 3 has no opcode for sets
        "__builtin__.set": values.build_set,  # nor has protocol 2
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        table[f"{module}.scalar"] = values.build_scalar
        table[f"{module}._reconstruct"] = values.build_array
    return table
