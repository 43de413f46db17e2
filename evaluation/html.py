"""A report as one HTML file: no script, no outside resource, every text escaped.

Our own writer, as no template engine would be shorter and this one cannot forget to escape.
"""

import base64
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from dnnlib import files
from evaluation.report import (
    Block,
    Cell,
    Chart,
    Link,
    Panels,
    Picture,
    Report,
    Section,
    Table,
    Text,
    encode,
    estimate_text,
    format_cell,
    report_data,
)
from metrics.estimates import Estimate

_STYLE = Path(__file__).with_name("page.css")
# Nothing may be loaded or run, even if a text were not escaped.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(report: Report, outdir: Path, name: str) -> tuple[Path, Path]:
    """Write `name`.html and `name`.json, each whole or not at all; return their paths."""
    page, numbers = outdir / f"{name}.html", outdir / f"{name}.json"
    with files.atomic_write(page) as file:
        file.write(encode(render_html(report)))
    files.write_json(numbers, report_data(report))
    return page, numbers


def render_html(report: Report) -> str:
    """Return the whole page."""
    style = _STYLE.read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(report.title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#content">Skip to content</a>',
            f"<header><h1>{escape(report.title)}</h1>",
            f"<p>{escape(report.subtitle)}</p></header>",
            *_navigation(report.sections),
            '<main id="content">',
            *_summary(report),
            *(line for section in report.sections for line in _section(section)),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _navigation(sections: Sequence[Section]) -> Iterator[str]:
    yield '<nav aria-label="Sections"><ul>'
    for section in sections:
        yield f'<li><a href="#{escape(section.key)}">{escape(section.title)}</a></li>'
    yield "</ul></nav>"


def _summary(report: Report) -> Iterator[str]:
    headlines = [entry for section in report.sections for entry in section.headlines]
    if headlines:
        yield '<section aria-labelledby="h-summary"><h2 id="h-summary">At a glance</h2>'
        yield '<dl class="tiles">'
        for entry in headlines:
            value, small = _cell(entry.value)
            yield f"<div><dt>{escape(entry.label)}</dt><dd><strong>{value}</strong>{small}</dd>"
            yield f"<dd>{escape(entry.meaning)}</dd></div>"
        yield "</dl></section>"
    if report.skipped:
        yield '<section aria-labelledby="h-skipped"><h2 id="h-skipped">What was skipped</h2>'
        yield '<dl class="skipped">'
        for what, why in report.skipped:
            yield f"<div><dt>{escape(what)}</dt><dd>{escape(why)}</dd></div>"
        yield "</dl></section>"


def _section(section: Section) -> Iterator[str]:
    key = escape(section.key)
    yield f'<section id="{key}" aria-labelledby="h-{key}">'
    yield f'<h2 id="h-{key}">{escape(section.title)}</h2>'
    yield f'<p class="lead">{escape(section.lead)}</p>'
    for what, why in section.skipped:
        yield f"<p><strong>Skipped: {escape(what)}.</strong> {escape(why)}</p>"
    for is_chart, blocks in itertools.groupby(section.blocks, lambda b: isinstance(b, Chart)):
        lines = [line for block in blocks for line in _block(block)]
        yield from ['<div class="charts">', *lines, "</div>"] if is_chart else lines
    yield "</section>"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Table():
            yield from _table(block)
        case Chart():
            yield f'<figure class="chart">{block.svg}'
            yield f"<figcaption>{escape(block.caption)}</figcaption></figure>"
        case Picture():
            yield _picture(block)
        case Panels():
            yield f'<figure><figcaption>{escape(block.caption)}</figcaption><div class="panels">'
            yield from (_picture(picture) for picture in block.pictures)
            yield "</div></figure>"
        case Text():
            yield f"<h3>{escape(block.label)}</h3>"
            yield f'<pre tabindex="0">{escape(block.text)}</pre>'
        case Link():
            yield f'<p><a href="{escape(quote(block.href))}">{escape(block.text)}</a></p>'


def _table(table: Table) -> Iterator[str]:
    key = hashlib.sha256(repr(table).encode()).hexdigest()[:10]
    yield f'<h3 id="t{key}">{escape(table.caption)}</h3>'
    yield f'<div class="scroll" role="region" tabindex="0" aria-labelledby="t{key}">'
    yield f'<table aria-labelledby="t{key}">'
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for name, *cells in table.rows:
        row = "".join(f"<td>{value}{small}</td>" for value, small in map(_cell, cells))
        yield f'<tr><th scope="row">{escape(format_cell(name))}</th>{row}</tr>'
    yield "</tbody></table></div>"
    if table.note:
        yield f'<p class="note">{escape(table.note)}</p>'


def _cell(cell: Cell) -> tuple[str, str]:
    """Return the value, and the interval and count of an estimate in small print."""
    if not isinstance(cell, Estimate):
        return escape(format_cell(cell)), ""
    value, _, interval = estimate_text(cell).partition(" ")
    rest = f"{interval}, " if interval else ""
    return escape(value), f" <small>{escape(rest)}n = {cell.n:,}</small>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    image = (
        f'<img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}"'
        f' style="width:{picture.width}px">'
    )
    return f"<figure>{image}<figcaption>{escape(picture.caption)}</figcaption></figure>"
