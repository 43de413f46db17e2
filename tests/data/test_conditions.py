"""Conditions from identity features."""

import json

import numpy as np
import pytest

from data.conditions import load_conditions

FEATURES = {"b_0.png": [3.0, 4.0], "a_0.png": [0.0, -2.0]}


def write(tmp_path, content):
    path = tmp_path / "identity_features.json"
    path.write_text(json.dumps(content))
    return path


def test_rows_in_the_order_of_names(tmp_path):
    path = write(tmp_path, FEATURES)
    raw = load_conditions(path, "--labels", None)
    assert raw.dtype == np.float32
    assert raw.tolist() == [[0, -2], [3, 4]]
    scaled = load_conditions(path, "--labels", 5.0)
    np.testing.assert_allclose(scaled, [[0, -5], [3, 4]], rtol=1e-6)


def test_rows_of_an_array_stay_as_they_are(tmp_path):
    np.save(tmp_path / "l.npy", 2 * np.eye(2))
    found = load_conditions(tmp_path / "l.npy", "--labels", 4.0)
    assert found.dtype == np.float32
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
