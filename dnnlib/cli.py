"""What all command lines share: --config, one-line errors with exit code 2, common option kinds."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dnnlib import files
from dnnlib.config import suggest
from dnnlib.options import JobError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# Of OSError, those that another option cures; a full disk is none of them.
WRONG_PLACES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@contextlib.contextmanager
def friendly_errors() -> Iterator[None]:
    """Turn errors that packages raise into one line: exit code 2 for bad input.

    A computation that fails on good input (numbers that are not finite, a full GPU) ends with exit
    code 1.
    """
    try:
        yield
    except (FloatingPointError, JobError) as error:
        raise click.ClickException(str(error)) from error
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this package does not know
            raise
        reason = str(error).split(". ")[0]
        raise click.ClickException(
            f"the GPU's memory is full, choose smaller batches, networks or images: {reason}"
        ) from error
    except (ValueError, *WRONG_PLACES) as error:
        raise click.UsageError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """Return the sentence of an error; the system's own are put as ours are, the file first."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror.lower()}"
    text = str(error)
    if text.startswith(f"Caught {type(error).__name__} in DataLoader worker process"):
        # PyTorch puts the worker's whole traceback there; its last line is what the worker said.
        text = text.rpartition(f"\n{type(error).__name__}: ")[2]
    return " ".join(text.split())


def check_companions(companions: Mapping[str, Sequence[str]]) -> None:
    """Refuse options of the running command that were given without the one they belong to.

    What --config gives is given, too; a default is not.

    Args:
        companions: name of a parameter -> those that only say more about it.
    Raises: ValueError.
    """
    context = click.get_current_context()
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for main, others in companions.items():
        if _is_given(context, main):
            continue
        for other in others:
            if _is_given(context, other):
                raise ValueError(f"{flags[other]} goes with {flags[main]}, which is not given")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def config_option() -> Decorator:
    """Add --config FILE.json, whose keys are the option names; the command line goes before it."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE.json",
        is_eager=True,
        expose_value=False,
        callback=_load_config,
        help="JSON object with option names as keys; options on the command line go before it.",
    )


def bool_option(*names: str, help: str, default: bool | None = None, **kwargs: Any) -> Decorator:  # noqa: A002
    """Add an option that is written `--x`, `--x=1` or `--x=false`, as the published scripts do."""
    return click.option(
        *names,
        type=click.BOOL,
        is_flag=False,
        flag_value="true",
        default=default,
        metavar="BOOL",
        help=help,
        **kwargs,
    )


def _load_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    with friendly_errors():
        content = files.read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"--config {path}: expected an object of options")
        context.default_map = {
            **(context.default_map or {}),
            **_by_parameter(context, path, content),
        }


def _by_parameter(context: click.Context, path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Match the spellings of a file's keys (any option name, - or _) with parameter names."""
    spellings: dict[str, click.Parameter] = {}
    for parameter in context.command.params:
        if parameter.name == "config":
            continue
        for name in (parameter.name or "", *parameter.opts):
            spellings[name.lstrip("-").replace("-", "_")] = parameter
    values = {}
    for key, value in content.items():
        found = spellings.get(key.lstrip("-").replace("-", "_"))
        if found is None or found.name is None:
            raise ValueError(f"--config {path}: unknown key {key!r}{suggest(key, spellings)}")
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


class GroupedCommand(click.Command):
    """A command whose --help lists options under the headings that `option_group` gave them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options a heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", "General"), []).append(record)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def option_group(heading: str, *options: Decorator) -> Decorator:
    """Add options in the given order and list them under one heading."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
            command.__click_params__[-1].heading = heading  # type: ignore[attr-defined]
        return command

    return decorate


def start_logging(log_file: Path | None = None) -> None:
    """Show log messages on standard error, and from here on also append them to a file."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not root.handlers:
        console = logging.StreamHandler()
        console.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(console)
    if log_file is not None:
        handler = logging.FileHandler(log_file, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        root.addHandler(handler)


def progress_bar(done: int, total: int, unit: str = "img") -> Callable[[int], None]:
    """Return a function that counts further items on a bar, which shows only on a terminal."""
    from tqdm import tqdm  # noqa: PLC0415  # not needed for --help

    bar = tqdm(total=total, initial=done, unit=unit, unit_scale=True, disable=None, leave=False)

    def advance(count: int) -> None:
        bar.update(count)

    return advance
