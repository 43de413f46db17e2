"""The buffer of earlier images."""

import pytest
import torch

from refinement.history import HistoryBuffer


def numbered(*numbers):
    return torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)


def kept(buffer):
    return sorted(buffer.draw(len(buffer), random(9))[:, 0, 0, 0].tolist())


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_half_of_a_batch_comes_from_it_once_there_are_enough():
    buffer = HistoryBuffer(8)
    assert buffer.share_of(6) == 0
    buffer.add(numbered(1, 2), random())
    assert buffer.share_of(6) == 2
    buffer.add(numbered(3, 4, 5), random())
    assert [buffer.share_of(batch) for batch in (6, 7, 20)] == [3, 3, 5]


@pytest.mark.parametrize(
    ("capacity", "batches", "left"),
    [
        (4, [(1, 2, 3)], [1, 2, 3]),
        (4, [(1, 2, 3), (4,)], [1, 2, 3, 4]),
        (2, [(1, 2, 3, 4, 5)], [4, 5]),
        (0, [(1, 2)], []),
    ],
)
def test_free_places_come_first(capacity, batches, left):
    buffer = HistoryBuffer(capacity)
    for batch in batches:
        buffer.add(numbered(*batch), random())
    assert kept(buffer) == left
    assert buffer.share_of(4) == min(2, len(left))


def test_new_images_take_as_many_random_places():
    places = set()
    for seed in range(40):
        buffer = HistoryBuffer(6)
        buffer.add(numbered(1, 2, 3, 4, 5, 6), random())
        buffer.add(numbered(7, 8), random(seed))
        left = kept(buffer)
        assert len(left) == 6
        assert left[-2:] == [7, 8]
        places |= set(range(1, 7)) - set(left)
    assert places == set(range(1, 7))


def test_part_of_a_batch_fills_and_the_rest_replaces():
    buffer = HistoryBuffer(3)
    buffer.add(numbered(1, 2), random())
    buffer.add(numbered(3, 4), random())
    assert len(buffer) == 3
    assert {3, 4} <= set(kept(buffer))


def test_drawn_images_differ_and_stay():
    buffer = HistoryBuffer(5)
    buffer.add(numbered(1, 2, 3, 4, 5), random())
    drawn = buffer.draw(3, random(1))[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 3
    assert kept(buffer) == [1, 2, 3, 4, 5]
