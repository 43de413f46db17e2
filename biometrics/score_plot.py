"""Plots of score distributions, drawn with Pillow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 900, 434
_LEFT, _RIGHT, _TOP, _BOTTOM = 28, 28, 92, 44
_OVERSAMPLING = 3
_INK, _FAINT, _PAPER = (40, 44, 52), (208, 212, 218), (255, 255, 255)
_COLOURS = (
    (214, 93, 78),
    (58, 122, 190),
    (70, 158, 105),
    (146, 100, 176),
    (222, 152, 48),
    (90, 90, 96),
)


@dataclass(frozen=True)
class Curve:
    """A distribution.

    Attributes:
        name: in the legend.
        counts: of equal bins from -1 to 1.
    """

    name: str
    counts: np.ndarray

    @classmethod
    def of_scores(cls, name: str, scores: Sequence[float], bins: int) -> "Curve":
        """Return the distribution of some scores."""
        return cls(name, np.histogram(np.clip(scores, -1, 1), bins=bins, range=(-1, 1))[0])


def draw_curves(title: str, curves: Sequence[Curve], limits: Mapping[str, float]) -> np.ndarray:
    """Draw distributions, each at its own largest height, and limits as vertical lines.

    Args:
        title: above the plot.
        curves: one or more; those without any count are left out.
        limits: name -> score.
    Returns: [3, H, W] uint8.
    """
    curves = [curve for curve in curves if curve.counts.sum() > 0]
    low, high = _span(curves, limits)
    plot = _Plot(low, high)
    plot.axis()
    for number, curve in enumerate(curves):
        plot.curve(curve, _COLOURS[number % len(_COLOURS)])
    for score in limits.values():
        plot.limit(score)
    for number, (name, score) in enumerate(limits.items()):
        plot.limit_name(name, score, number)
    plot.heading(title, [curve.name for curve in curves])
    return plot.pixels()


def _span(curves: Sequence[Curve], limits: Mapping[str, float]) -> tuple[float, float]:
    """Return the part of -1..1 that holds something, in tenths."""
    edges = [*limits.values()]
    for curve in curves:
        filled = np.flatnonzero(curve.counts > 0.001 * curve.counts.max())
        size = 2 / len(curve.counts)
        edges += [filled[0] * size - 1, (filled[-1] + 1) * size - 1]
    low, high = np.floor(min(edges) * 10) / 10, np.ceil(max(edges) * 10) / 10
    return max(float(low), -1.0), max(min(float(high), 1.0), float(low) + 0.2)


def _kernel(count: int) -> np.ndarray:
    """Return a window that smooths few scores more than many."""
    deviation = max(0.8, 3 - np.log10(max(count, 1)))
    return np.exp(-0.5 * (np.arange(-12, 13) / deviation) ** 2)


class _Plot:
    """A canvas with a horizontal axis of scores."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high, self._k = low, high, _OVERSAMPLING
        self._image = Image.new("RGB", (_WIDTH * self._k, _HEIGHT * self._k), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def pixels(self) -> np.ndarray:
        """Return [3, H, W] uint8."""
        small = self._image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
        return np.asarray(small).transpose(2, 0, 1).copy()

    def axis(self) -> None:
        """Draw the line of zero and its marks."""
        bottom = _HEIGHT - _BOTTOM
        count = round((self._high - self._low) * 10)
        for step in range(count + 1):
            score = self._low + step / 10
            x = self._x(score)
            self._line([(x, _TOP), (x, bottom)], _FAINT, 0.6)
            if count <= 12 or step % 2 == 0:
                self._text((x, bottom + 6), f"{score:.1f}", _INK, 13, "mt")
        self._line([(_LEFT, bottom), (_WIDTH - _RIGHT, bottom)], _INK, 1.2)
        self._text((_WIDTH / 2, _HEIGHT - 4), "cosine similarity", _INK, 13, "mb")

    def curve(self, curve: Curve, colour: tuple[int, int, int]) -> None:
        """Draw a distribution as a filled outline."""
        bins = len(curve.counts)
        heights = np.convolve(curve.counts, _kernel(curve.counts.sum()), mode="same")
        heights /= heights.max()
        scores = (np.arange(bins) + 0.5) * (2 / bins) - 1
        shown = (scores >= self._low) & (scores <= self._high)
        bottom, height = _HEIGHT - _BOTTOM, _HEIGHT - _TOP - _BOTTOM - 8
        points = [
            (self._x(score), bottom - value * height)
            for score, value in zip(scores[shown], heights[shown], strict=True)
        ]
        area = [(points[0][0], bottom), *points, (points[-1][0], bottom)]
        layer = Image.new("L", self._image.size)
        ImageDraw.Draw(layer).polygon(self._scaled(area), fill=46)
        self._image.paste(colour, mask=layer)
        self._line(points, colour, 2)

    def limit(self, score: float) -> None:
        """Draw a vertical line."""
        x = self._x(score)
        self._line([(x, _TOP), (x, _HEIGHT - _BOTTOM)], _INK, 1.4)

    def limit_name(self, name: str, score: float, number: int) -> None:
        """Write what a vertical line means beside it."""
        x = self._x(score)
        is_right = x > _WIDTH * 0.75
        place = (x - 5 if is_right else x + 5, _TOP + 2 + 17 * number)
        self._text(place, f"{name} {score:.3f}", _INK, 13, "rt" if is_right else "lt")

    def heading(self, title: str, names: Sequence[str]) -> None:
        """Write the title and, below it, what the colours mean."""
        self._text((_LEFT, 12), title, _INK, 18, "lt")
        x = float(_LEFT)
        y = 42.0
        for number, name in enumerate(names):
            width = 20 + self._draw.textlength(name, font=self._font(14)) / self._k + 22
            if x + width > _WIDTH:
                x, y = float(_LEFT), y + 20
            box = [(x, y + 1), (x + 14, y + 13)]
            self._draw.rectangle(self._scaled(box), fill=_COLOURS[number % len(_COLOURS)])
            self._text((x + 20, y), name, _INK, 14, "lt")
            x += width

    def _x(self, score: float) -> float:
        share = (score - self._low) / (self._high - self._low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _scaled(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self._k, y * self._k) for x, y in points]

    def _line(
        self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: float
    ) -> None:
        width_px = max(1, round(width * self._k))
        self._draw.line(self._scaled(points), fill=colour, width=width_px, joint="curve")

    def _text(
        self,
        place: tuple[float, float],
        text: str,
        colour: tuple[int, int, int],
        size: int,
        at: str,
    ) -> None:
        (point,) = self._scaled([place])
        box = self._draw.textbbox(point, text, font=self._font(size), anchor=at)
        self._draw.rectangle(box, fill=_PAPER)
        self._draw.text(point, text, fill=colour, font=self._font(size), anchor=at)

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(size * self._k)
