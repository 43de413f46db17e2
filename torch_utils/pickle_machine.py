"""A pickle interpreter that cannot call, import or change anything but what its owner hands in.

It reads the opcodes that CPython writes in protocols 2 to 5 and no others. A global is not looked
up: it becomes an inert token, and only if the owner's closed table has a builder of that exact
name. Everything that a file can declare (sizes, marks, memo places) is checked against the bytes
that are there, and a `Budget` bounds the work. See safe_pickle.py for the table and the model.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 1_000_000
_MAX_NAME = 200
_MAX_KEY = 500
_NEWEST_PROTOCOL = 5

Builder = Callable[[tuple[Any, ...]], Any]


class RefusedError(ValueError):
    """The pickle asks for something that is not on the closed list, or is not whole."""


@dataclass(frozen=True, eq=False)
class Global:
    """A name that the file mentioned, with the harmless builder that stands for it."""

    name: str
    build: Builder


class Buildable:
    """Base of the only objects that a BUILD opcode may touch."""

    def set_state(self, state: Any) -> None:
        """Keep or refuse the state that the file gives to this object."""
        raise NotImplementedError


class Budget:
    """What is left of the work that one file may cause, nested pickles included."""

    def __init__(self, size: int) -> None:
        """Allow MAX_OPCODES opcodes, and copies of twice the `size` bytes of the file."""
        self._opcodes = MAX_OPCODES
        self._bytes = 2 * size

    def spend_opcode(self) -> None:
        """Count one opcode. Raises: RefusedError where it is one too many."""
        self._opcodes -= 1
        if self._opcodes < 0:
            raise RefusedError(f"it has more than {MAX_OPCODES} opcodes")

    def spend_bytes(self, count: int) -> None:
        """Count a copy of `count` bytes. Raises: RefusedError where copies exceed the file."""
        self._bytes -= count
        if self._bytes < 0:
            raise RefusedError("it unfolds to much more data than the file holds")


class PickleMachine:
    """Reads consecutive pickles from one buffer.

    Args:
        data: the bytes; byte strings in the result are views of it, not copies.
        table: "module.name" -> builder of the globals that may occur.
        budget: shared between a pickle and the pickles inside it.
        persistent: builder for persistent ids; None refuses them.
    """

    def __init__(
        self,
        data: memoryview,
        table: Mapping[str, Builder],
        budget: Budget,
        persistent: Builder | None = None,
    ) -> None:
        self.position = 0
        self._data = data
        self._table = table
        self._budget = budget
        self._persistent = persistent
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Read one pickle from `position` on and return its value.

        Raises: RefusedError for anything but a whole pickle within table and budget.
        """
        self._stack, self._outer, self._memo = [], [], {}
        while True:
            self._budget.spend_opcode()
            code = self.read(1)[0]
            if code == _STOP:
                if self._outer or len(self._stack) != 1:
                    raise RefusedError(
                        f"its stack is not one value at the end (byte {self.position})"
                    )
                return self._stack.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise RefusedError(
                    f"opcode {_opcode_name(code)} at byte {self.position - 1} is not allowed"
                )
            operation(self)

    def read(self, count: int) -> memoryview:
        """Return the next `count` bytes without copying. Raises: RefusedError where they lack."""
        left = len(self._data) - self.position
        if count > left:
            raise RefusedError(
                f"it ends too early: byte {self.position} declares {count} bytes, {left} are left"
            )
        self.position += count
        return self._data[self.position - count : self.position]

    # Reading operands

    def unpack(self, form: str) -> Any:
        """Return the next number in a `struct` format."""
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def _text(self, form: str) -> str:
        data = self.read(self.unpack(form))
        try:
            return str(data, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise RefusedError(f"text before byte {self.position} is not UTF-8") from error

    def _line(self) -> str:
        chunk = bytes(self._data[self.position : self.position + _MAX_NAME])
        line, newline, _ = chunk.partition(b"\n")
        if not newline:
            raise RefusedError(f"the name at byte {self.position} does not end")
        self.position += len(line) + 1
        return line.decode("latin-1")

    def _protocol(self) -> None:
        version = self.unpack("<B")
        if version > _NEWEST_PROTOCOL:
            raise RefusedError(f"pickle protocol {version} is newer than {_NEWEST_PROTOCOL}")

    def _frame(self) -> None:
        length = self.unpack("<Q")
        if length > len(self._data) - self.position:
            raise RefusedError(f"it ends too early: a frame of {length} bytes is not all there")

    # Stack and memo

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise RefusedError(f"its stack is empty at byte {self.position}")
        start = len(self._stack) - count
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        if not self._outer:
            raise RefusedError(f"a mark is missing at byte {self.position}")
        values = self._stack
        self._stack = self._outer.pop()
        return values

    def _top(self) -> Any:
        if not self._stack:
            raise RefusedError(f"its stack is empty at byte {self.position}")
        return self._stack[-1]

    def _get(self, place: int) -> None:
        if place not in self._memo:
            raise RefusedError(f"memo place {place} is empty at byte {self.position}")
        self._push(self._memo[place])

    def _put(self, place: int) -> None:
        self._memo[place] = self._top()

    # Containers

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise RefusedError(f"it appends to a {kind_of(target)}")
        target.extend(values)

    def _add(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not set:
            raise RefusedError(f"it adds entries to a {kind_of(target)}")
        for value in values:
            target.add(_checked_key(value))

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict or len(values) % 2:
            raise RefusedError(f"it sets {len(values) / 2:g} items of a {kind_of(target)}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_checked_key(key)] = value

    # What would be dangerous in an ordinary unpickler

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError(f"the name of a global is no text at byte {self.position}")
        full = f"{module}.{name}"
        builder = self._table.get(full)
        if builder is None:
            raise RefusedError(
                f"it asks for {_shown(full)}, which is not on the list of known globals"
            )
        self._push(Global(full, builder))

    def _call(self) -> None:
        target, arguments = self._pop(2)
        if not isinstance(target, Global) or type(arguments) is not tuple:
            raise RefusedError(f"it calls a {kind_of(target)} with a {kind_of(arguments)}")
        self._push(target.build(arguments))

    def _build(self) -> None:
        (state,) = self._pop(1)
        target = self._top()
        if type(target) is dict and type(state) is dict and state.keys() == {"_metadata"}:
            return  # versions of modules, which state_dict() hangs on its OrderedDict
        if not isinstance(target, Buildable):
            raise RefusedError(f"it sets the state of a {kind_of(target)} (opcode BUILD)")
        target.set_state(state)

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise RefusedError("it has persistent ids (opcode BINPERSID)")
        (identity,) = self._pop(1)
        self._push(self._persistent(identity))


def kind_of(value: Any) -> str:
    """Return what a value is, for messages: never its content, which may be huge."""
    return f"global {value.name}" if isinstance(value, Global) else type(value).__name__


def _checked_key(key: Any) -> str:
    # Only text is hashed in a way that a file cannot aim at, and in bounded time.
    if not isinstance(key, str):
        raise RefusedError(f"a key is a {kind_of(key)}, only text is allowed")
    if len(key) > _MAX_KEY:  # names are joined to paths, once a value
        raise RefusedError(f"a key has {len(key)} characters, more than {_MAX_KEY}")
    return key


def _opcode_name(code: int) -> str:
    known = pickletools.code2op.get(chr(code))
    return known.name if known else f"0x{code:02x}"


def _shown(name: str) -> str:
    return repr(name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}...")


_BY_NAME: dict[str, Callable[[PickleMachine], None]] = {
    "PROTO": lambda m: m._protocol(),
    "FRAME": lambda m: m._frame(),
    "MARK": lambda m: m._mark(),
    "NONE": lambda m: m._push(None),
    "NEWTRUE": lambda m: m._push(True),
    "NEWFALSE": lambda m: m._push(False),
    "BININT": lambda m: m._push(m.unpack("<i")),
    "BININT1": lambda m: m._push(m.unpack("<B")),
    "BININT2": lambda m: m._push(m.unpack("<H")),
    "LONG1": lambda m: m._push(int.from_bytes(m.read(m.unpack("<B")), "little", signed=True)),
    "BINFLOAT": lambda m: m._push(m.unpack(">d")),
    "SHORT_BINUNICODE": lambda m: m._push(m._text("<B")),
    "BINUNICODE": lambda m: m._push(m._text("<I")),
    "BINUNICODE8": lambda m: m._push(m._text("<Q")),
    "SHORT_BINBYTES": lambda m: m._push(m.read(m.unpack("<B"))),
    "BINBYTES": lambda m: m._push(m.read(m.unpack("<I"))),
    # Text or bytes of Python 2: images are long, the names of number types are short.
    "SHORT_BINSTRING": lambda m: m._push(str(m.read(m.unpack("<B")), "latin-1")),
    "BINSTRING": lambda m: m._push(m.read(m.unpack("<I"))),
    "BINBYTES8": lambda m: m._push(m.read(m.unpack("<Q"))),
    "EMPTY_TUPLE": lambda m: m._push(()),
    "TUPLE1": lambda m: m._push(tuple(m._pop(1))),
    "TUPLE2": lambda m: m._push(tuple(m._pop(2))),
    "TUPLE3": lambda m: m._push(tuple(m._pop(3))),
    "TUPLE": lambda m: m._push(tuple(m._pop_mark())),
    "EMPTY_LIST": lambda m: m._push([]),
    "APPEND": lambda m: m._extend(m._pop(1)),
    "APPENDS": lambda m: m._extend(m._pop_mark()),
    "EMPTY_SET": lambda m: m._push(set()),
    "ADDITEMS": lambda m: m._add(m._pop_mark()),
    "EMPTY_DICT": lambda m: m._push({}),
    "SETITEM": lambda m: m._set_items(m._pop(2)),
    "SETITEMS": lambda m: m._set_items(m._pop_mark()),
    "BINGET": lambda m: m._get(m.unpack("<B")),
    "LONG_BINGET": lambda m: m._get(m.unpack("<I")),
    "BINPUT": lambda m: m._put(m.unpack("<B")),
    "LONG_BINPUT": lambda m: m._put(m.unpack("<I")),
    "MEMOIZE": lambda m: m._put(len(m._memo)),
    "GLOBAL": lambda m: m._global(m._line(), m._line()),
    "STACK_GLOBAL": lambda m: m._global(*m._pop(2)),
    "REDUCE": lambda m: m._call(),
    "NEWOBJ": lambda m: m._call(),
    "BUILD": lambda m: m._build(),
    "BINPERSID": lambda m: m._persistent_id(),
}
_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_OPERATIONS = {_CODES[name]: operation for name, operation in _BY_NAME.items()}
_STOP = _CODES["STOP"]
