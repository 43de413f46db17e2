"""How tensors lie in memory, and settings, as the kernels of both devices take them."""

from dataclasses import dataclass

import torch
from torch import Tensor

_PIECEWISE_LINEAR = ("linear", "relu", "lrelu")


@dataclass(frozen=True, kw_only=True)
class BiasActSetting:
    """What bias_act does besides adding the bias.

    Attributes:
        act: name of the activation.
        act_index: its place in ACTIVATIONS.
        dim: axis of the bias, 0 or more.
        alpha: slope of lrelu below zero.
        gain: factor.
        clamp: limit of the absolute value; below 0 for none.
    """

    act: str
    act_index: int
    dim: int
    alpha: float
    gain: float
    clamp: float

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether the activation has no curvature."""
        return self.act in _PIECEWISE_LINEAR

    @property
    def slope(self) -> float:
        """The slope below zero of a piecewise linear activation."""
        return {"linear": 1.0, "relu": 0.0}.get(self.act, self.alpha)


@dataclass(frozen=True)
class Resampling:
    """What upfirdn2d does besides filtering; pairs are (x, y).

    Attributes:
        up, down: factors.
        padding: (x0, x1, y0, y1) pixels of the upsampled image; negative ones crop.
        flip_filter: False is convolution, True is correlation.
        gain: factor of the result.
    """

    up: tuple[int, int]
    down: tuple[int, int]
    padding: tuple[int, int, int, int]
    flip_filter: bool = False
    gain: float = 1.0

    @property
    def before(self) -> tuple[int, int]:
        """The padding in front."""
        return self.padding[0], self.padding[2]

    def size(self, x: Tensor, f: Tensor) -> tuple[int, int]:
        """Return width and height of the result for images and a filter, [T] or [H, W]."""
        x0, x1, y0, y1 = self.padding
        width = x.shape[3] * self.up[0] + x0 + x1 - f.shape[-1]
        height = x.shape[2] * self.up[1] + y0 + y1 - f.shape[0]
        return width // self.down[0] + 1, height // self.down[1] + 1

    def transposed(self) -> "Resampling":
        """Return what does the same with x and y exchanged."""
        x0, x1, y0, y1 = self.padding
        up, down = self.up[::-1], self.down[::-1]
        return Resampling(up, down, (y0, y1, x0, x1), self.flip_filter, self.gain)


def dense(x: Tensor, dim: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the tensor without gaps in memory, which is [outer, channels, inner], and those sizes.

    Args:
        x: any shape; channels along `dim`, innermost in memory or not.
        dim: axis, 0 or more.
    """
    if dim == 1 and is_channels_last(x):
        return x, (x.numel() // max(x.shape[1], 1), x.shape[1], 1)
    x = x.contiguous()
    inner = x.shape[dim + 1 :].numel()
    return x, (x.shape[:dim].numel(), x.shape[dim], inner)


def is_channels_last(x: Tensor) -> bool:
    """Tell whether images [N, C, H, W] lie in memory as [N, H, W, C]."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def add_along(x: Tensor, vector: Tensor | None, dim: int) -> Tensor:
    """Return x plus a vector [x.shape[dim]] along one axis; None is no vector."""
    if vector is None:
        return x
    shape = [1] * x.ndim
    shape[dim] = -1
    return x + vector.to(x.dtype).reshape(shape)


def sum_by_channel(x: Tensor, dim: int) -> Tensor:
    """Return [x.shape[dim]] sums over all other axes."""
    axes = [axis for axis in range(x.ndim) if axis != dim]
    return x.sum(dim=axes) if axes else x  # an empty list of axes would mean all of them


def pointers(*tensors: Tensor | None) -> list[int | None]:
    """Return where the tensors' numbers are in memory, None for none."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]
