"""What the tests of the augmentation share."""

import torch

from training.augmentation.config import AugmentConfig
from training.augmentation.draws import Draw, Draws
from training.augmentation.pipe import AugmentPipe


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise_images(*shape, seed=1, dtype=torch.float32):
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype) * 2 - 1


class FixedDraws(Draws):
    """One value for all draws but switches, as the published pipe's `debug_percentile` has it.

    Normal values lack their factor √2, and the rotation after `aniso` is 0, as there.
    """

    def __init__(self, count, generator, percentile):
        super().__init__(count, generator)
        self._values = torch.full_like(self._values, percentile)
        self._values[:, Draw.ROTATE_AFTER] = 0.5
        self._normal_scale = 1.0


def augment(images, percentile=None, p=1.0, seed=0, channels=(), **config):
    pipe = AugmentPipe(AugmentConfig(**config))
    if percentile is None:
        return pipe(images, p, seeded(seed), channels)
    return pipe.change(images, FixedDraws(len(images), seeded(seed), percentile), p)
