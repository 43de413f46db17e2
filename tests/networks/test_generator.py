"""The generator: published numbers, textbook forms, truncation, noise, sizes, errors."""

from functools import cache

import pytest
import torch

from networks.config import MappingConfig
from networks.generator import Generator, SynthesisLayer
from networks.options import NoiseMode
from tests.helpers import naive_networks
from tests.helpers.golden import assert_golden, read_shared, read_shared_json, read_small
from tests.helpers.networks import (
    golden_generator,
    published_name,
    random_network,
    small_generator_config,
)
from tests.helpers.tensors import random

DUAL = {"rgb": 3, "nir": 1}
SINGLE = {"rgb": 3}
SETS = {"dual_32": DUAL, "dual_cond_32": DUAL, "single_32": SINGLE, "sg3_32": SINGLE}


# Golden values


@torch.no_grad()
def test_golden_small():
    arguments, arrays = read_small("networks_dual_32")
    generator = golden_generator(arguments["G"], DUAL)
    psi, cutoff = arguments["truncation_psi"], arguments["truncation_cutoff"]
    ws = generator.map(torch.tensor(arrays["z"]), None, psi, cutoff)
    assert_golden(ws, arrays["ws_truncated"])
    images = generator.synthesis(ws, arguments["noise_mode"])
    assert_golden(images["rgb"][:1], arrays["img"])
    assert_golden(images["nir"][:1], arrays["nir"])


@cache
def draw(name, salt):
    """Return ws, truncated ws, images and features of a full golden set, and its arrays."""
    arguments, arrays = read_shared_json(f"networks_{name}"), read_shared(f"networks_{name}")
    generator = golden_generator(arguments["G"], SETS[name], salt)
    z, c = torch.tensor(arrays["z"]), torch.tensor(arrays["c"])
    with torch.no_grad():
        ws, truncated = generator.map(z, c), generator.map(z, c, 0.5, 4)
        images, features = generator.synthesis.with_features(truncated, "const")
    return ws, truncated, images, features, arrays


@pytest.mark.parametrize("name", SETS)
def test_golden_full(name):
    ws, truncated, images, _, arrays = draw(name, "G_ema.")
    actual = {"ws": ws, "ws_truncated": truncated, "img": images["rgb"], "nir": images.get("nir")}
    compared = [key for key in actual if key in arrays]
    assert {"ws_truncated", "img"} <= set(compared)
    for key in compared:
        assert_golden(actual[key], arrays[key])


@pytest.mark.parametrize("name", [name for name in SETS if name != "sg3_32"])
def test_golden_raw_generator(name):
    _, _, images, _, arrays = draw(name, "G.")
    assert_golden(images["rgb"], arrays["raw_img"])


@pytest.mark.parametrize("name", ["dual_32", "dual_cond_32"])
def test_golden_features(name):
    _, _, _, features, arrays = draw(name, "G_ema.")
    assert [x.shape[1] for x in features] == arrays["feature_channels"].tolist()
    assert [x.shape[2] for x in features] == arrays["feature_sizes"].tolist()
    assert_golden([x.mean() for x in features], arrays["feature_mean"])
    assert_golden([x.std() for x in features], arrays["feature_std"])
    slices = [key for key in arrays if key.startswith("feature_") and key[8:].isdigit()]
    assert len(slices) == 5
    for key in slices:
        assert_golden(features[int(key[8:])][:1, :4], arrays[key])


@pytest.mark.parametrize("name", SETS)
def test_tensors_are_the_published_ones(name):
    published = read_shared_json(f"networks_{name}")
    state = golden_generator(published["G"], SETS[name]).state_dict()
    ours = {published_name(name): list(tensor.shape) for name, tensor in state.items()}
    theirs = {
        name: shape
        for name, shape in published["state_dict_G"].items()
        if not name.endswith("resample_filter")
    }
    assert ours == theirs


# Modulated convolution against its textbook form


def layer(up, **changes):
    config = small_generator_config(activation="linear", use_noise=False, **changes)
    made = SynthesisLayer(5, 7, resolution=8, up=up, c=config).double()
    with torch.no_grad():
        made.affine.weight.copy_(random(5, config.w_dim, seed=3))
    return made


