"""The residual discriminator of StyleGAN2, one a modality.

Sources: Karras et al. 2020 (arXiv:1912.04958), figure 7; projection of the condition: Miyato and
Koyama 2018 (arXiv:1802.05637).
"""

import math

import torch
from torch import Tensor, nn

from networks.config import Architecture, DiscriminatorConfig
from networks.layers import SQRT_HALF, Convolution, FullyConnected, Mapping
from torch_utils.checks import check_shape
from torch_utils.ops.layout import is_channels_last
from torch_utils.ops.upfirdn2d import downsample2d, setup_filter


def minibatch_std(x: Tensor, group_size: int | None, num_channels: int) -> Tensor:
    """Append the standard deviation over groups of samples as feature maps.

    Sample n belongs to group n mod (N / group_size).

    Args:
        x: [N, C, H, W].
        group_size: samples a group; None is the whole batch. A smaller batch is one group.
        num_channels: maps to add; the channels are divided among them.
    Returns: [N, C + num_channels, H, W].
    Raises: ValueError where the group size does not divide the batch.
    Source: Karras et al. 2018 (arXiv:1710.10196), section 3.
    """
    n, channels, height, width = x.shape
    size = n if group_size is None else min(group_size, n)
    if n % size:
        raise ValueError(f"a minibatch of {n} cannot be divided into groups of {size}")
    y = x.reshape(size, n // size, num_channels, channels // num_channels, height, width)
    y = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt()
    y = y.mean(dim=[2, 3, 4])[:, :, None, None].repeat(size, 1, height, width)
    return torch.cat([x, y], dim=1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions that halve the resolution, with a residual or image skip beside them."""

    def __init__(self, resolution: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config, self.resolution, self.architecture = config, resolution, config.architecture
        inner, out = config.channels_at(resolution), config.channels_at(resolution // 2)
        common = {"resample_filter": config.resample_filter}
        clamped = {"activation": config.activation, "conv_clamp": config.conv_clamp, **common}
        is_first = resolution == config.resolution
        if is_first or self.architecture is Architecture.SKIP:
            self.from_image = Convolution(config.channels, inner, 1, **clamped)
        self.conv0 = Convolution(inner, inner, 3, **clamped)
        self.conv1 = Convolution(inner, out, 3, down=2, **clamped)
        if self.architecture is Architecture.RESNET:
            self.skip = Convolution(inner, out, 1, has_bias=False, down=2, **common)
        self.register_buffer(
            "resample_filter", setup_filter(config.resample_filter), persistent=False
        )

    def forward(self, x: Tensor | None, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Halve the features.

        Args:
            x: [N, C, H, W] features of the block before; None for the first.
            image: [N, channels, H, W]; None once it has been read.
        Returns: [N, C', H/2, W/2] features and the image for the next block, or None.
        """
        dtype = self.config.dtype_at(self.resolution, self.resample_filter.device)
        x = None if x is None else x.to(dtype)
        if image is not None:
            # A 1x1 kernel lies in both orders at once, and so would not pass on its own.
            is_nhwc = is_channels_last(self.conv0.weight)
            layout = torch.channels_last if is_nhwc else torch.preserve_format
            y = self.from_image(image.to(dtype, memory_format=layout))
            x = y if x is None else x + y
            is_skip = self.architecture is Architecture.SKIP
            image = downsample2d(image, self.resample_filter) if is_skip else None
        if self.architecture is Architecture.RESNET:
            skip = self.skip(x, gain=SQRT_HALF)
            return skip + self.conv1(self.conv0(x), gain=SQRT_HALF), image
        return self.conv1(self.conv0(x)), image


class Epilogue(nn.Module):
    """The 4x4 part: minibatch standard deviation, one convolution, two dense layers."""

    def __init__(self, out_features: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels_at(4)
        clamped = {
            "activation": config.activation,
            "conv_clamp": config.conv_clamp,
            "resample_filter": config.resample_filter,
        }
        if config.architecture is Architecture.SKIP:
            self.from_image = Convolution(config.channels, channels, 1, **clamped)
        self.conv = Convolution(channels + config.mbstd_num_channels, channels, 3, **clamped)
        self.fc = FullyConnected(channels * 16, channels, activation=config.activation)
        self.out = FullyConnected(channels, out_features)

    def forward(self, x: Tensor | None, image: Tensor | None) -> Tensor:
        """x: [N, C, 4, 4] (None only at resolution 4) -> [N, out_features] float32."""
        if self.config.architecture is Architecture.SKIP and image is not None:
            y = self.from_image(image.float())
            x = y if x is None else x + y
        x = x.float()
        if self.config.mbstd_num_channels > 0:
            x = minibatch_std(x, self.config.mbstd_group_size, self.config.mbstd_num_channels)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(nn.Module):
    """Score images, under a condition where there is one.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict(
            {f"b{res}": DiscriminatorBlock(res, config) for res in config.block_resolutions}
        )
        cmap_dim = config.channels_at(4) if config.cmap_dim is None else config.cmap_dim
        self.cmap_dim = cmap_dim if config.c_dim > 0 else 0
        if self.cmap_dim > 0:
            self.mapping = Mapping(
                z_dim=0,
                c_dim=config.c_dim,
                w_dim=self.cmap_dim,
                config=config.mapping,
                has_w_avg=False,
            )
        self.epilogue = Epilogue(self.cmap_dim or 1, config)

    def forward(self, images: Tensor, c: Tensor | None = None) -> Tensor:
        """Return one logit an image, high for real.

        Args:
            images: [N, channels, R, R] float32, nominally -1..1.
            c: [N, c_dim] float32; ignored by an unconditional network.
        Returns: [N, 1] float32.
        Raises: ValueError for images of another shape.
        """
        side = self.config.resolution
        check_shape("images", images, None, self.config.channels, side, side)
        x, image = None, images
        for block in self.blocks.values():
            x, image = block(x, image)
        y = self.epilogue(x, image)
        if self.cmap_dim == 0:
            return y
        projection = (y * self.mapping(None, c)).sum(dim=1, keepdim=True)
        return projection / math.sqrt(self.cmap_dim)
