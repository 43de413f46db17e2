"""Convolution and its adjoint; on the CPU 3x3 kernels take far fewer multiplications.

Plain form: the functions of the same names in torch.nn.functional, which also compute on CUDA.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from torch_utils.ops import backends
from torch_utils.ops.cpu_kernels import (
    CHANNEL_MULTIPLE,
    CpuKernels,
    is_swapped_in_memory,
)

_TILE = 4  # pixels that the kernels compute at once, along each axis
_MIN_TILES = 16  # fewer do not pay for transforming the weights


def conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    """Correlate images with kernels.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I / groups, K, K] in the dtype of `x`.
        stride: of the kernel's places.
        padding: pixels of zeros on each side.
        groups: of channels that are convolved apart.
    Returns: [N, O, H', W'], differentiable any number of times.
    """
    is_same = (stride, padding, groups) == (1, 1, 1)
    is_halving = (stride, padding, groups) == (2, 0, 1) and x.shape[2] % 2 == x.shape[3] % 2 == 1
    if is_same or is_halving:
        kernels = _fast_kernels(x, weight, x.shape[2] // stride, x.shape[3] // stride)
        if kernels is not None:
            return _Convolution.apply(x, weight, stride, False, kernels)
    if (
        weight.shape[2:] == (1, 1)
        and (stride, padding, groups) == (1, 0, 1)
        and x.device.type == "cpu"
    ):
        return _matrix_product(x, weight)
    if _needs_second_derivatives(x):
        maps = _NativeMaps(padding, tuple(x.shape[2:]), tuple(weight.shape), groups)
        return _Convolution.apply(x, weight, stride, False, maps)
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Spread each pixel over the places of a kernel, the adjoint of `conv2d`.

    Args:
        x: [N, I, H, W] floating point.
        weight: [I, O, K, K] in the dtype of `x`.
        stride: pixels from one kernel to the next.
    Returns: [N, O, (H - 1) * stride + K, (W - 1) * stride + K].
    """
    if stride == 2:
        kernels = _fast_kernels(x, weight, x.shape[2], x.shape[3])
        if kernels is not None:
            return _Convolution.apply(x, weight, stride, True, kernels)
    if _needs_second_derivatives(x):
        height, width = (
            (side - 1) * stride + taps
            for side, taps in zip(x.shape[2:], weight.shape[2:], strict=True)
        )
        maps = _NativeMaps(0, (height, width), tuple(weight.shape))
        return _Convolution.apply(x, weight, stride, True, maps)
    return F.conv_transpose2d(x, weight, stride=stride)


def _matrix_product(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve with 1x1 kernels, for which PyTorch has no fast path with channels innermost."""
    y_nhwc = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0])
    return y_nhwc.permute(0, 3, 1, 2)


def _fast_kernels(x: Tensor, weight: Tensor, height: int, width: int) -> CpuKernels | None:
    """Return the kernels for 3x3 convolutions that are worth it, or None.

    `height` and `width` are those of the images on the smaller side.
    """
    has_panels = weight.shape[0] % CHANNEL_MULTIPLE == weight.shape[1] % CHANNEL_MULTIPLE == 0
    tiles = x.shape[0] * -(-height // _TILE) * -(-width // _TILE)
    if (
        weight.dtype == x.dtype
        and weight.shape[2:] == (3, 3)
        and has_panels
        and tiles >= _MIN_TILES
    ):
        kernels = backends.kernels_for(x)
        return kernels if isinstance(kernels, CpuKernels) else None
    return None


def _needs_second_derivatives(x: Tensor) -> bool:
    """Tell whether PyTorch's own second derivative must be kept out.

    It convolves with whole feature maps as kernels, for which cuDNN has nothing fast. Elsewhere its
    first derivatives, which cost no call of Python, are as good.
    """
    return x.device.type == "cuda" and not backends.has_weight_gradients()


@dataclass(frozen=True)
class _NativeMaps:
    """PyTorch's convolutions with the methods of CpuKernels; any kernel, stride and padding.

    Attributes:
        padding: pixels of zeros on each side of the large images.
        large: (H, W) of those.
        weight: shape of the kernels, [O, I / groups, K, K].
        groups: see `conv2d`.
    """

    padding: int
    large: tuple[int, ...]
    weight: tuple[int, ...]
    groups: int = 1

    def convolve(self, x: Tensor, weight: Tensor, stride: int, *, is_adjoint: bool) -> Tensor:
        if not is_adjoint:
            return F.conv2d(x, weight, stride=stride, padding=self.padding, groups=self.groups)
        spread = [(side - 1) * stride - 2 * self.padding for side in x.shape[2:]]
        rest = [
            side - other - taps
            for side, other, taps in zip(self.large, spread, self.weight[2:], strict=True)
        ]
        return F.conv_transpose2d(
            x, weight, None, stride, self.padding, output_padding=rest, groups=self.groups
        )

    def convolve_kernels(
        self, large: Tensor, small: Tensor, stride: int, *, is_swapped: bool
    ) -> Tensor:
        return conv2d_weight(large, self.weight, small, stride, self.padding, groups=self.groups)


Maps = CpuKernels | _NativeMaps


class _Convolution(torch.autograd.Function):
    """Correlation with kernels, or its adjoint.

    Large images, small images and kernels make one trilinear form; any of the three is the
    derivative of the form by it, so derivatives of all orders are made of the same three maps.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, is_adjoint: bool, kernels: Maps
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.is_adjoint, ctx.kernels = stride, is_adjoint, kernels
        return kernels.convolve(x, weight, stride, is_adjoint=is_adjoint)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _Convolution.apply(grad, weight, ctx.stride, not ctx.is_adjoint, ctx.kernels)
        if ctx.needs_input_grad[1] and backends.has_weight_gradients():
            sides = (grad, x) if ctx.is_adjoint else (x, grad)
            is_swapped = is_swapped_in_memory(weight)
            grad_weight = _Kernels.apply(*sides, ctx.stride, is_swapped, ctx.kernels)
        return grad_x, grad_weight, None, None, None


class _Kernels(torch.autograd.Function):
    """The derivative of a convolution by its kernels."""

    @staticmethod
    def forward(
        ctx: Any, large: Tensor, small: Tensor, stride: int, is_swapped: bool, kernels: Maps
    ) -> Tensor:
        ctx.save_for_backward(large, small)
        ctx.stride, ctx.kernels = stride, kernels
        return kernels.convolve_kernels(large, small, stride, is_swapped=is_swapped)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        large, small = ctx.saved_tensors
        grad_large = grad_small = None
        if ctx.needs_input_grad[0]:
            grad_large = _Convolution.apply(small, grad, ctx.stride, True, ctx.kernels)
        if ctx.needs_input_grad[1]:
            grad_small = _Convolution.apply(large, grad, ctx.stride, False, ctx.kernels)
        return grad_large, grad_small, None, None, None
