"""Frozen dataclasses to and from JSON. An unknown key is an error that names the nearest field."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from reprlib import repr as shorten
from typing import Any, TypeVar

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain containers; nested ones become dicts, enums their value."""
    names = [field.name for field in dataclasses.fields(config)]
    return {name: _plain(getattr(config, name)) for name in names}


def from_dict(cls: type[Config], content: Mapping[str, Any], where: str = "config") -> Config:
    """Build a dataclass from plain containers.

    Args:
        cls: the dataclass; nested dataclasses, enums, tuples, dicts and unions are followed.
        content: one entry a field; fields with a default may be absent.
        where: named in messages, such as a file's name.
    Raises: ValueError for an unknown or missing key or a value of the wrong kind.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: expected an object of options, got {type(content).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in content:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {shorten(key)}{suggest(str(key)[:80], fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in content and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    values = {key: _typed(hints[key], value, f"{where}: {key}") for key, value in content.items()}
    try:
        return cls(**values)
    except ValueError as error:  # of a rule of the dataclass, which knows no file
        text = str(error)
        raise ValueError(text if text.startswith(where) else f"{where}: {text}") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' for the nearest known name, or '' where none is near.

    >>> suggest("batchs", ["batch", "seed"])
    "; did you mean 'batch'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _typed_union(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, got {shorten(value)}")
        item = arguments[0] if arguments else Any
        return tuple(_typed(item, entry, where) for entry in value)
    if origin is dict or hint is dict:
        return _typed_mapping(arguments, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            names = ", ".join(str(member.value) for member in hint)
            raise ValueError(f"{where} must be one of {names}, got {shorten(value)}") from error
    return _typed_scalar(hint, value, where)


def _typed_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be an object, got {shorten(value)}")
    key_hint, entry_hint = arguments or (Any, Any)
    return {
        _typed(key_hint, key, f"{where}: key"): _typed(entry_hint, entry, f"{where}: {key}")
        for key, entry in value.items()
    }


def _typed_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    options = [argument for argument in arguments if argument is not type(None)]
    for option in options[:-1]:
        try:
            return _typed(option, value, where)
        except ValueError:
            continue
    return _typed(options[-1], value, where)


def _typed_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{where} must be float, got {shorten(value)}") from error
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} must be {hint.__name__}, got {shorten(value)}")
    return value
