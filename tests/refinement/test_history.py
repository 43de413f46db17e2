"""The buffer of earlier images."""

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


def test_free_places_come_first():
    buffer = HistoryBuffer(4)
    buffer.add(numbered(1, 2, 3), random())
    assert kept(buffer) == [1, 2, 3]
    buffer.add(numbered(4), random())
    assert kept(buffer) == [1, 2, 3, 4]


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


def test_more_images_than_places():
    buffer = HistoryBuffer(2)
    buffer.add(numbered(1, 2, 3, 4, 5), random())
    assert kept(buffer) == [4, 5]


def test_drawn_images_differ_and_stay():
    buffer = HistoryBuffer(5)
    buffer.add(numbered(1, 2, 3, 4, 5), random())
    drawn = buffer.draw(3, random(1))[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 3
    assert kept(buffer) == [1, 2, 3, 4, 5]


def test_no_history():
    buffer = HistoryBuffer(0)
    buffer.add(numbered(1, 2), random())
    assert len(buffer) == 0
    assert buffer.share_of(4) == 0


def test_state_goes_on_as_the_original():
    buffer, other = HistoryBuffer(3), HistoryBuffer(3)
    buffer.add(numbered(1, 2, 3), random())
    other.load_state_dict(buffer.state_dict())
    for one in (buffer, other):
        one.add(numbered(4), random(5))
    assert torch.equal(buffer.draw(2, random(1)), other.draw(2, random(1)))


def test_images_are_copied():
    images = numbered(1, 2).clone().float().requires_grad_()
    buffer = HistoryBuffer(2)
    buffer.add(images, random())
    with torch.no_grad():
        images.zero_()
    assert kept(buffer) == [1, 2]
    assert not buffer.draw(1, random()).requires_grad
