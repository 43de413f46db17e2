"""Features on disk: what was stored, or nothing."""

import numpy as np
import pytest

from evaluation.feature_cache import FeatureCache, cache_folder
from evaluation.image_features import FeatureSet
from metrics.statistics import compute_moments
from tests.helpers.images import truncate

KEY = {"images": "ab", "extractor": "cd", "count": 6, "keeps_rows": True, "name": "net"}
ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
GROUPS = np.array([0, 0, 1, 1, 3, 3])


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def only_file(cache):
    (path,) = cache.folder.iterdir()
    return path


def test_rows_come_back(cache):
    assert cache.load("set", KEY) is None
    cache.store("set", KEY, FeatureSet(GROUPS, ROWS))
    found = cache.load("set", KEY)
    np.testing.assert_array_equal(found.rows, ROWS)
    np.testing.assert_array_equal(found.groups, GROUPS)


def test_moments_come_back(cache):
    parts = [compute_moments(ROWS[g == GROUPS]) if g != 2 else None for g in range(4)]
    cache.store("set", KEY, FeatureSet(GROUPS, None, tuple(parts)))
    found = cache.load("set", KEY).moments
    assert found[2] is None
    for part, other in zip(parts, found, strict=True):
        if part is not None:
            assert part.count == other.count
            np.testing.assert_array_equal(part.scatter, other.scatter)


@pytest.mark.parametrize("name", list(KEY))
def test_every_part_of_the_key_counts(cache, name):
    cache.store("set", KEY, FeatureSet(GROUPS, ROWS))
    assert cache.load("set", {**KEY, name: "other"}) is None


def cut(path):
    truncate(path)


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(ROWS.tobytes()) + 10] ^= 1
    path.write_bytes(content)


def other_content(path):
    with path.open("wb") as file:
        np.savez(file, key=np.array("{}"), groups=GROUPS, rows=ROWS)


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, key=np.array([{"a": 1}], dtype=object), groups=GROUPS)


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit, other_content, pickled])
def test_damaged_entries_are_absent_and_written_anew(cache, damage, caplog):
    cache.store("set", KEY, FeatureSet(GROUPS, ROWS))
    damage(only_file(cache))
    assert cache.load("set", KEY) is None
    assert "damaged, computed anew" in caplog.text
    cache.store("set", KEY, FeatureSet(GROUPS, ROWS))
    np.testing.assert_array_equal(cache.load("set", KEY).rows, ROWS)


def test_rows_must_fit_their_groups(cache):
    cache.store("set", KEY, FeatureSet(GROUPS, ROWS[:3]))
    assert cache.load("set", KEY) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    FeatureCache(blocked / "cache").store("set", KEY, FeatureSet(GROUPS, ROWS))
    assert "not kept" in caplog.text


def test_folder_is_beside_the_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path / "metrics"
