"""Whether the images of a pair lie on each other: displacement and agreement of edges."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from metrics import NotMeasuredError
from metrics.estimates import (
    Estimate,
    Floats,
    clustered,
    clustered_share,
    group_numbers,
    weighted_mean,
    weighted_quantile,
)

_SMALLEST = 8
_SMALLEST_SIGNAL = 1e-12
_UPSAMPLING = 20  # steps a pixel
_SMOOTHING_PX = 1.0
_PARTNERS = 4  # other identities' images behind the chance level of each pair
_median = weighted_quantile(0.5)
_REACH = 1.5  # pixels around the peak that are looked at again


@dataclass(frozen=True, kw_only=True)
class AlignmentScore:
    """What `score_alignment` finds.

    Attributes:
        residual_px, residual_p95_px: median and 95 % quantile of the displacement's length that
            registers the second image; single small images may register wrongly.
        systematic_px: length of the median displacement, which all pairs share.
        within_one_px: share of pairs displaced by at most one pixel.
        edge_correlation: mean correlation of the two images' edges, where they are.
        edge_correlation_chance: the same against second images of other identities.
        edge_correlation_excess: difference of the two, pair by pair: what makes pairs of images.
    """

    residual_px: Estimate
    residual_p95_px: Estimate
    systematic_px: Estimate
    within_one_px: Estimate
    edge_correlation: Estimate
    edge_correlation_chance: Estimate
    edge_correlation_excess: Estimate


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
    Raises: ValueError for other shapes.
    Source: Kuglin & Hines 1975; Guizar-Sicairos et al. 2008 (refinement).
    """
    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < _SMALLEST:
        raise NotMeasuredError(
            f"registration needs two images of one size, at least {_SMALLEST} x {_SMALLEST}, "
            f"got {first.shape} and {second.shape}"
        )
    phases = _phases(first, second)
    surface = np.where(_is_near(first.shape), np.fft.ifft2(phases).real, -np.inf)
    peak = np.unravel_index(int(np.argmax(surface)), surface.shape)
    whole = [int(p) - n if p > n // 2 else int(p) for p, n in zip(peak, first.shape, strict=True)]
    # The windows of two displaced images weigh other content: look again at what both show.
    down, right = _refine(_phases(*_overlap(first, second, whole)))
    return whole[0] + down, whole[1] + right


def edge_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two arrays of edges, 0 where one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    length = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / length) if length > 0 else 0.0


def score_alignment(
    load: Callable[[int], Sequence[np.ndarray]],
    identities: Sequence[str],
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> AlignmentScore:
    """Measure how well pairs of images are aligned; a few pairs are held at a time.

    The chance level compares each first image with the second images of four pairs of other
    identities, drawn at random, as far as they have its size: faces of one kind have edges in the
    same places. Where all pairs are said to be of one identity, other pairs take their place.

    Args:
        load: position of a pair -> its two images, [C, H, W] uint8, of one size.
        identities: of each pair.
        seed: of the partners and of resampling.
        advance: is told of each pair that is done.
    Raises: NotMeasuredError for fewer than two pairs of one size, or images that do not fit.
    """
    if len(identities) < 2:
        raise NotMeasuredError(f"alignment needs at least two pairs, got {len(identities)}")
    shifts, own, chance = [], [], []
    for index, partners in enumerate(_partners(identities, seed)):
        first, second = (edge_strength(image) for image in load(index))
        others = [edge_strength(load(partner)[1]) for partner in partners]
        shifts.append(displacement(first, second))
        own.append(edge_correlation(first, second))
        found = [edge_correlation(first, other) for other in others if other.shape == first.shape]
        chance.append(float(np.mean(found)) if found else math.nan)
        advance(1)
    shifts_px, has_chance = np.array(shifts), np.isfinite(chance)
    if not has_chance.any():
        raise NotMeasuredError("alignment needs at least two pairs of one size")
    compared = [name for name, is_kept in zip(identities, has_chance, strict=True) if is_kept]
    lengths_px = np.hypot(*shifts_px.T)

    def middle(places: Floats, weights: Floats) -> float:
        parts = (shifts_px[places.astype(int), axis] for axis in (0, 1))
        return float(np.hypot(*(_median(part, weights) for part in parts)))

    def mean_over_chance(values: Sequence[float] | np.ndarray) -> Estimate:
        return clustered(np.asarray(values)[has_chance], compared, weighted_mean, seed=seed)

    return AlignmentScore(
        residual_px=clustered(lengths_px, identities, _median, seed=seed),
        residual_p95_px=clustered(lengths_px, identities, weighted_quantile(0.95), seed=seed),
        systematic_px=clustered(np.arange(len(identities)), identities, middle, seed=seed),
        within_one_px=clustered_share(lengths_px <= 1, identities, seed=seed),
        edge_correlation=clustered(np.array(own), identities, weighted_mean, seed=seed),
        edge_correlation_chance=mean_over_chance(chance),
        edge_correlation_excess=mean_over_chance(np.subtract(own, chance)),
    )


def _partners(identities: Sequence[str], seed: int) -> Iterator[list[int]]:
    """Yield for each pair the positions of pairs of other identities, with replacement."""
    numbers, count = group_numbers(identities)
    if count == 1:
        numbers, count = np.arange(len(identities)), len(identities)
    positions = [np.flatnonzero(numbers == number) for number in range(count)]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(identities)])))
    for number in numbers:
        others = (number + rng.integers(1, count, _PARTNERS)) % count
        yield [int(rng.choice(positions[other])) for other in others]


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


def _overlap(
    first: np.ndarray, second: np.ndarray, shift: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of two images that show the same, up to less than a pixel."""
    places = [
        (slice(max(-s, 0), n - max(s, 0)), slice(max(s, 0), n - max(-s, 0)))
        for s, n in zip(shift, first.shape, strict=True)
    ]
    return first[places[0][0], places[1][0]], second[places[0][1], places[1][1]]


def _refine(phases: np.ndarray) -> tuple[float, float]:
    """Return the place of the highest value of the correlation near no displacement."""
    steps = np.arange(-_REACH * _UPSAMPLING, _REACH * _UPSAMPLING + 1) / _UPSAMPLING
    down, right = (np.exp(2j * np.pi * np.outer(steps, np.fft.fftfreq(n))) for n in phases.shape)
    surface = (down @ phases @ right.T).real
    i, j = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return float(steps[i]), float(steps[j])
