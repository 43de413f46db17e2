"""What the globals on the closed lists build, and how a finished value is checked.

Each builder takes the arguments that the file gives and refuses all but the ones that CPython,
NumPy and PyTorch write. Nothing here looks up a name or calls what the file brought along.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_utils.pickle_machine import (
    Budget,
    Buildable,
    Builder,
    Global,
    PickleMachine,
    RefusedError,
    kind_of,
)

MAX_DEPTH = 60
MAX_NODES = 1_000_000
_MAX_DIMENSIONS = 8
_PERSISTENCE_VERSION = 6

# torch.save's form before zip archives: small pickles, then the data.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
}
_NUMPY_DTYPES = re.compile(r"b1|[iu][1248]|f[248]")


# Objects


@dataclass(frozen=True, eq=False)
class PersistentObject:
    """An object that `torch_utils.persistence` saved: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True, eq=False)
class TensorflowNetwork:
    """The attributes of a `dnnlib.tflib.network.Network`."""

    state: dict[str, Any]


class _UnfinishedNetwork(Buildable):
    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        if type(state) is not dict:
            raise RefusedError(f"a TensorFlow network has a {kind_of(state)} as its state")
        self.state = state


def build_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return an empty dict, for the classes derived from it; the file fills it by SETITEMS."""
    if arguments:
        raise RefusedError(f"a dict is made with {len(arguments)} arguments")
    return {}


def build_set(arguments: tuple[Any, ...]) -> set[str]:
    """Return a set of texts, which protocols 2 and 3 write as a call with a list."""
    match arguments:
        case (list() as entries,) if all(isinstance(entry, str) for entry in entries):
            return set(entries)
    raise RefusedError("a set holds something else than text")


def build_network(arguments: tuple[Any, ...]) -> Buildable:
    """Return an inert TensorFlow network, whose state follows by BUILD."""
    if arguments:
        raise RefusedError(f"a TensorFlow network is made with {len(arguments)} arguments")
    return _UnfinishedNetwork()


def build_persistent_object(arguments: tuple[Any, ...]) -> PersistentObject:
    """Return name and attributes of a persistent object; its source text is left alone."""
    match arguments:
        case ({"type": str(kind), "version": int(version), "class_name": str(name)} as meta,):
            state = meta.get("state")
            if (kind, version) == ("class", _PERSISTENCE_VERSION) and type(state) is dict:
                return PersistentObject(name, state)
    raise RefusedError("a persistent object is not of type 'class', version 6, with a state")


def build_latin1(arguments: tuple[Any, ...], budget: Budget) -> memoryview:
    """Return the bytes that protocol 2 writes as latin1 text."""
    match arguments:
        case (str(text), str(codec)) if codec == "latin1":
            budget.spend_bytes(len(text))
            try:
                return memoryview(text.encode("latin-1"))
            except UnicodeEncodeError as error:
                raise RefusedError("bytes written as text are not latin1") from error
    raise RefusedError("it calls _codecs.encode with something else than text and latin1")


def refuse_call(_arguments: tuple[Any, ...]) -> Any:
    """Refuse: the global may be named, as an argument of another one, but not called."""
    raise RefusedError("it calls a class that is only known by name")


# Tensors


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers behind one or more tensors: [n], any dtype."""

    flat: Tensor


@dataclass(frozen=True, eq=False)
class StorageId:
    """What a persistent id says about a storage."""

    dtype: torch.dtype
    key: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize


def storage_classes() -> dict[str, Builder]:
    """Return the table of the names of storage classes, which may not be called."""
    return dict.fromkeys(_STORAGE_DTYPES, refuse_call)


def read_storage_id(identity: Any) -> StorageId:
    """Return what a persistent id of `torch.save` says, in either of its forms."""
    match identity:
        case (str(kind), Global(name), str(key), str(), int(count), *views):
            if (
                kind == "storage"
                and count >= 0
                and name in _STORAGE_DTYPES
                and views in ([], [None])
            ):
                return StorageId(_STORAGE_DTYPES[name], key, count)
    raise RefusedError("a tensor storage has another kind of persistent id")


