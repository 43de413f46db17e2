"""Amplification of four frequency bands.

Source: Karras et al. 2020 (arXiv:2006.06676), appendix B.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.devices import upload
from torch_utils.ops.conv2d import conv2d
from training.augmentation.config import NUM_BANDS, AugmentConfig
from training.augmentation.draws import BANDS, Draws, pick

# Low-pass decomposition filter of the sym2 wavelet. Source: Daubechies 1992 (sym2 = db2).
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)

# Share of each band in the power of natural images, which falls with the inverse frequency.
EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


def band_filters() -> Tensor:
    """Return the band-pass filters, octave by octave from low to high; they sum to the identity.

    The half-band pair L(z) = H(z) H(1/z) / 2 and U(z) = H(-z) H(-1/z) / 2 of sym2 has L + U = 1;
    the low band is split again and again: U(z), L(z) U(z²), L(z) L(z²) U(z⁴), L(z) L(z²) L(z⁴).

    Returns: [4, 43] float64, symmetric.
    """
    taps = torch.tensor(SYM2, dtype=torch.float64)
    signs = torch.tensor([1, -1, 1, -1], dtype=torch.float64)
    low = _convolve(taps, taps.flip(0)) / 2
    high = _convolve(taps * signs, (taps * signs).flip(0)) / 2
    bands, rest = [], torch.ones(1, dtype=torch.float64)
    for octave in range(NUM_BANDS - 1):
        bands.append(_convolve(rest, _spread(high, 2**octave)))
        rest = _convolve(rest, _spread(low, 2**octave))
    bands.append(rest)
    length = len(rest)
    return torch.stack([F.pad(band, [(length - len(band)) // 2] * 2) for band in reversed(bands)])


def band_gains(draws: Draws, config: AugmentConfig, p: float) -> Tensor:
    """Return how much each sample amplifies each band.

    Each band in turn is amplified by a factor, and all four divided by what this changes of the
    expected power, so that an image keeps its contrast on average.

    Returns: [N, 4] float64 on the CPU; all 1 where nothing happens.
    """
    power = torch.tensor(EXPECTED_POWER, dtype=torch.float64)
    gains = torch.ones(1, NUM_BANDS, dtype=torch.float64)
    for band, draw in enumerate(BANDS):
        is_on = draws.is_on(draw, config.imgfilter * config.imgfilter_bands[band] * p)
        factor = pick(is_on, torch.exp2(draws.normal(draw) * config.imgfilter_std), 1)
        change = torch.ones(len(factor), NUM_BANDS, dtype=torch.float64)
        change[:, band] = factor
        norm = (power * change.square()).sum(1, keepdim=True).sqrt()
        gains = gains * torch.where(is_on[:, None], change / norm, 1.0)
    return gains


def amplify(images: Tensor, gains: Tensor, filters: Tensor) -> Tensor:
    """Filter rows and columns, so that what varies along neither is scaled by the square.

    Args:
        images: [N, C, H, W] floating point; beyond the border they are reflected.
        gains: [N, 4] float64 on the CPU, from `band_gains`.
        filters: [4, T] from `band_filters`, on the images' device.
    Returns: [N, C, H, W], dtype and device of `images`.
    """
    n, c, h, w = images.shape
    gains = upload(gains.to(images.dtype), images.device)
    taps = (gains @ filters.to(images.dtype)).repeat_interleave(c, dim=0)
    x = reflect_pad(images.reshape(1, n * c, h, w), taps.shape[1] // 2)
    x = conv2d(x, taps[:, None, None, :], groups=n * c)
    x = conv2d(x, taps[:, None, :, None], groups=n * c)
    return x.reshape(n, c, h, w)


def reflect_pad(images: Tensor, margin: int) -> Tensor:
    """Reflect [N, C, H, W] images on all sides, back and forth where they are too small."""
    rest_x = rest_y = margin
    while rest_x > 0 or rest_y > 0:
        # A full step ends on a border of the reflected copy, where the next reflection goes on.
        step_x, step_y = min(rest_x, images.shape[3] - 1), min(rest_y, images.shape[2] - 1)
        images = F.pad(images, [step_x, step_x, step_y, step_y], mode="reflect")
        rest_x, rest_y = rest_x - step_x, rest_y - step_y
    return images


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


def _spread(taps: Tensor, factor: int) -> Tensor:
    """Put factor - 1 zeros between taps: H(z) becomes H(z ** factor)."""
    spread = taps.new_zeros((len(taps) - 1) * factor + 1)
    spread[::factor] = taps
    return spread
