"""Random tensors that a seed gives again."""

from functools import partial

import torch


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


random64 = partial(random, dtype=torch.float64)
