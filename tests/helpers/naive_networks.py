"""Parts of the networks in their textbook form, in float64, written from the papers."""

import torch
import torch.nn.functional as F

from tests.helpers import naive_ops


def modulated_convolution(x, weight, styles, *, demodulate=True):
    """Build each sample's own weights (arXiv:1912.04958, equations 1 and 3), then convolve.

    x: [N, I, H, W]; weight: [O, I, K, K]; styles: [N, I]; all float64.
    """
    outputs = []
    for image, style in zip(x, styles, strict=True):
        own = weight * style[None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        outputs.append(F.conv2d(image[None], own, padding=weight.shape[2] // 2))
    return torch.cat(outputs)


def upsampling_modulated_convolution(x, weight, styles, taps):
    """Insert zeros, convolve with each sample's own weights, smooth with the outer product of taps.

    The kernel lies flipped as against `modulated_convolution`: it is a convolution, not a
    correlation, as in the published networks.
    """
    n, channels, height, width = x.shape
    wide = torch.zeros(n, channels, 2 * height, 2 * width, dtype=x.dtype)
    wide[:, :, ::2, ::2] = x
    outputs = []
    smooth = torch.tensor(taps, dtype=x.dtype)
    smooth = torch.outer(smooth, smooth) / smooth.sum() ** 2
    for image, style in zip(wide, styles, strict=True):
        own = weight * style[None, :, None, None]
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        # Zeros all around, cut off at the end: pixel o of the result sees o - 2 .. o + 1.
        full = naive_ops.conv2d(F.pad(image, [8] * 4)[None].numpy(), own.numpy(), 0, False)
        whole = torch.tensor(naive_ops.upfirdn2d(full, smooth.numpy(), gain=4.0))
        outputs.append(whole[:, :, 5 : 5 + 2 * height, 5 : 5 + 2 * width])
    return torch.cat(outputs)


def minibatch_std(x, group_size, num_channels):
    """Append standard deviations group by group; sample n is in group n mod (N / group size)."""
    n, channels, height, width = x.shape
    size = min(group_size or n, n)
    groups, width_of_map = n // size, channels // num_channels
    extra = torch.zeros(n, num_channels, height, width, dtype=x.dtype)
    for group in range(groups):
        members = [sample for sample in range(n) if sample % groups == group]
        for index in range(num_channels):
            part = x[members, index * width_of_map : (index + 1) * width_of_map]
            deviations = (part.var(dim=0, unbiased=False) + 1e-8).sqrt()
            extra[members, index] = deviations.mean()
    return torch.cat([x, extra], dim=1)
