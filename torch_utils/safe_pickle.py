"""Reads pickles and files of torch.save without executing anything that is in them.

Three steps, none of which trusts the file:

- A scan of the opcodes (pickletools) admits the ones that build plain containers, and bounds their
  number, the memo and what is hashed. Declared sizes beyond the end of the file are errors there.
- A `pickle.Unpickler` whose `find_class` knows a closed table of names: each stands for an inert
  `_Node` that keeps its arguments and its state. Any other name is refused.
- The finished tree is walked once. Nodes become arrays, tensors and the two records below where
  they are made of exactly what CPython, NumPy and PyTorch write; depth, number of values (shared
  ones counted each time) and copied bytes are bounded, and there are no cycles.

Files of torch.save go through the same steps with tensors on the meta device, and only then
through `torch.load(weights_only=True)`, which alone would allocate whatever a file declares.
"""

import io
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnnlib.files import check_content

Types = type | tuple[type, ...]

MAX_FILE_BYTES = 8 << 30
MAX_OPCODES = 1_000_000
MAX_NODES = 1_000_000
MAX_DEPTH = 80
_MAX_KEY = 500  # characters; keys are joined to paths, once a value
_MAX_DIMENSIONS = 8
_MAX_ARGUMENTS = 8
_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before zip archives


def _opcodes(pattern: str) -> frozenset[str]:
    return frozenset(o.name for o in pickletools.opcodes if re.fullmatch(pattern, o.name))


# What CPython writes in protocols 2 to 5: texts and small integers, which may be keys, and others.
_KEYS = _opcodes(r"(SHORT_)?BIN(UNICODE|STRING)|BINUNICODE8|BININT[12]?")
_PUTS = _opcodes("BINPUT|LONG_BINPUT|MEMOIZE")
_GETS = _opcodes("BINGET|LONG_BINGET")
_OTHERS = _opcodes(
    "PROTO|FRAME|MARK|STOP|NONE|NEWTRUE|NEWFALSE|LONG1|BINFLOAT|SHORT_BINBYTES|BINBYTES8?"
    "|(EMPTY_)?TUPLE|TUPLE[123]|EMPTY_(LIST|SET|DICT)|APPENDS?|ADDITEMS|SETITEMS?"
    "|(STACK_)?GLOBAL|REDUCE|NEWOBJ|BUILD|BINPERSID"
)
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_STORAGE_ID = "a persistent id"
_NUMPY_DTYPES = re.compile(r"b1|[iu][1248]|f[248]")


class RefusedError(ValueError):
    """The file asks for something that is not on the closed list, or is not whole."""


@dataclass(frozen=True, eq=False)
class PersistentObject:
    """An object that `torch_utils.persistence` saved: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True, eq=False)
class TensorflowNetwork:
    """The attributes of a `dnnlib.tflib.network.Network`."""

    state: dict[str, Any]


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of protocol 2 to 5: a published snapshot, or pairs of faces (`.bin`).

    Returns: plain containers with text as keys, numbers, str, bytes, ndarrays, CPU tensors,
        `PersistentObject` and `TensorflowNetwork`. Byte strings of Python 2 are latin-1 str.
    Raises: FileNotFoundError; ValueError, naming the file, for what the module docstring excludes.
    """
    path = _existing(path)
    file = io.BytesIO(path.read_bytes())  # from which reading too much allocates nothing
    try:
        return _Reader(file, _Budget(path.stat().st_size), _CLASSES).read()
    except RefusedError as error:
        raise ValueError(f"{path}: the pickle is refused: {error}") from error


def load_archive(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    keys: Types = str,
) -> Any:
    """Read plain containers and tensors that `torch.save` wrote, also in its form without zip.

    Tensors go to `device`; the keys of dicts must be of the types `keys`.

    Raises: FileNotFoundError; ValueError, naming the file, for another, damaged or hostile one.
    """
    path = _existing(path)
    budget = _Budget(path.stat().st_size)
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if is_zip:
            _check_zip(path, budget, keys)
        else:
            _read_legacy(io.BytesIO(path.read_bytes()), budget, _CLASSES, keys)
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zipfile and torch raise whatever damaged bytes lead to
        raise ValueError(f"{path}: not a readable checkpoint: {_one_line(error)}") from error


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB")
    check_content(path)
    return path


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return text if isinstance(error, RefusedError) else f"it is damaged or cut short ({text})"


# The scan


