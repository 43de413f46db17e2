"""Whether the images of a pair lie on each other: displacement and agreement of edges."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.registration import NotRegisteredError, displacement, edge_correlation, edge_strength
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

_PARTNERS = 4  # other identities' images behind the chance level of each pair
_median = weighted_quantile(0.5)


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
        try:
            shifts.append(displacement(first, second))
        except NotRegisteredError as error:
            raise NotMeasuredError(str(error)) from error
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
