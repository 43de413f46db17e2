"""Bilinear look-up whose gradient can be differentiated again.

torch 2.11 refuses ("derivative for aten::grid_sampler_2d_backward is not implemented"), but R1
needs it. The operation is linear in the images: its derivative is the adjoint map, and that one's
derivative is the operation itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BILINEAR = 0  # codes of the native operation
_ZEROS = 0


def grid_sample(images: Tensor, grid: Tensor) -> Tensor:
    """Look images up between pixels; what lies outside is 0.

    Args:
        images: [N, C, H, W] floating point.
        grid: [N, H', W', 2] in the dtype of `images`: (x, y) of each result, -1..1 from border to
            border (align_corners=False). It takes no gradient.
    Returns: [N, C, H', W'], differentiable any number of times in `images`.
    Raises: ValueError if `grid` requires gradients.
    """
    if grid.requires_grad:
        raise ValueError("grid_sample: the grid takes no gradient, but requires one")
    return _Lookup.apply(images, grid)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.image_shape = images.shape
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Adjoint.apply(grad, grid, ctx.image_shape), None


class _Adjoint(torch.autograd.Function):
    """Spread values at the places of the grid over the pixels that they were read from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, image_shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # The native operation wants the images, of which it only needs the shape here.
        images = values.new_zeros([1]).expand(image_shape)
        spread, _ = torch.ops.aten.grid_sampler_2d_backward(
            values, images, grid, _BILINEAR, _ZEROS, False, [True, False]
        )
        return spread

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Lookup.apply(grad, grid), None, None
