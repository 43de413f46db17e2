import numpy as np
import pytest
from scipy import stats

from metrics.estimates import (
    Estimate,
    clustered,
    clustered_share,
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
    people = [str(i) for i in np.repeat(np.arange(40), 25)]
    found = clustered(copied, people, weighted_mean)
    deviation = own.std() / np.sqrt(40)
    assert found.value == pytest.approx(own.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.25)
    assert (found.n, found.people) == (1000, 40)


def test_one_person_has_no_interval():
    found = clustered(np.array([1.0, 2.0]), ["a", "a"], weighted_mean)
    assert (found.value, found.low, found.high) == (1.5, None, None)


def test_a_share_of_nothing_keeps_an_upper_bound():
    found = clustered_share(np.zeros(60), [str(i // 2) for i in range(60)])
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(wilson(0, 30).high)


def test_order_does_not_matter():
    rng = np.random.default_rng(1)
    values, people = rng.normal(size=30), np.array([f"p{i % 6}" for i in range(30)])
    order = rng.permutation(30)
    a, b = (
        clustered(v, p.tolist(), weighted_quantile(0.9))
        for v, p in ((values, people), (values[order], people[order]))
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