@torch.no_grad()
@pytest.mark.parametrize("up", [1, 2])
def test_modulated_convolution_equals_weights_per_sample(up, assert_near):
    made = layer(up)
    x, w = random(3, 5, 8 // up, 8 // up, dtype=torch.float64), random(3, 12).double()
    styles = made.affine(w)
    result = made(x, w, NoiseMode.NONE, None)
    if up == 1:
        expected = naive_networks.modulated_convolution(x, made.weight, styles)
    else:
        naive = naive_networks.upsampling_modulated_convolution
        expected = naive(x, made.weight, styles, (1.0, 3.0, 3.0, 1.0))
    assert_near(result, expected)


@torch.no_grad()
def test_demodulated_channels_have_unit_variance():
    made = layer(1)
    x, w = random(400, 5, 8, 8, dtype=torch.float64), random(1, 12).double().expand(400, -1)
    result = made(x, w, NoiseMode.NONE, None)[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(result.std(dim=(0, 2, 3)), torch.ones(7).double(), rtol=0.05, atol=0)


@torch.no_grad()
def test_scale_of_styles_does_not_matter(assert_near):
    made = layer(1)
    x, w = random(2, 5, 8, 8, dtype=torch.float64), random(2, 12).double()
    before = made(x, w, NoiseMode.NONE, None)
    made.affine.weight.mul_(1000)
    made.affine.bias.mul_(1000)
    assert_near(made(x, w, NoiseMode.NONE, None), before, torch.float32)


@torch.no_grad()
def test_half_precision_scales_styles_to_one_and_keeps_the_product():
    made = layer(1).float()
    w = 50 * random(2, 12)
    x = random(2, 5, 8, 8).clamp(-1, 1)
    scaled, factors = made.modulate(x.half(), w)
    plain, plain_factors = made.modulate(x, w)
    assert plain.abs().max() > 10
    assert scaled.dtype == torch.float16
    assert scaled.abs().max() <= 1
    product = scaled.float() * factors.norm(dim=1)[:, None, None, None]
    expected = plain * plain_factors.norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(product, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("up", [1, 2])
def test_half_precision_overflows_neither_forward_nor_backward(up):
    made = layer(up).float()
    with torch.no_grad():
        made.weight.mul_(1000)
    w, x = random(2, 12), random(2, 5, 8, 8).sign() * 256  # what the published clamp allows

    def run(x):
        y = made(x, w, NoiseMode.NONE, None).float()
        return y, *torch.autograd.grad(y.square().mean(), [made.affine.weight, made.weight])

    for half, full in zip(run(x.half()), run(x), strict=True):
        assert (half - full).abs().max() < 0.01 * full.abs().max()


@torch.no_grad()
def test_image_head_is_a_modulated_convolution_without_demodulation(assert_near):
    generator = random_network(small_generator_config()).double()
    head = generator.synthesis.blocks["b8"].heads["rgb"]
    channels = head.weight.shape[1]
    x, w = random(3, channels, 8, 8, dtype=torch.float64), random(3, 12).double()
    styles = head.affine(w) / channels**0.5
    expected = naive_networks.modulated_convolution(x, head.weight, styles, demodulate=False)
    assert_near(head(x, w), expected + head.bias[None, :, None, None])


# Mapping and truncation


@torch.no_grad()
@pytest.mark.parametrize("c_dim", [0, 6])
def test_mapping_equals_its_formula(c_dim, assert_near):
    config = small_generator_config(c_dim=c_dim, mapping=MappingConfig(layers=3, layer_features=10))
    mapping = random_network(config).mapping
    z, c = random(4, 8), random(4, c_dim, seed=1)

    def normalized(x):
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    x = normalized(z)
    if c_dim:
        x = torch.cat(
            [x, normalized(c @ mapping.embed.weight.t() / 6**0.5 + mapping.embed.bias)], 1
        )
    for fc in (mapping.fc0, mapping.fc1, mapping.fc2):
        x = x @ fc.weight.t() * 0.01 / x.shape[1] ** 0.5 + fc.bias * 0.01
        x = torch.nn.functional.leaky_relu(x, 0.2) * 2**0.5
    assert x.shape == (4, 12)
    assert_near(mapping(z, c), x)


@torch.no_grad()
def test_truncation_closed_forms(assert_near):
    generator = random_network(small_generator_config())
    z = random(3, 8)
    ws, average = generator.map(z), generator.mapping.w_avg
    assert ws.shape == (3, generator.num_ws, 12)
    assert torch.equal(ws, ws[:, :1].expand_as(ws))
    assert torch.equal(generator.map(z, truncation_psi=0), average.expand_as(ws))
    assert_near(generator.map(z, truncation_psi=0.3), average + 0.3 * (ws - average))
    assert_near(generator.map(z, truncation_psi=-1), 2 * average - ws)


@torch.no_grad()
@pytest.mark.parametrize("cutoff", [0, 1, 4, 99])
def test_truncation_cutoff(cutoff):
    generator = random_network(small_generator_config())
    z = random(3, 8)
    whole, ws = generator.map(z, None, 0.5), generator.map(z)
    cut = generator.map(z, None, 0.5, cutoff)
    assert torch.equal(cut[:, :cutoff], whole[:, :cutoff])
    assert torch.equal(cut[:, cutoff:], ws[:, cutoff:])
    assert torch.equal(generator.map(z, None, 1, cutoff), ws)


@torch.no_grad()
def test_forward_is_map_and_synthesis():
    generator = random_network(small_generator_config(c_dim=3))
    z, c = random(2, 8), random(2, 3, seed=1)
    images = generator(z, c, 0.7, 2, "const")
    expected = generator.synthesis(generator.map(z, c, 0.7, 2), "const")
    for name in DUAL:
        assert torch.equal(images[name], expected[name])


def test_running_mean_of_w(assert_near):
    generator = random_network(small_generator_config(mapping=MappingConfig(w_avg_beta=0.9)))
    before, mean = generator.mapping.w_avg.clone(), random(12).requires_grad_()
    generator.mapping.update_w_avg(mean)
    assert_near(generator.mapping.w_avg, 0.9 * before + 0.1 * mean.detach())
    assert not generator.mapping.w_avg.requires_grad


# Noise


@torch.no_grad()
def test_noise_modes():
    generator = random_network(small_generator_config())
    ws = generator.map(random(2, 8))

    def rgb(mode, seed=None):
        source = None if seed is None else torch.Generator().manual_seed(seed)
        return generator.synthesis(ws, mode, source)["rgb"]

    assert torch.equal(rgb("const"), rgb("const", 1))
    assert torch.equal(rgb("none"), rgb("none", 1))
    assert torch.equal(rgb("random", 1), rgb("random", 1))
    assert torch.equal(rgb("random", 1), generator.synthesis(ws, generator=seeded(1))["rgb"])
    different = [rgb("const"), rgb("none"), rgb("random", 1), rgb("random", 2)]
    for index, image in enumerate(different):
        assert all(not torch.allclose(image, other) for other in different[:index])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_noise_of_strength_zero_is_none():
    generator = Generator(small_generator_config())
    ws = generator.map(random(2, 8))
    none, fresh = generator.synthesis(ws, "none"), generator.synthesis(ws, "random")
    assert torch.equal(none["rgb"], fresh["rgb"])


def test_a_network_without_noise_has_no_noise_tensors():
    generator = Generator(small_generator_config(use_noise=False))
    assert not [name for name in generator.state_dict() if "noise" in name]
    images = generator(random(1, 8), noise_mode="random")
    assert torch.equal(images["nir"], generator(random(1, 8), noise_mode="none")["nir"])


# Errors


def test_bad_inputs_are_refused():
    generator = Generator(small_generator_config(c_dim=3))
    z, c = random(2, 8), random(2, 3)
    with pytest.raises(ValueError, match=r"z must have shape \[\*, 8\], got \[2, 9\]"):
        generator.map(random(2, 9), c)
    with pytest.raises(ValueError, match=r"c must have shape \[\*, 3\], got nothing"):
        generator.map(z)
    with pytest.raises(ValueError, match=r"c must have shape \[\*, 3\], got \[3\]"):
        generator.map(z, c[0])
    with pytest.raises(ValueError, match=r"ws must have shape \[\*, 6, 12\], got \[2, 5, 12\]"):
        generator.synthesis(random(2, 5, 12))
    with pytest.raises(ValueError, match="'loud' is not a valid NoiseMode"):
        generator.synthesis(random(2, 6, 12), "loud")
