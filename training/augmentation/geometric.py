"""Flips, turns, shifts and stretches, executed as one resampling of the image.

Source: Karras et al. 2020 (arXiv:2006.06676), appendix B: the transformations of a sample are
composed, and the image is looked up bilinearly between sym6-filtered samples at twice the size.
"""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.devices import upload
from torch_utils.ops.grid_sample import grid_sample
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d
from training.augmentation.config import AugmentConfig
from training.augmentation.draws import Draw, Draws, pick

# Low-pass decomposition filter of the sym6 wavelet. Source: Daubechies 1992, table 8.1 (as in
# PyWavelets); the tests check that it is orthonormal and has six vanishing moments.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_REACH_PX = len(SYM6) // 4  # a filter at twice the size covers this much on each side of a pixel

# The filter's centre of mass is at tap 5.1 of 0..11, not 5.5: the centre of pixel x becomes that of
# pixel 2x of the enlarged image, and not the border between its pixels 2x and 2x + 1.
_UPSAMPLED_SHIFT = -0.5


def inverse_transforms(
    draws: Draws, config: AugmentConfig, p: float, height: int, width: int
) -> Tensor:
    """Return each sample's map from places in the result to places in the source.

    Args:
        draws: the batch's random numbers.
        config: multipliers and spreads.
        p: strength, 0..1.
        height: of the images, pixels; only shifts depend on it.
        width: of the images, pixels.
    Returns: [N, 3, 3] float64 on the CPU, homogeneous, (x, y) in pixels from the image centre.
    Source: Karras et al. 2020, appendix B: order of operations and p_rot = 1 - sqrt(1 - p), with
        which at least one of the two rotations happens with probability p.
    """
    flip = pick(draws.is_on(Draw.XFLIP, config.xflip * p), draws.integer(Draw.XFLIP, 2), 0)
    turns = pick(
        draws.is_on(Draw.ROTATE90, config.rotate90 * p), draws.integer(Draw.ROTATE90, 4), 0
    )
    xint = draws.is_on(Draw.XINT_X, config.xint * p)
    int_x = pick(xint, torch.round(draws.signed(Draw.XINT_X) * config.xint_max * width), 0)
    int_y = pick(xint, torch.round(draws.signed(Draw.XINT_Y) * config.xint_max * height), 0)
    zoom = _factor(draws, Draw.SCALE, config.scale * p, config.scale_std)
    p_rotate = 1 - math.sqrt(1 - min(config.rotate * p, 1))
    before = _angle(draws, Draw.ROTATE_BEFORE, p_rotate, config.rotate_max)
    stretch = _factor(draws, Draw.ANISO, config.aniso * p, config.aniso_std)
    after = _angle(draws, Draw.ROTATE_AFTER, p_rotate, config.rotate_max)
    xfrac = draws.is_on(Draw.XFRAC_X, config.xfrac * p)
    frac_x = pick(xfrac, draws.normal(Draw.XFRAC_X) * config.xfrac_std * width, 0)
    frac_y = pick(xfrac, draws.normal(Draw.XFRAC_Y) * config.xfrac_std * height, 0)
    inverses = [
        _scaling(1 - 2 * flip, torch.ones_like(flip)),
        _rotation(turns * (math.pi / 2)),
        _translation(-int_x, -int_y),
        _scaling(1 / zoom, 1 / zoom),
        _rotation(before),
        _scaling(1 / stretch, stretch),
        _rotation(after),
        _translation(-frac_x, -frac_y),
    ]
    return reduce(torch.matmul, inverses)


def resample(images: Tensor, inverse: Tensor, wavelet: Tensor) -> Tensor:
    """Return images looked up through `inverse`; what lies outside is their reflection.

    Args:
        images: [N, C, H, W] floating point.
        inverse: [N, 3, 3] float64 on the CPU, from `inverse_transforms`.
        wavelet: SYM6 as a filter of `setup_filter`.
    Returns: [N, C, H, W], dtype and device of `images`.
    """
    n, c, h, w = images.shape
    left, right, top, bottom = reflect_margins(inverse, h, w)
    padded = F.pad(images, [left, right, top, bottom], mode="reflect")
    fine = upsample2d(padded, wavelet)
    # Result pixels outside the frame that the filter of the last step reaches are looked up, too.
    out_h, out_w = 2 * (h + 2 * _REACH_PX), 2 * (w + 2 * _REACH_PX)
    to_fine = _map_to_fine(inverse, (left - right) / 2, (top - bottom) / 2)
    theta = (
        _diagonal(2 / fine.shape[3], 2 / fine.shape[2]) @ to_fine @ _diagonal(out_w / 2, out_h / 2)
    )
    theta = upload(theta[:, :2].to(images.dtype), images.device)
    grid = F.affine_grid(theta, [n, c, out_h, out_w], align_corners=False)
    moved = grid_sample(fine, grid)
    return downsample2d(moved, wavelet, padding=-2 * _REACH_PX, flip_filter=True)


def reflect_margins(inverse: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the pixels (left, right, top, bottom) that a batch needs around its images.

    The frame that is looked up, with the reach of both filters, is mapped by each transform, and
    the widest bounding box decides. A reflection ends after size - 1 pixels; beyond it is black.
    """
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    reach = inverse[:, :2, :2].abs() @ (half + _REACH_PX) + _REACH_PX
    shift = inverse[:, :2, 2]
    before = (reach - shift - half).amax(0).ceil().long().tolist()
    after = (reach + shift - half).amax(0).ceil().long().tolist()
    left, right = (min(max(margin, 0), width - 1) for margin in (before[0], after[0]))
    top, bottom = (min(max(margin, 0), height - 1) for margin in (before[1], after[1]))
    return left, right, top, bottom


def _map_to_fine(inverse: Tensor, offset_x: float, offset_y: float) -> Tensor:
    """Express transforms in pixels of the padded image at twice the size, from its centre."""
    one = torch.ones(1, dtype=torch.float64)
    shift = _translation(one * _UPSAMPLED_SHIFT, one * _UPSAMPLED_SHIFT)
    back = _translation(-one * _UPSAMPLED_SHIFT, -one * _UPSAMPLED_SHIFT)
    offset = _translation(one * offset_x, one * offset_y)
    return shift @ _diagonal(2, 2) @ offset @ inverse @ _diagonal(0.5, 0.5) @ back


def _factor(draws: Draws, draw: Draw, probability: float, std: float) -> Tensor:
    return pick(draws.is_on(draw, probability), torch.exp2(draws.normal(draw) * std), 1)


def _angle(draws: Draws, draw: Draw, probability: float, largest: float) -> Tensor:
    return pick(draws.is_on(draw, probability), draws.signed(draw) * (math.pi * largest), 0)


def _diagonal(x: float, y: float) -> Tensor:
    return torch.diag(torch.tensor([x, y, 1], dtype=torch.float64))


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _translation(x: Tensor, y: Tensor) -> Tensor:
    matrices = torch.eye(3, dtype=x.dtype).repeat(len(x), 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def _rotation(angle: Tensor) -> Tensor:
    matrices = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrices[:, 0, 0] = matrices[:, 1, 1] = torch.cos(angle)
    matrices[:, 1, 0] = torch.sin(angle)
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    return matrices
