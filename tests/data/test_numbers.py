"""Numbers in files: what is taken as rows and conditions, and what is refused unexecuted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.numbers import load_archived_rows, load_rows, open_numbers, save_array
from dnnlib.files import NO_ROOM
from networks.sampling import load_conditions

ROOT = Path(__file__).parents[2]
FEATURES = {"b_0.png": [3.0, 4.0], "a_0.png": [0.0, -2.0]}


def write(tmp_path, content):
    path = tmp_path / "identity_features.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX")
def test_an_array_that_the_disk_has_no_room_for(tmp_path):
    code = (
        "import resource, sys, pathlib, numpy, data.numbers as n\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: n.save_array(pathlib.Path(sys.argv[1]), numpy.zeros(1000))\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    result = subprocess.run(command, cwd=ROOT, check=False)
    assert result.returncode in NO_ROOM
    assert not list(tmp_path.iterdir())


def test_arrays_are_what_numpy_writes(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)[::-1]
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_rows_in_the_order_of_names(tmp_path):
    path = write(tmp_path, FEATURES)
    raw = load_conditions(path, "--labels", None)
    assert raw.dtype == torch.float32
    assert raw.tolist() == [[0, -2], [3, 4]]
    scaled = load_conditions(path, "--labels", 5.0)
    np.testing.assert_allclose(scaled, [[0, -5], [3, 4]], rtol=1e-6)


def test_rows_of_an_array_stay_as_they_are(tmp_path):
    np.save(tmp_path / "l.npy", 2 * np.eye(2))
    found = load_conditions(tmp_path / "l.npy", "--labels", 4.0)
    assert found.dtype == torch.float32
    assert found.tolist() == [[2, 0], [0, 2]]
    np.save(tmp_path / "l.npy", np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match=r"--labels .* \[N, c_dim\]"):
        load_conditions(tmp_path / "l.npy", "--labels", 4.0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "expected an object"),
        ([1], "expected an object"),
        ({"a": [1], "b": [1, 2]}, "'b': 2 numbers"),
        ({"a": ["x"]}, "'a': expected a list"),
        ({"a": []}, "'a': expected a list"),
        ({"a": [float("inf")]}, "'a': numbers must be finite"),
        ({"a": [0.0]}, "must not all be zero"),
    ],
)
def test_bad_files(tmp_path, content, reason):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=f"--labels {path}.*{reason}"):
        load_conditions(path, "--labels", 4.0)


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


@pytest.mark.parametrize("cut", [slice(20, None), slice(-20)], ids=["beginning", "end"])
def test_an_archive_that_was_cut_is_refused(tmp_path, cut):
    path = tmp_path / "w.npz"
    np.savez(path, w=np.zeros([2, 2]))
    assert load_archived_rows(path, "w", "--x").shape == (2, 2)
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(ValueError, match=r"--x .*w.npz: not a whole .npz file"):
        load_archived_rows(path, "w", "--x")


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
