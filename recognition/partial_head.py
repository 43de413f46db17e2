"""Classification over many identities with a sample of them a step."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recognition.heads import margin_losses
from recognition.options import HeadConfig


class PartialHead(nn.Module):
    """A MarginHead that compares each step's images with a part of all identities.

    The identities of the step's images are among them always, the others are drawn. The centres of
    those that are not drawn rest: neither momentum nor weight decay moves them.

    Args:
        width: of the embeddings.
        identities: number of them.
        config: of the margin.
        rate: share of the identities a step.
    Source: An et al. 2021 (Partial FC, arXiv:2010.05222), section 3.
    """

    centres: Tensor
    velocities: Tensor

    def __init__(self, width: int, identities: int, config: HeadConfig, rate: float) -> None:
        super().__init__()
        self.config, self.rate = config, rate
        self.register_buffer("centres", torch.randn(identities, width) * 0.01)
        self.register_buffer("velocities", torch.zeros(identities, width))
        self.chosen = nn.Parameter(torch.empty(0, width))  # the step's centres, as the optimizer's
        self._rows = torch.empty(0, dtype=torch.int64)

    def begin_step(self, optimizer: Optimizer, is_present: Tensor, random: torch.Generator) -> None:
        """Choose the centres of a step, and hand them to the optimizer.

        Args:
            optimizer: SGD with momentum, of `chosen` too.
            is_present: [I] bool, the identities of the step's images.
            random: on the CPU; decides the others.
        """
        self._rows = choose_identities(is_present, self.rate, random)
        self.chosen.data = self.centres[self._rows]
        self.chosen.grad = None
        optimizer.state[self.chosen]["momentum_buffer"] = self.velocities[self._rows]

    def forward(
        self, embeddings: Tensor, identities: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return losses and hits among the chosen identities; see `MarginHead.forward`."""
        columns = torch.searchsorted(self._rows, identities.contiguous())
        return margin_losses(embeddings, self.chosen, columns, weights, self.config)

    def end_step(self, optimizer: Optimizer) -> None:
        """Put the chosen centres and their momentum back."""
        self.centres[self._rows] = self.chosen.detach()
        self.velocities[self._rows] = optimizer.state[self.chosen]["momentum_buffer"]
        # Neither is part of a checkpoint: the next step makes its own.
        del optimizer.state[self.chosen]
        self.chosen.data = self.centres[:0]
        self.chosen.grad = None


def choose_identities(is_present: Tensor, rate: float, random: torch.Generator) -> Tensor:
    """Return sorted numbers: those that are present, and others up to the share `rate` of all.

    Args:
        is_present: [I] bool.
        rate: more than 0, at most 1.
        random: on the CPU.
    Returns: [K] int64, K = max(number present, round(rate x P)), at least 2 where P is.
    """
    identities, present = len(is_present), int(is_present.sum())
    count = min(max(present, round(rate * identities), 2), identities)
    draws = torch.rand(identities, generator=random).to(is_present.device)
    draws[is_present] = 2.0
    return draws.topk(count).indices.sort().values
