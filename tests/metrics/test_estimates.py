import numpy as np
import pytest
from scipy import stats

from metrics.estimates import (
    Estimate,
    clustered,
    clustered_share,
    half_samples,
    interval_estimate,
    multiplicities,
    percentile_interval,
    weighted_mean,
    weighted_quantile,
    wilson,
)


@pytest.mark.parametrize(("hits", "n"), [(3, 20), (0, 50), (50, 50), (500, 1000)])
def test_wilson_agrees_with_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = wilson(hits, n)
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_what_is_no_share(hits, n):
    with pytest.raises(ValueError, match="a share needs 0 <= hits <= n"):
        wilson(hits, n)


def test_draws_keep_the_number_of_people_and_repeat():
    draws = np.stack(list(multiplicities(7, seed=3, replicates=50)))
    assert (draws.sum(axis=1) == 7).all()
    assert (draws == np.stack(list(multiplicities(7, seed=3, replicates=50)))).all()
    assert (draws != np.stack(list(multiplicities(7, seed=4, replicates=50)))).any()


def test_intervals_are_those_of_people_not_of_images():
    rng = np.random.default_rng(0)
    own = rng.normal(size=40)
    copied = np.repeat(own, 25)
    identities = [str(i) for i in np.repeat(np.arange(40), 25)]
    found = clustered(copied, identities, weighted_mean)
    deviation = own.std() / np.sqrt(40)
    assert found.value == pytest.approx(own.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.25)
    assert (found.n, found.clusters) == (1000, 40)


def test_one_person_has_no_interval():
    found = clustered(np.array([1.0, 2.0]), ["a", "a"], weighted_mean)
    assert (found.value, found.low, found.high) == (1.5, None, None)


def test_a_share_of_nothing_keeps_an_upper_bound():
    found = clustered_share(np.zeros(60), [str(i // 2) for i in range(60)])
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(wilson(0, 30).high)


def test_order_does_not_matter():
    rng = np.random.default_rng(1)
    values, identities = rng.normal(size=30), np.array([f"p{i % 6}" for i in range(30)])
    order = rng.permutation(30)
    a, b = (
        clustered(v, p.tolist(), weighted_quantile(0.9))
        for v, p in ((values, identities), (values[order], identities[order]))
    )
    assert a == b


def test_weighted_quantile_counts_copies():
    values, counts = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    repeated = np.repeat(values, counts.astype(int))
    for share in (0.1, 0.5, 0.75, 0.95):
        expected = np.quantile(repeated, share, method="inverted_cdf")
        assert weighted_quantile(share)(values, counts) == expected


def test_too_few_finite_replicates_give_no_interval():
    assert percentile_interval([1.0] * 5 + [float("nan")] * 100) == (None, None)


def test_json_holds_no_infinity():
    plain = Estimate(value=float("inf"), low=float("nan"), high=1.0, n=3).to_json()
    assert plain == {"value": None, "low": None, "high": 1.0, "n": 3, "people": None}


# Half-samples


def test_half_of_the_groups_of_each_set():
    sets = [np.arange(40) % 10, np.arange(12) % 6]
    halves = list(half_samples(sets, replicates=15, seed=0))
    assert len(halves) == 15
    for first, second in halves:
        assert len(set(first)) == 10 // 2
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
    groups = np.arange(200) // 20
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


@pytest.mark.parametrize("drawn", [[], [1.0], [1.0, float("nan")]])
def test_no_interval_without_a_spread(drawn):
    found = interval_estimate(3.0, drawn, n=7)
    assert (found.value, found.low, found.high, found.n) == (3.0, None, None, 7)


def test_intervals_stay_where_values_can_be():
    found = interval_estimate(0.1, [0.0, 0.5, 0.9], n=7, bounds=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)
