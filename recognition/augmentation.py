"""Changes to training images of faces: mirror, shift, contrast, brightness, blur, illumination."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from recognition.options import AugmentationConfig
from torch_utils.devices import upload
from torch_utils.distributed import World

_REACH = 3  # standard deviations of a blur that are computed


def augment(
    config: AugmentationConfig,
    images: Tensor,
    random: torch.Generator,
    world: World | None = None,
) -> Tensor:
    """Change each image by its own draws.

    Args:
        config: what is changed, and how much.
        images: [N, C, S, S] float32 in -1..1, this process's part of a batch.
        random: draws for the whole batch.
        world: the processes that share it; None for one.
    Returns: the same shape and range.
    """
    world = world or World()
    count = len(images) * world.size

    def draw(numbers: int) -> Tensor:
        return upload(world.shard(torch.rand([count, numbers], generator=random)), images.device)

    draws = draw(5)
    if config.mirror:
        images = torch.where(draws[:, :1, None, None] < 0.5, images.flip(3), images)
    if config.shift > 0:
        images = _shift(images, (draws[:, 1:3] * 2 - 1) * config.shift)
    if config.light > 0:
        contrast, brightness = ((draws[:, 3:] * 2 - 1) * config.light).unbind(1)
        images = images * (1 + contrast)[:, None, None, None]
        images = (images + brightness[:, None, None, None]).clamp(-1, 1)
    if config.blur > 0:
        images = blur_images(images, draw(1)[:, 0] * config.blur, config.blur)
    if config.illumination > 0:
        images = _illuminate(images, draw(3), config.illumination)
    return images


def _shift(images: Tensor, shares: Tensor) -> Tensor:
    """Shift by whole pixels. shares: [N, 2] of the width and height."""
    size = images.shape[3]
    pixels = (shares * size).round().long()
    position = torch.arange(size, device=images.device)
    columns = (position + pixels[:, :1]).clamp(0, size - 1)  # [N, S]
    rows = (position + pixels[:, 1:]).clamp(0, size - 1)
    images = images.gather(3, columns[:, None, None, :].expand_as(images))
    return images.gather(2, rows[:, None, :, None].expand_as(images))


def blur_images(images: Tensor, widths: Tensor, largest: float) -> Tensor:
    """Blur each image with its own Gaussian; edges are repeated.

    Args:
        images: [N, C, S, S] float32.
        widths: [N] standard deviations as shares of S, each at most `largest`.
        largest: decides how far the sums reach.
    Returns: the same shape.
    """
    size = images.shape[3]
    reach = max(math.ceil(_REACH * largest * size), 1)
    position = torch.arange(-reach, reach + 1, device=images.device)
    spread = (widths * size).clamp_min(1e-3)
    weights = torch.exp(-(position.square() / (2 * spread[:, None].square())))
    weights = (weights / weights.sum(dim=1, keepdim=True)).t()[:, :, None, None, None]
    for axis in (2, 3):
        margins = [reach, reach, 0, 0] if axis == 3 else [0, 0, reach, reach]
        padded = functional.pad(images, margins, mode="replicate")
        images = sum(
            (weight * padded.narrow(axis, offset, size) for offset, weight in enumerate(weights)),
            start=torch.zeros_like(images),
        )
    return images


def _illuminate(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Change gamma, and light from one side. draws: [N, 3] in 0..1."""
    size = images.shape[3]
    position = torch.linspace(-1, 1, size, device=images.device)
    angle, side, gamma = (draws * draws.new_tensor([2 * math.pi, strength, 2])).unbind(1)
    across = angle.cos()[:, None, None] * position + angle.sin()[:, None, None] * position[:, None]
    light = 1 + side[:, None, None] * across / math.sqrt(2)
    exponent = torch.exp((gamma - 1) * strength)[:, None, None, None]
    shown = ((images + 1) / 2).clamp(0, 1) ** exponent * light[:, None]
    return (shown * 2 - 1).clamp(-1, 1)
