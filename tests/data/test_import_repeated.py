"""What an import keeps when it ends early, and what the repeated command makes again."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.importing.job import NOTES_FILE, ImportJob
from data.info import REPORT_FILE
from data.labels import CLASS_FILE, IDENTITY_FILE
from data.pairs import open_pairs
from data.samples import open_samples
from tests.helpers.images import truncate, write_image, write_json, write_pairs
from tests.helpers.importing import run

STEMS = ["1_0", "1_1", "2_0", "2_1"]


IGNORED = {Path(REPORT_FILE), Path(".lock")}  # what was run, when and where


def tree(root):
    paths = [path for path in root.rglob("*") if path.is_file()]
    found = {path.relative_to(root): path.read_bytes() for path in paths}
    return {path: content for path, content in found.items() if path not in IGNORED}


def count_made(monkeypatch):
    """Return a list that grows with the stem of each pair that is decoded."""
    made, original = [], ImportJob._make_pair

    def make(job, pair, contents):
        made.append(job.plan.pairs.stems[pair])
        return original(job, pair, contents)

    monkeypatch.setattr(ImportJob, "_make_pair", make)
    return made


@pytest.fixture
def raw(tmp_path):
    """Four pairs, the last but one damaged."""
    root = write_pairs(tmp_path / "raw", size=32)
    truncate(root / "VIS/2_0.png", 0.7)
    return root


def fail(raw, out):
    with pytest.raises(ValueError, match="--strict: 1 not a whole, .*VIS/2_0.png"):
        run(out, strict=True, source=str(raw), resolution=16, workers=1)


def test_an_interrupted_import_goes_on(tmp_path, monkeypatch):
    root = write_pairs(tmp_path / "raw", size=32)
    run(tmp_path / "whole", source=str(root), resolution=16)
    calls = []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    original = ImportJob._make_pair
    monkeypatch.setattr(ImportJob, "_make_pair", interrupt)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(out, source=str(root), resolution=16, workers=1)
    monkeypatch.undo()
    for path in (out, out / "VIS"):  # nothing trains on or measures a part of the data
        for opened in (open_pairs, open_samples):
            with pytest.raises(ValueError, match="/out: .*unfinished.* prepare_dataset.py import"):
                opened(path)
    done = sorted(path.name for path in out.rglob("*.png"))
    assert done
    truncate(out / "VIS" / done[0])  # as a crash of the machine may leave it
    (out / "VIS" / ".1_0.png.99.part").write_bytes(b"half")
    run(tmp_path / "out", source=str(root), resolution=16)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert len(open_pairs(tmp_path / "out")) == len(open_samples(tmp_path / "out")) == len(STEMS)


def test_strict_ends_at_the_first_failure(tmp_path, raw, monkeypatch):
    write_pairs(raw, [f"9_{i:02}" for i in range(30)], size=32)
    monkeypatch.setattr(ImportJob, "_save", lambda *_: time.sleep(0.05))
    made = count_made(monkeypatch)
    fail(raw, tmp_path / "out")
    assert made[:3] == STEMS[:3]
    assert len(made) < 20


def test_a_mended_image_is_all_that_is_made_again(tmp_path, raw, monkeypatch):
    fail(raw, tmp_path / "out")
    write_pairs(raw, STEMS, size=32)
    made = count_made(monkeypatch)
    run(tmp_path / "out", strict=True, source=str(raw), resolution=16)
    assert "2_0" in made
    assert not {"1_0", "1_1"} & set(made)
    run(tmp_path / "whole", source=str(raw), resolution=16)
    assert tree(tmp_path / "out").keys() == tree(tmp_path / "whole").keys()
    for stem in STEMS:
        old, new = (tmp_path / name / f"VIS/{stem}.png" for name in ("whole", "out"))
        assert old.read_bytes() == new.read_bytes()


def test_a_changed_image_of_the_same_size_is_made_again(tmp_path, raw):
    for value in (10, 200):
        write_image(raw / "VIS/1_0.bmp", np.full((32, 32, 3), value, np.uint8))
        (raw / "VIS/1_0.png").unlink(missing_ok=True)
        if value == 10:
            fail(raw, tmp_path / "out")
    run(tmp_path / "out", source=str(raw), resolution=16)
    assert np.asarray(Image.open(tmp_path / "out/VIS/1_0.png")).mean() == 200


def test_pairs_that_are_gone_or_damaged_by_now_leave_no_image(tmp_path, raw):
    write_pairs(raw, ["0/old"], size=32)
    fail(raw, tmp_path / "out")
    for folder in ("VIS", "NIR"):
        (raw / folder / "0/old.png").unlink()
    truncate(raw / "NIR/1_1.png", 0.7)
    run(tmp_path / "out", source=str(raw), resolution=16)
    assert list(open_pairs(tmp_path / "out").stems) == ["1_0", "2_1"]
    assert not (tmp_path / "out/VIS/0").exists()
    assert not (tmp_path / "out" / NOTES_FILE).exists()


def test_a_note_cut_short_costs_only_its_pair(tmp_path, raw, monkeypatch):
    fail(raw, tmp_path / "out")
    path = tmp_path / "out" / NOTES_FILE
    notes = path.read_text().splitlines()
    path.write_text(f"{notes[0]}\n{notes[1][:-9]}")
    made = count_made(monkeypatch)
    fail(raw, tmp_path / "out")
    assert made[:2] == ["1_1", "2_0"]
    assert len(path.read_text().splitlines()) >= 2
    made.clear()
    fail(raw, tmp_path / "out")
    assert "1_1" not in made


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IDENTITY_FILE, '{"1_0.png": [1, 2', "not valid JSON"),
        (IDENTITY_FILE, '{"1_0.png": [1, NaN]}', "label of '1_0': numbers must be finite"),
        (CLASS_FILE, '{"labels": [["1_0", Infinity]]}', "label of '1_0': numbers must be finite"),
        (CLASS_FILE, "[]", "expected an object"),
    ],
)
def test_broken_labels_end_it_before_the_first_image(tmp_path, raw, name, content, message):
    (raw / name).write_text(content)
    with pytest.raises(ValueError, match=f"raw/{name}: {message}"):
        run(tmp_path / "out", source=str(raw))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_labels_of_files_without_a_pair_do_no_harm(tmp_path, raw):
    write_json(raw / IDENTITY_FILE, {"1_0.png": [1.0], "gone.png": [float("nan")]})
    run(tmp_path / "out", source=str(raw))
    assert json.loads((tmp_path / "out" / IDENTITY_FILE).read_text()) == {"1_0.png": [1.0]}
