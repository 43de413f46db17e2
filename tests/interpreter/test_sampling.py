"""Drawing training pixels by class."""

import pytest
import torch

from interpreter.sampling import PixelSampler
from torch_utils.seeding import generator_for

PIXELS = torch.arange(100, 1100)
LABELS = torch.where(PIXELS < 1000, 0, torch.where(PIXELS < 1090, 2, 3))  # 900, 0, 90, 10
COUNTS = torch.tensor([900.0, 0.0, 90.0, 10.0])


def draw(balance, count=60_000):
    sampler = PixelSampler(PIXELS, LABELS, 4, balance)
    return sampler.draw((count,), generator_for(0, "test"))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_classes_are_drawn_in_proportion_to_a_power_of_their_size(balance):
    wanted = torch.where(COUNTS > 0, COUNTS ** (1 - balance), 0.0)
    wanted = wanted / wanted.sum()
    found = torch.bincount(LABELS[draw(balance) - 100], minlength=4) / 60_000
    deviation = (wanted * (1 - wanted) / 60_000).sqrt()
    assert ((found - wanted).abs() <= 4 * deviation).all()
    assert found[1] == 0


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_pixels_of_a_class_are_drawn_alike(balance):
    """Chi-squared of the 90 pixels of class 2: mean 89, deviation 13.3."""
    drawn = draw(balance)
    counts = torch.bincount(drawn[LABELS[drawn - 100] == 2] - 1000, minlength=90)[:90].double()
    expected = counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < 89 + 5 * 13.3
    assert counts.min() > 0


def test_every_pixel_can_be_drawn_and_no_other():
    assert set(draw(1.0, 200_000).tolist()) == set(PIXELS.tolist())


def test_weights_make_a_loss_over_all_pixels_the_mean_over_draws():
    sampler = PixelSampler(PIXELS, LABELS, 4, 0.5)
    weighted = sampler.weights[LABELS].double()
    by_class = torch.zeros(4, dtype=torch.float64).index_add(0, LABELS, weighted)
    torch.testing.assert_close(by_class / by_class.sum(), sampler.shares, rtol=1e-6, atol=1e-9)


def test_shape_and_order_are_a_function_of_the_generator():
    sampler = PixelSampler(PIXELS, LABELS, 4, 0.5)
    first, again = (sampler.draw((3, 5), generator_for(1, "x")) for _ in range(2))
    assert first.shape == (3, 5)
    assert torch.equal(first, again)
    assert len(sampler) == 1000
