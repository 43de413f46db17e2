"""Convolution joined with up- or downsampling by an FIR filter.

Source: Karras et al. 2020 (arXiv:1912.04958), appendix B: filtering goes before a strided
convolution and after a transposed one.
"""

from torch import Tensor

from torch_utils.ops.conv2d import conv2d, conv_transpose2d
from torch_utils.ops.upfirdn2d import (
    downsample2d,
    padding_of_downsampling,
    padding_of_upsampling,
    upfirdn2d,
    upsample2d,
)


def conv2d_resample(
    x: Tensor,
    weight: Tensor,
    f: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    flip_weight: bool = True,
) -> Tensor:
    """Upsample, convolve, or convolve and downsample images.

    Args:
        x: [N, I, H, W] floating point.
        weight: [O, I, K, K], K odd.
        f: filter from `setup_filter`; None only without resampling.
        up: factor by which the image grows before the convolution.
        down: factor by which it shrinks after it; only one of `up`, `down` may exceed 1.
        padding: of the convolution, in pixels of its input; K // 2 keeps the size.
        flip_weight: True is correlation, as in torch; False is convolution.
    Returns: [N, O, H * up / down, W * up / down] for padding K // 2.
    Raises: ValueError where both factors exceed 1 or resampling comes without a filter.
    """
    if up > 1 and down > 1:
        raise ValueError(f"conv2d_resample: only one of up, down may exceed 1, got {up} and {down}")
    if f is None and (up > 1 or down > 1):
        raise ValueError("conv2d_resample: resampling needs a filter")
    weight = weight.to(x.dtype)
    if flip_weight == (up > 1):  # a transposed convolution turns the kernel once more
        weight = weight.flip([2, 3])
    if f is None or up == down == 1:
        return conv2d(x, weight, padding=padding)
    return _up(x, weight, f, up, padding) if up > 1 else _down(x, weight, f, down, padding)


def _down(x: Tensor, weight: Tensor, f: Tensor, down: int, padding: int) -> Tensor:
    if weight.shape[2] == 1:
        return conv2d(downsample2d(x, f, down=down, padding=padding), weight)
    # The pixels that the filter of a downsampling step needs around the image, plus the padding.
    before, after = (side + padding for side in padding_of_downsampling(f.shape[-1], down))
    x = upfirdn2d(x, f, padding=[before, after, before, after])
    return conv2d(x, weight, stride=down)


def _up(x: Tensor, turned: Tensor, f: Tensor, up: int, padding: int) -> Tensor:
    """Enlarge and convolve; `turned` is the kernel that correlates, turned by 180 degrees."""
    kernel = turned.shape[2]
    if kernel == 1:
        return upsample2d(conv2d(x, turned), f, up=up, padding=padding)
    # A transposed convolution yields (H - 1) * up + K rows; the filter's padding makes up for the
    # difference to the H * up rows wanted, so no pixel is computed and thrown away.
    x = conv_transpose2d(x, turned.transpose(0, 1), stride=up)
    before, after = padding_of_upsampling(f.shape[-1], up)
    before, after = before + padding - (kernel - 1), after + padding - (kernel - up)
    return upfirdn2d(x, f, padding=[before, after, before, after], gain=float(up**2))
