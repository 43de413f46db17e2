"""Registration of two images of different kinds by their edges, which spectra share."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_SMALLEST = 8
_SMALLEST_SIGNAL = 1e-12
_UPSAMPLING = 20  # steps a pixel
_SMOOTHING_PX = 1.0
_REACH = 1.5  # pixels around the peak that are looked at again


class NotRegisteredError(ValueError):
    """Images of different or too small a size."""


def edge_strength(image: np.ndarray) -> Floats:
    """Return the gradient's length of a smoothed image, which spectra share: [H, W] float64.

    The image is [C, H, W] or [H, W], of any range.
    """
    grey = np.asarray(image, dtype=np.float64)
    grey = grey.mean(axis=0) if grey.ndim == 3 else grey
    return ndimage.gaussian_gradient_magnitude(grey, _SMOOTHING_PX, mode="nearest")


def displacement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the shift (down, right) in pixels that takes `first` to `second`.

    The peak of the phase correlation of the two windowed arrays among shifts of up to a quarter of
    their size, refined on a grid of 1/20 pixel by a discrete Fourier transform around it.

    Args:
        first, second: [H, W] float of one shape, at least 8 by 8.
    Returns: (0, 0) where either array is constant.
    Raises: NotRegisteredError for other shapes.
    Source: Kuglin & Hines 1975; Guizar-Sicairos et al. 2008 (refinement).
    """
    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < _SMALLEST:
        raise NotRegisteredError(
            f"registration needs two images of one size, at least {_SMALLEST} x {_SMALLEST}, "
            f"got {first.shape} and {second.shape}"
        )
    phases = _phases(first, second)
    surface = np.where(_is_near(first.shape), np.fft.ifft2(phases).real, -np.inf)
    peak = np.unravel_index(int(np.argmax(surface)), surface.shape)
    whole = [int(p) - n if p > n // 2 else int(p) for p, n in zip(peak, first.shape, strict=True)]
    # The windows of two displaced images weigh other content: look again at what both show.
    down, right = _refine(_phases(*overlap(first, second, whole)))
    return whole[0] + down, whole[1] + right


def common_box(size: tuple[int, int], shift: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return what both of two images show: left, upper, right, lower in pixels of the first.

    Args:
        size: (width, height) of both.
        shift: see `displacement`.

    >>> common_box((100, 80), (0, 25)), common_box((100, 80), (-2.5, 0.4))
    ((0, 0, 75, 80), (0, 3, 99, 80))
    """
    box = [
        (math.ceil(max(0, -s)), math.floor(n - max(0, s)))
        for n, s in zip(size, reversed(shift), strict=True)
    ]
    return box[0][0], box[1][0], box[0][1], box[1][1]


def overlap(
    first: np.ndarray, second: np.ndarray, shift: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of two images that show the same, up to less than a pixel."""
    slices = [
        (slice(max(-s, 0), n - max(s, 0)), slice(max(s, 0), n - max(-s, 0)))
        for s, n in zip(shift, first.shape, strict=True)
    ]
    return first[slices[0][0], slices[1][0]], second[slices[0][1], slices[1][1]]


def edge_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two arrays of edges, 0 where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    length = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / length) if length > 0 else 0.0


def _is_near(shape: tuple[int, ...]) -> np.ndarray:
    """Return which shifts are at most a quarter of the size, [H, W] bool."""
    down, right = (np.abs(np.fft.fftfreq(n)) <= 0.25 for n in shape)
    return down[:, None] & right[None]


def _low_pass(shape: tuple[int, ...]) -> Floats:
    """Return weights that drop what smoothing left without signal: a Gaussian in frequency."""
    down, right = (np.fft.fftfreq(n) for n in shape)
    squared = down[:, None] ** 2 + right[None] ** 2
    return np.exp(-2 * (np.pi * _SMOOTHING_PX) ** 2 * squared)


def _phases(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the phases of the cross spectrum of two windowed arrays, without high frequencies."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in first.shape))
    spectra = [np.fft.fft2((a - a.mean()) * window) for a in (first, second)]
    product = spectra[1] * spectra[0].conj()
    size = np.abs(product)
    if size.max() <= _SMALLEST_SIGNAL:
        return np.ones_like(product)  # nothing to see: no displacement
    return product / np.maximum(size, 1e-9 * size.max()) * _low_pass(first.shape)


def _refine(phases: np.ndarray) -> tuple[float, float]:
    """Return the place of the highest value of the correlation near no displacement."""
    steps = np.arange(-_REACH * _UPSAMPLING, _REACH * _UPSAMPLING + 1) / _UPSAMPLING
    down, right = (np.exp(2j * np.pi * np.outer(steps, np.fft.fftfreq(n))) for n in phases.shape)
    surface = (down @ phases @ right.T).real
    i, j = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return float(steps[i]), float(steps[j])
