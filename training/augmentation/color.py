"""Brightness, contrast, luma flip, hue and saturation, executed as one affine map of colours.

Source: Karras et al. 2020 (arXiv:2006.06676), appendix B.
"""

import math

import torch
from torch import Tensor

from torch_utils.devices import upload
from training.augmentation.config import AugmentConfig
from training.augmentation.draws import Draw, Draws, pick


def color_transforms(draws: Draws, config: AugmentConfig, p: float) -> Tensor:
    """Return each sample's affine map of (r, g, b).

    Args:
        draws: the batch's random numbers.
        config: multipliers and spreads.
        p: strength, 0..1.
    Returns: [N, 3, 4] float64 on the CPU: a matrix and, in the last column, what is added.
    """
    shift = pick(
        draws.is_on(Draw.BRIGHTNESS, config.brightness * p),
        draws.normal(Draw.BRIGHTNESS) * config.brightness_std,
        0,
    )
    factor = pick(
        draws.is_on(Draw.CONTRAST, config.contrast * p),
        torch.exp2(draws.normal(Draw.CONTRAST) * config.contrast_std),
        1,
    )
    flip = pick(draws.is_on(Draw.LUMAFLIP, config.lumaflip * p), draws.integer(Draw.LUMAFLIP, 2), 0)
    angle = pick(
        draws.is_on(Draw.HUE, config.hue * p),
        draws.signed(Draw.HUE) * (math.pi * config.hue_max),
        0,
    )
    saturation = pick(
        draws.is_on(Draw.SATURATION, config.saturation * p),
        torch.exp2(draws.normal(Draw.SATURATION) * config.saturation_std),
        1,
    )
    matrix = color_matrix(factor, flip, angle, saturation)
    # The constant is added first, so everything that follows acts on it.
    return torch.cat([matrix, matrix.sum(2, keepdim=True) * shift[:, None, None]], dim=2)


def color_matrix(contrast: Tensor, flip: Tensor, angle: Tensor, saturation: Tensor) -> Tensor:
    """Return the linear part of a colour map.

    With the grey axis v = (1, 1, 1) / √3 each operation acts along it, across it or about it, so
    they commute: along v the factor is contrast * (1 - 2 flip); across it the plane is turned by
    `angle` and scaled by contrast * saturation.

    Args:
        contrast: [N] factor of everything.
        flip: [N] 1 to mirror brightness, 0 to leave it.
        angle: [N] of the hue's turn, radians.
        saturation: [N] factor of the distance from the grey axis.
    Returns: [N, 3, 3] in the dtype of `contrast`.
    Source: Rodrigues' formula for the rotation about v.
    """
    along = torch.full([3, 3], 1 / 3, dtype=contrast.dtype)
    across = torch.eye(3, dtype=contrast.dtype) - along
    turned = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=contrast.dtype) / math.sqrt(3)
    factors = torch.stack(
        [1 - 2 * flip, saturation * torch.cos(angle), saturation * torch.sin(angle)], dim=1
    )
    return torch.einsum("n,nk,kij->nij", contrast, factors, torch.stack([along, across, turned]))


def apply_color(images: Tensor, transforms: Tensor) -> Tensor:
    """Map every pixel's colour.

    Args:
        images: [N, C, H, W] floating point, C 1 or 3. One channel is taken for a grey colour of
            which the mean of the three results is kept, so hue and saturation do nothing to it.
        transforms: [N, 3, 4] float64 on the CPU, from `color_transforms`.
    Returns: [N, C, H, W], dtype and device of `images`.
    """
    n, c, h, w = images.shape
    if c == 1:
        grey = transforms.mean(1)
        transforms = torch.stack([grey[:, :3].sum(1), grey[:, 3]], dim=1)[:, None]
    transforms = upload(transforms.to(images.dtype), images.device)
    matrix, shift = transforms[:, :, :c], transforms[:, :, c:]
    return torch.baddbmm(shift, matrix, images.flatten(2)).reshape(n, c, h, w)
