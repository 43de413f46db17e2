"""Layers that the generator and the discriminators share."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks.config import MappingConfig
from torch_utils.checks import check_shape
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter

SQRT_HALF = math.sqrt(0.5)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale each row to mean square 1. x: [N, D] -> [N, D]. Source: arXiv:1812.04948, section 2."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def scaled_clamp(clamp: float | None, gain: float) -> float | None:
    """Return the clamp of a layer whose output carries an extra gain; None stays None."""
    return None if clamp is None else clamp * gain


class FullyConnected(nn.Module):
    """A linear layer with runtime weight scaling (equalised learning rate) and an activation.

    Source: Karras et al. 2018 (arXiv:1710.10196), section 4.1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_features] -> [N, out_features], computed in the dtype of `x`."""
        # The gain goes on the result: it is far smaller than the weight.
        y = (x @ self.weight.to(x.dtype).t()) * self.weight_gain
        bias = self.bias.to(x.dtype) * self.bias_gain
        if self.activation == "linear":
            return y + bias
        return bias_act(y, bias, act=self.activation)


class Convolution(nn.Module):
    """A convolution with runtime weight scaling, optional resampling, bias and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        has_bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float],
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.up, self.down, self.conv_clamp = activation, up, down, conv_clamp
        self.padding = kernel_size // 2
        self.weight = nn.Parameter(
            torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        )
        self.bias = nn.Parameter(torch.zeros([out_channels])) if has_bias else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(resample_filter), persistent=False)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """x: [N, I, H, W] -> [N, O, H * up / down, W * up / down]; `gain` scales the result."""
        y = conv2d_resample(
            x,
            self.weight * self.weight_gain,
            self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,
        )
        act_gain = ACTIVATIONS[self.activation].gain * gain
        clamp = scaled_clamp(self.conv_clamp, gain)
        return bias_act(y, self.bias, act=self.activation, gain=act_gain, clamp=clamp)


class Mapping(nn.Module):
    """Map a latent and a condition to w. Source: arXiv:1812.04948; conditioning arXiv:2006.06676.

    Args:
        z_dim: width of the latent; 0 for a discriminator, which maps the condition alone.
        c_dim: width of the condition; 0 for none.
        w_dim: width of the result.
        config: layers.
        has_w_avg: keep the running mean of w that truncation needs.
    """

    def __init__(
        self, *, z_dim: int, c_dim: int, w_dim: int, config: MappingConfig, has_w_avg: bool
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.config = z_dim, c_dim, w_dim, config
        embed = (config.embed_features or w_dim) if c_dim > 0 else 0
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, embed)
        hidden = config.layer_features or w_dim
        widths = [z_dim + embed, *[hidden] * (config.layers - 1), w_dim]
        for index in range(config.layers):
            layer = FullyConnected(
                widths[index],
                widths[index + 1],
                activation=config.activation,
                lr_multiplier=config.lr_multiplier,
            )
            self.add_module(f"fc{index}", layer)
        if has_w_avg:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """Return w.

        Args:
            z: [N, z_dim] float32, standard normal; None where z_dim is 0.
            c: [N, c_dim] float32; None where c_dim is 0.
        Returns: [N, w_dim] float32.
        Raises: ValueError for a missing or wrongly shaped input.
        """
        parts = []
        if self.z_dim > 0:
            check_shape("z", z, None, self.z_dim)
            parts.append(normalize_second_moment(z.float()))
        if self.c_dim > 0:
            check_shape("c", c, None, self.c_dim)
            parts.append(normalize_second_moment(self.embed(c.float())))
        x = torch.cat(parts, dim=1)
        for index in range(self.config.layers):
            x = self.get_submodule(f"fc{index}")(x)
        return x

    @torch.no_grad()
    def update_w_avg(self, mean: Tensor) -> None:
        """Move the running mean of w towards `mean` [w_dim], that of a batch."""
        self.w_avg.copy_(mean.lerp(self.w_avg, self.config.w_avg_beta))
