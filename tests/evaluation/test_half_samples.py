"""Intervals: how wide they are where the answer is known, and what is drawn."""

import numpy as np
import pytest

from evaluation.half_samples import half_samples, interval_estimate, subset_estimate
from evaluation.image_features import GROUPS, group_numbers
from metrics.distances import kernel_distance


def test_half_of_the_groups_of_each_set():
    sets = [np.arange(40) % GROUPS, np.arange(12) % 6]
    halves = list(half_samples(sets, replicates=15, seed=0))
    assert len(halves) == 15
    for first, second in halves:
        assert len(set(first)) == GROUPS // 2
        assert len(set(second)) == 3
        assert set(second) <= set(range(6))
    assert len({tuple(first) for first, _ in halves}) > 5
    again = list(half_samples(sets, replicates=15, seed=0))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(halves, again, strict=True))


def test_too_few_groups_have_no_halves():
    assert list(half_samples([np.array([0, 0, 1, 2])], replicates=5, seed=0)) == []


def test_interval_of_a_mean_is_as_wide_as_known():
    """Over many samples, the half-sample spread of a mean is sigma / sqrt(n) on average."""
    rng = np.random.default_rng(0)
    widths, hits = [], 0
    groups = group_numbers(np.arange(200))
    for seed in range(200):
        x = rng.standard_normal(200)
        halves = half_samples([groups], replicates=20, seed=seed)
        drawn = [x[np.isin(groups, chosen)].mean() for (chosen,) in halves]
        found = interval_estimate(x.mean(), drawn, n=200)
        widths.append(found.high - found.low)
        hits += found.low <= 0 <= found.high
    expected = 2 * 2.262 / np.sqrt(200)  # Student's t of 9 degrees of freedom
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)
    assert 0.9 <= hits / 200 <= 0.99


def test_interval_of_subsets_is_as_wide_as_known():
    """A mean of b of n values without replacement; the spread of n values is sigma / sqrt(n)."""
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(100):
        x = rng.standard_normal(400)
        subsets = np.array([rng.permutation(x)[:200].mean() for _ in range(50)])
        found = subset_estimate(x.mean(), subsets, subset_size=200, drawn_from=400, n=400)
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_kernel_distance_has_an_interval_around_it():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 300, 4)).astype(np.float32)
    distance = kernel_distance(x, y + 0.5, seed=0, subset_size=150)
    found = subset_estimate(distance.mean, distance.subsets, subset_size=150, drawn_from=300, n=300)
    assert found.low < distance.mean < found.high


@pytest.mark.parametrize("drawn", [[], [1.0], [1.0, float("nan")]])
def test_no_interval_without_a_spread(drawn):
    found = interval_estimate(3.0, drawn, n=7)
    assert (found.value, found.low, found.high, found.n) == (3.0, None, None, 7)


def test_no_interval_where_subsets_are_everything():
    found = subset_estimate(1.0, np.array([1.0, 1.0]), subset_size=5, drawn_from=5, n=5)
    assert found.low is None


def test_intervals_stay_where_values_can_be():
    found = interval_estimate(0.1, [0.0, 0.5, 0.9], n=7, bounds=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)
