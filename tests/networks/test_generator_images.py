"""The generator's images: heads, architectures, published sizes, refused configurations."""

import pytest
import torch

from networks.config import Architecture, GeneratorConfig, MappingConfig
from networks.generator import Generator
from tests.helpers.networks import random_network, small_generator_config
from tests.helpers.tensors import random
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d

SINGLE = {"rgb": 3}


def on_meta(**options):
    with torch.device("meta"):
        return Generator(GeneratorConfig(**options))


# Heads and architectures


@torch.no_grad()
@pytest.mark.parametrize("architecture", Architecture)
def test_architectures_and_three_modalities(architecture):
    heads = {"rgb": 3, "nir": 1, "thermal": 1}
    generator = random_network(small_generator_config(architecture=architecture, heads=heads))
    images, features = generator.synthesis.with_features(generator.map(random(2, 8)), "const")
    assert {name: image.shape for name, image in images.items()} == {
        name: (2, channels, 16, 16) for name, channels in heads.items()
    }
    assert list(images) == list(heads)
    assert not torch.allclose(images["nir"], images["thermal"])
    assert [tuple(x.shape[1:]) for x in features] == [
        (16, 4, 4), (16, 4, 4), (16, 8, 8), (16, 8, 8), (8, 16, 16), (8, 16, 16)
    ]  # fmt: skip
    is_skip = architecture is Architecture.SKIP
    counts = [len(block.heads) for block in generator.synthesis.blocks.values()]
    assert counts == ([3, 3, 3] if is_skip else [0, 0, 3])
    names = generator.state_dict()
    assert any(".skip." in name for name in names) == (architecture is Architecture.RESNET)


@torch.no_grad()
def test_skip_images_are_the_sum_of_upsampled_heads(assert_near):
    generator = random_network(small_generator_config())
    ws = random(2, generator.num_ws, 12)
    images, features = generator.synthesis.with_features(ws, "const")
    image = None
    for index, block in enumerate(generator.synthesis.blocks.values()):
        shown = block.heads["nir"](features[2 * index + 1], ws[:, 2 * index + 1])
        image = shown if image is None else upsample2d(image, block.resample_filter) + shown
    assert_near(images["nir"], image)


@torch.no_grad()
def test_heads_do_not_touch_each_other():
    generator = random_network(small_generator_config())
    ws = random(2, generator.num_ws, 12)
    before = generator.synthesis(ws, "const")
    for block in generator.synthesis.blocks.values():
        block.heads["nir"].weight.zero_()
    after = generator.synthesis(ws, "const")
    assert torch.equal(before["rgb"], after["rgb"])
    assert not torch.allclose(before["nir"], after["nir"])


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_neighbours(assert_near):
    generator = random_network(small_generator_config())
    z = random(3, 8)
    together = generator(z, noise_mode="const")
    for index in range(3):
        alone = generator(z[index : index + 1], noise_mode="const")
        assert_near(alone["rgb"], together["rgb"][index : index + 1])


@torch.no_grad()
def test_clamp_limits_activations():
    generator = random_network(small_generator_config(conv_clamp=0.5))
    features = generator.synthesis.with_features(generator.map(random(2, 8)), "const")[1]
    assert max(float(x.abs().max()) for x in features[1:]) == 0.5


def test_gradients_reach_every_parameter():
    generator = random_network(small_generator_config(c_dim=3))
    images = generator(random(2, 8), random(2, 3))
    sum(image.square().sum() for image in images.values()).backward()
    assert [name for name, p in generator.named_parameters() if not p.grad.abs().sum() > 0] == []


@pytest.mark.cuda
@torch.no_grad()
def test_cuda_equals_cpu(assert_near):
    generator = random_network(small_generator_config(num_fp16_res=2, conv_clamp=256))
    ws = generator.map(random(2, 8))
    expected = generator.synthesis(ws, "const")
    result = generator.cuda().synthesis(ws.cuda(), "const")
    for name, image in result.items():
        assert image.dtype == torch.float32
        assert_near(image.cpu() / expected[name].std(), expected[name] / expected[name].std(),
                    torch.bfloat16)  # fmt: skip


