"""Means and covariances of features in float64: streamed in blocks and merged.

Features are [N, D] float32 rows; whatever is summed is summed in float64.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Features = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

_BLOCK = 1024  # rows that are centred and multiplied at once


@dataclass(frozen=True, eq=False)
class Moments:
    """Number, mean and scatter of a set of features.

    Attributes:
        count: number of rows, at least 1.
        mean: [D] float64.
        scatter: [D, D] float64, sum of the outer products of the centred rows.
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
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self.scatter / (self.count - 1)


class MomentStream:
    """Moments of rows that arrive in parts of any sizes.

    Rows are regrouped into blocks of one size, so that the result does not depend on those sizes.
    """

    def __init__(self) -> None:
        self._total: Moments | None = None
        self._waiting: list[Features] = []
        self._held = 0

    def add(self, rows: Features) -> None:
        """Add [n, D] finite rows. Raises: ValueError for other shapes, for NaN and infinities."""
        start = 0
        while start < len(rows):
            piece = rows[start : start + _BLOCK - self._held]
            self._waiting.append(piece)
            self._held += len(piece)
            start += len(piece)
            if self._held == _BLOCK:
                self._flush()

    def finish(self) -> Moments | None:
        """Return the moments of all rows so far; None without any."""
        if self._held:
            self._flush()
        return self._total

    def _flush(self) -> None:
        shapes = sorted({piece.shape[1:] for piece in self._waiting})
        if len(shapes) > 1:
            raise ValueError(f"features of one width are needed, got {shapes[0]} and {shapes[1]}")
        moments = _moments_of_block(np.concatenate(self._waiting))
        self._total = moments if self._total is None else _merge(self._total, moments)
        self._waiting, self._held = [], 0


def compute_moments(features: Features | Iterable[Features]) -> Moments:
    """Return the moments of features in one pass.

    Args:
        features: [N, D] or parts of it in order, each [n, D]; finite.
    Raises: ValueError without rows, for other shapes, for NaN and infinities.
    """
    stream = MomentStream()
    for part in [features] if isinstance(features, np.ndarray) else features:
        stream.add(part)
    moments = stream.finish()
    if moments is None:
        raise ValueError("moments need at least 1 sample, got 0")
    return moments


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all parts together, added in their order.

    Raises: ValueError without parts or where their widths differ.
    """
    if not parts:
        raise ValueError("moments need at least 1 sample, got 0")
    total = parts[0]
    for part in parts[1:]:
        total = _merge(total, part)
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
        raise ValueError(f"{name}: at least {at_least} samples are needed, got {len(features)}")
    bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in _blocks(features))
    if bad:
        raise ValueError(
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