class _Budget:
    """What is left of the work that one file may cause, pickles inside it included."""

    def __init__(self, size: int) -> None:
        self.opcodes, self.bytes, self.size = MAX_OPCODES, 2 * size, size

    def copy(self, data: bytes | str) -> bytes:
        """Return bytes, also of Python 2's. Raises: RefusedError where copies exceed the file."""
        self.bytes -= len(data)
        if self.bytes < 0:
            raise RefusedError("it unfolds to much more data than the file holds")
        return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def _scan(file: io.BytesIO, budget: _Budget) -> None:
    """Read one pickle's opcodes and leave `file` behind it.

    Follows which values of the stack are text or small integers, since only these may be hashed:
    a file cannot aim at their hashes, and needs no exponential time for them as for nested tuples.
    """
    stack: list[bool] = []
    marks: list[int] = []
    memo: dict[int, bool] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        budget.opcodes -= 1
        if budget.opcodes < 0:
            raise RefusedError(f"it has more than {MAX_OPCODES} opcodes")
        if name in _PUTS:
            index = len(memo) if argument is None else argument
            if index > MAX_OPCODES - budget.opcodes:  # the unpickler allocates up to it
                raise RefusedError(f"memo index {index} is beyond the number of opcodes")
            memo[index] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _KEYS or name in _OTHERS:
            taken = _take(stack, marks, opcode)
            stack += [name in _KEYS] * len(opcode.stack_after)
            # Hashed is what follows a set, and every second value behind a dict.
            step = {"ADDITEMS": 1, "SETITEM": 2, "SETITEMS": 2}.get(name)
            if step and not all(taken[1::step]):
                raise RefusedError("a key is neither text nor a small integer")
        else:
            raise RefusedError(f"opcode {name} is not allowed")


def _take(stack: list[bool], marks: list[int], opcode: pickletools.OpcodeInfo) -> list[bool]:
    """Remove and return what an opcode takes from the stack, without the mark."""
    before = opcode.stack_before
    has_mark = pickletools.markobject in before
    start = marks.pop() if has_mark else len(stack)
    start -= before.index(pickletools.markobject) if has_mark else len(before)
    if start < 0:
        raise RefusedError("its stack is empty")
    taken = stack[start:]
    del stack[start:]
    return taken


# The unpickler


class _Node:
    """A call that the file asks for; the class has the name of what is called, and nothing is."""

    __slots__ = ("arguments", "state")

    def __new__(cls, *arguments: Any) -> "_Node":
        if len(arguments) > _MAX_ARGUMENTS:  # each call keeps a copy of them
            raise RefusedError(f"it calls {cls.__name__} with {len(arguments)} arguments")
        node = super().__new__(cls)
        node.arguments, node.state = arguments, None
        return node

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict(dict[Any, Any]):
    """A dict of a class derived from it; versions of modules, its only state, are dropped."""

    def __init__(self) -> None:  # without the arguments of dict, whose keys nobody has checked
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or state.keys() != {"_metadata"}:
            raise RefusedError("it sets the state of a dict")


class _Reader(pickle.Unpickler):
    """Reads one pickle: scan, unpickling, and the walk that finishes the values.

    Args:
        file: at the start of the pickle; left behind it.
        budget: shared between a pickle and the ones inside it.
        names: of the globals that may occur.
        keys: types of the keys of dicts.
        sizes: filled with the bytes of each storage by its key; None refuses persistent ids.
    """

    def __init__(
        self,
        file: io.BytesIO,
        budget: _Budget,
        names: Container[str],
        keys: Types = str,
        sizes: dict[str, int] | None = None,
    ) -> None:
        super().__init__(file, encoding="latin-1")
        self.budget = budget
        self._file, self._names, self._keys, self._sizes = file, names, keys, sizes
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def read(self) -> Any:
        """Return the finished value. Raises: RefusedError."""
        start = self._file.tell()
        try:
            _scan(self._file, self.budget)
            end = self._file.tell()
            self._file.seek(start)
            root = self.load()
            self._file.seek(end)
            return self._visit([root], 0)[0][0]
        except RefusedError:
            raise
        except Exception as error:  # as documented, damaged pickles raise anything
            raise RefusedError(_one_line(error)) from error

    def find_class(self, module: str, name: str) -> type:
        """Return the inert class that stands for a name."""
        full = f"{module}.{name}"
        if full not in self._names:
            raise RefusedError(
                f"it asks for {full[:200]!r}, which is not on the list of known globals"
            )
        return _CLASSES[full]

    def persistent_load(self, identity: Any) -> _Node:
        """Return what stands for the storage of a tensor."""
        if type(identity) is not tuple:
            raise RefusedError("it has a persistent id that is no tuple")
        return _CLASSES[_STORAGE_ID](*identity)

    def name_storage(self, kind: str, key: str, count: int) -> Tensor:
        """Return the storage of a persistent id on the meta device, and note its size."""
        size = count * _STORAGES[kind].itemsize
        if self._sizes is None or size > self.budget.size:
            raise RefusedError(f"a tensor storage of {size} bytes is not in the file")
        if self._sizes.setdefault(key, size) != size:
            raise RefusedError("a tensor storage contradicts itself")
        return torch.empty(count, dtype=_STORAGES[kind], device="meta")

    def _visit(self, value: Any, depth: int) -> tuple[Any, int, int]:
        """Return the finished value, its number of nodes (shared ones each time), its height."""
        if value is None or isinstance(value, bool | int | float | str | bytes | type):
            return value, 1, 0
        if id(value) in self._done:
            return self._done[id(value)]
        if id(value) in self._open:
            raise RefusedError(f"a {type(value).__name__} contains itself")
        if depth > MAX_DEPTH:
            raise RefusedError(f"it is nested more than {MAX_DEPTH} deep")
        self._open.add(id(value))
        parts = [self._visit(part, depth + 1) for part in _parts_of(value)]
        self._open.remove(id(value))
        nodes = 1 + sum(count for _, count, _ in parts)
        height = 1 + max((part_height for *_, part_height in parts), default=0)
        if nodes > MAX_NODES or height > MAX_DEPTH:
            raise RefusedError(f"it unfolds to over {MAX_NODES} values or {MAX_DEPTH} levels")
        finished = self._finish(value, [part for part, *_ in parts])
        self._done[id(value)] = finished, nodes, height
        return finished, nodes, height

    def _finish(self, value: Any, parts: list[Any]) -> Any:
        if isinstance(value, _Node):
            name = type(value).__name__
            built = _BUILDERS[name](self, [name, *parts]) if name in _BUILDERS else None
            if built is None:
                raise RefusedError(f"it uses {name} in a way that no library writes")
            return built
        if any(isinstance(part, type) for part in parts):
            raise RefusedError("a class stands where a value is expected")
        for key in value if isinstance(value, dict | set) else ():
            if not isinstance(key, self._keys) or len(str(key)) > _MAX_KEY:
                raise RefusedError(f"a key is a {type(key).__name__} of {len(str(key))} characters")
        if isinstance(value, dict):
            return dict(zip(value, parts, strict=True))
        return type(value)(parts)


