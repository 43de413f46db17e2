"""evaluate.py report: the page of a whole evaluation, in numbers and in a browser."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from evaluate import main
from tests.evaluation.test_reconstruction import write_projections
from tests.helpers.browser import open_browser
from tests.helpers.images import truncate, write_image, write_json
from tests.helpers.people import SIDE, save_recogniser

HOSTILE = '"><img src=x onerror=alert(1)>&lt;<script>alert(2)<'
SECTIONS = ["samples", "quality", "masks", "verification", "dataset", "privacy", "reconstruction",
            "provenance"]  # fmt: skip


def write_faces(root, people, images, seed, name="{}"):
    """Pairs with masks; images of a person are alike, NIR is the mirror of red."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        face = rng.integers(0, 256, (4, 4, 3))
        for sample in range(images):
            noisy = (face + rng.integers(-30, 30, face.shape)).clip(0, 255).astype(np.uint8)
            rgb = np.asarray(Image.fromarray(noisy).resize((SIDE, SIDE), Image.BILINEAR))
            stem = name.format(f"{person}_{sample}")
            write_image(root / "VIS" / f"{stem}.png", rgb)
            write_image(root / "NIR" / f"{stem}.png", 255 - rgb[..., 0])
            write_image(root / "masks" / f"{stem}.png", (rgb[..., 1] > 127).astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    attributes = {f"t{p}_{i}": {"hat": p % 2 == 0} for p in range(6) for i in range(4)}
    data = write_faces(root / "data", 6, 4, seed=0, name="t{}")
    write_json(data / "attributes.json", attributes)
    return {
        "data": data,
        "heldout": write_faces(root / "heldout", 5, 4, seed=1, name="h{}"),
        "samples": write_faces(root / f"{HOSTILE}", 4, 5, seed=2, name=f"{HOSTILE}{{}}"),
        "model": save_recogniser(root / "a.pth", seed=0),
        "audit": save_recogniser(root / "b.pth", seed=1),
        "projected": [
            write_projections(root / name, [1.0, 2.0, 4.0], first=first)
            for name, first in (("seen", 0), ("unseen", 10))
        ],
    }


def run(places, outdir, *more):
    arguments = ["report", f"--data={places['data']}", f"--samples={places['samples']}"]
    arguments += [f"--outdir={outdir}", "--device=cpu", *map(str, more)]
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def full(places, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("full")
    result = run(
        places,
        outdir,
        f"--heldout={places['heldout']}",
        f"--rec-model={places['model']}",
        f"--audit-model={places['audit']}",
        "--extractor=standin",
        "--metrics=fid20_full,kid20_full_NIR",
        "--masks",
        places["samples"],
        places["samples"],
        "--projected",
        *places["projected"],
    )
    assert result.exit_code == 0, result.output
    return outdir


@pytest.fixture(scope="module")
def scarce(places, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("scarce")
    result = run(places, outdir)
    assert result.exit_code == 0, result.output
    return outdir


class Reader(HTMLParser):
    """Collects tags, their attributes and the text of a page."""

    VOID = ("meta", "link", "img", "br", "rect", "path", "line")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)


def page_of(outdir):
    return Reader((outdir / "report.html").read_text(encoding="utf-8"))


def test_everything_is_in_the_page(full):
    page = page_of(full)
    ids = [
        attributes["id"] for tag, attributes in page.tags if tag == "section" and "id" in attributes
    ]
    assert ids == SECTIONS
    text = " ".join(page.text)
    for expected in ("Mean IoU", "EER", "FMR1000", "Uniqueness U", "Diversity D", "C_T", "AuthPct"):
        assert expected in text
    assert "FD(random-conv-seed0)" in text
    assert "a.pth" in text
    assert "b.pth" in text
    assert not page.open


def test_numbers_carry_counts_and_intervals(places, full):
    content = json.loads((full / "report.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("biface-report", 1)
    assert list(content["sections"]) == SECTIONS
    eer = content["sections"]["verification"]["comparisons"]["Samples, RGB"]["eer"]
    assert eer["low"] <= eer["value"] <= eer["high"]
    assert (eer["n"], eer["people"]) == (190, 4)
    inputs = content["sections"]["provenance"]["inputs"]
    assert all(re.match(r"[0-9a-f]{64}", digest) for digest in inputs.values())
    projected = {str(path) for path in places["projected"]}
    assert set(inputs) >= {"recogniser a.pth", "recogniser b.pth", *projected}
    assert content["sections"]["reconstruction"]["attack_auc"]["rgb"]["value"] == 0.5
    privacy = content["sections"]["privacy"]["recognisers"]
    assert set(privacy) == {f"{n}.pth, {m}" for n in "ab" for m in ("RGB", "NIR")}
    assert privacy["a.pth, RGB"]["statistics"]["mean"]["excess"]["n"] == 40
    assert content["sections"]["masks"]["score"]["mean_iou"]["value"] == 1


def shares_of(value, path=""):
    """Yield (path, estimate) of all estimates in a report."""
    if isinstance(value, dict):
        if {"value", "low", "high", "n"} <= set(value):
            yield path, value
        for key, entry in value.items():
            yield from shares_of(entry, f"{path}/{key}")
    elif isinstance(value, list):
        for key, entry in enumerate(value):
            yield from shares_of(entry, f"{path}/{key}")


def test_intervals_hold_their_values(full):
    content = json.loads((full / "report.json").read_text(encoding="utf-8"))
    sections = {k: v for k, v in content["sections"].items() if k != "quality"}
    found = dict(shares_of(sections))
    assert len(found) > 80
    for path, estimate in found.items():
        assert estimate["n"] > 0, path
        if estimate["low"] is not None:
            assert estimate["low"] <= estimate["high"], path


def test_what_was_left_out_is_said(scarce):
    content = json.loads((scarce / "report.json").read_text(encoding="utf-8"))
    reasons = {entry["what"]: entry["why"] for entry in content["left_out"]}
    assert reasons["Image quality"].startswith("no --extractor was given")
    assert reasons["Verification"] == reasons["Privacy"] == "no --rec-model was given"
    assert reasons["Masks"] == "no --masks TRUE FOUND were given"
    assert reasons["Reconstruction"] == "no --projected TRAINING HELDOUT were given"
    text = " ".join(page_of(scarce).text)
    for what, why in reasons.items():
        assert what in text
        assert why in text
    assert content["sections"]["dataset"]["sets"]["Samples"]["alignment"]["residual_px"]["n"] == 20


def test_file_names_stay_text(full):
    source = (full / "report.html").read_text(encoding="utf-8")
    page = Reader(source)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert any(HOSTILE in alt for alt in alts)
    assert HOSTILE not in source


def test_nothing_comes_from_outside(full):
    page = page_of(full)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), value
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_pictures_have_words(full):
    page = page_of(full)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 3 * 3 + 2 * 12
    assert all(len(attributes["alt"]) > 10 for attributes in images)
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(chart["role"] == "img" for chart in charts)
    assert len(charts) >= 5
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_repeating_gives_the_same_bytes(places, scarce, tmp_path):
    assert run(places, tmp_path).exit_code == 0
    for name in ("report.html", "report.json"):
        texts = [(folder / name).read_text(encoding="utf-8") for folder in (scarce, tmp_path)]
        assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", ["full", "scarce"])
def test_in_a_browser(kind, request, tmp_path):
    page_file = request.getfixturevalue(kind) / "report.html"
    with open_browser(tmp_path) as page:
        for width in (1280, 390):
            page.visit(page_file.as_uri(), width)
            assert page.errors() == []
            count, broken = page.value(
                "[document.images.length,"
                " [...document.images].filter(i => !i.complete || !i.naturalWidth).length]"
            )
            assert (count > 5, broken) == (True, 0)
            # Nothing but tables, which scroll by themselves, is wider than the window.
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value("document.querySelectorAll('script').length") == 0
        assert page.value("document.querySelectorAll('main > section').length") >= len(SECTIONS)
        wide = "s => s.getBoundingClientRect().width > 200"
        assert page.value(f"[...document.querySelectorAll('svg')].every({wide})")


def test_dry_run_writes_nothing(places, tmp_path):
    result = run(places, tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["samples"] == {
        "samples": 20,
        "people": 4,
        "modalities": ["rgb", "nir"],
        "masks": 20,
    }
    assert not (tmp_path / "out").exists()


def test_a_bug_is_no_gap_of_the_page(places, tmp_path, monkeypatch):
    """What the data do not allow is skipped; any other error ends the command."""

    def broken(*_arguments, **_named):
        raise ValueError("a bug")

    monkeypatch.setattr("evaluation.identities.score_alignment", broken)
    result = run(places, tmp_path / "out")
    assert (result.exit_code, "a bug" in result.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_costs_what_needs_it(places, tmp_path):
    data = write_faces(tmp_path / "data", 3, 3, seed=5)
    truncate(data / "NIR" / "1_1.png")
    arguments = ["dataset", f"--data={data}", "--device=cpu", f"--outdir={tmp_path / 'out'}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    left_out = json.loads((tmp_path / "out" / "dataset.json").read_text())["left_out"]
    (reason,) = [entry["why"] for entry in left_out if "alignment" in entry["what"]]
    assert "1_1.png" in reason
