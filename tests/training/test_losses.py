"""Losses: published numbers, closed forms, errors."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from tests.helpers.golden import assert_golden, read_small
from tests.helpers.networks import golden_discriminator, golden_generator, published_name
from tests.helpers.tensors import random64 as random
from training.losses import loss_as_fake, loss_as_real, path_lengths, r1_penalty

# Seeds and salts of the golden losses by modality.
CHANNELS = {"rgb": 3, "nir": 1}
SALTS = {"rgb": "D.", "nir": "D_NIR."}
SIDE = 32


# Golden values: one training step's quantities


@cache
def golden():
    return read_small("losses")


def numpy_normal(seed, *shape):
    values = np.random.RandomState(golden()[0]["seeds"][seed]).standard_normal(shape)
    return torch.tensor(values, dtype=torch.float32)


def discriminator(name):
    arguments = {**golden()[0]["D"], "img_channels": CHANNELS[name]}
    return golden_discriminator(arguments, SALTS[name])


def generator():
    return golden_generator(golden()[0]["G"], CHANNELS, "G.")


def gradient_norms(network, order):
    norms = {published_name(name): p.grad.norm() for name, p in network.named_parameters()}
    assert norms.keys() == set(order)
    return [norms[name] for name in order]


def assert_every_norm(actual, expected):
    np.testing.assert_allclose([float(norm) for norm in actual], expected, rtol=1e-3)
    assert_golden(actual, expected)


@pytest.mark.parametrize("name", CHANNELS)
def test_golden_discriminator_step(name):
    parameters, arrays = golden()
    network = discriminator(name)
    images = torch.tanh(numpy_normal(name, 4, CHANNELS[name], SIDE, SIDE)).requires_grad_()
    logits = network(images)
    penalties = r1_penalty(logits, images)
    (loss_as_real(logits).mean() + 0.5 * penalties.mean()).backward()
    assert_golden(logits.detach(), arrays[f"logits_{name}"])
    assert_golden(penalties.detach(), arrays[f"r1_{name}"])
    norms = gradient_norms(network, parameters["parameters_D"])
    assert_every_norm(norms, arrays[f"d_grad_norm_{name}"])


def assert_norms_on_some_side(norms_of, z, expected):
    """Compare the norms of all gradients for z, where a kink is near, for z's neighbours too.

    Units of the published network lie within float32's rounding of the kink of their activation:
    which side they take differs between processors and moves a norm by 0.5 %. Both sides are right.
    """
    noise = [random(*z.shape, seed=seed).float() for seed in range(6)]
    sides = np.float64([norms_of(z), *(norms_of(z * (1 + 1e-6 * n)) for n in noise)])
    np.testing.assert_allclose(sides[0], expected, rtol=0.01)
    nearest = np.abs(sides - expected).argmin(axis=0)
    assert_every_norm(sides[nearest, np.arange(len(nearest))], expected)


def test_golden_generator_step():
    parameters, arrays = golden()
    totals = []

    def norms_of(z):
        network = generator()
        images = network(z, noise_mode="const")
        losses = {name: loss_as_real(discriminator(name)(images[name])) for name in CHANNELS}
        totals.append(losses["rgb"] + 0.5 * losses["nir"])
        totals[-1].mean().backward()
        return gradient_norms(network, parameters["parameters_G"])

    assert_norms_on_some_side(norms_of, numpy_normal("z", 4, 64), arrays["g_grad_norm"])
    assert_golden(totals[0].detach(), arrays["g_loss"])


def test_golden_path_lengths():
    parameters, arrays = golden()
    found = []
    noise = {
        name: numpy_normal(f"pl_noise_{name}", 4, channels, SIDE, SIDE)
        for name, channels in CHANNELS.items()
    }

    def norms_of(z):
        network = generator()
        ws = network.map(z)
        found.append(path_lengths(network.synthesis(ws, "const"), ws, noise))
        (found[-1] - 0.3).square().mean().backward()
        # The last biases of the heads and features do not change lengths: no gradient or zero.
        for p in network.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return gradient_norms(network, parameters["parameters_G"])

    assert_norms_on_some_side(norms_of, numpy_normal("z", 4, 64), arrays["pl_grad_norm"])
    assert_golden(found[0].detach(), arrays["path_lengths"])


# Closed forms


def test_adversarial_losses_are_logarithms_of_probabilities():
    logits = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]
    chance = 1 / (1 + torch.exp(-logits))
    torch.testing.assert_close(loss_as_real(logits), -torch.log(chance))
    torch.testing.assert_close(loss_as_fake(logits), -torch.log(1 - chance))
    extreme = torch.tensor([[-1e4], [1e4]])
    assert loss_as_real(extreme)[:, 0].tolist() == [1e4, 0]
    assert loss_as_fake(extreme)[:, 0].tolist() == [0, 1e4]


def test_r1_of_a_linear_function_is_its_squared_norm():
    weight, images = random(3, 4, 4), random(5, 3, 4, 4, seed=1).requires_grad_()
    logits = (images * weight).sum(dim=[1, 2, 3])[:, None] + 7
    expected = weight.square().sum().expand(5)
    torch.testing.assert_close(r1_penalty(logits, images), expected)


def test_r1_of_a_quadratic_function_and_its_gradient():
    images = random(5, 1, 4, 4).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    logits = scale * images.square().sum(dim=[1, 2, 3])[:, None] / 2
    penalty = r1_penalty(logits, images)
    squares = images.detach().square().sum(dim=[1, 2, 3])
    torch.testing.assert_close(penalty, 9 * squares)
    penalty.sum().backward()
    torch.testing.assert_close(scale.grad, 6 * squares.sum())


def test_r1_needs_images_that_require_gradients():
    images = random(2, 3, 4, 4)
    with pytest.raises(ValueError, match="r1_penalty: images must require gradients"):
        r1_penalty(images.sum(dim=[1, 2, 3])[:, None], images)


def linear_images(ws, weight):
    """Images that are a linear map of the mean w: weight [w_dim, C, H, W]."""
    return torch.einsum("nlw,wchx->nchx", ws, weight)


def test_path_lengths_of_a_linear_map():
    ws, weight = random(4, 6, 5).requires_grad_(), random(5, 3, 8, 8, seed=1)
    noise = random(4, 3, 8, 8, seed=2)
    lengths = path_lengths({"rgb": linear_images(ws, weight)}, ws, {"rgb": noise})
    # Each layer's gradient is the projection of the noise: the mean over layers is one of them.
    projected = torch.einsum("nchx,wchx->nw", noise, weight) / 8
    torch.testing.assert_close(lengths, projected.norm(dim=1))


def test_path_lengths_add_gradients_of_modalities_before_the_norm():
    ws = random(4, 6, 5).requires_grad_()
    weights = {"rgb": random(5, 3, 8, 8, seed=1), "nir": random(5, 1, 8, 8, seed=3)}
    images = {name: linear_images(ws, weight) for name, weight in weights.items()}
    noise = {name: random(*image.shape, seed=9) for name, image in images.items()}
    projected = sum(
        torch.einsum("nchx,wchx->nw", noise[name], weights[name]) / 8 for name in weights
    )
    torch.testing.assert_close(path_lengths(images, ws, noise), projected.norm(dim=1))


def test_path_lengths_of_layers_are_averaged():
    ws = random(3, 2, 5).requires_grad_()
    image = (ws[:, 0] * 3).sum(dim=1)[:, None, None, None].expand(-1, 1, 4, 4)
    lengths = path_lengths({"nir": image}, ws, {"nir": torch.ones(3, 1, 4, 4).double()})
    # The gradient is 3 * 16 / 4 in each of 5 entries of the first layer, 0 in the second.
    expected = math.sqrt(5 * 12**2 / 2)
    torch.testing.assert_close(lengths, torch.full([3], expected, dtype=torch.float64))


def test_path_lengths_expect_the_mean_norm_of_the_jacobian():
    """E|J'y|² is |J|² for normal y: equation 4 of arXiv:1912.04958 for a linear map."""
    weight = random(5, 1, 8, 8, seed=1)
    ws = torch.zeros(20000, 1, 5, dtype=torch.float64).requires_grad_()
    noise = random(20000, 1, 8, 8, seed=2)
    lengths = path_lengths({"nir": linear_images(ws, weight)}, ws, {"nir": noise})
    expected = weight.square().sum() / 64
    assert float(lengths.square().mean()) == pytest.approx(float(expected), rel=0.03)
