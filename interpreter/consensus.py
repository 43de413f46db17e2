"""What an ensemble agrees on: vote of each pixel, Jensen-Shannon uncertainty, score of an image."""

import torch
from torch import Tensor

TOP_FRACTION = 0.1


class Consensus:
    """Sums over the members of an ensemble, from which vote and uncertainty follow."""

    def __init__(self, pixels: int, classes: int, device: torch.device | str = "cpu") -> None:
        self._members = 0
        self._votes = torch.zeros([classes, pixels], dtype=torch.int32, device=device)
        self._probabilities = torch.zeros([classes, pixels], device=device)
        self._entropies = torch.zeros([pixels], device=device)

    def add(self, logits: Tensor, pixels: slice) -> None:
        """Add members at some pixels; a member must be added at all of them.

        Args:
            logits: [m, K, B] float32.
            pixels: the B places of the image they belong to.
        """
        probabilities = logits.softmax(dim=1)
        classes = torch.arange(logits.shape[1], device=logits.device)
        is_winner = first_argmax(logits, dim=1)[:, None] == classes[:, None]
        self._votes[:, pixels] += is_winner.sum(dim=0, dtype=torch.int32)
        self._probabilities[:, pixels] += probabilities.sum(dim=0)
        self._entropies[pixels] += _entropy(probabilities, dim=1).sum(dim=0)
        if pixels.start == 0:
            self._members += logits.shape[0]

    def labels(self) -> Tensor:
        """Return the class with most votes, of equal ones the smallest: [P] uint8."""
        return first_argmax(self._votes, dim=0).to(torch.uint8)

    def divergence(self) -> Tensor:
        """Return the Jensen-Shannon divergence of the members: [P] float32, >= 0 up to rounding.

        Entropy of the mean distribution minus the mean of the entropies, natural logarithm.

        Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3; Lin 1991.
        """
        mean = self._probabilities / self._members
        return _entropy(mean, dim=0) - self._entropies / self._members


def uncertainty_score(divergence: Tensor) -> float:
    """Return the mean of the largest 10 % of an uncertainty map.

    Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3.
    """
    flat = divergence.flatten().double()
    count = max(1, int(len(flat) * TOP_FRACTION))
    return float(flat.topk(count).values.mean())


def first_argmax(values: Tensor, dim: int) -> Tensor:
    """Return the index of the largest entry of a dimension, of equal ones the smallest."""
    best = values.select(dim, 0)
    index = torch.zeros_like(best, dtype=torch.int64)
    for place in range(1, values.shape[dim]):
        entry = values.select(dim, place)
        index = torch.where(entry > best, place, index)
        best = torch.maximum(best, entry)
    return index


def _entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Return the entropy over a dimension; zeros count as float32's epsilon."""
    logarithm = probabilities.clamp_min(torch.finfo(torch.float32).eps).log_()
    return -(probabilities * logarithm).sum(dim=dim)
