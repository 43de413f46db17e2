"""Adam with the corrections of lazy regularisation."""

from collections.abc import Iterable

import torch
from torch import nn

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
