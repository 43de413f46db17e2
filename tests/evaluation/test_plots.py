"""Charts: valid, self-contained, accessible SVG whose lines are where the numbers are."""

import math
import re
from xml.etree import ElementTree

import pytest

from evaluation.plot_scales import Scale, fit_scale
from evaluation.plots import Mark, Sample, Series, histogram, line_chart

SVG = "{http://www.w3.org/2000/svg}"
LABELS = {"title": "Title", "x_label": "kimg", "y_label": "loss"}


def parse(svg):
    return ElementTree.fromstring(svg)  # noqa: S314  # our own text


def texts(svg):
    return [node.text for node in parse(svg).iter(f"{SVG}text")]


def lines_of(svg):
    """Points of all paths that are lines of series."""
    paths = [n for n in parse(svg).iter(f"{SVG}path") if n.get("stroke-linejoin")]
    return [
        [[tuple(map(float, p.split())) for p in part.split("L")] for part in d.split("M") if part]
        for d in (node.get("d") for node in paths)
    ]


class TestLines:
    def test_points_are_where_the_numbers_are(self):
        svg = line_chart([Series("a", [0, 1, 2], [0, 5, 10])], **LABELS)
        ((points,),) = lines_of(svg)
        (x0, y0), (x1, y1), (x2, y2) = points
        assert x1 - x0 == pytest.approx(x2 - x1, abs=0.1)
        assert y0 - y1 == pytest.approx(y1 - y2, abs=0.1)
        assert x0 < x2
        assert y0 > y2  # up is larger

    def test_logarithmic_axes(self):
        svg = line_chart(
            [Series("a", [1e-3, 1e-2, 1e-1], [1, 10, 100])], **LABELS, x_log=True, y_log=True
        )
        ((points,),) = lines_of(svg)
        assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.1)
        assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.1)

    def test_lines_are_interrupted_where_there_is_no_number(self):
        series = Series("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 4, 5])
        (pieces,) = lines_of(line_chart([series], **LABELS))
        assert [len(piece) for piece in pieces] == [2, 2]

    def test_what_is_not_above_zero_has_no_place_on_a_logarithm(self):
        series = Series("a", [1, 2, 3], [0, -1, 10])
        (pieces,) = lines_of(line_chart([series], **LABELS, y_log=True))
        assert [len(piece) for piece in pieces] == [1]

    def test_peaks_of_long_lines_stay(self):
        y = [0.0] * 20_000
        y[12_345] = 1.0
        ((points,),) = lines_of(line_chart([Series("a", list(range(20_000)), y)], **LABELS))
        assert len(points) < 1500
        heights = [height for _, height in points]
        assert min(heights) < max(heights) - 100

    def test_bands(self):
        svg = line_chart([Series("a", [0, 1], [1, 2], [0.5, 1.5], [1.5, 2.5])], **LABELS)
        (band,) = [n for n in parse(svg).iter(f"{SVG}path") if n.get("fill-opacity")]
        assert band.get("d").count("L") == 3

    def test_series_differ_without_colour(self):
        series = [Series(f"run {n}", [0, 1], [n, n + 1]) for n in range(6)]
        svg = line_chart(series, **LABELS)
        found = [n for n in parse(svg).iter(f"{SVG}path") if n.get("stroke-linejoin")]
        assert len({node.get("stroke-dasharray") for node in found}) == 6
        shapes = {n.get("d") for n in parse(svg).iter(f"{SVG}path") if n.get("fill") == "#fff"}
        assert len(shapes) == 6

    def test_is_readable_without_sight(self):
        root = parse(line_chart([Series("run", [0, 1, 2], [3, 1, 2])], **LABELS))
        assert root.get("role") == "img"
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text == "Title"
        assert "run: 3 points from 1 to 3, last 2" in description.text

    def test_names_of_a_page_do_not_clash(self):
        one = line_chart([Series("a", [0, 1], [0, 1])], **LABELS)
        two = line_chart([Series("b", [0, 1], [0, 1])], **LABELS)
        assert not set(re.findall('id="([^"]+)"', one)) & set(re.findall('id="([^"]+)"', two))

    def test_texts_are_escaped(self):
        svg = line_chart([Series("<script>&", [0, 1], [0, 1])], **{**LABELS, "title": "a < b"})
        assert "<script>" not in svg
        assert {"<script>&", "a < b", "kimg", "loss"} <= set(texts(svg))

    def test_legends_grow_downwards(self):
        few = parse(line_chart([Series("a", [0, 1], [0, 1])], **LABELS))
        many = parse(line_chart([Series("x" * 60, [0, 1], [0, 1])] * 5, **LABELS))
        assert int(many.get("height")) == int(few.get("height")) + 4 * 22

    def test_marks(self):
        svg = line_chart([Series("a", [0, 1], [0, 1])], **LABELS, marks=[Mark(0.5, "here")])
        assert "here" in texts(svg)

    def test_a_single_point_and_a_constant(self):
        for series in (Series("a", [3], [7]), Series("a", [1, 2], [0, 0])):
            assert lines_of(line_chart([series], **LABELS))

    def test_bad_series(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            line_chart([], **LABELS)
        with pytest.raises(ValueError, match="'a': y must have 2 points as x has, got 1"):
            Series("a", [0, 1], [0])
        with pytest.raises(ValueError, match="needs both low and high"):
            Series("a", [0], [0], [0])


class TestHistograms:
    def test_shares_are_of_each_kind(self):
        samples = [Sample("few", [0.1, 0.1, 0.9]), Sample("many", [0.5] * 1000)]
        svg = histogram(samples, title="Scores", x_label="cosine", bins=10, x_range=(0, 1))
        assert "share of its kind" in texts(svg)
        description = parse(svg).find(f"{SVG}desc").text
        assert "few: 3 values" in description
        assert "many: 1000 values, mean 0.5" in description

    def test_kinds_differ_without_colour(self):
        samples = [Sample("a", [0, 1]), Sample("b", [0, 1]), Sample("c", [0, 1])]
        svg = histogram(samples, title="T", x_label="x")
        turned = {n.get("patternTransform") for n in parse(svg).iter(f"{SVG}pattern")}
        assert len(turned) == 3

    def test_what_lies_outside_counts_in_the_last_bin(self):
        inside = histogram([Sample("a", [0.99])], title="T", x_label="x", x_range=(0, 1))
        outside = histogram([Sample("a", [5.0])], title="T", x_label="x", x_range=(0, 1))

        def outline(svg):
            return next(n.get("d") for n in parse(svg).iter(f"{SVG}path") if n.get("stroke-width"))

        assert outline(inside) == outline(outside)

    def test_nothing_to_draw(self):
        with pytest.raises(ValueError, match="nothing to draw"):
            histogram([Sample("a", [math.nan])], title="T", x_label="x")


class TestScales:
    @pytest.mark.parametrize(
        ("values", "is_log"),
        [([0, 1], False), ([-3, 17], False), ([1e-7, 3e-7], False), ([0.002, 800], True)],
    )
    def test_ticks_lie_on_the_axis(self, values, is_log):
        scale = fit_scale(values, start=0, end=100, is_log=is_log)
        ticks = scale.ticks()
        assert 3 <= len(ticks) <= 9
        assert scale.low <= min(values) <= max(values) <= scale.high
        assert ticks == sorted(set(ticks))
        room = 1e-6 * (scale.high - scale.low)
        assert scale.low - room <= ticks[0] < ticks[-1] <= scale.high + room

    @pytest.mark.parametrize("values", [[1.024, 2.016], [0, 12.3], [-7, 3], [0.31, 0.34]])
    def test_linear_axes_end_at_ticks(self, values):
        scale = fit_scale(values, start=0, end=1)
        ticks = scale.ticks()
        assert (ticks[0], ticks[-1]) == (pytest.approx(scale.low), pytest.approx(scale.high))

    def test_values_outside_lie_at_the_ends(self):
        scale = Scale(low=0, high=1, start=10, end=20)
        assert (scale.place(-5), scale.place(0.5), scale.place(7)) == (10, 15, 20)

    def test_limits_are_kept(self):
        scale = fit_scale([3, 4], start=0, end=1, limits=(0, None))
        assert scale.low == 0
        assert scale.high >= 4
