"""Means and deviations of training quantities, gathered on the device without stopping it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Statistics:
    """Moments of named quantities since the last reset.

    Numbers stay on the device until `summary`, so that reporting costs no synchronisation.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
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

    def total(self, name: str) -> tuple[float, float]:
        """Return (count, sum) of what was reported under `name` since the reset; (0, 0) if none."""
        held = self._moments.get(name)
        if held is None:
            return 0.0, 0.0
        count, total, _ = held.tolist()
        return count, total

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
        """Return the moments as plain containers and tensors on the CPU."""
        return {name: moments.cpu() for name, moments in self._moments.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._moments = {name: moments.to(self.device) for name, moments in state.items()}


def _describe(count: float, total: float, squares: float) -> dict[str, float]:
    mean = total / count if count else 0.0
    variance = max(squares / count - mean**2, 0.0) if count else 0.0
    return {"num": int(count), "mean": mean, "std": variance**0.5}
