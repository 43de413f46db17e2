"""Sizes and options of the networks, as frozen configurations that travel with every snapshot."""

from dataclasses import dataclass, field
from enum import StrEnum

from data.modalities import MODALITIES
from networks.options import HalfPrecision
from torch_utils.ops.bias_act import ACTIVATIONS

MIN_RESOLUTION = 4
MAX_RESOLUTION = 4096
MAX_WIDTH = 1 << 14


class Architecture(StrEnum):
    """How images leave a generator or enter a discriminator. Source: arXiv:1912.04958, figure 7."""

    ORIG = "orig"
    SKIP = "skip"
    RESNET = "resnet"


def _default_heads() -> dict[str, int]:
    return {modality.name: modality.channels for modality in MODALITIES}


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
        _check_range("mapping layers", self.layers, 0, 64)
        for name in ("embed_features", "layer_features"):
            _check_range(f"mapping {name}", getattr(self, name) or 1, 1, MAX_WIDTH)
        _check_activation(self.activation)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A generator with one image head per modality on shared features.

    Attributes:
        resolution: side of the images in pixels, a power of two.
        heads: channels of each modality, in order; {"rgb": 3} is a single-branch network.
        z_dim: width of the latent z.
        c_dim: width of the condition; 0 is an unconditional network.
        w_dim: width of the intermediate latent w.
        mapping: the mapping network.
        channel_base: channels of a block are channel_base / its resolution ...
        channel_max: ... but at most this many.
        architecture: how blocks are joined to images.
        num_fp16_res: the highest resolutions that compute in 16 bits on CUDA.
        half_dtype: which 16 bits.
        conv_clamp: limit of the absolute value of activations; None for no limit.
        use_noise: add noise to each layer.
        activation: of the convolutions.
        resample_filter: taps of the FIR filter for up- and downsampling.
    """

    resolution: int
    heads: dict[str, int] = field(default_factory=_default_heads)
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    mapping: MappingConfig = field(default_factory=MappingConfig)
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = Architecture.SKIP
    num_fp16_res: int = 0
    half_dtype: HalfPrecision = HalfPrecision.FLOAT16
    conv_clamp: float | None = None
    use_noise: bool = True
    activation: str = "lrelu"
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        _check_common(self)
        _check_range("z_dim", self.z_dim, 0, MAX_WIDTH)
        _check_range("w_dim", self.w_dim, 1, MAX_WIDTH)
        if self.z_dim == 0 and self.c_dim == 0:
            raise ValueError(
                "a generator needs a latent or a condition: z_dim and c_dim are both 0"
            )
        if not self.heads:
            raise ValueError("heads must name at least one modality")
        for name, channels in self.heads.items():
            _check_range(f"channels of {name}", channels, 1, 64)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Sides of the blocks, from 4 to the images'."""
        return block_resolutions(self.resolution)

    def channels_at(self, resolution: int) -> int:
        """Return the number of feature channels of the block of that side."""
        return min(self.channel_base // resolution, self.channel_max)

    def is_half_at(self, resolution: int) -> bool:
        """Tell whether the block of that side may compute in 16 bits."""
        return _is_half(self.resolution, self.num_fp16_res, resolution)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """A discriminator of one modality.

    Attributes:
        resolution: side of the images in pixels, a power of two.
        channels: of the images: 3 for RGB, 1 for NIR.
        c_dim: width of the condition; 0 is an unconditional network.
        cmap_dim: width of the projection of the condition; None is the channels of the 4x4 block.
        mapping: the network that maps the condition.
        mbstd_group_size: samples over which the minibatch standard deviation is taken; None is the
            whole batch.
        mbstd_num_channels: maps it adds; 0 switches it off.
        channel_base, channel_max, architecture, num_fp16_res, half_dtype, conv_clamp, activation,
        resample_filter: as in GeneratorConfig.
    """

    resolution: int
    channels: int = 3
    c_dim: int = 0
    cmap_dim: int | None = None
    mapping: MappingConfig = field(default_factory=MappingConfig)
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = Architecture.RESNET
    num_fp16_res: int = 0
    half_dtype: HalfPrecision = HalfPrecision.FLOAT16
    conv_clamp: float | None = None
    mbstd_group_size: int | None = 4
    mbstd_num_channels: int = 1
    activation: str = "lrelu"
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        _check_common(self)
        _check_range("channels", self.channels, 1, 64)
        _check_range("cmap_dim", self.cmap_dim or 1, 1, MAX_WIDTH)
        _check_range("mbstd_num_channels", self.mbstd_num_channels, 0, 1 << 10)
        if self.mbstd_group_size is not None:
            _check_range("mbstd_group_size", self.mbstd_group_size, 1, 1 << 16)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Sides of the blocks, from the images' down to 8; the 4x4 part is the epilogue."""
        return tuple(reversed(block_resolutions(self.resolution)[1:]))

    def channels_at(self, resolution: int) -> int:
        """Return the number of feature channels that enter the block of that side."""
        return min(self.channel_base // resolution, self.channel_max)

    def is_half_at(self, resolution: int) -> bool:
        """Tell whether the block of that side may compute in 16 bits."""
        return _is_half(self.resolution, self.num_fp16_res, resolution)


def block_resolutions(resolution: int) -> tuple[int, ...]:
    """Return the sides of all blocks.

    >>> block_resolutions(32)
    (4, 8, 16, 32)
    """
    return tuple(2**k for k in range(2, resolution.bit_length()))


def _is_half(image_resolution: int, num_fp16_res: int, resolution: int) -> bool:
    smallest = max(2 ** (image_resolution.bit_length() - num_fp16_res), 8)
    return num_fp16_res > 0 and resolution >= smallest


def _check_common(config: GeneratorConfig | DiscriminatorConfig) -> None:
    resolution = config.resolution
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise ValueError(
            f"resolution must be a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION},"
            f" got {resolution}"
        )
    if config.channel_base < resolution:
        raise ValueError(
            f"channel_base must be at least the resolution ({resolution}) so that each block has a"
            f" channel, got {config.channel_base}"
        )
    _check_range("channel_max", config.channel_max, 1, MAX_WIDTH)
    _check_range("channel_base", config.channel_base, 4, 1 << 24)
    _check_range("c_dim", config.c_dim, 0, 1 << 20)
    _check_range("num_fp16_res", config.num_fp16_res, 0, 16)
    _check_activation(config.activation)
    if config.conv_clamp is not None and config.conv_clamp <= 0:
        raise ValueError(f"conv_clamp must be positive, got {config.conv_clamp}")
    if len(config.resample_filter) % 2 or not 2 <= len(config.resample_filter) <= 32:
        taps = len(config.resample_filter)
        raise ValueError(f"resample_filter must have an even number of taps up to 32, got {taps}")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name[:80]!r}")
