"""Scatter plots as self-contained SVG texts, readable without colour."""

from collections.abc import Mapping
from html import escape

import numpy as np

SIDE = 520
_MARGIN, _TOP = 28, 78
# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour vision.
_COLOURS = ("#009e73", "#d55e00", "#0072b2", "#cc79a7")
_SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.6L4.4 3.6H-4.4z",
    "M0 -5L5 0L0 5L-5 0z",
)


def scatter(kinds: Mapping[str, np.ndarray], title: str, description: str) -> str:
    """Draw points of several kinds on equal axes without numbers; only distances mean something.

    Args:
        kinds: label -> groups of points, [G, N, 2]; a thin line joins a group's points with their
            middle.
        title: above the plot.
        description: for those who cannot see it.
    Returns: an SVG document.
    """
    everything = np.concatenate([groups.reshape(-1, 2) for groups in kinds.values()])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = (SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-9)
    middle = (low + high) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE + _TOP}" role="img"'
        f' width="{SIDE}" height="{SIDE + _TOP}" font-family="system-ui,sans-serif" font-size="13"'
        ' fill="#222">',
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>",
        f'<rect width="{SIDE}" height="{SIDE + _TOP}" fill="#fff"/>',
        f'<text x="{SIDE / 2}" y="28" text-anchor="middle" font-size="16">{escape(title)}</text>',
    ]
    for number, (label, groups) in enumerate(kinds.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(_marker(number, colour, _MARGIN + 180 * number, 54))
        parts.append(f'<text x="{_MARGIN + 180 * number + 10}" y="58">{escape(label)}</text>')
        for group in groups:
            places = (group - middle) * scale + [SIDE / 2, SIDE / 2 + _TOP]
            centre = places.mean(axis=0)
            parts += [_spoke(colour, centre, place) for place in places]
            parts += [_marker(number, colour, *place) for place in places]
    return "\n".join([*parts, "</svg>\n"])


def _spoke(colour: str, start: np.ndarray, end: np.ndarray) -> str:
    line = f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"
    return f'<path d="{line}" stroke="{colour}" stroke-opacity="0.4"/>'


def _marker(number: int, colour: str, x: float, y: float) -> str:
    return (
        f'<path d="{_SHAPES[number % len(_SHAPES)]}" transform="translate({x:.1f} {y:.1f})"'
        f' fill="{colour}" fill-opacity="0.55" stroke="{colour}"/>'
    )
