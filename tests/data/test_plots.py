"""Plots: valid, deterministic, accessible SVG and pixels whose lines are where the numbers are."""

import math
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from data.plots import (
    Line,
    bin_values,
    plot_histograms,
    plot_lines,
    plot_scatter,
    to_pixels,
    to_svg,
)

LABELS = {"title": "Loss & more", "x_label": "kimg", "y_label": "loss"}


def test_an_svg_names_what_it_shows_and_stands_beside_others():
    figure = plot_lines([Line("a <b>", [0, 1, 2], [0, 5, 10], [0, 4, 8], [1, 6, 12])], **LABELS)
    svg = to_svg(figure, "three <points>")
    assert svg == to_svg(figure, "three <points>")
    root = ElementTree.fromstring(svg)  # noqa: S314  # our own text
    texts = ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")]
    assert {"a <b>", "Loss & more", "kimg", "loss"} <= set(texts)
    assert [node.text for node in list(root)[:2]] == ["Loss & more", "three <points>"]
    other = ElementTree.fromstring(to_svg(figure, "another"))  # noqa: S314
    ids = [{node.get("id") for node in tree.iter()} - {None} for tree in (root, other)]
    assert ids[0].isdisjoint(ids[1])


def test_settings_of_matplotlib_are_as_before():
    before = dict(mpl.rcParams)
    to_svg(plot_scatter({"a": np.zeros([1, 2, 2])}, title="t"), "d")
    assert dict(mpl.rcParams) == before


def test_points_without_a_place_interrupt_the_line():
    lines = [Line("a", [1, 2, 3, 4, 5], [1, 2, math.nan, 4, -5])]
    (axes,) = plot_lines(lines, **LABELS, y_log=True).axes
    y = np.ma.filled(axes.lines[0].get_ydata(), np.nan)
    assert np.isnan(y).tolist() == [False, False, True, False, True]
    assert axes.get_yscale() == "log"


def test_long_lines_keep_their_extremes():
    y = np.random.default_rng(0).normal(size=50000)
    (axes,) = plot_lines([Line("a", range(50000), y)], **LABELS).axes
    drawn = axes.lines[0].get_ydata()
    assert len(drawn) < 1000
    assert (drawn.min(), drawn.max()) == (y.min(), y.max())


def test_histograms_show_shares_and_thresholds():
    counts, edges = bin_values({"low": [-0.5] * 50, "high": [0.7, 0.7, math.inf], "none": []}, 10)
    assert edges[[0, -1]].tolist() == [-0.5, 0.7]
    assert [counts["low"][0], counts["high"][-1]] == [50, 2]
    figure = plot_histograms(counts, edges, title="t", x_label="x", thresholds={"limit 0.1": 0.1})
    (axes,) = figure.axes
    assert [patch.get_label() for patch in axes.patches] == ["low", "high"]
    assert [float(patch.get_data().values.sum()) for patch in axes.patches] == [1, 1]
    assert axes.lines[0].get_xdata() == [0.1, 0.1]
    pixels = to_pixels(figure)
    assert (pixels.shape, pixels.dtype) == ((3, 500, 880), np.uint8)
    blue = (np.abs(pixels - np.array([0, 114, 178])[:, None, None]).sum(0) < 60)[60:380].any(0)
    orange = (np.abs(pixels - np.array([213, 94, 0])[:, None, None]).sum(0) < 60)[60:380].any(0)
    assert 0 < blue.nonzero()[0].max() < orange.nonzero()[0].min()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: bin_values({"a": [math.nan]}), "no finite values"),
        (
            lambda: plot_histograms({"a": np.zeros(2)}, np.arange(3), title="t", x_label="x"),
            "no values",
        ),
    ],
)
def test_what_cannot_be_plotted_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
