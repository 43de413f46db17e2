"""Options as dataclass fields: a field is the only place where an option stands.

A package keeps the options of its jobs in a module that imports no torch, `package/options.py`:

    @dataclass(frozen=True, kw_only=True)
    class FeatureOptions(Options):
        '''Embed the images of a data set.'''                   # the command's help

        data_folder: Path = option(help="Data set.", metavar="DIR", heading="Data")  # required
        modality: Literal["rgb", "nir"] = option("rgb", help="Images to embed.")
        fresh: bool = fresh_option()
        batch: int = option(64, ge=1, metavar="IMAGES", help="Images per batch.", heading="Speed")
        device: Device = device_option()

and a script joins them with the job (dnnlib/command.py):

    main = command(FeatureOptions, lazy("biometrics.extraction:prepare"), examples=EXAMPLES)

`prepare(options)` makes all checks, writes and downloads nothing, and returns a `Job`. Types are
`int`, `float`, `str`, `bool`, `Path`, `Enum`s and `Literal`s, each or None, and `tuple[type, ...]`,
an option that may be repeated; `parse` makes anything else from text. A field declared by `group`
is another dataclass of options, whose fields stand flat beside the others. Options in a package
that are part of several commands, or of none, are declared alike.
"""

import dataclasses
import functools
import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import EnumType
from typing import Any, Literal, TypeVar

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[..., Callable[[int], None]]
Schema = TypeVar("Schema", bound="Options")
KEY = "option"


class Job(ABC):
    """Work whose options were checked."""

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return what --dry-run prints, as plain JSON values."""

    @abstractmethod
    def run(self, progress: Progress) -> str | None:
        """Do the work.

        Args:
            progress: as `cli.progress_bar`: total, done -> function of further items done.
        Returns: what the user is told at the end by the first process; None for nothing.
        """


class JobError(Exception):
    """A job that had good input and did not come to what was asked for; exit code 1."""


class StoppedError(Exception):
    """A job that SIGINT or SIGTERM ended early, and that the same command continues.

    A shell's `&&`, a scheduler and the demo must not go on as if it were done: the exit code is 128
    and the signal's number, as that of a process which the signal ends.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.exit_code = 128 + number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a field says of its option beyond name, type and default.

    Attributes:
        help: sentences that a newcomer understands.
        name: of the option where it is not the field's, such as "modality".
        aliases: further names, published ones; spellings with `_` or capitals need none.
        off: further names that say false.
        heading: of this and the following fields in --help.
        metavar: what the value is or its unit, in capitals.
        ge, gt, le, lt: limits of a number, or of each number of a tuple. All must be finite.
        choices: of text, where neither Enum nor Literal lists them.
        parse: makes the value from text; raises ValueError.
        is_repeated: the option may be given several times; None where the type is a tuple and there
            is no `parse`.
        nargs: values that stand behind the option, of a tuple that is given once.
        is_argument: given by its place, without a name.
        alone: value of an option that is given without one.
        needs: field of the option without which this one has no effect, and is refused.
        shown_default: words for --help where the default is None or long.
    """

    help: str
    name: str = ""
    aliases: Sequence[str] = ()
    off: Sequence[str] = ()
    heading: str = ""
    metavar: str | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: Sequence[str] = ()
    parse: Callable[[str], Any] | None = None
    is_repeated: bool | None = None
    nargs: int = 1
    is_argument: bool = False
    alone: Any = None
    needs: str = ""
    shown_default: str = ""

    def check(self, flag: str, value: Any) -> None:
        """Raise ValueError where a number is outside the range, or is not finite."""
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float) or isinstance(number, bool):
                continue
            if not math.isfinite(number):
                raise ValueError(f"{flag} must be a finite number, got {number}")
            rules = (
                ("at least", self.ge, self.ge is None or number >= self.ge),
                ("more than", self.gt, self.gt is None or number > self.gt),
                ("at most", self.le, self.le is None or number <= self.le),
                ("less than", self.lt, self.lt is None or number < self.lt),
            )
            if not all(is_met for _, _, is_met in rules):
                rule = " and ".join(
                    f"{words} {limit}" for words, limit, _ in rules if limit is not None
                )
                raise ValueError(f"{flag} must be {rule}, got {number}")


def option(default: Any = dataclasses.MISSING, **declared: Any) -> Any:
    """Declare a field that is an option, required without a default; see `Declaration`."""
    return dataclasses.field(default=default, metadata={KEY: Declaration(**declared)})


def group(default_factory: Any = dataclasses.MISSING, *, heading: str = "") -> Any:
    """Declare a field that is another dataclass of options; `heading` is that of its first ones."""
    return dataclasses.field(default_factory=default_factory, metadata={KEY: heading})


def outdir_option(help: str = "Output directory.", **others: Any) -> Any:  # noqa: A002
    """Declare `outdir: Path`, required."""
    return option(help=help, **{"metavar": "DIR", **others})


def seed_option(default: Any = 0, help: str = "Random seed.", **others: Any) -> Any:  # noqa: A002
    """Declare `seed: int`."""
    return option(default, help=help, **others)


def device_option(default: Device = "auto", **others: Any) -> Any:
    """Declare `device: Device`."""
    text = "Device to compute on; auto takes a GPU where there is one."
    return option(default, **{"help": text, **others})


def share_option(
    default: float,
    help: str,  # noqa: A002
    *,
    le: float | None = None,
    **others: Any,
) -> Any:
    """Declare a share of something, a `float` from 0 to below 1, or up to `le`."""
    limits = {"lt": 1} if le is None else {"le": le}
    return option(default, help=help, ge=0, metavar="SHARE", **limits, **others)


def gpu_option() -> Any:
    """Declare `gpu_device_number: int | None`."""
    return option(None, ge=0, help="CUDA device index (alias of the published scripts).")


def fresh_option(
    help: str = "Start another output directory beside one that is there.",  # noqa: A002
) -> Any:
    """Declare `fresh: bool`."""
    return option(False, help=help)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of dataclasses of options; checks limits and choices whoever makes the object.

    A subclass with rules of its own calls `super().__post_init__()` first in its `__post_init__`.
    """

    def __post_init__(self) -> None:
        own = dataclasses.fields(self)
        for entry in walk(type(self)):
            if entry.field in own:  # those of groups have been checked
                entry.check(getattr(self, entry.field.name))


