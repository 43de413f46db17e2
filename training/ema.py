"""The exponential moving average of the generator, which is what draws images in the end."""

import torch

from networks.generator import Generator


def ema_beta(*, batch: int, nimg: int, ema_kimg: float, rampup: float | None) -> float:
    """Return the decay of one iteration.

    Args:
        batch: images of the iteration.
        nimg: images shown so far.
        ema_kimg: half-life in thousands of images; 0 copies the network.
        rampup: the half-life is at most this share of `nimg`; None for no limit.
    Returns: 0..1, the weight of the old average.
    Source: Karras et al. 2020 (arXiv:2006.06676), appendix; half-life arXiv:1710.10196.

    >>> ema_beta(batch=1000, nimg=0, ema_kimg=1, rampup=None)
    0.5
    """
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, nimg * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(ema: Generator, generator: Generator, beta: float) -> None:
    """Move `ema` towards `generator`: parameters by 1 - beta, buffers by copying."""
    averaged, current = list(ema.parameters()), list(generator.parameters())
    torch._foreach_lerp_(averaged, current, 1 - beta)
    for kept, buffer in zip(ema.buffers(), generator.buffers(), strict=True):
        kept.copy_(buffer)
