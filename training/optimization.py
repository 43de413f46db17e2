"""Adam with lazy-regularisation corrections, and steps that survive single bad gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torch_utils.distributed import World

GRADIENT_LIMIT = 1e5
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


class GuardedStep:
    """Optimiser steps of one phase that repair bad gradients, count them, stop when they persist.

    NaN becomes 0 and everything is limited to ±1e5, as in StyleGAN2-ADA, but never in silence. The
    counters live on the device; `check` reads them, so it is called now and then.
    """

    def __init__(
        self, phase: str, device: torch.device, max_bad_steps: int, world: World | None = None
    ) -> None:
        self.phase, self.max_bad_steps, self.world = phase, max_bad_steps, world or World()
        self.consecutive = torch.zeros([], dtype=torch.int64, device=device)
        self.longest = torch.zeros([], dtype=torch.int64, device=device)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Step with the mean of all processes' gradients and drop them.

        Returns: [] float32 on the device, 1 where a gradient was not finite, else 0.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            raise ValueError("a training phase gave no gradient to the network that it trains")
        self.world.average_gradients(gradients)
        norms = torch.stack(torch._foreach_norm(gradients))
        is_bad = ~torch.isfinite(norms).all()
        for gradient in gradients:
            torch.nan_to_num(
                gradient, nan=0.0, posinf=GRADIENT_LIMIT, neginf=-GRADIENT_LIMIT, out=gradient
            )
        self.consecutive = torch.where(is_bad, self.consecutive + 1, 0)
        self.longest = torch.maximum(self.longest, self.consecutive)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return is_bad.float()

    @property
    def is_bad(self) -> bool:
        """Whether the last step's gradient was not finite; this waits for the device."""
        return bool(self.consecutive)

    def check(self, kimg: float) -> None:
        """Raise FloatingPointError when more than `max_bad_steps` bad steps came in a row."""
        longest = int(self.longest)
        if longest > self.max_bad_steps:
            raise FloatingPointError(
                f"{self.phase}: gradients were not finite in {longest} steps in a row (limit"
                f" {self.max_bad_steps}) at kimg {kimg:.1f}: {ADVICE}"
            )
