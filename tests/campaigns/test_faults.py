"""Some operations that fail; `make campaigns` lets each one fail."""

import pytest

from tests.campaigns import faults
from tests.campaigns.cases import CASES, Bench

CHOSEN = ("filter", "features", "pair archive", "refine")
CASE = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_is_one_line_and_the_command_continues(name, tmp_path):
    rows = faults.run([CASE[name]], tmp_path, seed=0, deadline=lambda: False, most=4)
    assert rows[name]["attacks"] == 4
    assert sum(n for ended, n in rows[name]["ended"].items() if not ended.endswith("code 0")) > 1
    assert not rows[name]["found"], rows[name]["found"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(CASE["refine"], tmp_path_factory.mktemp("bench"))
    code, text = bench.finish()
    assert code == 0, text
    bench.keep_expected()
    return bench


def test_two_at_once_and_the_clock_set_back(bench):
    assert not faults.start_twice(bench)
    assert not faults.set_clock_back(bench)


def test_a_small_disk_that_fills(bench):
    try:
        with faults.small_disk(bench.work / "out", 64):
            pass
    except OSError as error:
        pytest.skip(str(error))
    assert not faults.fill_disk(bench, kib=8)


def test_a_part_of_a_file_is_forgiven_after_kills_only(tmp_path):
    bench = Bench(CASE["generate"], tmp_path)
    bench.keep_expected()
    (bench.work / ".net.pkl.0a.part").touch()
    assert bench.compare()
    assert not bench.compare(was_killed=True)
