"""Commands from dataclasses of options (dnnlib/options.py): parsing, --config, --dry-run, --help.

`_` stands for `-` and capitals for small letters in the name of every option; booleans are written
`--x`, `--x=1`, `--x=false` or `--no-x`. What --config gives, the command line may change. Bad input
ends with exit code 2 and one line.
"""

import dataclasses
import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dnnlib import cli, files
from dnnlib.config import suggest
from dnnlib.options import Entry, Job, Options, Schema, build, dashed, walk


def lazy(target: str) -> Callable[..., Any]:
    """Return a function that imports `package.module:function` when it is called.

    Scripts name their job by it, so that --help does not wait for torch. Other processes can be
    given it.
    """
    return functools.partial(_import_and_call, target)


def _import_and_call(target: str, /, *args: Any, **kwargs: Any) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*args, **kwargs)


def command(
    schema: type[Schema],
    prepare: Callable[[Schema], Job],
    *,
    examples: str = "",
    epilog: str = "",
    ignored: Sequence[str] = (),
) -> click.Command:
    """Build the command of a dataclass of options.

    Args:
        schema: its docstring is the help.
        prepare: makes the job; ValueError is told the user with exit code 2.
        examples: command lines, shown as they are.
        epilog: paragraphs below.
        ignored: names of published options that are accepted and do nothing.
    """

    def run(*, dry_run: bool, **values: Any) -> None:
        if cli.is_first_process():
            cli.start_logging()
        with cli.friendly_errors():
            _check_companions(schema)
            job = prepare(build(schema, values))
            if dry_run:
                message = json.dumps(job.describe(), indent=2, default=str)
            else:
                message = job.run(cli.progress_bar)
        if message is not None and cli.is_first_process():
            click.echo(message)

    entries = list(walk(schema))
    hidden = [
        click.Option([name], hidden=True, expose_value=False, help="Ignored; published option.")
        for name in ignored
    ]
    paragraphs = [f"Examples:\n{examples.strip(chr(10))}"] if examples else []
    paragraphs += epilog.strip().split("\n\n") if epilog else []
    return OptionsCommand(
        None,
        callback=run,
        params=[*map(_parameter, entries), *hidden, *_common()],
        help=schema.__doc__,
        epilog="\n\n".join(f"\b\n{paragraph}" for paragraph in paragraphs),
        context_settings=cli.CONTEXT,
        headings={entry.field.name: entry.heading for entry in entries},
        switched_off={name: f"{e.flag}=false" for e in entries for name in _off_names(e)},
    )


def command_group(
    commands: Mapping[str, click.Command],
    *,
    help: str,
    examples: str = "",  # noqa: A002
) -> click.Group:
    """Return a command of several, each with options of its own."""
    epilog = f"\b\nExamples:\n{examples.strip(chr(10))}" if examples else None
    return click.Group(
        commands=dict(commands), help=help, epilog=epilog, context_settings=cli.CONTEXT
    )


# From fields to click's parameters


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


class _Choice(click.Choice):
    """One of the members of an enum, by value, or of a literal type."""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = {_text(member): member for member in members}
        super().__init__(list(self.members))

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the member."""
        return self.members[super().convert(_text(value), param, ctx)]


class _Parsed(click.ParamType):
    """Text that a function turns into the value."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value, or fail with the function's reason."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


def _shown(default: Any) -> Any:
    """Return a default as click shows it."""
    if isinstance(default, tuple):
        return tuple(_shown(entry) for entry in default)
    return default.value if isinstance(default, Enum) else default


def _parameter(entry: Entry) -> click.Parameter:
    declared, name = entry.declared, entry.field.name
    is_required = entry.field.default is dataclasses.MISSING
    is_repeated = declared.is_repeated
    if is_repeated is None:
        is_repeated = entry.is_tuple and declared.parse is None and declared.nargs == 1
    if declared.is_argument:
        return click.Argument(
            [name],
            type=_click_type(entry),
            required=is_required,
            nargs=-1 if is_repeated else 1,
            metavar=declared.metavar,
        )
    attributes: dict[str, Any] = {}
    alone = True if entry.item is bool else declared.alone
    if alone is not None:
        attributes |= {"is_flag": False, "flag_value": _text(alone)}
    if not is_required:
        attributes["default"] = _shown(entry.field.default)
    metavar = {bool: "[BOOL]", int: "INT", float: "FLOAT"}.get(entry.item)
    if entry.choices or declared.parse:
        metavar = None
    return click.Option(
        [entry.flag, *map(dashed, declared.aliases), name],
        type=_click_type(entry),
        multiple=is_repeated,
        nargs=declared.nargs,
        required=is_required,
        metavar=declared.metavar or metavar,
        help=declared.help,
        show_default=declared.shown_default or None,
        **attributes,
    )


