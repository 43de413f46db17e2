"""How many identities a data set shows, how consistent and how varied each of them is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import special

from metrics import NotMeasuredError
from metrics.estimates import (
    Estimate,
    Floats,
    clustered,
    clustered_share,
    group_numbers,
    weighted_mean,
)
from metrics.nearest import References, unit_rows

_BLOCK = 2048
_ENTROPY_BINS = 10
_MAX_KINDS = 64
_OUTSIDE = 0.05  # of the caps of identity capacity
_NO_ATTRIBUTES = ("identity", "sample", "split")  # numbers of identities and samples


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """DCFace's measures of a data set, at one threshold of similarity.

    Attributes:
        threshold: cosine at or above which two images show one identity.
        uniqueness: U, share of identities kept by a greedy count of centres. Such a count is no sum
            of independent ones and falls with the number of identities: it has no interval.
        consistency: C, share of images within the threshold of their own centre, of identities with
            two images or more; None without any.
        greedy_capacity: identities in that greedy set.
    """

    threshold: float
    uniqueness: Estimate
    consistency: Estimate | None
    greedy_capacity: int


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Identity capacity as a ratio of spherical caps.

    Attributes:
        log10: decimal logarithm of the ratio, which may be very large.
        population_deg, identity_deg: half angles of the caps that hold the identities' centres, and
            the images of one identity.
        dimension: of the embeddings.
        quantile: share of centres and of images that lies outside.
        identities: how many there were.
    """

    log10: float
    population_deg: float
    identity_deg: float
    dimension: int
    quantile: float
    identities: int = field(metadata={"json": "people"})


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether the images of a pair in two modalities show one identity.

    Attributes:
        similarity: mean cosine of the two images of a pair.
        above: share of pairs at or above the threshold.
        threshold: that one.
        rank_one: share of pairs whose second image is nearest to its own first image's identity.
    """

    similarity: Estimate
    above: Estimate
    threshold: float
    rank_one: Estimate


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """Spread of one attribute.

    Attributes:
        name: of the attribute.
        nats: -sum p ln p.
        share_of_uniform: that over ln of the number of kinds; 1 is evenly spread.
        kinds: values, or equal bins between the smallest and the largest number.
    """

    name: str
    nats: Estimate
    share_of_uniform: float
    kinds: int


def class_centres(vectors: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Return each identity's mean unit vector, normalised, [I, E] float32, sorted by name."""
    vectors = unit_rows(vectors, "embeddings")
    numbers, count = group_numbers(identities)
    sums = np.zeros((count, vectors.shape[1]), np.float64)
    np.add.at(sums, numbers, vectors.astype(np.float64))
    return unit_rows(sums, "centres of identities")


