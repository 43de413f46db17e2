"""Means and covariances of features in float64, computed in blocks and merged.

Features are [N, D] float32 rows; whatever is summed is summed in float64.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from metrics import NotMeasuredError
from metrics.estimates import Floats

Features = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

_BLOCK = 1024  # rows that are centred and multiplied at once


@dataclass(frozen=True, eq=False)
class Moments:
    """Number of features, at least 1, their mean [D] and scatter [D, D] in float64.

    The scatter is the sum of the outer products of the centred rows.
    """

    count: int
    mean: Floats
    scatter: Floats

    @property
    def covariance(self) -> Floats:
        """[D, D] float64 with N - 1 below the line, as numpy.cov.

        Raises: ValueError for fewer than two rows.
        """
        if self.count < 2:
            raise NotMeasuredError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)


def compute_moments(features: Features) -> Moments:
    """Return the moments of finite features [N, D], computed in blocks.

    Raises: ValueError without rows, for other shapes, for NaN and infinities.
    """
    return merge_moments(_moments_of_block(block) for block in _blocks(features))


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts together, added in their order.

    Raises: ValueError without parts or where their widths differ.
    """
    total = None
    for part in parts:
        total = part if total is None else _merge(total, part)
    if total is None:
        raise ValueError("moments need at least 1 sample, got 0")
    return total


def check_features(features: Features, name: str, at_least: int = 1) -> Features:
    """Return features if they are finite rows and enough of them.

    Args:
        features: [N, D] floating point.
        name: of the set, for messages.
        at_least: smallest number of rows.
    Raises: ValueError naming set, rule and what was found.
    """
    if features.ndim != 2 or features.dtype.kind != "f" or features.shape[1] == 0:
        shape = list(features.shape)
        raise ValueError(f"{name}: features must be float [N, D], got {features.dtype} {shape}")
    if len(features) < at_least:
        raise NotMeasuredError(
            f"{name}: at least {at_least} samples are needed, got {len(features)}"
        )
    bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in _blocks(features))
    if bad:
        raise NotMeasuredError(
            f"{name}: features must be finite, {bad} of {len(features)} samples have NaN or"
            " infinite ones"
        )
    return features


def check_comparable(real: Features, fake: Features, at_least: int) -> None:
    """Check two sets of features of one extractor. Raises: ValueError as `check_features`."""
    check_features(real, "real images", at_least)
    check_features(fake, "generated images", at_least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            "real and generated features must come from one extractor: their widths are"
            f" {real.shape[1]} and {fake.shape[1]}"
        )


def _merge(a: Moments, b: Moments) -> Moments:
    """Add two sets. Source: Chan, Golub and LeVeque 1979, "Updating formulae"."""
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of one width are needed, got {len(a.mean)} and {len(b.mean)}")
    count = a.count + b.count
    apart = b.mean - a.mean
    mean = a.mean + apart * (b.count / count)
    scatter = np.outer(apart, apart)
    scatter *= a.count * b.count / count
    scatter += a.scatter
    scatter += b.scatter
    return Moments(count, mean, scatter)


def _moments_of_block(block: Features) -> Moments:
    check_features(block, "features")
    rows = block.astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    return Moments(len(rows), mean, rows.T @ rows)


def _blocks(rows: Features) -> Iterator[Features]:
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]
