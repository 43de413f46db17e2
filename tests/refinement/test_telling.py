"""The classifier that tells two kinds of images apart."""

import pytest
import torch

from refinement.telling import TellingOptions, area_under_curve, tell_apart

OPTIONS = TellingOptions(steps=40, width=4, batch=32)


def images(seed, shift=0, count=40):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(40 + shift, 200 + shift, [count, 1, 16, 16], generator=random).byte()


def test_different_kinds_are_told():
    found = tell_apart(images(0), images(1, shift=50), OPTIONS)
    assert found.accuracy > 0.95
    assert found.auc > 0.95


def test_equal_kinds_are_not():
    found = tell_apart(images(0, count=400), images(1, count=400), OPTIONS)
    assert 0.4 < found.accuracy < 0.6
    assert 0.4 < found.auc < 0.6


def test_only_the_second_halves_count():
    """The kinds swap their looks half way: what was learnt is wrong then."""
    bright, dark = images(0, shift=50), images(1)
    first, second = torch.cat([dark[:20], bright[:20]]), torch.cat([bright[20:], dark[20:]])
    assert tell_apart(first, second, OPTIONS).accuracy < 0.1


def test_seed_decides():
    found = [
        tell_apart(images(0), images(1, shift=3), TellingOptions(steps=5, width=4, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]


def test_area_against_counting():
    random = torch.Generator().manual_seed(0)
    low = torch.randint(0, 9, [30], generator=random).float()
    high = torch.randint(2, 12, [20], generator=random).float()
    pairs = [(b > a) + (b == a) / 2 for a in low.tolist() for b in high.tolist()]
    assert area_under_curve(low, high) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: tell_apart(images(0, count=3), images(1), OPTIONS), "at least 4 images"),
        (lambda: tell_apart(images(0), images(1).repeat(1, 3, 1, 1), OPTIONS), "second must have"),
        (lambda: TellingOptions(steps=0), "at least 1, batch 2, got 0, 16, 64"),
    ],
)
def test_bad_values(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
