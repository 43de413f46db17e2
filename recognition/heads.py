"""Classification over identities with a margin between them: the losses that shape embeddings.

Over many identities, `PartialHead` compares each step's images with a sample of them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from recognition.options import HeadConfig, MarginKind
from torch_utils.devices import upload


def add_margin(cosines: Tensor, identities: Tensor, config: HeadConfig) -> Tensor:
    """Return logits in which the right identity's cosine is harder by the margin.

    Where an angle plus its margin would pass pi, the line of equal slope takes over, so that the
    logit falls with the angle everywhere.

    Args:
        cosines: [N, I] in -1..1, of embeddings and the centres of identities.
        identities: [N] int64, the right ones.
    Returns: [N, I], times the scale.
    Source: ArcFace, arXiv:1801.07698, eq. 3; CosFace, arXiv:1801.09414, eq. 4.
    """
    right = cosines.gather(1, identities[:, None])
    if config.kind is MarginKind.ARCFACE:
        harder = _add_angle(right, config.margin)
    elif config.kind is MarginKind.COSFACE:
        harder = right - config.margin
    else:
        harder = right
    return cosines.scatter(1, identities[:, None], harder) * config.scale


def _add_angle(cosines: Tensor, margin: float) -> Tensor:
    sines = (1 - cosines.square()).clamp_min(1e-12).sqrt()
    moved = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines < -math.cos(margin)  # angle + margin > pi
    return torch.where(beyond, cosines - margin * math.sin(margin), moved)


class MarginHead(nn.Module):
    """One centre an identity; used in training only.

    Args:
        width: of the embeddings.
        identities: number of them.
        config: of the margin.
    """

    def __init__(self, width: int, identities: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.centres = nn.Parameter(torch.randn(identities, width) * 0.01)

    def forward(
        self, embeddings: Tensor, identities: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of each image, and whether its identity has the largest cosine.

        An image of several identities has the sum of the weighted losses of each of them.

        Args:
            embeddings: [N, E], of any length.
            identities: [N, K] int64 in 0..I-1.
            weights: [N, K] float32 that sum to 1.
        Returns: [N] float32 cross-entropies; [N] bool, of the identity with the largest weight.
        Source: interpolated labels: Zhang et al. 2018 (mixup, arXiv:1710.09412); Qiu et al. 2021
            (SynFace, arXiv:2108.07960).
        """
        return margin_losses(embeddings, self.centres, identities, weights, self.config)

    def begin_step(self, optimizer: Optimizer, is_present: Tensor, random: torch.Generator) -> None:
        """Choose the centres of a step: all of them."""

    def end_step(self, optimizer: Optimizer) -> None:
        """Keep what a step has changed."""


def margin_losses(
    embeddings: Tensor,
    centres: Tensor,
    identities: Tensor,
    weights: Tensor,
    config: HeadConfig,
) -> tuple[Tensor, Tensor]:
    """Return losses and hits; see `MarginHead.forward`. centres: [I, E], of any length."""
    unit = functional.normalize(embeddings.float())
    cosines = (unit @ functional.normalize(centres).t()).clamp(-1, 1)
    losses = [
        weights[:, k] * _losses(cosines, column.contiguous(), config)
        for k, column in enumerate(identities.unbind(1))
    ]
    main = identities.gather(1, weights.argmax(dim=1, keepdim=True))[:, 0]
    return torch.stack(losses).sum(dim=0), cosines.argmax(dim=1) == main


def _losses(cosines: Tensor, identities: Tensor, config: HeadConfig) -> Tensor:
    logits = add_margin(cosines, identities, config)
    return functional.cross_entropy(logits, identities, reduction="none")


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
        self, embeddings: Tensor, identities: Tensor, weights: Tensor
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
    draws = upload(torch.rand(identities, generator=random), is_present.device)
    draws[is_present] = 2.0
    return draws.topk(count).indices.sort().values
