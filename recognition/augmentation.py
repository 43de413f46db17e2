"""Changes to training images of faces: mirror, shift, contrast and brightness."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FaceAugmentation:
    """What is changed.

    Attributes:
        mirror: half of the images are flipped left to right.
        shift: largest shift in each direction, as a share of the width; edges are repeated.
        light: largest change of contrast (a factor 1 +- light) and brightness (light of half the
            range).
    """

    mirror: bool = True
    shift: float = 0.0
    light: float = 0.0

    def __call__(self, images: Tensor, random: torch.Generator) -> Tensor:
        """images: [N, C, S, S] float32 in -1..1 -> the same shape and range."""
        count = len(images)
        draws = torch.rand([count, 5], generator=random).to(images.device)
        if self.mirror:
            images = torch.where(draws[:, :1, None, None] < 0.5, images.flip(3), images)
        if self.shift > 0:
            images = _shift(images, (draws[:, 1:3] * 2 - 1) * self.shift)
        if self.light > 0:
            contrast, brightness = ((draws[:, 3:] * 2 - 1) * self.light).unbind(1)
            images = images * (1 + contrast)[:, None, None, None]
            images = (images + brightness[:, None, None, None]).clamp(-1, 1)
        return images


def _shift(images: Tensor, shares: Tensor) -> Tensor:
    """Shift by whole pixels. shares: [N, 2] of the width and height."""
    size = images.shape[3]
    pixels = (shares * size).round().long()
    place = torch.arange(size, device=images.device)
    columns = (place + pixels[:, :1]).clamp(0, size - 1)  # [N, S]
    rows = (place + pixels[:, 1:]).clamp(0, size - 1)
    images = images.gather(3, columns[:, None, None, :].expand_as(images))
    return images.gather(2, rows[:, None, :, None].expand_as(images))