def _parts_of(value: Any) -> list[Any]:
    """Return what a container or a call consists of."""
    if isinstance(value, _Node):
        return [*value.arguments, value.state]
    return list(value.values() if isinstance(value, dict) else value)


# What calls become. A call is its name, its arguments and its state; None is returned for whatever
# the libraries do not write.


def _build_object(reader: _Reader, call: list[Any]) -> Any:
    match call:
        case [
            "torch_utils.persistence._reconstruct_persistent_obj",
            {"type": "class", "version": 6, "class_name": str(name), "state": dict(state)},
            None,
        ]:
            return PersistentObject(name, state)
        case ["dnnlib.tflib.network.Network", dict(state)]:
            return TensorflowNetwork(state)
        case ["_codecs.encode", str(text), "latin1", None]:  # bytes in protocol 2
            return reader.budget.copy(text)
        case ["builtins.set" | "__builtin__.set", list(entries), None]:  # in protocols 2 and 3
            return set(entries) if all(isinstance(entry, str) for entry in entries) else None
    return None


def _build_tensor(reader: _Reader, call: list[Any]) -> Tensor | None:
    """Return a storage [n] of any dtype, a view inside one, or the tensor of a parameter."""
    match call:
        case [_, "storage", type(__name__=kind), str(key), str(), int(count), *views]:
            return reader.name_storage(kind, key, count) if not any(views) else None
        case ["torch.storage._load_from_bytes", bytes(blob), None]:
            file = io.BytesIO(blob)
            storage = _read_legacy(file, reader.budget, _STORAGES)
            data = bytearray(reader.budget.copy(blob[file.tell() + 8 :]))
            return torch.frombuffer(data, dtype=storage.dtype) if data else storage.to("cpu")
        case [
            "torch._utils._rebuild_tensor_v2",
            Tensor() as flat,
            int(offset),
            tuple(size),
            tuple(stride),
            bool(),
            *_,
        ] if _fits(flat.numel(), offset, size, stride):
            return flat.as_strided(size, stride, offset)
        case ["torch._utils._rebuild_parameter", Tensor() as data, bool(), dict(), None]:
            return data
    return None


