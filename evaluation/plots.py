"""Charts as self-contained SVG texts: lines with bands, and histograms.

They are readable without colour: series differ by dashes, markers and hatching too; and without
sight: title and description say what is shown.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from evaluation.plot_scales import Scale, fit_scale, format_number

WIDTH, HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 20, 46, 56
_LEGEND_ROW, _LETTER = 22, 7.4
_MAX_POINTS, _MARKERS = 800, 9
# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#111111")
_DASHES = ("", "7 4", "2 3", "10 3 2 3", "12 4", "4 2 1 2")
_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.6L4.4 3.6H-4.4z",
    "M0 -5L5 0L0 5L-5 0z",
    "M-4 -4L4 4M-4 4L4 -4",
    "M0 -5V5M-5 0H5",
    "M0 4.6L4.4 -3.6H-4.4z",
)
_HATCH_DEGREES = (45, 135, 90, 0, 20, 160, 70)


@dataclass(frozen=True, eq=False)
class Series:
    """A line of a chart.

    Attributes:
        label: shown in the legend.
        x, y: points in drawing order; where one is not finite, the line is interrupted.
        low, high: ends of a band around y at the same points; None for no band.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("y", "low", "high"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.x):
                raise ValueError(
                    f"series {self.label!r}: {name} must have {len(self.x)} points as x has,"
                    f" got {len(values)}"
                )
        if (self.low is None) != (self.high is None):
            raise ValueError(f"series {self.label!r}: a band needs both low and high")


