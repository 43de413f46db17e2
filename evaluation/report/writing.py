"""Reports as files, and their tables for a terminal."""

from pathlib import Path
from typing import Any

from dnnlib import files
from evaluation.report.content import Block, Report, Section, Table, format_cell, to_plain
from evaluation.report.html import render_html

FORMAT = "biface-report"
VERSION = 1


def write_report(report: Report, outdir: Path, name: str = "report") -> tuple[Path, Path]:
    """Write `name`.html and `name`.json, each whole or not at all; return their paths."""
    page, numbers = outdir / f"{name}.html", outdir / f"{name}.json"
    with files.atomic_write(page) as file:
        file.write(encode(render_html(report)))
    files.write_json(numbers, report_data(report))
    return page, numbers


def encode(text: str) -> bytes:
    """Return UTF-8; what is none (of file names in other encodings) becomes backslashes."""
    return text.encode("utf-8", "backslashreplace")


def report_data(report: Report) -> dict[str, Any]:
    """Return the plain containers of report.json."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": report.title,
        "subtitle": report.subtitle,
        "sections": {section.key: to_plain(section.data) for section in report.sections},
        "left_out": [{"what": what, "why": why} for what, why in report.omitted],
    }


def section_text(section: Section) -> str:
    """Return a section's tables, and what was left out of it, for a terminal."""
    parts = [block_text(block) for block in section.blocks]
    parts += [f"Left out: {what}. {why}" for what, why in section.omitted]
    text = "\n\n".join([section.title, *(part for part in parts if part)])
    # Names of files could hold commands for the terminal.
    clean = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return encode(clean).decode("utf-8")


def block_text(block: Block) -> str:
    """Return a table as aligned columns; other blocks as nothing."""
    if not isinstance(block, Table):
        return ""
    rows = [block.columns, *(tuple(format_cell(cell) for cell in row) for row in block.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(block.columns))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([block.caption, *lines])