# Sizes


@pytest.mark.parametrize(
    ("resolution", "channel_base", "num_ws", "channels"),
    [(256, 16384, 14, 4992), (512, 32768, 16, 6016)],
)
def test_published_sizes(resolution, channel_base, num_ws, channels):
    generator = on_meta(resolution=resolution, channel_base=channel_base)
    assert generator.num_ws == num_ws
    with torch.no_grad():
        ws = torch.empty([1, num_ws, 512], device="meta")
        images, features = generator.synthesis.with_features(ws, "const")
    assert sum(x.shape[1] for x in features) == channels
    assert images["rgb"].shape == (1, 3, resolution, resolution)
    assert images["nir"].shape == (1, 1, resolution, resolution)


def test_published_number_of_parameters():
    generator = on_meta(resolution=256, channel_base=16384, mapping=MappingConfig(layers=2))
    counts = {name: p.numel() for name, p in generator.named_parameters()}
    nir = sum(count for name, count in counts.items() if ".heads.nir." in name)
    single = on_meta(
        resolution=256, channel_base=16384, mapping=MappingConfig(layers=2), heads=SINGLE
    )
    assert nir == 1_282_951
    assert round(sum(counts.values()) / 1e6, 2) == 24.47
    assert sum(p.numel() for p in single.parameters()) == sum(counts.values()) - nir


def test_sixteen_bit_blocks_are_the_largest():
    config = GeneratorConfig(resolution=256, num_fp16_res=4)
    halves = [side for side in config.block_resolutions if config.is_half_at(side)]
    assert halves == [32, 64, 128, 256]
    all_of_them = GeneratorConfig(resolution=16, num_fp16_res=16)
    halves = [side for side in all_of_them.block_resolutions if all_of_them.is_half_at(side)]
    assert halves == [8, 16]  # never the block of 4x4
    assert not GeneratorConfig(resolution=256).is_half_at(256)


def test_smallest_generator_has_one_block():
    images = Generator(small_generator_config(resolution=4))(random(1, 8))
    assert images["rgb"].shape == (1, 3, 4, 4)


def test_filter_of_other_length():
    generator = random_network(small_generator_config(resample_filter=(1.0, 1.0)))
    nir = generator(random(1, 8), noise_mode="const")["nir"]
    assert downsample2d(nir, torch.ones(2, 2) / 4).shape == (1, 1, 8, 8)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 24}, "resolution must be a power of two from 4 to 4096, got 24"),
        ({"resolution": 2}, "resolution must be a power of two"),
        ({"resolution": 8192}, "resolution must be a power of two"),
        ({"channel_base": 8}, r"channel_base must be at least the resolution \(16\).*got 8"),
        ({"z_dim": 0}, "z_dim and c_dim are both 0"),
        ({"w_dim": 0}, "w_dim must be from 1 to 16384, got 0"),
        ({"heads": {}}, "heads must name 1 to 16 modalities, got 0"),
        ({"heads": {"rgb": 0}}, "channels of rgb must be from 1 to 64, got 0"),
        ({"activation": "gelu"}, "activation must be one of .*lrelu.*, got 'gelu'"),
        ({"conv_clamp": 0}, "conv_clamp must be positive, got 0"),
        ({"resample_filter": (1.0, 2.0, 1.0)}, "an even number of taps up to 32, got 3"),
        ({"num_fp16_res": -1}, "num_fp16_res must be from 0 to 16, got -1"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_generator_config(**changes)


def test_bad_mapping_is_refused():
    with pytest.raises(ValueError, match="layers must be from 0 to 64, got 65"):
        MappingConfig(layers=65)
    with pytest.raises(ValueError, match="activation must be one of"):
        MappingConfig(activation="none")
