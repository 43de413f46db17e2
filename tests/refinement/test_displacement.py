"""Edges of known shifts."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from refinement.displacement import edge_correlation, edge_shift, edge_strength


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
