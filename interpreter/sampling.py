"""Which pixels a training step sees: small classes more often than their share of the area."""

import torch
from torch import Tensor


class PixelSampler:
    """Draws training pixels with repetition.

    A class with n pixels is drawn in proportion to n ** (1 - balance), its pixels alike: balance 0
    gives every pixel the same chance, as published; 1 gives every class the same.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, classes: int, balance: float) -> None:
        """Sort the pixels by class.

        Args:
            pixels: [n] int64, places of pixels.
            labels: [n] int64, their classes.
            classes: K.
            balance: 0..1.
        """
        self._pixels = pixels[labels.argsort(stable=True)]
        self._counts = torch.bincount(labels, minlength=classes)
        self._first = self._counts.cumsum(0) - self._counts
        found = self._counts.double().clamp(min=1)
        self.shares = torch.where(self._counts > 0, found ** (1 - balance), 0.0)
        self.shares /= self.shares.sum()
        self.weights = (found**-balance).float()

    def __len__(self) -> int:
        """Return how many pixels there are."""
        return len(self._pixels)

    def draw(self, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
        """Return pixels, [*shape] int64.

        Args:
            shape: of the result.
            random: source on the CPU.
        """
        count = torch.Size(shape).numel()
        label = torch.multinomial(self.shares, count, replacement=True, generator=random)
        place = torch.rand(count, dtype=torch.float64, generator=random) * self._counts[label]
        return self._pixels[self._first[label] + place.long()].view(shape)
