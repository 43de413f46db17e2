"""Run folders: numbers, identities, the record of a run, and the lock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib import runs

ROOT = Path(__file__).parents[2]
IDENTITY = {"batch": 4, "taps": (1, 2), "name": "pairs"}


def open_run(outdir, *, identity=None, description="pairs-auto", settings=None, fresh=False):
    with runs.open_run(
        outdir, description, identity or IDENTITY, settings or {}, fresh=fresh
    ) as folder:
        return folder


def test_numbers_follow_the_highest(tmp_path):
    assert open_run(tmp_path / "runs").path == tmp_path / "runs" / "00000-pairs-auto"
    for name in ("00007-other", "notes", "12-short", "00009"):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / "00042-file").write_text("")
    second = open_run(tmp_path / "runs", identity={"batch": 8})
    assert second.path.name == "00008-pairs-auto"


def test_long_descriptions_are_cut(tmp_path):
    first = open_run(tmp_path, description="x" * 300)
    assert first.path.name == "00000-" + "x" * 200
    assert open_run(tmp_path, description="y" * 300).path == first.path


def test_a_number_taken_by_another_process_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "00000-pairs-auto").mkdir()
    monkeypatch.setattr(runs, "_numbered", lambda _: [])
    assert open_run(tmp_path, fresh=True).path.name == "00001-pairs-auto"


def test_equal_identities_are_one_run(tmp_path):
    first = open_run(tmp_path, settings={"kimg": 1})
    again = open_run(tmp_path, identity=dict(reversed(IDENTITY.items())), settings={"kimg": 2})
    assert (first.is_new, again.is_new) == (True, False)
    assert first.path == again.path
    record = json.loads((first.path / "training_options.json").read_text())
    assert record["identity"] == {**IDENTITY, "taps": [1, 2]}
    assert record["settings"] == {"kimg": 2}


@pytest.mark.parametrize(
    "identity", [{**IDENTITY, "batch": 5}, {**IDENTITY, "new": None}, {"batch": 4}]
)
def test_other_identities_are_other_runs(tmp_path, identity):
    assert open_run(tmp_path).path != open_run(tmp_path, identity=identity).path


def test_fresh_starts_another_which_is_then_the_one_found(tmp_path):
    first, second = open_run(tmp_path), open_run(tmp_path, fresh=True)
    assert second.is_new
    assert second.path.name == "00001-pairs-auto"
    assert first.path.exists()
    assert open_run(tmp_path).path == second.path == runs.find_run(tmp_path, IDENTITY)


def test_nothing_is_found_in_absent_or_foreign_folders(tmp_path):
    assert runs.find_run(tmp_path / "none", IDENTITY) is None
    assert not (tmp_path / "none").exists()
    (tmp_path / "00000-empty").mkdir()
    (tmp_path / "00001-published").mkdir()
    (tmp_path / "00001-published" / "training_options.json").write_text('{"batch_size": 4}')
    assert runs.find_run(tmp_path, IDENTITY) is None


def test_a_damaged_record_is_named(tmp_path):
    run = open_run(tmp_path)
    (run.path / "training_options.json").write_text('{"identity":')
    with pytest.raises(ValueError, match="training_options.json: not valid JSON"):
        runs.find_run(tmp_path, IDENTITY)


def test_record_says_how_the_run_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--batch=4"])
    record = json.loads((open_run(tmp_path).path / "training_options.json").read_text())
    assert record["command"] == ["train.py", "--batch=4"]
    environment = record["environment"]
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(environment["packages"]) == {"torch", "torchvision", "numpy", "pillow"}
    assert environment["packages"]["numpy"][0].isdigit()
    assert environment["git_commit"] is None or len(environment["git_commit"]) == 40


def test_absent_packages_and_git_are_none(monkeypatch):
    monkeypatch.setattr(runs, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(runs.shutil, "which", lambda _: None)
    environment = runs.describe_environment()
    assert environment["packages"] == {"no-such-package": None}
    assert environment["git_commit"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b\\c", "a-b-c"), ("../..", "..-.."), (" räume ", "r-ume"), ("x.y_z-1", "x.y_z-1")],
)
def test_slug(text, expected):
    assert runs.slug(text) == expected


# The lock

TRY = """
import sys
from pathlib import Path
from dnnlib import runs
try:
    lock = runs.lock_run(Path(sys.argv[1]))
except ValueError as error:
    sys.exit(str(error))
print("locked", flush=True)
sys.stdin.read()
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", TRY, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_is_refused(tmp_path):
    with runs.lock_run(tmp_path), start(tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.strip() == f"{tmp_path}: another process is at work on this run"


def test_a_refused_process_leaves_the_record_alone(tmp_path):
    with runs.open_run(tmp_path, "pairs", IDENTITY, {"kimg": 1}, fresh=False) as run:
        with pytest.raises(ValueError, match="another process is at work"):
            open_run(tmp_path, settings={"kimg": 2})
        record = json.loads((run.path / "training_options.json").read_text())
    assert record["settings"] == {"kimg": 1}


def test_the_lock_ends_with_its_process_even_when_that_is_killed(tmp_path):
    with start(tmp_path) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match="another process is at work"):
            runs.lock_run(tmp_path)
        process.kill()
    with runs.lock_run(tmp_path) as lock:
        assert lock.is_locked
