"""How varied one set of images is: Vendi score and Inception score."""

import numpy as np

from metrics import NotMeasuredError
from metrics.statistics import Features, check_features

INCEPTION_SPLITS = 10
_SUM_TOLERANCE = 1e-3


def vendi_score(features: Features) -> float:
    """Return the effective number of different samples: 1 if all are alike, N if none are.

    exp(-sum l ln l) over the eigenvalues l of K / N, where K holds the cosines of all pairs. The
    smaller of the N x N and the D x D matrix is taken; both have the same eigenvalues.

    Args:
        features: [N, D] float32, no row zero.
    Raises: ValueError without samples, for NaN or zero rows.
    Source: Friedman and Dieng 2023 (arXiv:2210.02410), definition 3.1, with q = 1.
    """
    check_features(features, "features", at_least=1)
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise NotMeasuredError(f"features: {int((lengths == 0).sum())} samples are zero vectors")
    rows /= lengths
    count, width = rows.shape
    kernel = rows @ rows.T if count <= width else rows.T @ rows
    shares = np.linalg.eigvalsh(kernel / count)
    shares = shares[shares > len(shares) * np.finfo(np.float64).eps]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def inception_score(probabilities: Features, splits: int = INCEPTION_SPLITS) -> tuple[float, float]:
    """Return mean and deviation over consecutive parts of exp(E KL(p(y|x) || p(y))).

    Args:
        probabilities: [N, K] float32, rows of class probabilities.
        splits: number of parts.
    Raises: ValueError for fewer samples than parts, or rows that are no probabilities.
    Source: Salimans et al. 2016 (arXiv:1606.03498), section 4.
    """
    check_probabilities(probabilities)
    check_features(probabilities, "class probabilities", at_least=splits)
    scores = []
    for part in np.array_split(probabilities.astype(np.float64), splits):
        mean = part.mean(axis=0)
        # 0 ln 0 is 0; a class of mean 0 is 0 in every row.
        ratio = np.divide(part, mean, out=np.ones_like(part), where=part > 0)
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def check_probabilities(rows: Features) -> None:
    """Raise ValueError unless all rows are probabilities: not negative, with sum 1."""
    check_features(rows, "class probabilities")
    sums = rows.sum(axis=1, dtype=np.float64)
    if (rows < 0).any() or (np.abs(sums - 1) > _SUM_TOLERANCE).any():
        raise NotMeasuredError(
            "an Inception score needs class probabilities; this extractor's rows sum to"
            f" {sums.min():.4g}..{sums.max():.4g}"
        )