def _to_centres(
    vectors: np.ndarray, identities: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centres, each image's cosine with its own, and whether that is of two images."""
    centres = class_centres(vectors, identities)
    numbers, _ = group_numbers(identities)
    own = (unit_rows(vectors, "embeddings") * centres[numbers]).sum(axis=1)
    return centres, own, np.bincount(numbers)[numbers] > 1


def greedy_set(
    vectors: np.ndarray, threshold: float, device: torch.device | str = "cpu"
) -> list[int]:
    """Return indices of vectors that are pairwise below a similarity, taken greedily in order.

    Source: U of Kim et al. 2023 (DCFace); the "simple count" of identity capacity.
    """
    vectors = unit_rows(vectors, "embeddings")
    kept: list[int] = []
    known = References(vectors[:0], device=device)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        inside = block @ block.T
        fresh: list[int] = []
        for i in np.flatnonzero(known.nearest(block).scores < threshold).tolist():
            if not fresh or inside[i, fresh].max() < threshold:
                fresh.append(i)
        kept += [start + i for i in fresh]
        known.add(block[fresh])
    return kept


def class_statistics(
    vectors: np.ndarray,
    identities: Sequence[str],
    threshold: float,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> ClassStatistics:
    """Return uniqueness and consistency of a data set's identities, of embeddings [N, E].

    `threshold` is a cosine similarity; DCFace's radius r is 1 - threshold.

    Raises: NotMeasuredError for one identity only; ValueError for NaN or zero vectors.
    Source: Kim et al. 2023 (DCFace, arXiv:2304.07060), U_class and C_intra.
    """
    centres, own, has_two = _to_centres(vectors, identities)
    if len(centres) < 2:
        raise NotMeasuredError(f"uniqueness needs at least two identities, got {len(centres)}")
    some = [identity for identity, is_kept in zip(identities, has_two, strict=True) if is_kept]
    kept = len(greedy_set(centres, threshold, device))
    return ClassStatistics(
        threshold=threshold,
        uniqueness=Estimate(value=kept / len(centres), n=len(centres)),
        consistency=clustered_share((own >= threshold)[has_two], some, seed=seed) if some else None,
        greedy_capacity=kept,
    )


def class_diversity(
    features: np.ndarray, identities: Sequence[str], real: np.ndarray, *, k: int = 3, seed: int = 0
) -> Estimate:
    """Return D, the improved recall of real images by each identity's images, mean over identities.

    An identity recalls a real image that lies in the ball of one of its images, whose radius is the
    distance to its k-th nearest other image.

    Args:
        features: [N, F] of the data set, of a network for image quality, not of a recogniser.
        identities: of each; those with k images or fewer are left out.
        real: [R, F] features of real images by the same network.
    Raises: ValueError where nobody has more than k images, widths differ, or NaN.
    Source: D_intra of Kim et al. 2023 (DCFace), with Kynkaanniemi et al. 2019 inside.
    """
    for rows, name in ((features, "features"), (real, "real features")):
        if not np.isfinite(rows).all():
            raise ValueError(f"{name}: numbers must be finite, some are not")
    if features.ndim != 2 or real.ndim != 2 or features.shape[1] != real.shape[1]:
        raise ValueError(f"features must be [N, F] of one F, got {features.shape}, {real.shape}")
    numbers, count = group_numbers(identities)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers, minlength=count))[:-1])
    groups = [rows for rows in groups if len(rows) > k]
    if not groups:
        raise NotMeasuredError(f"diversity needs an identity with more than {k} images")
    radii = [_radii(features[rows], k) for rows in groups]
    hits = np.zeros(len(groups))
    for start in range(0, len(real), _BLOCK):
        block = real[start : start + _BLOCK].astype(np.float64)
        for number, rows in enumerate(groups):
            is_near = _distances(block, features[rows]) <= radii[number]
            hits[number] += np.count_nonzero(is_near.any(axis=1))
    names = [str(number) for number in range(len(groups))]
    return clustered(hits / len(real), names, weighted_mean, seed=seed)


def log_cap_share(angle: float, dimension: int) -> float:
    """Return ln of the share of a unit sphere in R^n that a cap of half angle `angle` covers.

    >>> round(math.exp(log_cap_share(math.pi / 3, 3)), 12)
    0.25

    Args:
        angle: radians, 0 < angle <= pi.
        dimension: n >= 2.
    Source: Li 2011, "Concise formulas for the area and volume of a hyperspherical cap".
    """
    if not 0 < angle <= math.pi or dimension < 2:
        raise ValueError(f"a cap needs 0 < angle <= pi and n >= 2, got {angle}, {dimension}")
    if angle > math.pi / 2:
        rest = math.pi - angle
        return math.log1p(-math.exp(log_cap_share(rest, dimension))) if rest > 0 else 0.0
    a, x = (dimension - 1) / 2, math.sin(angle) ** 2
    inside = float(special.betainc(a, 0.5, x))
    if inside > 1e-250:
        return math.log(inside / 2)
    # I_x(a, b) = x^a (1-x)^b / (a B(a, b)) 2F1(a+b, 1; a+1; x), where x^a underflows.
    series = float(special.hyp2f1(a + 0.5, 1, a + 1, x))
    log_beta = float(special.betaln(a, 0.5))
    return a * math.log(x) + 0.5 * math.log1p(-x) - math.log(a) - log_beta + math.log(series / 2)


def identity_capacity(vectors: np.ndarray, identities: Sequence[str]) -> Capacity:
    """Return how many identities would fit: cap of all centres over the cap of one identity.

    The cap of the population has the half angle that holds all but 5 % of the identities' centres,
    around their mean; that of an identity all but 5 % of the images, around their own centre. Both
    are taken from the data; the published code fits the second to an error rate.

    Raises: ValueError for fewer than two identities, none with two images, NaN or zero vectors.
    Source: Boddeti et al. 2023 (IJCB), "On the biometric capacity of generative face models".
    """
    centres, own, has_two = _to_centres(vectors, identities)
    count = len(centres)
    if count < 2 or not has_two.any():
        raise NotMeasuredError(
            f"capacity needs two identities and one with two images, got {count} identities, "
            f"{len(vectors)} images"
        )
    middle = centres.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(middle))
    spread = _angles(centres @ (middle / length)) if length > 0 else np.full(count, math.pi)
    outer = float(np.quantile(spread, 1 - _OUTSIDE))
    inner = max(float(np.quantile(_angles(own[has_two]), 1 - _OUTSIDE)), 1e-6)
    dimension = vectors.shape[1]
    ratio = log_cap_share(max(outer, 1e-6), dimension) - log_cap_share(inner, dimension)
    return Capacity(
        log10=ratio / math.log(10),
        population_deg=math.degrees(outer),
        identity_deg=math.degrees(inner),
        dimension=dimension,
        quantile=_OUTSIDE,
        identities=count,
    )


