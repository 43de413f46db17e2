"""Means and deviations of training quantities, gathered on the device without stopping it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_utils.distributed import World


class Statistics:
    """Moments of named quantities since the last reset.

    Numbers stay on the device until `summary`, so that reporting costs no synchronisation. Each
    process gathers its own; `collect` brings them to the first one.
    """

    def __init__(self, device: torch.device, world: World | None = None) -> None:
        self.device, self.world = device, world or World()
        self._moments: dict[str, Tensor] = {}

    @torch.no_grad()
    def report(self, name: str, values: Tensor | float | Sequence[float]) -> None:
        """Add values of any shape under `name`."""
        x = torch.as_tensor(values, dtype=torch.float32, device=self.device).detach().flatten()
        x = x.to(torch.float64)
        count = torch.full([], x.numel(), dtype=torch.float64, device=self.device)
        moments = torch.stack([count, x.sum(), x.square().sum()])
        held = self._moments.get(name)
        self._moments[name] = moments if held is None else held + moments

    def collect(self) -> None:
        """Move the moments of all processes to the first one; all processes call it together.

        Raises: RuntimeError from torch.distributed where they did not report the same names.
        """
        if self.world.size == 1 or not self._moments:
            return
        names = sorted(self._moments)
        totals = self.world.sum(torch.stack([self._moments[name] for name in names]))
        kept = totals if self.world.is_first else torch.zeros_like(totals)
        self._moments = dict(zip(names, kept.unbind(), strict=True))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return {"name": {"num", "mean", "std"}} in order of the names."""
        if not self._moments:
            return {}
        names = sorted(self._moments)
        rows = torch.stack([self._moments[name] for name in names]).tolist()
        return {name: _describe(*row) for name, row in zip(names, rows, strict=True)}

    def reset(self) -> None:
        """Forget everything."""
        self._moments.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the moments of all processes, as tensors on the CPU, in the first process."""
        self.collect()
        return {name: moments.cpu() for name, moments in self._moments.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the processes but the first hold zeros."""
        factor = 1 if self.world.is_first else 0
        self._moments = {name: moments.to(self.device) * factor for name, moments in state.items()}


def _describe(count: float, total: float, squares: float) -> dict[str, float]:
    mean = total / count if count else 0.0
    variance = max(squares / count - mean**2, 0.0) if count else 0.0
    return {"num": int(count), "mean": mean, "std": variance**0.5}
