"""What the tests of the augmentation share."""

import torch

from training.augmentation.config import AugmentConfig
from training.augmentation.pipe import AugmentPipe


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise_images(*shape, seed=1, dtype=torch.float32):
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype) * 2 - 1


def augment(images, percentile=None, p=1.0, seed=0, **config):
    return AugmentPipe(AugmentConfig(**config))(images, p, seeded(seed), percentile)
