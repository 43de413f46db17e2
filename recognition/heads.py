"""Classification over people with a margin between them: the losses that shape embeddings."""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional


class MarginKind(StrEnum):
    """How the right person's logit is made harder."""

    ARCFACE = "arcface"
    COSFACE = "cosface"
    SOFTMAX = "softmax"


PUBLISHED_MARGINS = {MarginKind.ARCFACE: 0.5, MarginKind.COSFACE: 0.35, MarginKind.SOFTMAX: 0.0}


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """A margin loss.

    Attributes:
        kind: arcface adds the margin to the angle (radians), cosface takes it from the cosine.
        margin: see PUBLISHED_MARGINS.
        scale: of the logits, published 64; fewer people want less.
    """

    kind: MarginKind = MarginKind.ARCFACE
    margin: float = 0.5
    scale: float = 64.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be at least 0 and less than 1, got {self.margin}")
        if not self.scale > 0:
            raise ValueError(f"scale must be more than 0, got {self.scale}")


def add_margin(cosines: Tensor, people: Tensor, config: HeadConfig) -> Tensor:
    """Return logits in which the right person's cosine is harder by the margin.

    Where an angle plus its margin would pass pi, the line of equal slope takes over, so that the
    logit falls with the angle everywhere.

    Args:
        cosines: [N, P] in -1..1, of embeddings and the centres of people.
        people: [N] int64, the right ones.
    Returns: [N, P], times the scale.
    Source: ArcFace, arXiv:1801.07698, eq. 3; CosFace, arXiv:1801.09414, eq. 4.
    """
    right = cosines.gather(1, people[:, None])
    if config.kind is MarginKind.ARCFACE:
        harder = _add_angle(right, config.margin)
    elif config.kind is MarginKind.COSFACE:
        harder = right - config.margin
    else:
        harder = right
    return cosines.scatter(1, people[:, None], harder) * config.scale


def _add_angle(cosines: Tensor, margin: float) -> Tensor:
    sines = (1 - cosines.square()).clamp_min(1e-12).sqrt()
    moved = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines < -math.cos(margin)  # angle + margin > pi
    return torch.where(beyond, cosines - margin * math.sin(margin), moved)


class MarginHead(nn.Module):
    """One centre a person; used in training only.

    Args:
        width: of the embeddings.
        people: number of them.
        config: of the margin.
    """

    def __init__(self, width: int, people: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.centres = nn.Parameter(torch.randn(people, width) * 0.01)

    def forward(self, embeddings: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each image, and whether its person has the largest cosine.

        Args:
            embeddings: [N, E], of any length.
            people: [N] int64 in 0..P-1.
        Returns: [N] float32 cross-entropies; [N] bool.
        """
        unit = functional.normalize(embeddings.float())
        cosines = (unit @ functional.normalize(self.centres).t()).clamp(-1, 1)
        logits = add_margin(cosines, people, self.config)
        losses = functional.cross_entropy(logits, people, reduction="none")
        return losses, cosines.argmax(dim=1) == people
