"""Perceptual path length: how far images move for a small step of the latent."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.names import Metric
from metrics.estimates import Floats
from networks.sampling import IndexedSampler
from torch_utils.seeding import generator_for

BLOCK = 16  # pairs of latents from one stream
EPSILON = 1e-4
_MAX_PIXELS = 256
_TRIM_PERCENT = 1


def path_lengths(
    sampler: IndexedSampler,
    measure: Callable[[Tensor], Tensor],
    metric: Metric,
    *,
    block: int,
    seed: int,
) -> Floats:
    """Return squared distances over squared steps for one block of pairs of latents.

    Both ends of a step have the same noise, drawn anew for each pair.

    Args:
        sampler: of the network; on any device.
        measure: float32 images [N, 3, R, R] in 0..255 -> [N, D], whose squared distance counts.
        metric: space, point on the path, crop, and modality.
        block: number of the block of pairs.
        seed: of latents and points on the paths.
    Returns: [BLOCK] float64.
    Source: Karras et al. 2019 (arXiv:1812.04948), section 4.1; the older names crop the region of
        faces: rows 3/8..7/8, columns 2/8..6/8.
    """
    random = generator_for(seed, "path length", block)
    indices = range(block * BLOCK, (block + 1) * BLOCK)
    z0, z1 = torch.randn([2, BLOCK, sampler.z_dim], generator=random)
    t = torch.rand([BLOCK, 1], generator=random) * (0 if metric.is_end else 1)
    c = sampler.conditions(indices)
    if metric.space == "z":
        ends = [sampler.map(slerp(z0, z1, place), c) for place in (t, t + EPSILON)]
    else:
        w0, w1 = sampler.map(z0, c), sampler.map(z1, c)
        t = t.to(w0).reshape(BLOCK, *[1] * (w0.ndim - 1))
        ends = [torch.lerp(w0, w1, place) for place in (t, t + EPSILON)]
    first, second = (
        measure(_as_seen(sampler.synthesize(w, indices)[metric.view], metric)) for w in ends
    )
    squares = (first.double() - second.double()).square().sum(dim=1) / EPSILON**2
    return squares.cpu().numpy()


def trimmed_mean(lengths: Floats) -> float:
    """Return the mean of what lies between the 1st and the 99th percentile, ends included.

    Raises: ValueError without lengths or where they are not finite.
    """
    if len(lengths) == 0 or not np.isfinite(lengths).all():
        raise ValueError(f"path lengths must be finite and at least one, got {len(lengths)}")
    low = np.percentile(lengths, _TRIM_PERCENT, method="lower")
    high = np.percentile(lengths, 100 - _TRIM_PERCENT, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return points on the great circle through the directions of a and b, as unit vectors.

    a and b are [N, D] float32; t is [N, 1], 0 at a and 1 at b.

    Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (a * b).sum(dim=1, keepdim=True).clamp(-1, 1)
    angle = t * cosine.acos()
    sideways = F.normalize(b - cosine * a, dim=1)
    return F.normalize(a * angle.cos() + sideways * angle.sin(), dim=1)


def _as_seen(images: Tensor, metric: Metric) -> Tensor:
    """Return [N, 3, r, r] float32 in 0..255: cropped, averaged down, in three channels.

    Whole images are averaged down to 256; as published, a crop by as much as the whole image.
    """
    factor = images.shape[2] // _MAX_PIXELS
    if metric.is_cropped:
        part = images.shape[2] // 8
        images = images[:, :, 3 * part : 7 * part, 2 * part : 6 * part]
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    return ((images + 1) * (255 / 2)).expand(-1, 3, -1, -1)
