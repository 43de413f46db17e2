"""Plots by matplotlib: lines with bands, histograms with thresholds, scatter plots.

They are readable without colour, because series differ by dashes, markers and hatching too. No
display, no pyplot and no settings that outlive a call. Importing this takes half a second, so
import it where plots are made.
"""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX, DPI = 880, 500, 100

# Okabe and Ito 2008, "Color universal design": distinct with any kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#111111")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (9, 3)))
_MARKERS = ("o", "s", "^", "D", "x", "+", "v")
_HATCHES = ("//", "\\\\", "||", "--", "..", "xx", "++")
_MARKERS_PER_LINE = 9
_SHOWN_SHARE = 0.001  # of a histogram's largest bin; emptier ends are cut off
_MAX_POINTS = 800  # per line; between them only the extremes of each stretch are kept
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "path.simplify": False,
}


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a plot."""

    label: str  # shown in the legend
    x: Sequence[float]
    y: Sequence[float]  # where it is not finite, the line is interrupted
    low: Sequence[float] | None = None  # ends of a band around y at the same points
    high: Sequence[float] | None = None


@mpl.rc_context(_STYLE)
def plot_lines(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    y_log: bool = False,
    x_range: tuple[float | None, float | None] = (None, None),
    y_range: tuple[float | None, float | None] = (None, None),
    thresholds: Mapping[str, float] | None = None,
) -> Figure:
    """Plot lines over a common axis.

    Args:
        lines: at least one.
        title: above the plot.
        x_label, y_label: quantity and unit of the axes.
        x_log, y_log: logarithmic axes, which skip points that are not above 0.
        x_range, y_range: ends of the axes; None is fitted.
        thresholds: label -> x of a vertical line.
    """
    axes = _new_axes(title, x_label, y_label)
    for number, line in enumerate(lines):
        kept = _thinned(np.asarray(line.y, dtype=np.float64))
        x, y = np.asarray(line.x, dtype=np.float64)[kept], np.asarray(line.y, np.float64)[kept]
        is_shown = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not x_log))
        colour = _COLOURS[number % len(_COLOURS)]
        y = np.where(is_shown & ((y > 0) | (not y_log)), y, np.nan)
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=_DASHES[number % len(_DASHES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markerfacecolor="white",
            markevery=max(1, len(x) // _MARKERS_PER_LINE),
            label=line.label,
        )
        if line.low is not None and line.high is not None:
            low, high = (np.asarray(v, np.float64)[kept] for v in (line.low, line.high))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if x_log:
        axes.set_xscale("log")
    if y_log:
        axes.set_yscale("log")
    axes.set_xlim(*x_range)
    axes.set_ylim(*y_range)
    return _finish(axes, len(lines), thresholds)


@mpl.rc_context(_STYLE)
def plot_histograms(
    counts: Mapping[str, np.ndarray],
    edges: np.ndarray,
    *,
    title: str,
    x_label: str,
    thresholds: Mapping[str, float] | None = None,
) -> Figure:
    """Plot distributions, each in shares of its own number.

    Args:
        counts: label -> [bins] values >= 0; distributions without any value are skipped.
        edges: [bins + 1] ends of the bins; empty bins at both ends are cut off.
        title: above the plot.
        x_label: quantity and unit of the values.
        thresholds: label -> x of a vertical line.
    Raises: ValueError where no distribution has a value.
    """
    kept = {label: row / row.sum() for label, row in counts.items() if row.sum() > 0}
    if not kept:
        raise ValueError(f"plot {title!r}: there are no values")
    axes = _new_axes(title, x_label, "share of its kind")
    filled = np.any([row > _SHOWN_SHARE * row.max() for row in kept.values()], axis=0).nonzero()[0]
    first, last = int(filled[0]), int(filled[-1]) + 1
    for number, (label, row) in enumerate(kept.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.stairs(
            row[first:last],
            edges[first : last + 1],
            fill=True,
            facecolor=(colour, 0.14),
            edgecolor=colour,
            linewidth=1.4,
            linestyle=_DASHES[number % len(_DASHES)],
            hatch=_HATCHES[number % len(_HATCHES)],
            label=label,
        )
    axes.set_ylim(0, None)
    return _finish(axes, len(kept), thresholds)


@mpl.rc_context(_STYLE)
def plot_scatter(kinds: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Plot points of several kinds on equal axes without numbers; only distances have a meaning.

    Args:
        kinds: label -> groups of points, [G, N, 2]; thin lines join a group's points with their
            mean.
        title: above the plot.
    """
    axes = _new_axes(title, "", "")
    for number, (label, groups) in enumerate(kinds.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        means = np.broadcast_to(groups.mean(axis=1, keepdims=True), groups.shape)
        spokes = np.stack([means, groups], axis=2).reshape(-1, 2, 2)
        axes.add_collection(LineCollection(spokes, colors=colour, alpha=0.4, linewidths=0.7))
        marker = _MARKERS[number % 4]
        axes.scatter(*groups.reshape(-1, 2).T, color=colour, alpha=0.6, marker=marker, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    return _finish(axes, len(kinds))


def bin_values(
    values: Mapping[str, Sequence[float] | np.ndarray], bins: int = 40
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return counts and common edges for `plot_histograms`; values that are not finite are skipped.

    Raises: ValueError where no value is finite.
    """
    arrays = {label: np.asarray(row, np.float64) for label, row in values.items()}
    arrays = {label: row[np.isfinite(row)] for label, row in arrays.items()}
    everything = np.concatenate([*arrays.values(), []])
    if not everything.size:
        raise ValueError("there are no finite values")
    edges = np.histogram_bin_edges(everything, bins)
    return {label: np.histogram(row, edges)[0] for label, row in arrays.items()}, edges


@mpl.rc_context()
def to_svg(figure: Figure, description: str) -> str:
    """Return an SVG element that may stand in a page among others; the same figure, the same text.

    Args:
        description: for those who cannot see the plot.
    """
    title = figure.get_suptitle()
    key = hashlib.sha256(f"{title}\n{description}".encode()).hexdigest()[:8]
    mpl.rcParams.update({**_STYLE, "svg.hashsalt": key})
    file = io.StringIO()
    hidden = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=hidden)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    opening, rest = svg.split(">", 1)
    names = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>"
    return f'{opening} role="img" style="max-width:100%;height:auto">\n {names}{rest}'


@mpl.rc_context(_STYLE)
def to_pixels(figure: Figure) -> np.ndarray:
    """Return [3, H, W] uint8 0..255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1).copy()


def _new_axes(title: str, x_label: str, y_label: str) -> Axes:
    figure = Figure((WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, color="#ddd", linewidth=0.7)
    return axes


def _finish(axes: Axes, count: int, thresholds: Mapping[str, float] | None = None) -> Figure:
    """Add the legend of `count` entries, and label -> x of vertical lines."""
    for number, (label, x) in enumerate((thresholds or {}).items()):
        axes.axvline(x, color="#222", linestyle=(0, (4, 2)), linewidth=1.2)
        axes.annotate(
            label,
            (x, 1 - 0.045 * (number % 5)),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )
    axes.figure.legend(loc="outside lower left", ncols=min(count, 4))
    return axes.figure


def _thinned(y: np.ndarray) -> np.ndarray:
    """Return ascending indices: the lowest and highest point of each stretch of a long line."""
    if len(y) <= _MAX_POINTS:
        return np.arange(len(y))
    parts = np.array_split(np.arange(len(y)), _MAX_POINTS // 2)
    finite = np.where(np.isfinite(y), y, 0.0)
    chosen = [(part[finite[part].argmin()], part[finite[part].argmax()]) for part in parts]
    return np.unique([0, *np.ravel(chosen), len(y) - 1])
