"""Agreement of class masks: confusion matrix, IoU, pixel accuracy and boundary F1."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from metrics import NotMeasuredError
from metrics.estimates import Estimate, clustered, weighted_mean

DEFAULT_TOLERANCE = 0.0075  # of the diagonal: Csurka et al. 2013, also MATLAB's bfscore
_MAX_CLASSES = 256

Masks = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well one class was found; None where it occurs in no mask.

    Attributes:
        name: of the class.
        pixels: of it in the true masks.
        iou, f1: over all images; 2 TP / (2 TP + FP + FN).
        boundary_f1: mean over images that have it in either mask.
    """

    name: str
    pixels: int
    iou: Estimate | None
    f1: Estimate | None
    boundary_f1: Estimate | None


@dataclass(frozen=True, kw_only=True)
class SegmentationScore:
    """What `score_masks` finds.

    Attributes:
        images: number of pairs of masks.
        classes: one entry a class.
        mean_iou: over the classes that occur.
        pixel_accuracy: share of pixels with the true class.
        confusion: [K, K] int64 pixels, true class by row, found class by column.
        tolerance: of boundaries, as a share of the image's diagonal.
    """

    images: int
    classes: tuple[ClassScore, ...]
    mean_iou: Estimate
    pixel_accuracy: Estimate
    confusion: np.ndarray
    tolerance: float


def confusion_matrix(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true class (row) and found class (column): [K, K] int64.

    Raises: NotMeasuredError for masks of two shapes, or numbers that are not below `classes`.
    """
    if truth.shape != found.shape:
        raise NotMeasuredError(f"masks must have one shape, got {truth.shape} and {found.shape}")
    for name, mask in (("true", truth), ("found", found)):
        if mask.size == 0 or mask.min() < 0 or mask.max() >= classes:
            shown = f"{mask.min()}..{mask.max()}" if mask.size else "nothing"
            raise NotMeasuredError(f"{name} mask: classes must be in 0..{classes - 1}, got {shown}")
    places = truth.astype(np.int64).ravel() * classes + found.astype(np.int64).ravel()
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """Return TP / (TP + FP + FN) of each class, [K] float64, NaN where the class is in no mask.

    >>> intersection_over_union(np.array([[3, 1], [0, 0]])).tolist()
    [0.75, 0.0]
    """
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def class_f1(confusion: np.ndarray) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN) of each class, [K] float64, NaN where it is in no mask."""
    iou = intersection_over_union(confusion)
    return 2 * iou / (1 + iou)


def boundary_f1(truth: np.ndarray, found: np.ndarray, tolerance_px: float) -> float:
    """Return the F1 of two regions' boundaries, NaN where both are empty.

    A boundary pixel is one of the region with a neighbour (of 4) outside it; the image's frame is
    no boundary. Precision is the share of found boundary pixels with a true one within
    `tolerance_px` (Euclidean), recall the reverse.

    Args:
        truth, found: [H, W] bool.
    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?"
    """
    edges = [_boundary(truth), _boundary(found)]
    if not edges[0].any() and not edges[1].any():
        return float("nan") if not (truth.any() or found.any()) else float((truth == found).all())
    if not edges[0].any() or not edges[1].any():
        return 0.0
    true_edge, found_edge = edges
    precision = (ndimage.distance_transform_edt(~true_edge)[found_edge] <= tolerance_px).mean()
    recall = (ndimage.distance_transform_edt(~found_edge)[true_edge] <= tolerance_px).mean()
    if precision + recall == 0:
        return 0.0
    return float(2 * precision * recall / (precision + recall))


def score_masks(
    masks: Masks,
    names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    seed: int = 0,
) -> SegmentationScore:
    """Compare true and found masks; read once, one pair at a time.

    Args:
        masks: pairs (true, found), each [H, W] whole numbers.
        names: of the classes, class 0 first.
        groups: the identity of each pair; None resamples images.
        tolerance: of boundaries, as a share of the image's diagonal; at least 1 pixel is allowed.
    Raises: ValueError for no masks, one class, or masks that do not fit each other or the classes.
    """
    if not 2 <= len(names) <= _MAX_CLASSES:
        raise ValueError(f"classes: 2 to {_MAX_CLASSES} can be compared, got {len(names)}")
    confusions, boundaries = [], []
    for number, (truth, found) in enumerate(masks):
        try:
            confusions.append(confusion_matrix(truth, found, len(names)))
        except ValueError as error:
            raise NotMeasuredError(f"mask pair {number}: {error}") from error
        reach = max(1.0, tolerance * float(np.hypot(*truth.shape)))
        classes = range(len(names))
        boundaries.append([boundary_f1(truth == k, found == k, reach) for k in classes])
    if not confusions:
        raise ValueError("masks: none to compare")
    if groups is not None and len(groups) != len(confusions):
        raise ValueError(f"masks: {len(confusions)} pairs but {len(groups)} groups")
    clusters = list(groups or map(str, range(len(confusions))))
    counts, edges = np.stack(confusions), np.array(boundaries)
    total = counts.sum(axis=0)

    def estimate(score: Callable[[np.ndarray], float]) -> Estimate:
        def statistic(chosen: np.ndarray, weights: np.ndarray) -> float:
            return score(np.tensordot(weights, counts[chosen.astype(int)], axes=1))

        return clustered(np.arange(len(counts)), clusters, statistic, seed=seed)

    def of_class(k: int, name: str) -> ClassScore:
        if not total[k].any() and not total[:, k].any():
            return ClassScore(name=name, pixels=0, iou=None, f1=None, boundary_f1=None)
        kept = np.flatnonzero(~np.isnan(edges[:, k]))
        own = [clusters[i] for i in kept]
        return ClassScore(
            name=name,
            pixels=int(total[k].sum()),
            iou=estimate(lambda c: intersection_over_union(c)[k]),
            f1=estimate(lambda c: class_f1(c)[k]),
            boundary_f1=clustered(edges[kept, k], own, weighted_mean, seed=seed),
        )

    return SegmentationScore(
        images=len(counts),
        classes=tuple(of_class(k, name) for k, name in enumerate(names)),
        mean_iou=estimate(lambda c: float(np.nanmean(intersection_over_union(c)))),
        pixel_accuracy=estimate(lambda c: float(np.trace(c) / c.sum())),
        confusion=total,
        tolerance=tolerance,
    )


def _boundary(region: np.ndarray) -> np.ndarray:
    inside = ndimage.binary_erosion(region, border_value=1)
    return region & ~inside
