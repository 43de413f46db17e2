"""Points in a plane whose distances are near given ones."""

import numpy as np


def classical_mds(distances: np.ndarray, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """Return points whose Euclidean distances are as near to the given ones as scaling allows.

    Args:
        distances: [N, N], symmetric, zero on the diagonal.
        dimensions: of the points.
    Returns: [N, dimensions] float64, centred, the first axis the longest, each axis with its
        largest coordinate positive; and the share of the positive eigenvalues that they hold.
    Raises: ValueError for another shape, fewer points than two, or distances that are not finite,
        negative or not symmetric.
    Source: Torgerson 1952, "Multidimensional scaling: I. Theory and method".
    """
    distances = np.asarray(distances, dtype=np.float64)
    count = len(distances)
    if distances.ndim != 2 or distances.shape != (count, count) or count < 2:
        raise ValueError(f"distances must be [N, N], N at least 2, got {distances.shape}")
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise ValueError("distances must be finite and not negative")
    if not np.allclose(distances, distances.T):
        raise ValueError("distances must be symmetric")
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-0.5 * centring @ (distances**2) @ centring)
    order = np.argsort(values)[::-1][:dimensions]
    kept = values[order].clip(0)
    points = vectors[:, order] * np.sqrt(kept)
    largest = points[np.abs(points).argmax(axis=0), np.arange(len(order))]
    total = values.clip(0).sum()
    return points * np.where(largest < 0, -1, 1), float(kept.sum() / total) if total > 0 else 1.0


def cosine_distances(vectors: np.ndarray) -> np.ndarray:
    """Return Euclidean distances of unit rows: [N, E] -> [N, N] float64, sqrt(2 - 2 cosine)."""
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    distances = np.sqrt((2 - 2 * cosines).clip(0))
    np.fill_diagonal(distances, 0)
    return (distances + distances.T) / 2
