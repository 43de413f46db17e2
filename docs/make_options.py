"""Writes docs/options.md from the scripts themselves: python docs/make_options.py."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "options.md"

INTRODUCTION = """# Options of all scripts

Written by `python docs/make_options.py` from the scripts; a test fails where it is out of date.
`_` may stand for `-` and capitals for small letters in a name; options that are true or false are
written `--x`, `--x=1`, `--x=false` or `--no-x`. `--config` takes the same names as keys of a JSON
object; what stands on the command line goes before the file.
"""


def describe_scripts(root: Path) -> str:
    """Return the whole page for the scripts in a folder."""
    parts = [INTRODUCTION]
    for path in sorted(root.glob("*.py")):
        command = importlib.import_module(path.stem).main
        parts += list(_describe(command, path.name))
    return "\n".join(parts)


def _describe(command: click.Command, name: str) -> Iterator[str]:
    yield f"## {name}\n\n{_first_paragraph(command)}\n"
    if isinstance(command, click.Group):
        for key, sub in sorted(command.commands.items()):
            yield from (part.replace("## ", "### ", 1) for part in _describe(sub, f"{name} {key}"))
        return
    yield "| option | default | meaning |\n|---|---|---|"
    for parameter in command.params:
        row = _row(parameter, command)
        if row is not None:
            yield row
    yield ""


def _first_paragraph(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].replace("\b", "").split())


def _row(parameter: click.Parameter, command: click.Command) -> str | None:
    if isinstance(parameter, click.Argument):
        return f"| `{parameter.make_metavar(click.Context(command))}` | | |"
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    names = " ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    meaning = _cell(parameter.help or "")
    if isinstance(parameter.type, click.Choice):
        choices = ", ".join(str(getattr(c, "value", c)) for c in parameter.type.choices)
        meaning = f"{meaning} Values: {_cell(choices)}.".strip()
    return f"| {names} | {_default(parameter)} | {meaning} |"


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.default
    if option.is_flag or value is None or repr(value).startswith("Sentinel") or callable(value):
        return ""
    if isinstance(value, tuple | list):
        value = ", ".join(str(getattr(entry, "value", entry)) for entry in value)
    return _cell(str(getattr(value, "value", value)))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(describe_scripts(ROOT), encoding="utf-8")
