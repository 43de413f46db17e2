"""The benchmark that plants copies: what it plants is found, and what it does not is not."""

import numpy as np
import pytest

from benchmarks.audit_power import CASES, Pool, compress, measure
from tests.helpers.images import random_pixels

SHARES = (0.6, 0.25)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    names = np.repeat([f"p{i:02d}" for i in range(80)], 3)
    vectors = np.repeat(rng.normal(size=(80, 16)), 3, axis=0) + 0.5 * rng.normal(size=(240, 16))
    far = rng.normal(size=vectors.shape)  # a recogniser that loses everything to compression
    return Pool(names, vectors.astype(np.float32), far.astype(np.float32))


def test_planted_copies_are_named_and_little_else_is(pool):
    rows = {row.pop("copies"): row for row in measure(pool, 4, SHARES)}
    assert list(rows) == list(CASES)
    for name in ("none", "one", "1 %", "10 %"):
        assert rows[name]["all copies named"].startswith("1.000"), name
        assert float(rows[name]["others named"].split()[0]) <= 0.2, name  # 0.05 is asked for
    assert rows["one, compressed"]["all copies named"].startswith("0.000")


def test_divisions_are_of_identities_and_repeat(pool):
    first, again = (pool.try_once(3, SHARES, 0.1, compressed=False) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("channels", [1, 3])
def test_compressed_images_are_near_the_image(channels):
    smooth = np.kron(random_pixels(0, 8, 3), np.ones((4, 4, 1))).astype(np.uint8)
    image = smooth.transpose(2, 0, 1)[:channels]
    changed = compress(image)
    assert changed.shape == image.shape
    assert 0 < np.abs(changed.astype(int) - image).mean() < 30
