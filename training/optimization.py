"""Adam with the corrections of lazy regularisation, and the moving average of the generator."""

from collections.abc import Iterable

import torch
from torch import nn

from networks.generator import Generator

ADVICE = (
    "lower the learning rates, raise gamma, or train with --fp32=1; the last checkpoint is kept"
)
ADAM_BETAS = (0.0, 0.99)
ADAM_EPS = 1e-8


def build_adam(
    parameters: Iterable[nn.Parameter], lr: float, reg_interval: int | None
) -> torch.optim.Adam:
    """Return the optimiser of one network.

    Args:
        parameters: those that train.
        lr: learning rate as if every iteration were regularised.
        reg_interval: iterations between regularisation steps, which are extra steps: rate and
            decays are adapted so that k + 1 steps act as k; None where there is no such step.
    Source: arXiv:1912.04958, appendix B.
    """
    ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
    betas = (ADAM_BETAS[0] ** ratio, ADAM_BETAS[1] ** ratio)
    return torch.optim.Adam(list(parameters), lr=lr * ratio, betas=betas, eps=ADAM_EPS, fused=True)


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
