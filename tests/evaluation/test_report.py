import json
import math

import numpy as np
import pytest

from data.sheets import encode_png
from evaluation.html import render_html, write_report
from evaluation.report import (
    Chart,
    Headline,
    Panels,
    Picture,
    Report,
    Section,
    Table,
    Text,
    format_cell,
    format_number,
    provenance_section,
    section_text,
    to_plain,
)
from metrics.estimates import Estimate
from metrics.identity_sets import Entropy
from tests.test_evaluate_report import Reader

HOSTILE = "<script>alert('x')</script>\" onload=\"y' &amp;"
SHARE = Estimate(value=0.123456, low=0.1, high=0.2, n=12345, clusters=7)
PIXEL = Picture(png=encode_png(np.zeros((3, 2, 2), np.uint8)), width=50, alt=HOSTILE, caption="c")


def hostile_report():
    table = Table(
        caption=HOSTILE,
        columns=("Name", HOSTILE),
        rows=((HOSTILE, SHARE), ("b", HOSTILE)),
        note=HOSTILE,
    )
    section = Section(
        key="one",
        title=HOSTILE,
        lead=HOSTILE,
        blocks=(
            table,
            Text(label=HOSTILE, text=HOSTILE),
            PIXEL,
            Panels(caption=HOSTILE, pictures=(PIXEL,)),
            Chart(svg="<svg></svg>", caption=HOSTILE),
        ),
        data={"share": SHARE},
        headlines=(Headline(label=HOSTILE, value=SHARE, meaning=HOSTILE),),
        skipped=((HOSTILE, HOSTILE),),
    )
    return Report(title=HOSTILE, subtitle=HOSTILE, sections=(section,))


def test_every_text_is_escaped():
    source = render_html(hostile_report())
    page = Reader(source)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert source.count("&lt;script&gt;") >= 17
    assert "".join(page.text).count(HOSTILE) >= 14
    assert page.open == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12, "12"),
        (1234.5678, "1,235"),
        (0.00012346, "0.0001235"),
        (math.nan, "–"),
        (-math.inf, "-infinite"),
        (1e20, "100,000,000,000,000,000,000"),
    ],
)
def test_numbers(value, text):
    assert format_number(value) == text


def test_cells():
    assert format_cell(SHARE) == "0.1235 [0.1, 0.2] n = 12,345"
    assert format_cell(Estimate(value=1.0, n=3)) == "1 n = 3"
    assert format_cell(None) == "–"
    assert format_cell("x") == "x"


def test_plain_values():
    entropy = Entropy(name="a", nats=SHARE, share_of_uniform=math.inf, kinds=2)
    plain = to_plain({"e": entropy, 1: (np.float32(0.5), np.array([[1, 2]]), None, True)})
    assert plain == {
        "e": {"name": "a", "nats": SHARE.to_json(), "share_of_uniform": None, "kinds": 2},
        "1": [0.5, [[1, 2]], None, True],
    }
    assert type(plain["1"][0]) is float


def test_files_are_written_whole(tmp_path):
    page, numbers = write_report(hostile_report(), tmp_path / "new", "name")
    assert page.name == "name.html"
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["sections"] == {"one": {"share": SHARE.to_json()}}
    assert content["left_out"] == [{"what": HOSTILE, "why": HOSTILE}]
    assert sorted(path.name for path in page.parent.iterdir()) == ["name.html", "name.json"]


def test_terminal_text_is_aligned():
    table = Table(caption="T", columns=("A", "B"), rows=(("long name", 1), ("x", SHARE)))
    section = Section(key="k", title="S", lead="", blocks=(table, PIXEL), skipped=(("m", "why"),))
    assert section_text(section).splitlines() == [
        "S",
        "",
        "T",
        "A          B",
        "long name  1",
        "x          0.1235 [0.1, 0.2] n = 12,345",
        "",
        "Skipped: m. why",
    ]


def test_names_in_other_encodings_and_terminal_commands(tmp_path):
    name = "caf\udce9 \x1b[2J"
    section = Section(
        key="k", title=name, lead=name, blocks=(Text(label=name, text=name),), data={"n": name}
    )
    page, numbers = write_report(
        Report(title=name, subtitle="", sections=(section,)), tmp_path, "a"
    )
    assert "caf\\udce9" in page.read_text(encoding="utf-8")
    assert json.loads(numbers.read_text(encoding="utf-8"))["title"] == name
    assert section_text(section) == "caf? ?[2J\n\ncaf? ?[2J: caf? ?[2J"


def test_commands_can_be_pasted():
    section = provenance_section(["evaluate.py", "--data=a b"], {"packages": {"torch": "2"}}, {}, 3)
    assert section.blocks[0].text == "evaluate.py '--data=a b'"
    assert section.data["seed"] == 3
