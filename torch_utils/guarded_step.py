"""Optimiser steps that survive single bad gradients and stop when they persist."""

import torch
from torch import Tensor

from torch_utils.distributed import World

GRADIENT_LIMIT = 1e5
MAX_BAD_STEPS = 16


class GuardedStep:
    """Steps of one optimiser that repair bad gradients and count them.

    NaN becomes 0 and infinity ±1e5, as in StyleGAN2-ADA, but never in silence. With a loss scale,
    such a step is left out instead, and the scale falls. The counters live on the device; `check`
    reads them, so it is called now and then.

    Args:
        name: of what is trained, for messages.
        device: of the parameters.
        advice: what to change when gradients stay bad, for messages.
        max_bad_steps: in a row; one more stops the training.
        world: processes whose gradients are averaged.
        scaler: loss scale of half precision; None for none.
    """

    def __init__(
        self,
        name: str,
        device: torch.device,
        advice: str,
        *,
        max_bad_steps: int = MAX_BAD_STEPS,
        world: World | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.name, self.advice, self.max_bad_steps = name, advice, max_bad_steps
        self.world, self.scaler = world or World(), scaler
        self.consecutive = torch.zeros([], dtype=torch.int64, device=device)
        self.longest = torch.zeros([], dtype=torch.int64, device=device)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Step with the mean of all processes' gradients and drop them.

        Returns: [] float32 on the device, 1 where a gradient was not finite, else 0.
        Raises: ValueError where no parameter has a gradient.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            raise ValueError(f"{self.name}: a step gave no gradient to the network that it trains")
        self.world.average_gradients(gradients)
        norms = torch.stack(torch._foreach_norm(gradients))
        is_bad = ~torch.isfinite(norms).all()
        self.consecutive = torch.where(is_bad, self.consecutive + 1, 0)
        self.longest = torch.maximum(self.longest, self.consecutive)
        if self.scaler is not None and self.scaler.is_enabled():
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            for gradient in gradients:
                torch.nan_to_num(
                    gradient, nan=0.0, posinf=GRADIENT_LIMIT, neginf=-GRADIENT_LIMIT, out=gradient
                )
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return is_bad.float()

    @property
    def is_bad(self) -> bool:
        """Whether the last step's gradient was not finite; this waits for the device."""
        return bool(self.consecutive)

    def check(self, where: str) -> None:
        """Raise FloatingPointError when more than `max_bad_steps` bad steps came in a row.

        Args:
            where: how far the training has come, such as "step 80".
        """
        longest = int(self.longest)
        if longest > self.max_bad_steps:
            raise FloatingPointError(
                f"{self.name}: gradients were not finite in {longest} steps in a row (limit"
                f" {self.max_bad_steps}) at {where}: {self.advice}"
            )
