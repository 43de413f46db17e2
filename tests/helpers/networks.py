"""Small networks with golden weights, or with random ones in which nothing is zero."""

import re
import zlib

import numpy as np
import torch

from networks.config import DiscriminatorConfig, GeneratorConfig, MappingConfig
from networks.discriminator import Discriminator
from networks.generator import Generator

# What StyleGAN3's classes default to and its pickles therefore do not store.
STYLEGAN3_DEFAULTS = {"num_fp16_res": 4, "conv_clamp": 256}


def small_generator_config(**changes):
    options = {"resolution": 16, "z_dim": 8, "w_dim": 12, "channel_base": 128, "channel_max": 16}
    return GeneratorConfig(**{**options, "mapping": MappingConfig(layers=2), **changes})


def small_discriminator_config(**changes):
    options = {"resolution": 16, "channel_base": 128, "channel_max": 16, "mbstd_group_size": 2}
    return DiscriminatorConfig(**{**options, "mapping": MappingConfig(layers=2), **changes})


def random_network(config, seed=0):
    """A network in which no tensor is at the value it starts with."""
    network = Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            noise = torch.randn(tensor.shape, generator=random)
            is_affine_bias = name.endswith("affine.bias")
            scale = 0.1 if name.endswith(("bias", "strength", "w_avg")) else 1.0
            tensor.copy_(noise * scale + float(is_affine_bias))
    return network


# The golden networks: tensors are functions of their published names.


def published_name(name):
    """Return the published name of a tensor of ours."""
    for ours, theirs in (
        ("synthesis.blocks.", "synthesis."),
        ("heads.rgb.", "torgb."),
        ("heads.nir.", "toseg."),
        ("from_image.", "fromrgb."),
        ("epilogue.", "b4."),
    ):
        name = name.replace(ours, theirs)
    return name.removeprefix("blocks.")


def golden_tensor(name, shape, salt):
    """Return the tensor of a published name; see ../shared/golden/README.md."""
    random = np.random.RandomState(zlib.crc32((salt + name).encode()))
    value = torch.tensor(random.standard_normal(shape), dtype=torch.float32)
    if re.fullmatch(r"mapping\.fc\d+\.weight", name):
        return 100 * value
    if re.fullmatch(r"mapping\.fc\d+\.bias", name):
        return 10 * value
    if name.endswith("noise_strength"):
        return torch.tensor(0.1)
    if name.endswith("affine.bias"):
        return 1 + 0.1 * value
    return 0.1 * value if name.endswith(("bias", "w_avg")) else value


def golden_network(config, salt):
    network = Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)
    state = {
        name: golden_tensor(published_name(name), tuple(tensor.shape), salt)
        for name, tensor in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network


def golden_generator(arguments, heads, salt="G_ema."):
    """Build a generator from published constructor arguments."""
    synthesis = arguments.get("synthesis_kwargs", {**arguments, **STYLEGAN3_DEFAULTS})
    config = GeneratorConfig(
        resolution=arguments["img_resolution"],
        heads=heads,
        z_dim=arguments["z_dim"],
        c_dim=arguments["c_dim"],
        w_dim=arguments["w_dim"],
        mapping=MappingConfig(layers=arguments["mapping_kwargs"]["num_layers"]),
        channel_base=synthesis["channel_base"],
        channel_max=synthesis["channel_max"],
        num_fp16_res=synthesis["num_fp16_res"],
        conv_clamp=synthesis["conv_clamp"],
    )
    return golden_network(config, salt)


def golden_discriminator(arguments, salt="D."):
    """Build a discriminator from published constructor arguments."""
    arguments = {**STYLEGAN3_DEFAULTS, **arguments}
    config = DiscriminatorConfig(
        resolution=arguments["img_resolution"],
        channels=arguments.get("img_channels", 3),
        c_dim=arguments["c_dim"],
        channel_base=arguments["channel_base"],
        channel_max=arguments["channel_max"],
        num_fp16_res=arguments["num_fp16_res"],
        conv_clamp=arguments["conv_clamp"],
        mbstd_group_size=arguments["epilogue_kwargs"]["mbstd_group_size"],
    )
    return golden_network(config, salt)