@dataclasses.dataclass(frozen=True)
class Entry:
    """An option of a schema.

    Attributes:
        field: of the dataclass.
        item: type of one value, without None.
        is_tuple: there may be several.
        heading: in --help.
    """

    field: dataclasses.Field[Any]
    item: Any
    is_tuple: bool
    heading: str

    @property
    def declared(self) -> Declaration:
        """What the field says."""
        return self.field.metadata[KEY]

    @property
    def flag(self) -> str:
        """Name of the option."""
        return dashed(self.declared.name or self.field.name)

    @property
    def choices(self) -> Sequence[Any]:
        """The only values that there are; none for a type that has others."""
        if typing.get_origin(self.item) is Literal:
            return typing.get_args(self.item)
        return tuple(self.item) if isinstance(self.item, EnumType) else self.declared.choices

    def check(self, value: Any) -> None:
        """Raise ValueError for a value outside limits or choices."""
        self.declared.check(self.flag, value)
        if self.choices and value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                if one not in self.choices:
                    names = ", ".join(str(getattr(c, "value", c)) for c in self.choices)
                    raise ValueError(f"{self.flag} must be one of {names}, got {one!r}")


def walk(schema: type[Any], heading: str = "General") -> Iterator[Entry]:
    """Yield all options of a dataclass, groups flattened."""
    hints = _hints(schema)
    for field in dataclasses.fields(schema):
        declared, hint = field.metadata.get(KEY), hints[field.name]
        if isinstance(declared, str):
            yield from walk(hint, declared or heading)
        elif declared is not None:
            heading = declared.heading or heading
            if typing.get_origin(hint) in (types.UnionType, typing.Union):
                (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
            is_tuple = typing.get_origin(hint) is tuple
            yield Entry(field, typing.get_args(hint)[0] if is_tuple else hint, is_tuple, heading)


def build(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    """Return the object of flat values by field, those of groups included; enums may be text.

    Raises: ValueError, TypeError for a field that is not known or lacks a value.
    """
    items = {entry.field.name: entry.item for entry in walk(schema)}
    unknown = values.keys() - items.keys()
    if unknown:
        raise TypeError(f"{schema.__name__} has no option {min(unknown)}")
    typed = {
        name: items[name](value)
        if isinstance(value, str) and isinstance(items[name], EnumType)
        else value
        for name, value in values.items()
    }
    return _build(schema, typed)


def _build(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    parts = {}
    for field in dataclasses.fields(schema):
        declared = field.metadata.get(KEY)
        if isinstance(declared, str):
            parts[field.name] = _build(_hints(schema)[field.name], values)
        elif declared is not None and field.name in values:
            parts[field.name] = values[field.name]
    return schema(**parts)


def dashed(name: str) -> str:
    """Return a name as it is written on a command line.

    >>> dashed("data_folder")
    '--data-folder'
    """
    return "--" + name.lstrip("-").replace("_", "-")


@functools.cache
def _hints(schema: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(schema)
