"""The two-sample test against kinds that differ and do not, and edges of known shifts."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.refinement_measures import (
    ClassifierOptions,
    area_under_curve,
    edge_correlation,
    edge_shift,
    edge_strength,
    two_sample_test,
)

OPTIONS = ClassifierOptions(steps=40, width=4, batch=32)


def images(seed, shift=0, count=40):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(40 + shift, 200 + shift, [count, 1, 16, 16], generator=random).byte()


def test_different_kinds_are_told():
    found = two_sample_test(images(0), images(1, shift=50), OPTIONS)
    assert found.accuracy > 0.95
    assert found.auc > 0.95


def test_equal_kinds_are_not():
    found = two_sample_test(images(0, count=400), images(1, count=400), OPTIONS)
    assert 0.4 < found.accuracy < 0.6
    assert 0.4 < found.auc < 0.6


def test_only_the_second_halves_count():
    """The kinds swap their looks half way: what was learnt is wrong then."""
    bright, dark = images(0, shift=50), images(1)
    first, second = torch.cat([dark[:20], bright[:20]]), torch.cat([bright[20:], dark[20:]])
    assert two_sample_test(first, second, OPTIONS).accuracy < 0.1


def test_seed_decides():
    found = [
        two_sample_test(
            images(0), images(1, shift=3), ClassifierOptions(steps=5, width=4, seed=seed)
        )
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
        (lambda: two_sample_test(images(0, count=3), images(1), OPTIONS), "at least 4 images"),
        (
            lambda: two_sample_test(images(0), images(1).repeat(1, 3, 1, 1), OPTIONS),
            "second must have",
        ),
        (lambda: ClassifierOptions(steps=0), "at least 1, batch 2, got 0, 16, 64"),
    ],
)
def test_bad_values(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


# Edges


def smooth(seed=0, side=40, channels=3):
    noise = np.random.default_rng(seed).normal(size=(channels, side, side))
    soft = ndimage.gaussian_filter(noise, (0, 2, 2))
    return soft / np.abs(soft).max() * 100 + 128


def tensor(*arrays):
    return torch.from_numpy(np.stack(arrays).round().clip(0, 255).astype(np.uint8))


def test_strength_against_numpy():
    x = tensor(smooth())[0].double().numpy()
    down, across = (np.gradient(x, axis=axis)[:, 1:-1, 1:-1] * 2 for axis in (1, 2))
    expected = np.sqrt((down**2 + across**2).sum(0))
    np.testing.assert_allclose(edge_strength(tensor(x))[0].numpy(), expected)


def test_light_and_colour_leave_edges_where_they_are():
    x = smooth()
    y = 0.6 * x + np.array([10, 60, 30])[:, None, None]
    assert edge_correlation(tensor(x), tensor(y)).item() > 0.99
    assert edge_shift(tensor(x), tensor(y)).abs().max() < 0.02


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, -2), (-1, 2), (0.5, 0), (-0.4, 1.3)])
def test_shifts_are_found(right, down):
    x = smooth(side=48)
    y = ndimage.shift(x, (0, down, right), order=3, mode="nearest")
    found = edge_shift(tensor(x, x), tensor(y, x))
    assert found[0].tolist() == pytest.approx([right, down], abs=0.15)
    assert found[1].abs().max() < 0.02


def test_other_images_do_not_correlate():
    assert edge_correlation(tensor(smooth(0)), tensor(smooth(1))).abs().item() < 0.3


def test_flat_images_have_no_edges():
    flat = torch.full([1, 1, 20, 20], 7, dtype=torch.uint8)
    assert edge_correlation(flat, tensor(smooth(channels=1, side=20))).item() == 0
