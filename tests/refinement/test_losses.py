"""The terms of the loss against numbers worked out by hand, and NumPy."""

import math

import numpy as np
import pytest
import torch

from refinement.losses import (
    discriminator_loss,
    feature_difference,
    image_difference,
    mean_difference,
    realism_loss,
    region_weights,
)
from refinement.options import Norm

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.uniform(-1, 1, (2, 3, 4, 5, 6))
LOGITS = RANDOM.normal(size=(3, 2, 5)) * 3
WEIGHTS = RANDOM.uniform(0, 2, (3, 5, 6))


def tensor(array):
    return torch.from_numpy(array)


def test_realism_of_known_probabilities():
    """-log(1 - D) where D is 1/2, 3/4 and 0.9."""
    probability = torch.tensor([[[0.5, 0.75, 0.9]]]).double()
    expected = (math.log(2) + math.log(4) + math.log(10)) / 3
    assert realism_loss(probability.logit()).item() == pytest.approx(expected)


def test_realism_against_the_published_formula():
    probability = 1 / (1 + np.exp(-LOGITS))
    expected = -np.log(1 - probability).mean((1, 2))
    np.testing.assert_allclose(realism_loss(tensor(LOGITS)).numpy(), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("is_refined", [True, False])
def test_discriminator_loss_is_cross_entropy(smoothing, is_refined):
    probability = 1 / (1 + np.exp(-LOGITS))
    wanted = 1 - smoothing if is_refined else smoothing
    expected = -(wanted * np.log(probability) + (1 - wanted) * np.log(1 - probability))
    found = discriminator_loss(tensor(LOGITS), is_refined=is_refined, smoothing=smoothing)
    np.testing.assert_allclose(found.numpy(), expected.mean((1, 2)))


def test_smoothed_loss_is_least_at_the_smoothed_probability():
    logits = torch.linspace(-6, 6, 241).double()[:, None, None]
    losses = discriminator_loss(logits, is_refined=True, smoothing=0.1)
    assert torch.sigmoid(logits[losses.argmin()]).item() == pytest.approx(0.9, abs=0.005)


def test_large_logits_stay_finite():
    logits = torch.tensor([[[1e4]], [[-1e4]]])
    assert realism_loss(logits).tolist() == [1e4, 0]
    assert discriminator_loss(logits, is_refined=True).tolist() == [0, 1e4]


@pytest.mark.parametrize(("norm", "power"), [(Norm.L1, 1), (Norm.L2, 2)])
def test_image_difference_is_the_mean_over_channels_and_pixels(norm, power):
    difference = np.abs(X - Y) ** power
    found = image_difference(tensor(X), tensor(Y), norm)
    np.testing.assert_allclose(found.numpy(), difference.mean((1, 2, 3)))
    weighted = image_difference(tensor(X), tensor(Y), norm, tensor(WEIGHTS))
    expected = (difference.mean(1) * WEIGHTS).mean((1, 2))
    np.testing.assert_allclose(weighted.numpy(), expected)


def test_image_difference_sees_what_the_mean_of_channels_does_not():
    """One channel up, another down by the same: the published measure is 0, the seed's is not."""
    x = torch.zeros(1, 3, 2, 2)
    y = x + torch.tensor([0.3, -0.3, 0.0])[None, :, None, None]
    assert mean_difference(x, y, Norm.L1, [3]).item() == pytest.approx(0, abs=1e-7)
    assert image_difference(x, y, Norm.L1).item() == pytest.approx(0.2)


def test_each_modality_has_a_mean_of_its_own():
    x = torch.zeros(1, 4, 2, 2)
    y = x + torch.tensor([0.3, 0.3, 0.3, -0.9])[None, :, None, None]
    assert mean_difference(x, y, Norm.L1, [4]).item() == pytest.approx(0, abs=1e-7)
    assert mean_difference(x, y, Norm.L1, [3, 1]).item() == pytest.approx((0.3 + 0.9) / 2)


def test_feature_difference_and_its_gradient():
    x, y = tensor(X), tensor(Y).requires_grad_()
    found = feature_difference(x, y, Norm.L2, lambda images: 2 * images[:, :1])
    np.testing.assert_allclose(
        found.detach().numpy(), (4 * (X - Y)[:, :1] ** 2).mean((1, 2, 3)), rtol=1e-12
    )
    found.sum().backward()
    assert (y.grad[:, 0] != 0).all()
    assert (y.grad[:, 1:] == 0).all()


def test_weights_of_regions():
    masks = torch.tensor([[[0, 1], [2, 1]]], dtype=torch.uint8)
    table = torch.tensor([1.0, 5.0, 0.0])
    assert region_weights(masks, table).tolist() == [[[1, 5], [0, 5]]]


@pytest.mark.parametrize("norm", list(Norm))
def test_gradients_are_right(norm):
    x = tensor(X[:1, :, :2, :2])
    y = tensor(Y[:1, :, :2, :2]).requires_grad_()
    weights = tensor(WEIGHTS[:1, :2, :2])
    assert torch.autograd.gradcheck(lambda y: image_difference(x, y, norm, weights), y)
    logits = tensor(LOGITS).requires_grad_()
    assert torch.autograd.gradcheck(realism_loss, logits)
