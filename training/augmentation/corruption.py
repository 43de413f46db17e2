"""Additive noise and cutout.

Source: Karras et al. 2020 (arXiv:2006.06676), appendix B.
"""

import torch
from torch import Tensor

from torch_utils.devices import upload
from training.augmentation.config import AugmentConfig
from training.augmentation.draws import Draw, Draws, pick


def noise_levels(draws: Draws, config: AugmentConfig, p: float) -> Tensor:
    """Return [N] float64 on the CPU: each sample's standard deviation of noise, often 0."""
    level = draws.half_normal(Draw.NOISE) * config.noise_std
    return pick(draws.is_on(Draw.NOISE, config.noise * p), level, 0)


def add_noise(images: Tensor, levels: Tensor, seeds: list[int]) -> Tensor:
    """Add white noise.

    Args:
        images: [N, C, H, W] floating point.
        levels: [N] float64 on the CPU, standard deviations.
        seeds: one a sample. Noise is drawn on the images' device, whose kind it therefore depends
            on, but not on the other samples.
    Returns: [N, C, H, W], dtype and device of `images`.
    """
    generator = torch.Generator(images.device)
    noise = torch.zeros_like(images)
    for i, (level, seed) in enumerate(zip(levels.tolist(), seeds, strict=True)):
        if level > 0:
            noise[i].normal_(0, level, generator=generator.manual_seed(seed))
    return images + noise


def cutout_sizes(draws: Draws, config: AugmentConfig, p: float) -> Tensor:
    """Return [N] float64 on the CPU: sides of the rectangle as a fraction of the image, often 0."""
    is_on = draws.is_on(Draw.CUTOUT_X, config.cutout * p)
    return pick(is_on, torch.full([len(is_on)], config.cutout_size, dtype=torch.float64), 0)


def cut_out(images: Tensor, sizes: Tensor, center_x: Tensor, center_y: Tensor) -> Tensor:
    """Set a rectangle of each image to 0, mid-grey.

    Args:
        images: [N, C, H, W] floating point.
        sizes: [N] float64 on the CPU, sides as a fraction of width and height.
        center_x: [N] float64 on the CPU, 0..1 from the left border. A rectangle may hang over.
        center_y: [N] float64 on the CPU, 0..1 from the top border.
    Returns: [N, C, H, W], dtype and device of `images`.
    """
    height, width = images.shape[2:]
    outside_x = _is_outside(width, sizes, center_x)[:, None, None, :]
    outside_y = _is_outside(height, sizes, center_y)[:, None, :, None]
    return images * upload((outside_x | outside_y).to(images.dtype), images.device)


def _is_outside(length: int, sizes: Tensor, center: Tensor) -> Tensor:
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return (place - center[:, None]).abs() >= sizes[:, None] / 2
