"""Whether edges stay where they were, so that labels stay valid."""

import torch
from torch import Tensor
from torch.nn import functional as F

_TINY = 1e-12


def edge_strength(images: Tensor) -> Tensor:
    """Return how much each pixel differs from its neighbours, over all channels.

    Args:
        images: [N, C, H, W] uint8.
    Returns: [N, H - 2, W - 2] float64, the length of the central differences.
    """
    x = images.double()
    across = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    return (across.square() + down.square()).sum(1).sqrt()


def edge_correlation(before: Tensor, after: Tensor) -> Tensor:
    """Return Pearson's correlation of the edges of images and refined images.

    Args:
        before: [N, C, H, W] uint8.
        after: the same shape.
    Returns: [N] float64 in -1..1; 0 where an image has no edges.
    """
    return _correlation(edge_strength(before).flatten(1), edge_strength(after).flatten(1))


def edge_shift(before: Tensor, after: Tensor, radius: int = 2) -> Tensor:
    """Return by how much the edges as a whole moved.

    The edges are correlated at all shifts of whole pixels; a parabola through the best one and its
    neighbours gives the fraction.

    Args:
        before: [N, C, H, W] uint8.
        after: the same shape.
        radius: largest shift, in pixels.
    Returns: [N, 2] float64, pixels to the right and down.
    """
    old, new = edge_strength(before), edge_strength(after)
    reach = radius + 1
    inner = old[:, reach:-reach, reach:-reach].flatten(1)
    side = 2 * reach + 1
    height, width = old.shape[1] - 2 * reach, old.shape[2] - 2 * reach
    found = [
        _correlation(inner, new[:, down : down + height, right : right + width].flatten(1))
        for down in range(side)
        for right in range(side)
    ]
    surface = torch.stack(found, 1).reshape(-1, side, side)
    best = surface[:, 1:-1, 1:-1].flatten(1).argmax(1)
    down, right = best // (side - 2) + 1, best % (side - 2) + 1
    rows = torch.arange(len(surface))
    centre = surface[rows, down, right]
    across = _vertex(surface[rows, down, right - 1], centre, surface[rows, down, right + 1])
    along = _vertex(surface[rows, down - 1, right], centre, surface[rows, down + 1, right])
    return torch.stack([right - reach + across, down - reach + along], 1)


def _vertex(left: Tensor, centre: Tensor, right: Tensor) -> Tensor:
    """Return the place of the top of a parabola through values at -1, 0 and 1, within +-0.5."""
    bend = left + right - 2 * centre
    place = (left - right) / (2 * bend.clamp(max=-_TINY))
    return place.clamp(-0.5, 0.5)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = F.normalize(a, dim=1, eps=_TINY), F.normalize(b, dim=1, eps=_TINY)
    return (scale[0] * scale[1]).sum(1)
