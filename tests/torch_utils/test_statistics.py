"""Moments of reported numbers against NumPy's."""

import numpy as np
import pytest
import torch

from torch_utils.distributed import World
from torch_utils.statistics import Statistics

CPU = torch.device("cpu")


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3 + 5


def test_mean_and_deviation_over_several_reports():
    statistics, reports = Statistics(CPU), [values(7, 2), values(3, seed=1), values(1, seed=2)]
    for report in reports:
        statistics.report("Loss/x", report)
    whole = torch.cat([report.flatten() for report in reports]).double().numpy()
    summary = statistics.summary()["Loss/x"]
    assert summary["num"] == 18
    assert summary["mean"] == pytest.approx(whole.mean())
    assert summary["std"] == pytest.approx(np.std(whole))


def test_scalars_lists_and_tensors():
    statistics = Statistics(CPU)
    for value in (1.0, [2.0, 3.0], torch.tensor(4), torch.tensor(5.0, requires_grad=True)):
        statistics.report("x", value)
    assert statistics.summary() == {"x": {"num": 5, "mean": 3.0, "std": pytest.approx(2**0.5)}}


def test_names_are_apart_and_in_order():
    statistics = Statistics(CPU)
    for name, value in (("b", 1.0), ("a", 2.0), ("c", 3.0)):
        statistics.report(name, value)
    summary = statistics.summary()
    assert list(summary) == ["a", "b", "c"]
    assert [summary[name]["mean"] for name in "abc"] == [2, 1, 3]


def test_equal_values_have_no_deviation():
    statistics = Statistics(CPU)
    statistics.report("x", torch.full([1000], 1e4 + 0.1))
    assert statistics.summary()["x"]["std"] == pytest.approx(0, abs=1e-2)


def test_small_numbers_count_beside_many_large_ones():
    statistics = Statistics(CPU)
    statistics.report("x", torch.full([1 << 20], 1e6))
    statistics.report("x", 1.0)
    expected = (2**20 * 1e6 + 1) / (2**20 + 1)
    assert statistics.summary()["x"]["mean"] == pytest.approx(expected, rel=1e-12)


def test_what_is_not_finite_shows():
    statistics = Statistics(CPU)
    statistics.report("x", torch.tensor([1.0, float("nan")]))
    assert np.isnan(statistics.summary()["x"]["mean"])


def test_nothing_reported():
    statistics = Statistics(CPU)
    assert statistics.summary() == {}
    statistics.report("x", torch.zeros(0))
    assert statistics.summary() == {"x": {"num": 0, "mean": 0.0, "std": 0.0}}


def test_reset():
    statistics = Statistics(CPU)
    statistics.report("x", 1.0)
    statistics.reset()
    assert statistics.summary() == {}
    statistics.report("x", 3.0)
    assert statistics.summary()["x"] == {"num": 1, "mean": 3.0, "std": 0.0}


def test_continued_statistics_are_those_of_one_go():
    whole, first, second = Statistics(CPU), Statistics(CPU), Statistics(CPU)
    for statistics in (whole, first):
        statistics.report("x", values(5))
        statistics.report("y", 2.0)
    second.load_state_dict(first.state_dict())
    for statistics in (whole, second):
        statistics.report("x", values(4, seed=1))
    assert second.summary() == whole.summary()


def test_only_the_first_process_continues_with_what_all_had():
    first = Statistics(CPU)
    first.report("x", values(5))
    state = first.state_dict()
    other = Statistics(CPU, World(rank=1, size=2))
    other.load_state_dict(state)
    assert other.summary()["x"]["num"] == 0
    again = Statistics(CPU, World(rank=0, size=2))
    again.load_state_dict(state)
    assert again.summary() == first.summary()