@dataclass(frozen=True)
class Mark:
    """A labelled vertical line of a chart, such as a threshold.

    Attributes:
        x: where, in the axis's units.
        label: written beside it.
    """

    x: float
    label: str


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of one kind in a histogram.

    Attributes:
        label: shown in the legend.
        values: any number of them; what is not finite is left out.
    """

    label: str
    values: Sequence[float]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    y_log: bool = False,
    x_range: tuple[float | None, float | None] = (None, None),
    y_range: tuple[float | None, float | None] = (None, None),
    y_zero: bool = False,
    marks: Sequence[Mark] = (),
) -> str:
    """Draw lines over a common axis.

    Args:
        series: at least one.
        title: above the chart.
        x_label, y_label: quantity and unit of the axes.
        x_log, y_log: logarithmic axes; points that are not above 0 are left out there.
        x_range, y_range: ends of the axes; None is fitted to round numbers.
        y_zero: begin a linear y axis at 0.
        marks: vertical lines.
    Returns: an SVG element, also valid as the content of a file.
    Raises: ValueError without series.
    """
    if not series:
        raise ValueError(f"chart {title!r}: there is nothing to draw")
    rows = _legend_rows([one.label for one in series])
    bottom = HEIGHT - _BOTTOM - _LEGEND_ROW
    xs = [value for one in series for value in one.x]
    ys = [
        value for one in series for column in (one.y, one.low, one.high) for value in column or ()
    ]
    x = fit_scale(xs, start=_LEFT, end=WIDTH - _RIGHT, is_log=x_log, limits=x_range)
    y = fit_scale(ys, start=bottom, end=_TOP, is_log=y_log, limits=y_range, has_zero=y_zero)
    lines = [_draw_series(number, one, x, y) for number, one in enumerate(series)]
    body = [
        *_axes(x, y, x_label, y_label),
        *(_draw_mark(mark, x, y) for mark in marks if x.holds(mark.x)),
        *(band for band, _ in lines),
        *(line for _, line in lines),
        *_legend(rows, bottom + _BOTTOM - 6, _line_key),
    ]
    return _document(title, _describe_lines(series, x_label, y_label), body, len(rows))


def histogram(
    samples: Sequence[Sample],
    *,
    title: str,
    x_label: str,
    bins: int = 40,
    x_range: tuple[float | None, float | None] = (None, None),
    marks: Sequence[Mark] = (),
) -> str:
    """Draw the distributions of several kinds of values, each in shares of its own number.

    Args:
        samples: at least one.
        title: above the chart.
        x_label: quantity and unit of the values.
        bins: of equal width.
        x_range: ends of the axis; None is fitted to round numbers, and what lies outside given
            ends counts in the outermost bins.
        marks: vertical lines, such as thresholds.
    Returns: an SVG element.
    Raises: ValueError without finite values.
    """
    kept = [np.asarray(one.values, dtype=np.float64).reshape(-1) for one in samples]
    kept = [values[np.isfinite(values)] for values in kept]
    if not sum(len(values) for values in kept):
        raise ValueError(f"chart {title!r}: there is nothing to draw")
    rows = _legend_rows([one.label for one in samples])
    bottom = HEIGHT - _BOTTOM - _LEGEND_ROW
    ends = [float(end) for values in kept if len(values) for end in (values.min(), values.max())]
    x = fit_scale(ends, start=_LEFT, end=WIDTH - _RIGHT, limits=x_range)
    edges = np.linspace(x.low, x.high, bins + 1)
    shares = [
        np.histogram(values.clip(x.low, x.high), edges)[0] / max(len(values), 1) for values in kept
    ]
    tops = [float(share.max()) for share in shares]
    y = fit_scale([0.0, *tops], start=bottom, end=_TOP, has_zero=True)
    key = _key_of(title, *(repr(share.tolist()) for share in shares))
    steps = [_draw_steps(n, edges, share, x, y, key) for n, share in enumerate(shares)]
    body = [
        _hatchings(len(samples), key),
        *_axes(x, y, x_label, "share of its kind"),
        *steps,
        *(_draw_mark(mark, x, y) for mark in marks if x.holds(mark.x)),
        *_legend(rows, bottom + _BOTTOM - 6, lambda n: _box_key(n, key)),
    ]
    return _document(title, _describe_samples(samples, kept, x_label), body, len(rows))


def _document(title: str, description: str, body: Sequence[str], legend_rows: int) -> str:
    height = HEIGHT + (legend_rows - 1) * _LEGEND_ROW
    key = _key_of(title, description, *body)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            f' width="{WIDTH}" height="{height}" aria-labelledby="t{key} d{key}"'
            ' style="max-width:100%;height:auto" font-family="system-ui,sans-serif"'
            ' font-size="13" fill="#222">',
            f'<title id="t{key}">{escape(title)}</title>',
            f'<desc id="d{key}">{escape(description)}</desc>',
            f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>',
            f'<text x="{WIDTH / 2}" y="26" text-anchor="middle" font-size="16"'
            f' font-weight="600">{escape(title)}</text>',
            *body,
            "</svg>",
        ]
    )


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> Iterator[str]:
    for value in y.ticks():
        at = y.place(value)
        yield _line(x.start, at, x.end, at, "#ddd")
        yield _text(x.start - 8, at + 4, format_number(value), "end")
    for value in x.ticks():
        at = x.place(value)
        yield _line(at, y.start, at, y.start + 5, "#444")
        yield _text(at, y.start + 19, format_number(value), "middle")
    yield _line(x.start, y.start, x.end, y.start, "#444")
    yield _line(x.start, y.start, x.start, y.end, "#444")
    yield _text((x.start + x.end) / 2, y.start + 38, x_label, "middle")
    middle = (y.start + y.end) / 2
    yield (
        f'<text x="18" y="{middle:.1f}" text-anchor="middle"'
        f' transform="rotate(-90 18 {middle:.1f})">{escape(y_label)}</text>'
    )


def _draw_series(number: int, series: Series, x: Scale, y: Scale) -> tuple[str, str]:
    """Return the band and the line with its markers."""
    colour = _COLOURS[number % len(_COLOURS)]
    pieces = [[(x.place(a), y.place(b)) for a, b in piece] for piece in _pieces(series, x, y)]
    points = [point for piece in pieces for point in _thin(piece)]
    path = "".join(_path(_thin(piece)) for piece in pieces)
    line = (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"'
        f'{_dash(number)} stroke-linejoin="round"/>'
    )
    stride = max(1, math.ceil(len(points) / _MARKERS))
    markers = "".join(_marker(number, *point) for point in points[stride // 2 :: stride])
    return _draw_band(series, x, y, colour), line + markers


def _draw_band(series: Series, x: Scale, y: Scale, colour: str) -> str:
    if series.low is None or series.high is None:
        return ""
    rows = [
        (x.place(a), y.place(low), y.place(high))
        for a, low, high in zip(series.x, series.low, series.high, strict=True)
        if x.holds(a) and y.holds(high) and math.isfinite(low)
    ]
    if not rows:
        return ""
    outline = [(a, high) for a, _, high in rows] + [(a, low) for a, low, _ in reversed(rows)]
    return f'<path d="{_path(outline)}z" fill="{colour}" fill-opacity="0.15"/>'


def _pieces(series: Series, x: Scale, y: Scale) -> list[list[tuple[float, float]]]:
    """Return the points, cut where one of them has no place on the axes."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(series.x, series.y, strict=True):
        if x.holds(a) and y.holds(b):
            pieces[-1].append((float(a), float(b)))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the lowest and highest point of each stretch where there are more than can be seen."""
    if len(points) <= _MAX_POINTS:
        return points
    kept = [points[0]]
    for part in np.array_split(np.arange(len(points)), _MAX_POINTS // 2):
        by_height = sorted(part.tolist(), key=lambda index: points[index][1])
        kept += [points[index] for index in sorted({by_height[0], by_height[-1]})]
    return [*kept, points[-1]]


def _draw_steps(
    number: int, edges: np.ndarray, shares: np.ndarray, x: Scale, y: Scale, key: str
) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    points = [(x.place(edges[0]), y.start)]
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        points += [(x.place(low), y.place(share)), (x.place(high), y.place(share))]
    points.append((x.place(edges[-1]), y.start))
    return (
        f'<path d="{_path(points)}" fill="url(#h{key}-{number})" stroke="{colour}"'
        f' stroke-width="1.8"{_dash(number)}/>'
    )


def _hatchings(count: int, key: str) -> str:
    return "<defs>" + "".join(_hatching(number, key) for number in range(count)) + "</defs>"


def _hatching(number: int, key: str) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    degrees = _HATCH_DEGREES[number % len(_HATCH_DEGREES)]
    return (
        f'<pattern id="h{key}-{number}" width="7" height="7" patternUnits="userSpaceOnUse"'
        f' patternTransform="rotate({degrees})"><rect width="7" height="7" fill="{colour}"'
        f' fill-opacity="0.14"/><path d="M0 0V7" stroke="{colour}" stroke-opacity="0.6"/>'
        "</pattern>"
    )


def _draw_mark(mark: Mark, x: Scale, y: Scale) -> str:
    at = x.place(mark.x)
    is_right = at > (x.start + x.end) / 2
    label = _text(at + (-5 if is_right else 5), y.end + 12, mark.label, "end" if is_right else "")
    return _line(at, y.start, at, y.end, "#222", ' stroke-dasharray="5 3"') + label


def _legend_rows(labels: Sequence[str]) -> list[list[tuple[int, float, str]]]:
    """Return rows of (number, x, label) that fit the width."""
    rows: list[list[tuple[int, float, str]]] = [[]]
    at = float(_LEFT)
    for number, label in enumerate(labels):
        width = 46 + _LETTER * len(label) + 14
        if rows[-1] and at + width > WIDTH - _RIGHT:
            rows.append([])
            at = float(_LEFT)
        rows[-1].append((number, at, label))
        at += width
    return rows


def _legend(
    rows: list[list[tuple[int, float, str]]], top: float, key_of: Callable[[int], str]
) -> Iterator[str]:
    for row, entries in enumerate(rows):
        for number, at, label in entries:
            height = top + row * _LEGEND_ROW + 8
            yield f'<g transform="translate({at:.1f} {height:.1f})">{key_of(number)}</g>'
            yield _text(at + 46, height + 4, label, "")


def _line_key(number: int) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    line = _line(0, 0, 38, 0, colour, f' stroke-width="2"{_dash(number)}')
    return line + _marker(number, 19, 0)


def _box_key(number: int, key: str) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    return (
        f'<rect y="-7" width="38" height="14" fill="url(#h{key}-{number})" stroke="{colour}"'
        f' stroke-width="1.8"{_dash(number)}/>'
    )


def _marker(number: int, at_x: float, at_y: float) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    shape = _SHAPES[number % len(_SHAPES)]
    return (
        f'<path d="{shape}" transform="translate({at_x:.1f} {at_y:.1f})" fill="#fff"'
        f' stroke="{colour}" stroke-width="1.8"/>'
    )


def _dash(number: int) -> str:
    dashes = _DASHES[number % len(_DASHES)]
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {places} stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{where}>{escape(text)}</text>'


def _describe_lines(series: Sequence[Series], x_label: str, y_label: str) -> str:
    parts = [f"{y_label} over {x_label}."]
    for one in series:
        finite = [value for value in one.y if math.isfinite(value)]
        if finite:
            low, high, last = (format_number(v) for v in (min(finite), max(finite), finite[-1]))
            parts.append(f"{one.label}: {len(one.x)} points from {low} to {high}, last {last}.")
    return " ".join(parts)


def _describe_samples(samples: Sequence[Sample], kept: Sequence[np.ndarray], label: str) -> str:
    parts = [f"Distribution of {label}."]
    for one, values in zip(samples, kept, strict=True):
        if len(values):
            numbers = (float(v) for v in (values.mean(), values.std()))
            mean, spread = (f"{number:.4g}" for number in numbers)
            parts.append(f"{one.label}: {len(values)} values, mean {mean}, deviation {spread}.")
    return " ".join(parts)


def _key_of(*texts: str) -> str:
    """Return a short name that charts of other content do not share within a page."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:10]