def _off_names(entry: Entry) -> list[str]:
    """Return the names that say false."""
    if entry.item is not bool:
        return []
    return [entry.flag.replace("--", "--no-", 1), *map(dashed, entry.declared.off)]


def _click_type(entry: Entry) -> click.ParamType:
    declared, item = entry.declared, entry.item
    if declared.parse is not None:
        return _Parsed(declared.parse)
    if entry.choices:
        return _Choice(entry.choices)
    if item in (int, float):
        limits: dict[str, Any] = {
            "min": declared.ge if declared.gt is None else declared.gt,
            "max": declared.le if declared.lt is None else declared.lt,
            "min_open": declared.gt is not None,
            "max_open": declared.lt is not None,
        }
        if limits["min"] is None and limits["max"] is None:
            return click.INT if item is int else click.FLOAT
        return click.IntRange(**limits) if item is int else click.FloatRange(**limits)
    plain = {bool: click.BOOL, str: click.STRING, Path: click.Path(path_type=Path)}
    if item not in plain:
        raise TypeError(f"an option of type {item} needs parse")
    return plain[item]


# The command


class OptionsCommand(click.Command):
    """A command whose --help lists options under headings, and that knows names that say false."""

    def __init__(
        self, *args: Any, headings: Mapping[str, str], switched_off: Mapping[str, str], **rest: Any
    ) -> None:
        super().__init__(*args, **rest)
        self.headings = headings
        self.switched_off = switched_off

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write names that say false in full, then parse."""
        written = [self.switched_off.get(cli.normalize(arg), arg) for arg in args]
        return super().parse_args(ctx, written)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options a heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                heading = self.headings.get(parameter.name or "", "General")
                sections.setdefault(heading, []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def _common() -> list[click.Parameter]:
    """Return --config and --dry-run."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE.json",
            is_eager=True,
            expose_value=False,
            callback=_load_config,
            help="JSON object with option names as keys; the command line goes before it.",
        ),
        click.Option(
            ["-n", "--dry-run"],
            is_flag=True,
            help="Check everything, print the resolved options as JSON, write nothing.",
        ),
    ]


def _check_companions(schema: type[Options]) -> None:
    """Refuse options that were given without the one that they belong to."""
    context = click.get_current_context()
    entries = {entry.field.name: entry for entry in walk(schema)}
    for name, entry in entries.items():
        needed = entry.declared.needs
        if needed and _is_given(context, name) and not _is_given(context, needed):
            raise ValueError(f"{entry.flag} goes with {entries[needed].flag}, which is not given")


def _is_given(context: click.Context, name: str) -> bool:
    is_default = context.get_parameter_source(name) is ParameterSource.DEFAULT
    value = context.params[name]
    return not is_default and value is not None and value is not False and value != ()


def _load_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    with cli.friendly_errors():
        content = files.read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"--config {path}: expected an object of options")
        context.default_map = _by_parameter(context, path, content)


def _by_parameter(context: click.Context, path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Match the spellings of a file's keys (any option name, - or _) with parameter names."""
    spellings: dict[str, click.Parameter] = {}
    for parameter in context.command.params:
        if parameter.name == "config":
            continue
        for name in (parameter.name or "", *parameter.opts):
            spellings[dashed(name).lower()] = parameter
    values = {}
    for key, value in content.items():
        found = spellings.get(dashed(key).lower())
        if found is None or found.name is None:
            known = [name.removeprefix("--") for name in spellings]
            raise ValueError(f"--config {path}: unknown key {key!r}{suggest(key, known)}")
        if value is not None:  # null leaves the default
            values[found.name] = _as_typed_in(found, value, f"--config {path}: {key}")
    return values


def _as_typed_in(parameter: click.Parameter, value: Any, where: str) -> Any:
    """Return a JSON value as text of the command line, so that an option judges both alike."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    takes_many = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    if isinstance(value, list) and takes_many:
        return [_as_typed_in(parameter, entry, where) for entry in value]
    raise ValueError(f"{where} must be text, a number, true or false, got {json.dumps(value)}")
