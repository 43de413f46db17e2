"""Files are whole or absent, also when a process is killed; JSON errors say where."""

import errno
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dnnlib.files import (
    NO_ROOM,
    atomic_write,
    read_json,
    read_json_lines,
    read_object,
    sha256_file,
    write_json,
    write_json_lines,
)

ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("mode", "content"), [("wb", b"\x00\r\n\xff"), ("w", "Tomašević\n")])
def test_written_whole_into_new_folders(tmp_path, mode, content):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_write(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert names(path.parent) == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX systems")
def test_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "file", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_part(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:  # noqa: PT012
        file.write(b"new" * 10_000)
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", sorted(NO_ROOM))
@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_full_disk_is_named_whatever_a_library_makes_of_it(tmp_path, number, is_hidden):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="file") as caught, atomic_write(path):  # noqa: PT012
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            if is_hidden:
                raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904  # as torch does
            raise
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


class Failing(io.FileIO):
    """A file of which one write fails."""

    writes = 0

    def write(self, data):
        self.writes += 1
        if self.writes == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(data)


def test_one_failing_write_is_named_whatever_a_library_makes_of_it(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: io.BufferedWriter(Failing(path, "x")))
    with pytest.raises(OSError, match="net.pt") as caught, atomic_write(path) as file:
        torch.save({"w": torch.zeros(1 << 20)}, file)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
    assert names(tmp_path) == []


def fail(error, *causes):
    if not causes:
        raise error
    try:
        fail(*causes)
    except Exception as cause:
        raise error from (cause if isinstance(error, ValueError) else None)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, FileNotFoundError])
def test_errors_that_say_what_happened_are_left(tmp_path, kind):
    with pytest.raises(kind, match="mine"), atomic_write(tmp_path / "file"):
        fail(kind("mine"), OSError(errno.EIO, "of another file"))


def test_an_error_that_was_handled_before_is_no_cause(tmp_path):
    try:
        fail(FileNotFoundError(errno.ENOENT, "none yet"))
    except FileNotFoundError:
        with pytest.raises(RuntimeError, match="bug"), atomic_write(tmp_path / "file"):
            fail(RuntimeError("bug"))


@pytest.mark.parametrize(
    ("place", "error", "named"),
    [
        ("folder", IsADirectoryError, "folder"),
        ("file/a.txt", NotADirectoryError, "file"),
        ("file/b/a.txt", NotADirectoryError, "file"),
        ("n" * 300, OSError, "n" * 300),
    ],
)
def test_a_place_where_no_file_can_be_is_named(tmp_path, place, error, named):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(error) as caught, atomic_write(tmp_path / place):
        pytest.fail("opened")
    assert caught.value.filename == str(tmp_path / named)
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == []


def test_a_folder_that_comes_in_between_is_named(tmp_path):
    path = tmp_path / "late"
    with pytest.raises(IsADirectoryError) as caught, atomic_write(path) as file:  # noqa: PT012
        file.write(b"x")
        path.mkdir()
    assert caught.value.filename == str(path)
    assert names(tmp_path) == ["late"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught, atomic_write(tmp_path / "file"):
            pytest.fail("opened")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.filename == str(tmp_path)


def test_values_that_are_no_json_leave_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"value": object()})
    assert read_json(path) == {"old": 1}
    assert names(tmp_path) == ["file.json"]


def test_other_modes_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="mode must be 'wb' or 'w', got 'a'"),
        atomic_write(tmp_path / "file", "a"),
    ):
        pass
    assert names(tmp_path) == []


KILLED = """
import sys
from dnnlib.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"n" * 100_000)
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""
KILLED_BETWEEN = """
import itertools, sys
from dnnlib.files import write_json
for number in itertools.count():
    write_json(sys.argv[1], {"number": number, "padding": "x" * 20_000})
    print(number, flush=True)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with start(KILLED, path) as process:
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert path.read_bytes() == b"old"
    parts = [name for name in names(tmp_path) if name != "file"]
    assert all(name.startswith(".file.") and name.endswith(".part") for name in parts)


def test_a_process_killed_at_any_time_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file.json"
    with start(KILLED_BETWEEN, path) as process:
        for _ in range(5):
            seen = int(process.stdout.readline())
        process.kill()
    content = read_json(path)
    assert content["number"] >= seen
    assert len(content["padding"]) == 20_000


# JSON


def test_json_round_trip_is_readable_text(tmp_path):
    path, content = tmp_path / "file.json", {"b": [1, 2.5, None], "a": {"č": True}}
    write_json(path, content)
    assert read_json(path) == content
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert list(read_json(path)) == ["b", "a"]
    write_json(path, [1, 2], indent=None)
    assert path.read_text() == "[1, 2]\n"
    path.write_text("\ufeff[1]", encoding="utf-8")  # with a byte-order mark
    assert read_json(path) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "a": 1,\n  "b": }', r"file.json: not valid JSON: .*, line 3, column 8$"),
        (b"", "file.json: not valid JSON: .*, line 1, column 1$"),
        (b'{"a": 1', "not valid JSON: .*line 1, column 8"),
        (b'{"a": 1} x', "not valid JSON: Extra data, line 1, column 10"),
        (b'"\xff"', r"file.json: not UTF-8 text \(byte 1\)"),
        (b'[{"b": {"a": 1, "c": 1, "a": 2}}]', "file.json: the key 'a' stands 2 times"),
        (b"[" * 200_000, "file.json: JSON is nested too deeply"),
    ],
)
def test_bad_json_says_where(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path)


def test_absent_json_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: no such file"):
            read_json(path)


def test_lines_of_json_come_back(tmp_path):
    entries = [{"a": 1}, [2, "ü"], None]
    write_json_lines(tmp_path / "a.jsonl", entries)
    assert (tmp_path / "a.jsonl").read_text().count("\n") == 3
    assert list(read_json_lines(tmp_path / "a.jsonl")) == entries
    write_json_lines(tmp_path / "b.jsonl", [])
    assert list(read_json_lines(tmp_path / "b.jsonl")) == []
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n{"a": 1, "a": 2}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl: .*line 2: the key 'a' stands 2 times"):
        list(read_json_lines(tmp_path / "b.jsonl"))
    with pytest.raises(ValueError, match="Out of range float"):
        write_json_lines(tmp_path / "c.jsonl", [float("nan")])
    assert not (tmp_path / "c.jsonl").exists()


def test_a_bad_line_is_named_by_its_number(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"a\.jsonl: not valid JSON, line 3"):
        list(read_json_lines(tmp_path / "a.jsonl"))
    with pytest.raises(FileNotFoundError, match=r"b\.jsonl: no such file"):
        list(read_json_lines(tmp_path / "b.jsonl"))


# Hashes


@pytest.mark.parametrize("size", [0, 3, (1 << 20) - 1, 1 << 20, (1 << 21) + 7])
def test_sha256_of_any_size(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[1]", "expected an object"),
        ("{}", "'identity' with a dict, got none"),
        ('{"identity": 3}', "'identity' with a dict, got 3"),
        ("{", "not valid JSON"),
    ],
)
def test_objects_have_the_entries_that_are_needed(tmp_path, text, rule):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"record.json: .*{rule}"):
        read_object(path, identity=dict)
    path.write_text('{"identity": {"a": 1}}')
    assert read_object(path, identity=dict) == {"identity": {"a": 1}}
