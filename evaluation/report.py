"""Reports: sections of tables, charts and pictures, written as HTML, as JSON and as text."""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.estimates import Estimate

Cell = str | int | float | Estimate | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers.

    Attributes:
        caption: what is measured, on what.
        columns: headings; the first is of the rows' names.
        rows: one cell a column; None is shown as a dash.
        note: how to read it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot: the SVG of data.plots.to_svg, and how to read it."""

    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, at most `width` pixels of the page wide.

    `png` are the file's bytes, `alt` says what it shows, `caption` stands below it.
    """

    png: bytes
    width: int
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Small pictures side by side, as many in a row as fit, each with its own caption."""

    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """Preformatted lines, such as a command."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link to another page by its relative path, / between its parts."""

    text: str
    href: str


Block = Table | Chart | Picture | Panels | Text | Link


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A number for the top of the page; `meaning` says which way is good, in a few words."""

    label: str
    value: Cell
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a report.

    Attributes:
        key: in links and in report.json.
        title: heading.
        lead: the question that it answers.
        blocks: tables, charts and pictures.
        data: the same in plain values, for report.json.
        headlines: for the top of the page.
        alarm: what --fail-on reports, "" for nothing.
        skipped: (what was not measured, why).
    """

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = ()
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    headlines: tuple[Headline, ...] = ()
    alarm: str = ""
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole page; the subtitle says what was compared with what."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """All that was not measured, and why."""
        return [entry for section in self.sections for entry in section.skipped]


def format_number(value: float) -> str:
    """Return a number in four significant digits.

    >>> [format_number(v) for v in (0, 0.123456, 1234567, 5e-7, float("inf"))]
    ['0', '0.1235', '1,234,567', '5e-07', 'infinite']
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_cell(cell: Cell) -> str:
    """Return a cell as one line of text, an estimate with its interval and count."""
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return f"{estimate_text(cell)} n = {cell.n:,}"
    return cell if isinstance(cell, str) else format_number(cell)


def estimate_text(estimate: Estimate) -> str:
    """Return value and interval."""
    value = format_number(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{format_number(estimate.low)}, {format_number(estimate.high)}]"


def to_plain(value: Any) -> Any:
    """Return dataclasses and arrays as plain containers; what is not finite becomes None.

    A dataclass field's metadata "json" is its key in files, where that is another than its name.
    """
    if isinstance(value, Estimate):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.metadata.get("json", field.name): to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [to_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def provenance_section(
    command: list[str], environment: Mapping[str, Any], inputs: Mapping[str, str], seed: int
) -> Section:
    """Return the section on how to make the report again.

    Args:
        command: as it was called.
        environment: of dnnlib.runs.describe_environment.
        inputs: what was read -> its SHA-256.
        seed: of resampling.
    """
    packages = environment.get("packages", {})
    rows = [
        ("Python", str(environment.get("python"))),
        ("Platform", str(environment.get("platform"))),
        ("Git commit", str(environment.get("git_commit"))),
        *((name, str(version)) for name, version in packages.items()),
        ("Seed", str(seed)),
    ]
    return Section(
        key="provenance",
        title="How to repeat this",
        lead="The exact command, the versions that ran it and the hashes of what it read.",
        blocks=(
            Text(label="Command", text=shlex.join(command)),
            Table(caption="Versions", columns=("What", "Version"), rows=tuple(rows)),
            Table(
                caption="Inputs (SHA-256; of a data set: of all names and bytes)",
                columns=("Input", "SHA-256"),
                rows=tuple(inputs.items()),
            ),
        ),
        data={"command": command, "environment": environment, "inputs": inputs, "seed": seed},
    )


def encode(text: str) -> bytes:
    """Return UTF-8; what is none (of file names in other encodings) becomes backslashes."""
    return text.encode("utf-8", "backslashreplace")


def report_data(report: Report) -> dict[str, Any]:
    """Return the plain containers of report.json."""
    return {
        "format": "biface-report",
        "version": 1,
        "title": report.title,
        "subtitle": report.subtitle,
        "sections": {section.key: to_plain(section.data) for section in report.sections},
        "left_out": [{"what": what, "why": why} for what, why in report.skipped],
    }


def section_text(section: Section) -> str:
    """Return a section's tables and texts, and what was skipped, for a terminal."""
    parts = []
    for block in section.blocks:
        if isinstance(block, Table):
            parts.append(table_text(block))
        elif isinstance(block, Text):
            parts.append(f"{block.label}: {block.text}")
    parts += [f"Skipped: {what}. {why}" for what, why in section.skipped]
    text = "\n\n".join([section.title, *parts])
    # Names of files could hold commands for the terminal.
    clean = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return encode(clean).decode("utf-8")


def table_text(table: Table) -> str:
    """Return a table as aligned columns."""
    rows = [table.columns, *(tuple(format_cell(cell) for cell in row) for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([table.caption, *lines])
