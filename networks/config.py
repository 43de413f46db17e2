"""Sizes and options of the networks, as frozen configurations that travel with every snapshot."""

from dataclasses import dataclass, field
from enum import StrEnum
from reprlib import repr as shorten
from typing import Any

import torch
from torch import nn

from data.modalities import MODALITIES
from networks.options import HalfPrecision
from torch_utils.ops.bias_act import ACTIVATIONS

MIN_RESOLUTION = 4
MAX_RESOLUTION = 4096
_MAX_WIDTH = 1 << 14
_MAX_HEADS = 16
_MAX_NAME = 40
# What a file may ask for at most: its networks are built before their tensors are compared.
_RANGES = {
    "layers": (0, 64),
    "embed_features": (0, _MAX_WIDTH),
    "layer_features": (0, _MAX_WIDTH),
    "c_dim": (0, 1 << 20),
    "channel_base": (4, 1 << 24),
    "channel_max": (1, _MAX_WIDTH),
    "num_fp16_res": (0, 16),
    "z_dim": (0, _MAX_WIDTH),
    "w_dim": (1, _MAX_WIDTH),
    "channels": (1, 64),
    "cmap_dim": (0, _MAX_WIDTH),
    "mbstd_group_size": (1, 1 << 16),
    "mbstd_num_channels": (0, 1 << 10),
}


class Architecture(StrEnum):
    """How images leave a generator or enter a discriminator. Source: arXiv:1912.04958, figure 7."""

    ORIG = "orig"
    SKIP = "skip"
    RESNET = "resnet"


@dataclass(frozen=True, kw_only=True)
class MappingConfig:
    """The network that turns a latent and a condition into w.

    Attributes:
        layers: fully connected layers.
        embed_features: width of the embedded condition; None is the output's width.
        layer_features: width of the hidden layers; None is the output's width.
        activation: of every layer.
        lr_multiplier: learning rate relative to the other layers.
        w_avg_beta: decay of the running mean of w; unused in a discriminator.
    """

    layers: int = 8
    embed_features: int | None = None
    layer_features: int | None = None
    activation: str = "lrelu"
    lr_multiplier: float = 0.01
    w_avg_beta: float = 0.995

    def __post_init__(self) -> None:
        _check(self, "mapping ")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What a generator and a discriminator have alike.

    Attributes:
        resolution: side of the images in pixels, a power of two.
        c_dim: width of the condition; 0 is an unconditional network.
        mapping: the network that maps latent and condition, or the condition alone.
        channel_base: channels of a block are channel_base / its resolution ...
        channel_max: ... but at most this many.
        num_fp16_res: the highest resolutions that compute in 16 bits on CUDA.
        half_dtype: which 16 bits.
        conv_clamp: limit of the absolute value of activations; None for no limit.
        activation: of the convolutions.
        resample_filter: taps of the FIR filter for up- and downsampling.
    """

    resolution: int
    c_dim: int = 0
    mapping: MappingConfig = field(default_factory=MappingConfig)
    channel_base: int = 32768
    channel_max: int = 512
    num_fp16_res: int = 0
    half_dtype: HalfPrecision = HalfPrecision.FLOAT16
    conv_clamp: float | None = None
    activation: str = "lrelu"
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        resolution, taps = self.resolution, len(self.resample_filter)
        if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
            raise ValueError(
                f"resolution must be a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION},"
                f" got {resolution}"
            )
        if self.channel_base < resolution:
            raise ValueError(
                f"channel_base must be at least the resolution ({resolution}) so that each block"
                f" has a channel, got {self.channel_base}"
            )
        _check(self)
        if self.conv_clamp is not None and self.conv_clamp <= 0:
            raise ValueError(f"conv_clamp must be positive, got {self.conv_clamp}")
        if taps % 2 or not 2 <= taps <= 32:
            raise ValueError(
                f"resample_filter must have an even number of taps up to 32, got {taps}"
            )

    def channels_at(self, resolution: int) -> int:
        """Return the number of feature channels of the block of that side."""
        return min(self.channel_base // resolution, self.channel_max)

    def is_half_at(self, resolution: int) -> bool:
        """Tell whether the block of that side may compute in 16 bits."""
        smallest = max(2 ** (self.resolution.bit_length() - self.num_fp16_res), 8)
        return self.num_fp16_res > 0 and resolution >= smallest

    def dtype_at(self, resolution: int, device: torch.device) -> torch.dtype:
        """Return in what the block of that side computes."""
        is_half = device.type == "cuda" and self.is_half_at(resolution)
        return getattr(torch, self.half_dtype.value) if is_half else torch.float32


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(NetworkConfig):
    """A generator with one image head per modality on shared features.

    Attributes:
        heads: channels of each modality, in order; {"rgb": 3} is a single-branch network.
        z_dim: width of the latent z.
        w_dim: width of the intermediate latent w.
        architecture: how blocks are joined to images.
        use_noise: add noise to each layer.
    """

    heads: dict[str, int] = field(default_factory=lambda: {m.name: m.channels for m in MODALITIES})
    z_dim: int = 512
    w_dim: int = 512
    architecture: Architecture = Architecture.SKIP
    use_noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z_dim == 0 and self.c_dim == 0:
            raise ValueError(
                "a generator needs a latent or a condition: z_dim and c_dim are both 0"
            )
        if not 1 <= len(self.heads) <= _MAX_HEADS:
            raise ValueError(f"heads must name 1 to {_MAX_HEADS} modalities, got {len(self.heads)}")
        for name, channels in self.heads.items():
            # A module may not be called like an attribute of the table of modules.
            is_name = name.isidentifier() and not hasattr(nn.ModuleDict(), name)
            if not is_name or len(name) > _MAX_NAME:
                raise ValueError(f"heads must have plain names, got {shorten(name)}")
            _check_range(f"channels of {name}", channels, *_RANGES["channels"])

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Sides of the blocks, from 4 to the images'."""
        return block_resolutions(self.resolution)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(NetworkConfig):
    """A discriminator of one modality.

    Attributes:
        channels: of the images: 3 for RGB, 1 for NIR.
        cmap_dim: width of the projection of the condition; None is the channels of the 4x4 block.
        architecture: how images enter blocks.
        mbstd_group_size: samples over which the minibatch standard deviation is taken; None is the
            whole batch.
        mbstd_num_channels: maps it adds; 0 switches it off.
    """

    channels: int = 3
    cmap_dim: int | None = None
    architecture: Architecture = Architecture.RESNET
    mbstd_group_size: int | None = 4
    mbstd_num_channels: int = 1

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Sides of the blocks, from the images' down to 8; the 4x4 part is the epilogue."""
        return tuple(reversed(block_resolutions(self.resolution)[1:]))


def block_resolutions(resolution: int) -> tuple[int, ...]:
    """Return the sides of all blocks.

    >>> block_resolutions(32)
    (4, 8, 16, 32)
    """
    return tuple(2**k for k in range(2, resolution.bit_length()))


def _check(config: Any, prefix: str = "") -> None:
    """Raise ValueError for a number outside its range or an unknown activation."""
    for name, limits in _RANGES.items():
        value = getattr(config, name, None)
        if value is not None:
            _check_range(prefix + name, value, *limits)
    if config.activation not in ACTIVATIONS:
        known, got = ", ".join(ACTIVATIONS), repr(config.activation[:80])
        raise ValueError(f"activation must be one of {known}, got {got}")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
