"""Folders of runs and outputs: identity, continuing, refusing, records and the lock."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib import files, runs
from dnnlib.runs import find_output

ROOT = Path(__file__).parents[2]
IDENTITY = {"batch": 4, "taps": (1, 2), "name": "pairs"}


def begin_run(outdir, *, identity=IDENTITY, description="pairs-auto", settings=None, fresh=False):
    run = runs.find_run(outdir, description, identity, settings or {"kimg": 1}, fresh=fresh)
    is_new = run.is_new
    with run.at_work():
        pass
    assert run.is_new is is_new
    return run


def read(folder):
    return files.read_json(folder.path / folder.record)


def test_what_killed_processes_left_is_removed_when_work_goes_on(tmp_path):
    left = begin_run(tmp_path).path / "images" / ".1.png.99.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    begin_run(tmp_path)
    assert not left.exists()


# Numbered folders


def test_numbers_follow_the_highest(tmp_path):
    assert begin_run(tmp_path / "runs").path == tmp_path / "runs" / "00000-pairs-auto"
    for name in ("00007-other", "notes", "12-short", "00009"):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / "00042-file").write_text("")
    second = begin_run(tmp_path / "runs", identity={"batch": 8})
    assert second.path.name == "00008-pairs-auto"


def test_finding_writes_nothing(tmp_path):
    assert runs.find_run(tmp_path / "runs", "pairs", IDENTITY, {}).is_new
    assert find_output(tmp_path / "out", "r.json", IDENTITY).is_new
    assert list(tmp_path.iterdir()) == []


def test_long_descriptions_are_cut(tmp_path):
    first = begin_run(tmp_path, description="x" * 300)
    assert first.path.name == "00000-" + "x" * 200
    assert begin_run(tmp_path, description="y" * 300).path == first.path


def test_a_number_taken_by_another_process_is_skipped(tmp_path):
    runs_found = [runs.find_run(tmp_path, "a", {"n": n}, {}) for n in range(2)]
    for run in runs_found:
        with run.at_work():
            pass
    assert [run.path.name for run in runs_found] == ["00000-a", "00001-a"]


def test_a_number_whose_process_ended_at_once_is_taken_again(tmp_path):
    folders = [runs.find_run(tmp_path, "a", {"n": n}, {}) for n in range(2)]
    left = tmp_path / "00000-a"
    left.mkdir()
    (left / ".lock").touch()
    (left / ".training_options.json.0.part").touch()
    assert runs.find_run(tmp_path, "b", IDENTITY, {}).path.name == "00001-b"
    with folders[0].at_work():
        (left / folders[0].record).unlink()  # as if it were not written yet
        with folders[1].at_work():
            assert [run.path.name for run in folders] == ["00000-a", "00001-a"]


@pytest.mark.parametrize("has_ended", [False, True])
def test_runs_that_start_together_take_a_number_each(tmp_path, monkeypatch, has_ended):
    first, second = (runs.find_run(tmp_path, "a", {"n": n}, {}) for n in range(2))
    lock_folder, stack = runs.lock_folder, contextlib.ExitStack()

    def lock_late(path):  # the other takes the folder between its making and its locking
        monkeypatch.undo()
        stack.enter_context(second.at_work())
        if has_ended:
            stack.close()
        return lock_folder(path)

    monkeypatch.setattr(runs, "lock_folder", lock_late)
    with stack, first.at_work():
        assert (second.path.name, first.path.name) == ("00000-a", "00001-a")
        with pytest.raises(ValueError, match="another process"):
            lock_folder(first.path)
    lock_folder(first.path).release()


def test_equal_identities_are_one_run(tmp_path):
    first = begin_run(tmp_path, settings={"kimg": 1})
    again = begin_run(tmp_path, identity=dict(reversed(IDENTITY.items())), settings={"kimg": 2})
    assert (first.is_new, again.is_new) == (True, False)
    assert first.path == again.path
    assert read(first)["identity"] == {**IDENTITY, "taps": [1, 2]}
    assert read(first)["settings"] == {"kimg": 2}


@pytest.mark.parametrize(
    "identity", [{**IDENTITY, "batch": 5}, {**IDENTITY, "new": None}, {"batch": 4}]
)
def test_other_identities_are_other_runs(tmp_path, identity):
    assert begin_run(tmp_path).path != begin_run(tmp_path, identity=identity).path


def test_fresh_starts_another_which_is_then_the_one_found(tmp_path):
    first, second = begin_run(tmp_path), begin_run(tmp_path, fresh=True)
    assert second.is_new
    assert second.path.name == "00001-pairs-auto"
    assert first.path.exists()
    assert begin_run(tmp_path).path == second.path


def test_nothing_is_found_in_foreign_folders(tmp_path):
    (tmp_path / "00000-empty").mkdir()
    (tmp_path / "00001-published").mkdir()
    (tmp_path / "00001-published" / "training_options.json").write_text('{"batch_size": 4}')
    assert begin_run(tmp_path).path.name == "00002-pairs-auto"


def test_a_damaged_record_is_named(tmp_path):
    run = begin_run(tmp_path)
    (run.path / "training_options.json").write_text('{"identity":')
    with pytest.raises(ValueError, match="training_options.json"):
        begin_run(tmp_path)


# Folders that the user names


def test_a_folder_belongs_to_its_identity(tmp_path):
    first = find_output(tmp_path / "out", "r.json", {"a": (1, 2)})
    with first.at_work():
        again = find_output(tmp_path / "out", "r.json", {"a": [1, 2]})
        assert (again.is_new, again.is_finished) == (False, False)
    again.finish({"n": 3})
    assert find_output(tmp_path / "out", "r.json", {"a": [1, 2]}).is_finished
    assert read(again)["n"] == 3
    with pytest.raises(ValueError, match=r"--outdir .*other options \(a \[1, 2\] -> 5\)"):
        find_output(tmp_path / "out", "r.json", {"a": 5})
    assert find_output(tmp_path / "out", "r.json", {"a": 5}, fresh=True).path.name == "out-2"


def test_a_record_of_earlier_code_is_read(tmp_path):
    content = {"identity": {"a": 1}, "finished": True, "environment": {}}
    files.write_json(tmp_path / "r.json", content)
    assert find_output(tmp_path, "r.json", {"a": 1}).is_finished


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    assert find_output(tmp_path / "out", "r.json", {}).is_new
    (tmp_path / "out" / "photo.jpg").touch()
    with pytest.raises(ValueError, match="--outdir"):
        find_output(tmp_path / "out", "r.json", {})
    with pytest.raises(ValueError, match="--sv"):
        find_output(tmp_path / "out" / "photo.jpg", "r.json", {}, option="--sv")


class Counting(runs.FolderJob):
    def work(self, progress):
        with self.output.at_work():
            self.output.finish({"counted": 3})
        return "counted"


def test_a_job_is_done_once(tmp_path):
    def job():
        return Counting(output=find_output(tmp_path / "out", "r.json", {"a": 1}), facts={"n": 3})

    assert job().describe() == {"outdir": str(tmp_path / "out"), "n": 3, "a": 1}
    assert job().run(None) == "counted"
    written = (tmp_path / "out/r.json").read_bytes()
    assert "--fresh" in job().run(None)
    assert (tmp_path / "out/r.json").read_bytes() == written


# Records


def test_record_says_how_the_run_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--batch=4"])
    record = read(begin_run(tmp_path))
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
    lock = runs.lock_folder(Path(sys.argv[1]))
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
    with runs.lock_folder(tmp_path), start(tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert str(tmp_path) in errors


def test_a_refused_process_leaves_the_record_alone(tmp_path):
    run = runs.find_run(tmp_path, "pairs", IDENTITY, {"kimg": 1})
    with run.at_work():
        with pytest.raises(ValueError, match="another process"):
            begin_run(tmp_path, settings={"kimg": 2})
        assert read(run)["settings"] == {"kimg": 1}


def test_the_lock_ends_with_its_process_even_when_that_is_killed(tmp_path):
    with start(tmp_path) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match="another process"):
            runs.lock_folder(tmp_path)
        process.kill()
    with runs.lock_folder(tmp_path) as lock:
        assert lock.is_locked