def _fits(count: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> bool:
    """Tell whether a view lies inside `count` numbers and repeats nothing without end."""
    bounds = [(n, count) for n in (offset, *size)] + [(n, 1 << 48) for n in stride]
    if not all(isinstance(n, int) and 0 <= n <= bound for n, bound in bounds):
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return len(size) <= _MAX_DIMENSIONS and prod(size) <= count and (0 in size or last < count)


def _build_array(reader: _Reader, call: list[Any]) -> Any:
    """Return a number type, a number, or an array in the machine's order of bytes."""
    match call:
        case ["numpy.dtype", str(name), int(), int(), (3, str(order), None, None, None, -1, -1, 0)]:
            is_plain = _NUMPY_DTYPES.fullmatch(name) and order in ("<", ">", "|", "=")
            return np.dtype(name).newbyteorder(order) if is_plain else None
        case [_, np.dtype() as dtype, bytes() | str() as data, None] if len(data) == dtype.itemsize:
            return np.frombuffer(reader.budget.copy(data), dtype)[0].item()
        case [
            _,
            type(__name__="numpy.ndarray"),
            (int(),),
            bytes() | str(),
            (int(), tuple(shape), np.dtype() as dtype, int(is_fortran), bytes() | str() as data),
        ] if len(shape) <= _MAX_DIMENSIONS and all(0 <= n <= len(data) for n in shape):
            flat = np.frombuffer(reader.budget.copy(data), dtype)
            array = flat.reshape(shape, order="F" if is_fortran else "C")
            return array.astype(dtype.newbyteorder("="), order="C")
    return None


_BUILDERS: dict[str, Callable[[_Reader, list[Any]], Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _build_object,
    "dnnlib.tflib.network.Network": _build_object,
    "_codecs.encode": _build_object,
    "builtins.set": _build_object,
    "__builtin__.set": _build_object,
    _STORAGE_ID: _build_tensor,
    "torch.storage._load_from_bytes": _build_tensor,
    "torch._utils._rebuild_tensor_v2": _build_tensor,
    "torch._utils._rebuild_parameter": _build_tensor,
    "numpy.dtype": _build_array,
    "numpy.core.multiarray.scalar": _build_array,
    "numpy._core.multiarray.scalar": _build_array,
    "numpy.core.multiarray._reconstruct": _build_array,
    "numpy._core.multiarray._reconstruct": _build_array,
}
_DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")
_CLASSES: dict[str, type] = {
    name: type(name, (_Node,), {"__slots__": ()})
    for name in (*_BUILDERS, *_STORAGES, "numpy.ndarray")
} | dict.fromkeys(_DICTS, _Dict)


# Files of torch.save


def check_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entries that every reader of an archive finds under these names.

    Raises: RefusedError where PyTorch's reader might find others than Python's.
    """
    listed = archive.infolist()
    entries = {entry.filename: entry for entry in listed}
    # PyTorch looks names up in any case, and knows nothing of what zipfile corrects in them.
    is_corrected = any(entry.filename != entry.orig_filename for entry in listed)
    if is_corrected or len({name.lower() for name in entries}) != len(listed):
        raise RefusedError("two readers might find different entries under one name")
    if archive.comment or min((entry.header_offset for entry in listed), default=0):
        raise RefusedError("it is not an archive alone")
    return entries


def _check_zip(path: Path, budget: _Budget, keys: Types) -> None:
    """Compare an archive's entries with their checksums and with what its pickle declares."""
    with zipfile.ZipFile(path) as archive:
        entries = check_entries(archive)
        names = [name for name in entries if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise RefusedError("it has no data.pkl or two, so torch.save did not write it")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise RefusedError("an entry is compressed, which torch.save never does")
        if sum(entry.file_size for entry in entries.values()) > budget.size:
            raise RefusedError("its entries overlap")
        if damaged := archive.testzip():
            raise RefusedError(f"{damaged} is damaged")
        sizes: dict[str, int] = {}
        _Reader(io.BytesIO(archive.read(names[0])), budget, _CLASSES, keys, sizes).read()
    folder = names[0].removesuffix("data.pkl")
    for key, size in sizes.items():
        entry = entries.get(f"{folder}data/{key}")
        if entry is None or entry.file_size != size:
            raise RefusedError(f"a tensor storage of {size} bytes is not in the file")


def _read_legacy(
    file: io.BytesIO, budget: _Budget, names: Container[str], keys: Types = str
) -> Any:
    """Check the form before zip archives: five pickles, then each storage behind its length.

    Returns: the content, with tensors on the meta device; `file` stands at the storages.
    """
    match [_Reader(file, budget, ()).read() for _ in range(3)]:
        case [int(magic), int(protocol), {"little_endian": True}] if magic == _TORCH_MAGIC:
            if protocol != _TORCH_PROTOCOL:
                raise RefusedError("it is of another version of torch.save")
        case _:
            raise RefusedError("it is not little-endian or not from torch.save")
    sizes: dict[str, int] = {}
    content = _Reader(file, budget, names, keys, sizes).read()
    listed = _Reader(file, budget, ()).read()
    start = file.tell()
    found = file.seek(0, io.SEEK_END) - start - 8 * len(sizes)
    file.seek(start)
    if sorted(listed) != sorted(sizes) or sum(sizes.values()) != found:
        raise RefusedError(f"tensor storages of {sum(sizes.values())} bytes have {found}")
    return content
