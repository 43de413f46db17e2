"""The page of a pipeline: what a reader finds on it."""

import base64
import io
import re

import numpy as np
from PIL import Image

from evaluation.html import render_html
from evaluation.pipeline_page import PipelineStep, pipeline_report
from tests.helpers.images import write_image, write_pairs


def step(**changes):
    values = {"title": "Draw <pairs>", "command": "python x.py \\\n    --n=1", "time": "3s"}
    return PipelineStep(**{**values, "memory": "0.10 GB", **changes})


def render(folder, *steps):
    return render_html(pipeline_report(steps, "5s", folder))


def pictures(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_commands_costs_and_titles_are_there_and_escaped(tmp_path):
    page = render(tmp_path, step(), step(title="Second", time="2s"))
    assert "1. Draw &lt;pairs&gt;" in page
    assert "python x.py \\\n    --n=1" in page
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td>', page)
    assert rows == [
        ("1. Draw &lt;pairs&gt;", "3s", "0.10 GB"),
        ("2. Second", "2s", "0.10 GB"),
        ("together", "5s", ""),
    ]
    assert pictures(page) == []


def test_a_small_picture_is_enlarged_pixel_by_pixel(tmp_path):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    path = write_image(tmp_path / "grid.png", pixels)
    (found,) = pictures(render(tmp_path, step(made=path)))
    assert np.array_equal(found, pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_a_large_picture_keeps_its_pixels_and_fits_the_page(tmp_path):
    path = write_image(tmp_path / "wide.png", np.zeros((10, 1500), np.uint8))
    page = render(tmp_path, step(made=path))
    assert pictures(page)[0].shape == (10, 1500, 3)
    assert "width:1000px" in page


def test_a_data_set_is_shown_by_modality(tmp_path):
    page = render(tmp_path, step(made=write_pairs(tmp_path / "set")))
    assert len(pictures(page)) == 2
    assert "set: 4 of 4 samples" in page


def test_another_page_is_linked(tmp_path):
    (tmp_path / "my report").mkdir()
    made = tmp_path / "my report/r.html"
    made.write_text("")
    assert '<a href="my%20report/r.html">r.html</a>' in render(tmp_path, step(made=made))
