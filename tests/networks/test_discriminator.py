"""The discriminator: published numbers, loops, projection, sizes, errors."""

from functools import cache

import pytest
import torch

from networks.config import Architecture, MappingConfig
from networks.discriminator import Discriminator, minibatch_std
from tests.helpers import naive_networks
from tests.helpers.golden import assert_golden, read_shared, read_shared_json, read_small
from tests.helpers.networks import (
    golden_discriminator,
    golden_generator,
    published_name,
    random_network,
    small_discriminator_config,
)
from tests.helpers.tensors import random

DUAL = {"rgb": 3, "nir": 1}
SETS = ("dual_32", "dual_cond_32", "single_32", "sg3_32")


# Golden values


@torch.no_grad()
def test_golden_small():
    arguments, arrays = read_small("networks_dual_32")
    generator = golden_generator(arguments["G"], DUAL)
    images = generator.synthesis(torch.tensor(arrays["ws_truncated"]), "const")
    rgb = golden_discriminator(arguments["D"], "D.")(images["rgb"])
    nir = golden_discriminator(arguments["D_NIR"], "D_NIR.")(images["nir"])
    assert_golden(rgb, arrays["d_img"])
    assert_golden(nir, arrays["d_nir"])


@cache
def full(name):
    return read_shared_json(f"networks_{name}"), read_shared(f"networks_{name}")


@torch.no_grad()
@pytest.mark.parametrize("name", SETS)
def test_golden_full(name):
    arguments, arrays = full(name)
    discriminator = golden_discriminator(arguments["D"], "D.")
    assert_golden(
        discriminator(torch.tensor(arrays["img"]), torch.tensor(arrays["c"])), arrays["d_img"]
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["dual_32", "dual_cond_32"])
def test_golden_full_nir(name):
    arguments, arrays = full(name)
    discriminator = golden_discriminator(arguments["D_NIR"], "D_NIR.")
    assert_golden(discriminator(torch.tensor(arrays["nir"])), arrays["d_nir"])


@pytest.mark.parametrize("name", [name for name in SETS if name != "sg3_32"])
def test_tensors_are_the_published_ones(name):
    arguments = full(name)[0]
    state = golden_discriminator(arguments["D"]).state_dict()
    ours = {published_name(name): list(tensor.shape) for name, tensor in state.items()}
    theirs = {
        name: shape
        for name, shape in arguments["state_dict_D"].items()
        if not name.endswith("resample_filter")
    }
    assert ours == theirs


# Minibatch standard deviation


@pytest.mark.parametrize("num_channels", [1, 2, 6])
@pytest.mark.parametrize("group_size", [1, 2, 4, 8, 99, None])
def test_minibatch_std_equals_loops(group_size, num_channels, assert_near):
    x = random(8, 6, 4, 3, dtype=torch.float64)
    result = minibatch_std(x, group_size, num_channels)
    assert_near(result, naive_networks.minibatch_std(x, group_size, num_channels))


def test_minibatch_std_of_equal_samples_is_almost_zero():
    x = random(1, 4, 4, 4).expand(4, -1, -1, -1)
    torch.testing.assert_close(
        minibatch_std(x, 4, 1)[:, 4:], torch.full([4, 1, 4, 4], 1e-4), rtol=1e-3, atol=0
    )


def test_minibatch_std_refuses_uneven_groups():
    with pytest.raises(ValueError, match="minibatch of 6 cannot be divided into groups of 4"):
        minibatch_std(random(6, 2, 4, 4), 4, 1)


@torch.no_grad()
def test_only_the_minibatch_joins_samples(assert_near):
    images = random(4, 3, 16, 16)
    apart = random_network(small_discriminator_config(mbstd_num_channels=0))
    alone = torch.cat([apart(images[index : index + 1]) for index in range(4)])
    assert_near(alone, apart(images))
    joined = random_network(small_discriminator_config(mbstd_group_size=4))
    changed = images.clone()
    changed[0] *= 2
    assert not torch.equal(joined(images)[1:], joined(changed)[1:])


# Architectures and conditions


@torch.no_grad()
@pytest.mark.parametrize("c_dim", [0, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", Architecture)
def test_architectures(architecture, channels, c_dim):
    config = small_discriminator_config(architecture=architecture, channels=channels, c_dim=c_dim)
    discriminator = random_network(config)
    logits = discriminator(random(4, channels, 16, 16), random(4, c_dim))
    assert logits.shape == (4, 1)
    assert logits.dtype == torch.float32
    names = discriminator.state_dict()
    inputs = sum(name.endswith("from_image.weight") for name in names)
    assert inputs == (3 if architecture is Architecture.SKIP else 1)
    assert any(".skip." in name for name in names) == (architecture is Architecture.RESNET)


@torch.no_grad()
def test_condition_is_projected(assert_near):
    config = small_discriminator_config(c_dim=5, cmap_dim=7)
    discriminator = random_network(config)
    images, c = random(4, 3, 16, 16), random(4, 5, seed=1)
    x = images
    for block in discriminator.blocks.values():
        x, _ = block(None if x is images else x, images if x is images else None)
    answers = discriminator.epilogue(x, None)
    assert answers.shape == (4, 7)
    projected = torch.stack([answers[n] @ discriminator.mapping(None, c)[n] for n in range(4)])
    assert_near(discriminator(images, c)[:, 0], projected / 7**0.5)
    assert not torch.allclose(discriminator(images, c), discriminator(images, c.flip(0)))


@torch.no_grad()
def test_unconditional_network_ignores_the_condition():
    discriminator = random_network(small_discriminator_config())
    images = random(2, 3, 16, 16)
    assert torch.equal(discriminator(images), discriminator(images, random(2, 5)))


def test_gradients_reach_every_parameter():
    discriminator = random_network(small_discriminator_config(c_dim=5))
    discriminator(random(4, 3, 16, 16), random(4, 5)).sum().backward()
    parameters = discriminator.named_parameters()
    assert [name for name, p in parameters if not p.grad.abs().sum() > 0] == []


@pytest.mark.cuda
@torch.no_grad()
def test_cuda_equals_cpu(assert_near):
    config = small_discriminator_config(num_fp16_res=2, conv_clamp=256, c_dim=5)
    discriminator = random_network(config)
    images, c = random(4, 3, 16, 16), random(4, 5)
    expected = discriminator(images, c)
    result = discriminator.cuda()(images.cuda(), c.cuda())
    assert result.dtype == torch.float32
    assert_near(result.cpu(), expected, torch.bfloat16)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 48}, "resolution must be a power of two from 4 to 4096, got 48"),
        ({"channels": 0}, "channels must be from 1 to 64, got 0"),
        ({"mbstd_group_size": 0}, "mbstd_group_size must be from 1 to 65536, got 0"),
        ({"mbstd_num_channels": -1}, "mbstd_num_channels must be from 0 to 1024, got -1"),
        ({"conv_clamp": -2.0}, "conv_clamp must be positive, got -2.0"),
        ({"c_dim": -1}, "c_dim must be from 0"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_discriminator_config(**changes)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 8, 8), (3, 16, 16)])
def test_images_of_another_shape_are_refused(shape):
    discriminator = Discriminator(small_discriminator_config())
    with pytest.raises(ValueError, match=r"images must have shape \[\*, 3, 16, 16\]"):
        discriminator(torch.zeros(shape))


def test_missing_condition_is_refused():
    config = small_discriminator_config(c_dim=5, mapping=MappingConfig(layers=1))
    with pytest.raises(ValueError, match=r"c must have shape \[\*, 5\], got nothing"):
        Discriminator(config)(torch.zeros(2, 3, 16, 16))
