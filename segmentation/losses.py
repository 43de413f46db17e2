"""Losses of class masks, and the weights of classes, pixels and samples."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.pixels import IGNORED
from segmentation.options import ClassWeighting

_EPSILON = 1e-6


def class_weights(kind: ClassWeighting, pixels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return a factor for each class; 0 for a class without pixels.

    Args:
        kind: see `ClassWeighting`.
        pixels: [K] pixels of each class in all masks.
        present: [K] pixels of all classes in those masks that have the class.
    Returns: [K] float32, scaled so that the mean over all pixels is 1.
    """
    occurs = pixels > 0
    factors = np.zeros(len(pixels))
    match kind:
        case ClassWeighting.NONE:
            factors[occurs] = 1
        case ClassWeighting.INVERSE:
            factors[occurs] = 1 / pixels[occurs]
        case ClassWeighting.MEDIAN:
            frequency = pixels[occurs] / present[occurs]
            factors[occurs] = np.median(frequency) / frequency
    return (factors * pixels.sum() / (factors * pixels).sum()).astype(np.float32)


def certainty(uncertainty: Tensor, strength: float) -> Tensor:
    """Return the weight exp(-strength * uncertainty) of pixels or samples.

    Args:
        uncertainty: 0..1, a share of ln(classes); any shape.
        strength: 0 for weights of 1.
    """
    return torch.exp(-strength * uncertainty)


def weighted_cross_entropy(
    logits: Tensor, masks: Tensor, pixel_weights: Tensor, factors: Tensor
) -> Tensor:
    """Return the weighted mean of -log p(true class) over the pixels that are not ignored.

    Args:
        logits: [N, K, H, W] float.
        masks: [N, H, W] int64, 0..K-1 or IGNORED.
        pixel_weights: [N, H, W] float32, >= 0.
        factors: [K] float32 of the classes.
    Returns: [] float32; 0 where nothing counts.
    """
    losses = F.cross_entropy(logits.float(), masks, ignore_index=IGNORED, reduction="none")
    table = torch.zeros(IGNORED + 1, dtype=factors.dtype, device=factors.device)
    table[: len(factors)] = factors
    weights = pixel_weights * table[masks]
    return (losses * weights).sum() / weights.sum().clamp(min=_EPSILON)


def dice_loss(logits: Tensor, masks: Tensor, pixel_weights: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice coefficient of the classes that occur in the batch.

    Arguments as for `weighted_cross_entropy`.
    Source: Milletari et al. 2016 (arXiv:1606.04797), section 3, without the squares in the
    denominator.
    """
    weights = (pixel_weights * (masks != IGNORED))[:, None]
    probabilities = logits.float().softmax(dim=1)
    classes = logits.shape[1]
    truth = F.one_hot(masks.clamp(max=classes - 1), classes).movedim(3, 1).float()
    shared = (weights * probabilities * truth).sum(dim=(0, 2, 3))
    found = (weights * probabilities).sum(dim=(0, 2, 3))
    wanted = (weights * truth).sum(dim=(0, 2, 3))
    occurs = (wanted > 0).float()
    dice = 2 * shared / (found + wanted).clamp(min=_EPSILON)
    return ((1 - dice) * occurs).sum() / occurs.sum().clamp(min=1)
