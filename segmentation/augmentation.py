"""Changes to images and their masks alike: mirror, shift, scale, and light of the images alone."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segmentation.options import AugmentationConfig
from torch_utils.devices import upload

_DRAWS = 6


def augment(
    config: AugmentationConfig,
    images: Tensor,
    masks: Tensor,
    uncertainty: Tensor,
    mirrored: Sequence[int],
    random: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Change a batch.

    Args:
        config: largest changes.
        images: [N, C, H, W] float32 in -1..1.
        masks: [N, H, W] int64, classes or IGNORED.
        uncertainty: [N, H, W] float32.
        mirrored: number of each class in a flipped image.
        random: draws the same numbers whatever is switched on.
    """
    draws = upload(torch.rand([len(images), _DRAWS], generator=random), images.device)
    flips = (draws[:, 0] < 0.5) & config.mirror
    signed = draws * 2 - 1
    contrast, brightness = (signed[:, 4:6] * config.light).t()[:, :, None, None, None]
    images = (images * (1 + contrast) + brightness).clamp(-1, 1)
    images, uncertainty = _flip(images, flips), _flip(uncertainty, flips)
    rest = range(len(mirrored), 256)
    swapped = upload(torch.tensor([*mirrored, *rest]), masks.device)
    masks = torch.where(flips[:, None, None], swapped[masks.flip(2)], masks)
    if config.shift == 0 and config.scale == 0:
        return images, masks, uncertainty
    factors = (1 + config.scale) ** signed[:, 3]
    # Parts of a pixel would blur small images, which those in use are not.
    pixels = (signed[:, 1:3] * config.shift * images.shape[3]).round()
    grid = _grid(factors, pixels, images)
    planes = torch.stack([masks.float(), uncertainty], dim=1)
    planes = _sample(planes, grid, "nearest")
    return _sample(images, grid, "bilinear"), planes[:, 0].round().long(), planes[:, 1]


def _flip(planes: Tensor, flips: Tensor) -> Tensor:
    """planes: [N, ..., W]; flipped left to right where flips [N] says so."""
    return torch.where(flips.reshape(-1, *[1] * (planes.ndim - 1)), planes.flip(-1), planes)


def _grid(factors: Tensor, shifts: Tensor, images: Tensor) -> Tensor:
    """Return where each output pixel looks: [N, H, W, 2] in -1..1.

    Args:
        factors: [N] sizes; above 1 enlarges.
        shifts: [N, 2] right and down, in pixels.
    """
    height, width = images.shape[2:]
    sides = upload(torch.tensor([width, height]), images.device)
    theta = images.new_zeros([len(images), 2, 3])
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / factors
    theta[:, :, 2] = -2 * shifts / sides / factors[:, None]
    return F.affine_grid(theta, list(images.shape), align_corners=False)


def _sample(planes: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)
