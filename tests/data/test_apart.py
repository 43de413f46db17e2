"""Sets that must hold different samples."""

import pytest

from data.apart import NamedSet, check_apart


def named(path, content="a", first=b"1", option="--data"):
    return NamedSet(option=option, path=path, content=content, first_bytes=lambda: first)


def test_one_place_is_one_set_whatever_it_is_said_to_hold(tmp_path):
    other = named(tmp_path / "x" / ".." / "set", content="b")
    with pytest.raises(ValueError, match="must hold other samples than --data .*set, got the same"):
        check_apart(named(tmp_path / "set"), [other])
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert named(tmp_path / "link").is_same_as(other)


def test_copies_are_told_by_their_bytes(tmp_path):
    known = [named(tmp_path / "a")]
    check_apart(named(tmp_path / "b", content="b"), known)
    check_apart(named(tmp_path / "b", first=b"2"), known)  # of the same names and sizes
    with pytest.raises(ValueError, match=r"--test .*b: must .* than --data .*a, got the same"):
        check_apart(named(tmp_path / "b", option="--test"), known)
