"""Refiner and discriminator: identity, sizes, patches, gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from refinement.networks import (
    PatchDiscriminator,
    Refiner,
    RefinerConfig,
)
from refinement.options import PatchKind


def images(channels=3, side=12, count=2):
    random = torch.Generator().manual_seed(channels)
    return torch.rand(count, channels, side, side, generator=random) * 2 - 1


def refiner(**changes):
    torch.manual_seed(0)
    return Refiner(RefinerConfig(**{"channels": 3, "width": 6, "blocks": 2, **changes}))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_untrained_refiner_returns_its_input_bit_by_bit(channels):
    x = images(channels)
    assert torch.equal(refiner(channels=channels)(x), x)


def test_published_form_starts_elsewhere_and_stays_in_range():
    y = refiner(starts_as_identity=False)(images() * 50)
    assert y.shape == (2, 3, 12, 12)
    assert y.abs().max() <= 1
    assert not torch.allclose(y, images(), atol=0.1)


def test_refiner_is_what_the_paper_says():
    """Written out with plain functions: first layer, two blocks, 1x1 layer, input added."""
    network = refiner()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)

    def conv(x, layer):
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(x, layer.weight, layer.bias)

    x = images()
    h = conv(x, network.first).relu()
    for block in network.blocks:
        h = (h + conv(conv(h, block.conv0).relu(), block.conv1)).relu()
    expected = x + F.conv2d(h, network.last.weight, network.last.bias)
    torch.testing.assert_close(network(x), expected)


def test_refiner_takes_any_size():
    network = refiner(kernel=5)
    assert network(torch.zeros(1, 3, 7, 20)).shape == (1, 3, 7, 20)


def test_gradients_reach_all_weights_once_the_last_layer_moves():
    network = refiner()
    network(images()).square().sum().backward()
    assert network.last.weight.grad.abs().sum() > 0
    assert network.first.weight.grad.abs().sum() == 0  # behind a layer of zeros
    with torch.no_grad():
        network.last.weight.normal_()
    network.zero_grad()
    network(images()).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_published_width_of_the_default_refiner():
    network = Refiner(RefinerConfig(channels=1))
    assert [tuple(block.conv0.weight.shape) for block in network.blocks] == [(64, 64, 3, 3)] * 4
    assert network.last.weight.shape == (1, 64, 1, 1)


def test_published_layers_of_the_discriminator():
    shapes = {
        kind: [
            (*layer.kernel_size, *layer.stride, layer.out_channels)
            for layer in PatchDiscriminator(1, kind=kind).layers
            if isinstance(layer, torch.nn.Conv2d)
        ]
        for kind in PatchKind
    }
    head = [(1, 1, 1, 1, 32), (1, 1, 1, 1, 2)]
    assert shapes[PatchKind.EYES] == [(3, 3, 2, 2, 96), (3, 3, 2, 2, 64), (3, 3, 1, 1, 32), *head]
    assert shapes[PatchKind.HANDS] == [(7, 7, 4, 4, 96), (5, 5, 2, 2, 64), (3, 3, 2, 2, 32), *head]


@pytest.mark.parametrize("kind", list(PatchKind))
@pytest.mark.parametrize("side", [16, 33, 64])
def test_number_of_patches(kind, side):
    network = PatchDiscriminator(4, kind=kind, width=0.1)
    logits = network(images(4, side))
    count = math.ceil(side / {PatchKind.EYES: 4, PatchKind.HANDS: 32}[kind])
    assert logits.shape == (2, count, count)


def test_patches_see_only_their_neighbourhood():
    """The receptive field of the layers for eyes is 23 pixels."""
    torch.manual_seed(0)
    network = PatchDiscriminator(1, width=0.25)
    x = images(1, 64, 1).requires_grad_()
    network(x)[0, 8, 8].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert rows.min() >= 8 * 4 - 11
    assert rows.max() <= 8 * 4 + 11


def test_sigmoid_of_the_log_odds_is_the_published_softmax():
    network = PatchDiscriminator(3, width=0.25)
    x = images()
    expected = network.layers(x).softmax(1)[:, 0]
    torch.testing.assert_close(network(x).sigmoid(), expected)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RefinerConfig(channels=0), "channels must be at least 1, got 0"),
        (lambda: RefinerConfig(channels=3, kernel=4), "kernel must be odd, got 4"),
        (lambda: RefinerConfig(channels=3, blocks=0), "blocks must be at least 1, got 0"),
        (
            lambda: refiner()(images(4)),
            r"x must have shape \[\*, 3, \*, \*\], got \[2, 4, 12, 12\]",
        ),
        (
            lambda: PatchDiscriminator(4)(images(3)),
            r"images must have shape \[\*, 4",
        ),
    ],
)
def test_bad_values(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
