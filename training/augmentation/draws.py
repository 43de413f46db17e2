"""The random numbers of one batch: one row a sample, one column a purpose.

All are uniform and drawn in one call, row after row, on the CPU. A sample's numbers therefore
depend on its place in the generator's stream alone, not on how the stream is cut into batches or
on which operations are on, and reading them never waits for a GPU.
"""

import math
from enum import IntEnum, auto

import torch
from torch import Tensor


class Draw(IntEnum):
    """Columns; each has one number that switches an operation on and one that sets its value."""

    XFLIP = 0
    ROTATE90 = auto()
    XINT_X = auto()
    XINT_Y = auto()
    SCALE = auto()
    ROTATE_BEFORE = auto()
    ANISO = auto()
    ROTATE_AFTER = auto()
    XFRAC_X = auto()
    XFRAC_Y = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    LUMAFLIP = auto()
    HUE = auto()
    SATURATION = auto()
    BAND_0 = auto()
    BAND_1 = auto()
    BAND_2 = auto()
    BAND_3 = auto()
    NOISE = auto()
    NOISE_SEED = auto()
    CUTOUT_X = auto()
    CUTOUT_Y = auto()


BANDS = (Draw.BAND_0, Draw.BAND_1, Draw.BAND_2, Draw.BAND_3)

_SEED_BITS = 53  # all that a float64 in 0..1 holds
_SMALLEST = 2.0**-54  # keeps a draw of exactly 0 from becoming an infinite normal


class Draws:
    """Uniform numbers for `count` samples and the distributions made from them.

    Args:
        count: samples in the batch.
        generator: on the CPU; moves on by the same amount for every sample.
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        numbers = torch.rand(
            count, len(Draw), 2, generator=generator, dtype=torch.float64, device="cpu"
        )
        self._switches, self._values = numbers[:, :, 0], numbers[:, :, 1]
        self._seeds = (self._values[:, Draw.NOISE_SEED] * 2**_SEED_BITS).long()
        self._normal_scale = math.sqrt(2)

    def is_on(self, draw: Draw, probability: float) -> Tensor:
        """Return [N] bool, each True with `probability` (above 1 counts as 1)."""
        return self._switches[:, draw] < probability

    def uniform(self, draw: Draw) -> Tensor:
        """Return [N] float64 in 0..1, 1 excluded."""
        return self._values[:, draw]

    def signed(self, draw: Draw) -> Tensor:
        """Return [N] float64, uniform in -1..1."""
        return 2 * self._values[:, draw] - 1

    def integer(self, draw: Draw, below: int) -> Tensor:
        """Return [N] float64 whole numbers, uniform from 0 to `below` - 1."""
        return torch.floor(self._values[:, draw] * below)

    def normal(self, draw: Draw) -> Tensor:
        """Return [N] float64 of the standard normal distribution (inverse of its integral)."""
        return torch.erfinv(2 * self._values[:, draw].clamp(_SMALLEST) - 1) * self._normal_scale

    def half_normal(self, draw: Draw) -> Tensor:
        """Return [N] float64, absolute values of the standard normal distribution."""
        return torch.erfinv(self._values[:, draw]) * self._normal_scale

    def seeds(self) -> list[int]:
        """Return a seed a sample, for numbers that are too many to be drawn here."""
        return self._seeds.tolist()


def pick(condition: Tensor, value: Tensor, neutral: float) -> Tensor:
    """Return [N] float64: `value` where the operation is on, else what leaves images alone."""
    return torch.where(condition, value, torch.full_like(value, neutral))