def identity_agreement(
    first: np.ndarray,
    second: np.ndarray,
    identities: Sequence[str],
    threshold: float,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Agreement:
    """Compare the two images of each pair, such as RGB and NIR, by their embeddings [N, E].

    Raises: ValueError for other shapes, NaN or zero vectors.
    """
    first, second = unit_rows(first, "first"), unit_rows(second, "second")
    if first.shape != second.shape:
        raise ValueError(f"pairs need embeddings of one shape, got {first.shape}, {second.shape}")
    own = (first * second).sum(axis=1)
    centres = class_centres(first, identities)
    numbers, _ = group_numbers(identities)
    nearest = References(centres, device=device).nearest(second).indices
    return Agreement(
        similarity=clustered(own, identities, weighted_mean, seed=seed),
        above=clustered_share(own >= threshold, identities, seed=seed),
        threshold=threshold,
        rank_one=clustered_share(nearest == numbers, identities, seed=seed),
    )


def attribute_entropies(
    attributes: Mapping[str, Mapping[str, Any]], identities: Mapping[str, str], *, seed: int = 0
) -> list[Entropy]:
    """Return the entropy of each attribute, those of nested objects as "pose.yaw_deg".

    Args:
        attributes: sample -> {name: text, number, truth value or a nested object of these}; lists
            are left out.
        identities: sample -> identity, of the samples that count.
        seed: of resampling.
    Raises: NotMeasuredError where no sample has attributes.
    """
    rows = [
        (_flat(attributes[s]), identity) for s, identity in identities.items() if s in attributes
    ]
    if not rows:
        raise NotMeasuredError("attributes: none of the samples has any")
    names = sorted({name for row, _ in rows for name in row})
    found = []
    for name in names:
        values = [row[name] for row, _ in rows if name in row]
        groups = [identity for row, identity in rows if name in row]
        kinds, count = _kinds(values)
        if count > 1:
            found.append(_entropy(name, kinds, count, groups, seed))
    return found


def _entropy(name: str, kinds: np.ndarray, count: int, groups: Sequence[str], seed: int) -> Entropy:
    def nats(values: Floats, weights: Floats) -> float:
        counts = np.bincount(values.astype(int), weights=weights, minlength=count)
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares @ np.log(shares)))

    estimate = clustered(kinds, groups, nats, seed=seed)
    uniform = estimate.value / math.log(count)
    return Entropy(name=name, nats=estimate, share_of_uniform=uniform, kinds=count)


def _flat(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and depth < 3:
            found.update(_flat(value, f"{prefix}{key}.", depth + 1))
        elif isinstance(value, str | bool | int | float) and key not in _NO_ATTRIBUTES:
            found[f"{prefix}{key}"] = value
    return found


def _kinds(values: Sequence[Any]) -> tuple[np.ndarray, int]:
    """Return a number for each value's kind, and how many kinds there can be."""
    if any(isinstance(value, str | bool) for value in values):
        numbers, count = group_numbers([str(value) for value in values])
        return numbers, count if count <= _MAX_KINDS else 0
    numeric = np.array(values, dtype=np.float64)
    if not np.isfinite(numeric).all() or numeric.min() == numeric.max():
        return np.zeros(len(values)), 0
    edges = np.linspace(numeric.min(), numeric.max(), _ENTROPY_BINS + 1)
    return np.clip(np.digitize(numeric, edges) - 1, 0, _ENTROPY_BINS - 1), _ENTROPY_BINS


def _angles(cosines: np.ndarray) -> Floats:
    return np.arccos(np.clip(cosines.astype(np.float64), -1, 1))


def _radii(rows: np.ndarray, k: int) -> Floats:
    """Return each row's distance to its k-th nearest other row."""
    parts = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    return np.concatenate([np.partition(_distances(part, rows), k)[:, k] for part in parts])


def _distances(rows: np.ndarray, columns: np.ndarray) -> Floats:
    rows, columns = rows.astype(np.float64), columns.astype(np.float64)
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)[None]
    return np.sqrt(np.maximum(squares - 2 * rows @ columns.T, 0))
