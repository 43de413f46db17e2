"""Where the golden values are, and how close is equal."""

import json
from pathlib import Path

import numpy as np
import pytest

SMALL = Path(__file__).parents[1] / "golden"
SHARED = Path(__file__).parents[3] / "shared" / "golden"

RELATIVE = 1e-4  # of the largest value, as shared/golden/README.md allows


def read_small(name):
    """Return tests/golden/{name}_small.json and .npz."""
    with np.load(SMALL / f"{name}_small.npz") as arrays:
        cases = json.loads((SMALL / f"{name}_small.json").read_text(encoding="utf-8"))
        return cases, dict(arrays)


def read_shared(name):
    """Return the arrays of ../shared/golden/{name}.npz, or skip the test where it is not."""
    path = SHARED / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no {path}: the full golden set is not beside this checkout")
    with np.load(path) as arrays:
        return dict(arrays)


def read_shared_json(name):
    """Return ../shared/golden/{name}.json, or skip the test where it is not."""
    path = SHARED / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path}: the full golden set is not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))


def assert_golden(actual, expected):
    """Compare an array or tensor with golden values, relative to the largest of them."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    worst = np.abs(actual - expected).max() / np.abs(expected).max()
    assert worst < RELATIVE, f"off by {worst:.1e} of the largest value"
