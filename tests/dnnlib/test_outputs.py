"""Output folders that belong to their options."""

import pytest

from dnnlib import files
from dnnlib.outputs import find_output


def test_a_folder_belongs_to_its_identity(tmp_path):
    first = find_output(tmp_path / "out", "r.json", {"a": (1, 2)}, fresh=False)
    assert first.is_new
    assert not (tmp_path / "out").exists()
    first.begin()
    again = find_output(tmp_path / "out", "r.json", {"a": [1, 2]}, fresh=False)
    assert (again.is_new, again.is_finished) == (False, False)
    again.finish({"n": 3})
    assert find_output(tmp_path / "out", "r.json", {"a": [1, 2]}, fresh=False).is_finished
    assert files.read_json(tmp_path / "out" / "r.json")["n"] == 3
    with pytest.raises(ValueError, match=r"was made with other options \(a \[1, 2\] -> 5\)"):
        find_output(tmp_path / "out", "r.json", {"a": 5}, fresh=False)
    assert find_output(tmp_path / "out", "r.json", {"a": 5}, fresh=True).path.name == "out-2"


def test_foreign_folders_and_files_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    assert find_output(tmp_path / "out", "r.json", {}, fresh=False).is_new
    (tmp_path / "out" / "photo.jpg").touch()
    with pytest.raises(ValueError, match="--outdir .*must be absent or empty"):
        find_output(tmp_path / "out", "r.json", {}, fresh=False)
    with pytest.raises(ValueError, match="--sv must be a folder|--sv .*must be a folder"):
        find_output(tmp_path / "out" / "photo.jpg", "r.json", {}, fresh=False, option="--sv")


def test_a_second_process_finds_the_folder_taken(tmp_path):
    output = find_output(tmp_path / "out", "r.json", {"a": 1}, fresh=False)
    with output.at_work():
        record = (tmp_path / "out" / "r.json").read_bytes()
        other = find_output(tmp_path / "out", "r.json", {"a": 1}, fresh=False)
        with pytest.raises(ValueError, match="another process is at work"), other.at_work():
            pytest.fail("two are at work")
        assert (tmp_path / "out" / "r.json").read_bytes() == record
    with other.at_work():
        pass