def read_storage(storage: StorageId, data: memoryview, budget: Budget) -> Storage:
    """Copy the numbers of a storage. Raises: RefusedError unless the sizes agree."""
    if len(data) != storage.size:
        raise RefusedError(f"a tensor storage declares {storage.size} bytes and has {len(data)}")
    budget.spend_bytes(len(data))
    if len(data) == 0:
        return Storage(torch.empty(0, dtype=storage.dtype))
    return Storage(torch.frombuffer(bytearray(data), dtype=storage.dtype))


def build_storage(arguments: tuple[Any, ...], budget: Budget) -> Storage:
    """Read what `torch.save` wrote for one storage, in its form without a zip archive."""
    match arguments:
        case (memoryview() as blob,):
            machine = PickleMachine(blob, storage_classes(), budget, persistent=read_storage_id)
        case _:
            raise RefusedError("a tensor storage is not made of bytes")
    match machine.run(), machine.run(), machine.run():
        case int(magic), int(protocol), {"little_endian": True}:
            if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL):
                raise RefusedError("a tensor storage is of another version of torch.save")
        case _:
            raise RefusedError("a tensor storage is not little-endian or not from torch.save")
    match machine.run(), machine.run(), machine.unpack("<q"):
        case StorageId() as storage, [str(key)], int(count):
            if (key, count) != (storage.key, storage.count):
                raise RefusedError("a tensor storage contradicts itself")
            return read_storage(storage, blob[machine.position :], budget)
    raise RefusedError("a tensor storage holds something else than one storage")


