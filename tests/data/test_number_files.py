"""What is taken from .npy files, and what is refused without being executed or allocated."""

import numpy as np
import pytest

from data.number_files import load_rows, open_numbers


def test_numbers_of_each_kind(tmp_path):
    path = tmp_path / "n.npy"
    for values in (np.arange(6.0).reshape(2, 3), np.arange(3, dtype=np.uint8), np.float32(2.5)):
        np.save(path, values)
        assert np.array_equal(open_numbers(path, "x"), values)
    np.save(path, np.array([True]))
    assert open_numbers(path, "x", kinds="b").tolist() == [True]
    with pytest.raises(ValueError, match=r"--z n: not a \.npy file of numbers"):
        open_numbers(path, "--z n")


def test_nothing_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    np.save(tmp_path / "t.npy", np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match=r"t: not a \.npy file of numbers"):
        open_numbers(tmp_path / "t.npy", "t")
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_lies_allocates_nothing(tmp_path):
    np.save(tmp_path / "n.npy", np.zeros([2, 2]))
    content = (tmp_path / "n.npy").read_bytes().replace(b"(2, 2), }", b"(2, 2000000000), }", 1)
    (tmp_path / "n.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"n: not a \.npy file of numbers"):
        open_numbers(tmp_path / "n.npy", "n")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="--z gone: no such file"):
        open_numbers(tmp_path / "gone", "--z gone")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros([0, 3]), "expected one row"),
        (np.zeros(3), "expected one row"),
        (np.full([2, 2], np.nan), "all numbers must be finite"),
        (np.array([["a"]]), "not a .npy file of numbers"),
    ],
)
def test_bad_rows_are_refused(tmp_path, array, message):
    np.save(tmp_path / "r.npy", array)
    with pytest.raises(ValueError, match=rf"--latents .*r\.npy: {message}"):
        load_rows(tmp_path / "r.npy", "--latents")


def test_rows_of_another_width_are_refused(tmp_path):
    np.save(tmp_path / "r.npy", np.zeros([2, 4]))
    with pytest.raises(ValueError, match=r"--z .* shape must be \[N, 3\], got \[2, 4\]"):
        load_rows(tmp_path / "r.npy", "--z", 3)
