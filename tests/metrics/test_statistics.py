"""Moments of features: against NumPy, whatever the parts are, and in float64."""

import numpy as np
import pytest

from metrics.statistics import (
    check_comparable,
    compute_moments,
    merge_moments,
)


def draw(count, width=5, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((width, width))
    return (rng.standard_normal((count, width)) @ mixing + offset).astype(np.float32)


def assert_equal_moments(found, expected, rtol=1e-12):
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rtol)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("count", [2, 1023, 1024, 1025, 3000])
def test_moments_are_numpys(count):
    features = draw(count)
    moments = compute_moments(features)
    wide = features.astype(np.float64)
    assert moments.count == count
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(wide, rowvar=False), rtol=1e-11)


def test_sums_are_float64():
    """In float32, a spread of 1e-3 around 1e4 is below one unit in the last place."""
    rng = np.random.default_rng(0)
    spread = rng.choice(np.float32([-(2**-10), 2**-10]), size=(4096, 3))
    features = (np.float32(8192) + spread).astype(np.float32)
    assert len(np.unique(features)) == 2
    covariance = compute_moments(features).covariance
    np.testing.assert_allclose(
        covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-18
    )
    assert covariance.dtype == np.float64
    naive = features.T @ features / len(features) - np.outer(features.mean(0), features.mean(0))
    assert not np.allclose(naive, covariance, rtol=0.5)


def test_merged_parts_are_the_whole():
    features = draw(3000, offset=100.0)
    parts = [compute_moments(part) for part in np.split(features, [10, 1500])]
    assert_equal_moments(merge_moments(parts), compute_moments(features), rtol=1e-11)


def test_order_of_samples_does_not_matter():
    features = draw(2000)
    shuffled = features[np.random.default_rng(1).permutation(2000)]
    assert_equal_moments(compute_moments(shuffled), compute_moments(features), rtol=1e-10)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (draw(0), "at least 1 sample"),
        (np.full((3, 2), np.nan, np.float32), "must be finite, 3 of 3"),
        (np.array([[1, 2], [np.inf, 3]], np.float32), "1 of 2 samples have NaN"),
        (np.zeros((3, 2), np.int64), "must be float"),
        (np.zeros((3, 2, 2), np.float32), r"must be float \[N, D\]"),
        (np.zeros(3, np.float32), r"must be float \[N, D\], got float32 \[3\]"),
    ],
)
def test_bad_features_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        compute_moments(features)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        _ = compute_moments(draw(1)).covariance


def test_mixed_widths_are_refused():
    with pytest.raises(ValueError, match="one width"):
        merge_moments([compute_moments(draw(3)), compute_moments(draw(3, width=4))])
    with pytest.raises(ValueError, match="one extractor: their widths are 5 and 4"):
        check_comparable(draw(3), draw(3, width=4), at_least=2)


def test_nothing_to_merge():
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        merge_moments([])