def build_tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Return a view of a storage that lies inside it and repeats nothing without end."""
    match arguments:
        case (Storage(flat), int(offset), tuple(size), tuple(stride), bool(), *hooks):
            if len(hooks) > 2 or not _fits(flat.numel(), offset, size, stride):
                raise RefusedError(f"a tensor does not fit its storage of {flat.numel()} numbers")
            return flat.as_strided(size, stride, offset)
    raise RefusedError("a tensor is not made of storage, offset, size and stride")


def build_parameter(arguments: tuple[Any, ...]) -> Tensor:
    """Return the tensor of a parameter."""
    match arguments:
        case (Tensor() as data, bool(), dict()):
            return data
    raise RefusedError("a parameter is not made of a tensor")


def _fits(count: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> bool:
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        return False
    if not all(isinstance(n, int) and 0 <= n <= count for n in (offset, *size)):
        return False
    if not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in stride):
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return prod(size) <= count and (prod(size) == 0 or last < count)


# NumPy


class _Dtype(Buildable):
    """A NumPy number type; objects, structures and text are none."""

    def __init__(self, name: str) -> None:
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        match state:
            case (int(version), str(order), None, None, None, int(size), int(align), int(flags)):
                plain = (version, size, align, flags) == (3, -1, -1, 0)
                if plain and order in ("<", ">", "|", "="):
                    self.dtype = self.dtype.newbyteorder(order)
                    return
        raise RefusedError("a NumPy type is no plain number type")


class _Array(Buildable):
    """A NumPy array in the making: its bytes stay in the file until it is settled."""

    def __init__(self) -> None:
        self._state: tuple[tuple[int, ...], np.dtype[Any], int, memoryview] | None = None

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), tuple(shape), _Dtype(dtype=dtype), int(columns), memoryview() as data):
                if _holds(shape, dtype, data):
                    self._state = shape, dtype, columns, data
                    return
        raise RefusedError("a NumPy array is not made of shape, number type and as many bytes")

    def finish(self, budget: Budget) -> np.ndarray[Any, Any]:
        if self._state is None:
            raise RefusedError("a NumPy array has no content")
        shape, dtype, columns, data = self._state
        budget.spend_bytes(len(data))
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if columns else "C")
        return array.astype(dtype.newbyteorder("="), order="C")


def _holds(shape: tuple[Any, ...], dtype: np.dtype[Any], data: memoryview) -> bool:
    if len(shape) > _MAX_DIMENSIONS:
        return False
    if not all(isinstance(n, int) and 0 <= n <= len(data) for n in shape):
        return False
    return prod(shape) * dtype.itemsize == len(data)


def build_dtype(arguments: tuple[Any, ...]) -> Buildable:
    """Return a number type; its byte order follows by BUILD."""
    match arguments:
        case (str(name), int(), int()) if _NUMPY_DTYPES.fullmatch(name):
            return _Dtype(name)
    raise RefusedError("a NumPy type is no number type")


def build_scalar(arguments: tuple[Any, ...]) -> bool | int | float:
    """Return a NumPy scalar as a Python number."""
    match arguments:
        case (_Dtype(dtype=dtype), memoryview() as data) if len(data) == dtype.itemsize:
            return np.frombuffer(data, dtype)[0].item()
    raise RefusedError("a NumPy scalar is not made of number type and bytes")


def build_array(arguments: tuple[Any, ...]) -> Buildable:
    """Return an array to be; shape, type and numbers follow by BUILD."""
    match arguments:
        case (Global("numpy.ndarray"), (int(),), memoryview()):
            return _Array()
    raise RefusedError("a NumPy array is of another class")


# The finished tree


class Settler:
    """Turns what a machine built into a tree without cycles, of bounded depth and size."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._done: dict[int, tuple[Any, int, int]] = {}
        self._open: set[int] = set()

    def settle(self, root: Any) -> Any:
        """Return `root` with all values finished. Raises: RefusedError."""
        return self._visit(root, 0)[0]

    def _visit(self, value: Any, depth: int) -> tuple[Any, int, int]:
        """Return the finished value, its number of nodes (shared ones each time), its height."""
        if value is None or isinstance(value, bool | int | float | str | Tensor):
            return value, 1, 0
        if id(value) in self._done:
            return self._done[id(value)]
        if id(value) in self._open:
            raise RefusedError(f"a {kind_of(value)} contains itself")
        if depth > MAX_DEPTH:
            raise RefusedError(f"it is nested more than {MAX_DEPTH} deep")
        self._open.add(id(value))
        finished, nodes, height = self._finish(value, depth + 1)
        self._open.remove(id(value))
        if nodes > MAX_NODES or height > MAX_DEPTH:
            raise RefusedError(f"it unfolds to over {MAX_NODES} values or {MAX_DEPTH} levels")
        self._done[id(value)] = finished, nodes, height
        return finished, nodes, height

    def _finish(self, value: Any, depth: int) -> tuple[Any, int, int]:
        if isinstance(value, memoryview | set | _Dtype | _Array):
            return self._finish_leaf(value), 1 + (len(value) if isinstance(value, set) else 0), 0
        make: Callable[[list[Any]], Any]
        match value:
            case dict():
                parts, make = value.values(), lambda entries: dict(zip(value, entries, strict=True))
            case list() | tuple():
                parts, make = value, type(value)
            case PersistentObject(name, state):
                parts, make = [state], lambda entries: PersistentObject(name, entries[0])
            case _UnfinishedNetwork(state=state):
                parts, make = [state], lambda entries: TensorflowNetwork(entries[0])
            case _:
                raise RefusedError(f"a {kind_of(value)} stands where a value is expected")
        visited = [self._visit(part, depth) for part in parts]
        nodes = 1 + sum(count for _, count, _ in visited)
        height = 1 + max((part_height for *_, part_height in visited), default=0)
        return make([part for part, *_ in visited]), nodes, height

    def _finish_leaf(self, value: memoryview | set[str] | _Dtype | _Array) -> Any:
        if isinstance(value, memoryview):
            self._budget.spend_bytes(len(value))
            return bytes(value)
        if isinstance(value, _Array):
            return value.finish(self._budget)
        return value.dtype if isinstance(value, _Dtype) else value
