"""Distances between two distributions of features: Fréchet (FID) and kernel (KID).

They may be called FID and KID only for features of the published Inception network; see names.py.
"""

import contextlib

import numpy as np

from metrics import NotMeasuredError
from metrics.estimates import Floats
from metrics.statistics import Features, Moments, check_comparable

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
_DEGREE, _COEFFICIENT = 3, 1.0


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    |mu_a - mu_b|^2 + Tr(A) + Tr(B) - 2 Tr((A^1/2 B A^1/2)^1/2); the last trace is the sum of the
    roots of that matrix's eigenvalues, all of them real and not negative. Directions in which A
    has no variance do not contribute and are left out, with the rounding errors they would bring.

    Args:
        a, b: moments of at least two samples each, of one width.
    Raises: ValueError where the widths differ, for too few samples, for NaN.
    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500), equation 6.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of one width are needed, got {len(a.mean)} and {len(b.mean)}")
    cov_a, cov_b = a.covariance, b.covariance
    if not (np.isfinite(cov_a).all() and np.isfinite(cov_b).all()):
        raise NotMeasuredError("moments must be finite, got NaN or infinite ones")
    apart = a.mean - b.mean
    root = _root(cov_a, is_full_rank=a.count > len(cov_a))
    product = np.linalg.eigvalsh(root.T @ cov_b @ root)
    shared = float(np.sqrt(product.clip(min=0)).sum())
    distance = float(apart @ apart) + float(np.trace(cov_a)) + float(np.trace(cov_b)) - 2 * shared
    return max(distance, 0.0)


def _root(covariance: Floats, *, is_full_rank: bool) -> Floats:
    """Return R, [D, r] with R R^T = covariance: R^T B R and A^1/2 B A^1/2 share eigenvalues.

    Cholesky's is a tenth of the work; directions without variance need the eigenvectors.
    """
    if is_full_rank:
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def kernel_distance(
    real: Features,
    fake: Features,
    *,
    seed: int,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    identities: tuple[np.ndarray, np.ndarray] | None = None,
) -> Floats:
    """Return unbiased squared maximum mean discrepancies with the cubic polynomial kernel.

    It is unbiased for independent images. Images of one identity are not: with `identities`, pairs
    of one identity are left out of a set's comparisons with itself.

    Args:
        real, fake: [N, D] and [M, D] float32, at least two rows each.
        seed: of the choice of subsets.
        subsets: number of random subsets; one is enough where all rows fit into a subset.
        subset_size: rows of each set in a subset, at most the smaller set.
        identities: [N] and [M] number of each row's identity; None is the published measure.
    Returns: [S] float64, one a subset, each may be below 0; their mean is the distance.
    Source: Binkowski et al. 2018 (arXiv:1801.01401), equation 4 and section 4.
    """
    check_comparable(real, fake, at_least=2)
    size = min(subset_size, len(real), len(fake))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed])))
    values = []
    for _ in range(subsets):
        i, j = (np.sort(rng.permutation(len(rows))[:size]) for rows in (fake, real))
        own = None if identities is None else (identities[1][i], identities[0][j])
        values.append(squared_mmd(fake[i].astype(np.float64), real[j].astype(np.float64), own))
        if size == len(fake) == len(real):
            break  # every further subset is the same
    return np.array(values)


def squared_mmd(
    x: Floats, y: Floats, identities: tuple[np.ndarray, np.ndarray] | None = None
) -> float:
    """Return the unbiased estimate of the squared MMD of two samples of equal size.

    The kernel is k(a, b) = (a.b / D + 1)^3.

    Args:
        x, y: [m, D] float64, m at least 2.
        identities: [m] of the rows of each, as for `kernel_distance`.
    Raises: NotMeasuredError where all rows of x, or of y, are of one identity.
    Source: Gretton et al. 2012, "A kernel two-sample test", equation 3.
    """
    count, width = x.shape
    within = 0.0
    for rows, names in zip((x, y), identities or (np.arange(count),) * 2, strict=True):
        kernel = (rows @ rows.T / width + _COEFFICIENT) ** _DEGREE
        is_other = names[:, None] != names[None]
        if not is_other.any():
            raise NotMeasuredError("a kernel distance needs images of at least two identities")
        within += kernel[is_other].mean()
    between = ((x @ y.T / width + _COEFFICIENT) ** _DEGREE).mean()
    return float(within - 2 * between)
