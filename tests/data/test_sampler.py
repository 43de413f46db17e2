from itertools import islice

import pytest

from data.sampler import InfiniteSampler


def take(count, *args, **kwargs):
    return list(islice(InfiniteSampler(*args, **kwargs), count))


def test_every_epoch_is_another_permutation():
    order = take(30, 10, seed=1)
    epochs = [order[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_seed_decides_the_order():
    assert take(20, 10, seed=1) == take(20, 10, seed=1)
    assert take(20, 10, seed=1) != take(20, 10, seed=2)


@pytest.mark.parametrize("start", [0, 2, 8, 10, 46])
def test_continued_run_meets_what_the_uninterrupted_one_meets(start):
    whole = take(80, 10, seed=3)
    assert take(30, 10, seed=3, start=start) == whole[start : start + 30]


@pytest.mark.parametrize("start", [0, 12])
def test_ranks_share_out_the_positions(start):
    whole = take(72, 7, seed=3)
    for rank in range(3):
        mine = take(20, 7, seed=3, rank=rank, num_replicas=3, start=start)
        assert mine == whole[start + rank :: 3][:20]


def test_index_at_is_a_pure_function_of_the_position():
    sampler = InfiniteSampler(7, seed=5, start=14)
    whole = take(40, 7, seed=5)
    assert [sampler.index_at(p) for p in reversed(range(40))] == whole[::-1]


def test_one_item_repeats():
    assert take(4, 1) == [0, 0, 0, 0]
