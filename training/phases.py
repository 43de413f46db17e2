"""What one iteration consists of: which network takes which step, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class PhaseKind(Enum):
    """The four kinds of optimiser step."""

    G_MAIN = "Gmain"
    G_REG = "Greg"
    D_MAIN = "Dmain"
    D_REG = "Dreg"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimiser step of an iteration.

    Attributes:
        kind: what is computed.
        modality: whose discriminator steps; None where the generator does.
        interval: iterations from one such step to the next; the loss is scaled by it.
    """

    kind: PhaseKind
    modality: str | None
    interval: int = 1

    @property
    def name(self) -> str:
        """Return the phase for messages, such as "Dreg nir"."""
        return f"{self.kind.value} {self.modality or ''}".strip()

    def runs_at(self, step: int) -> bool:
        """Tell whether the phase takes part in iteration `step`, counted from 0."""
        return step % self.interval == 0


def build_phases(
    modalities: Sequence[str],
    *,
    has_path_length: bool,
    has_r1: Sequence[str],
    g_reg_interval: int,
    d_reg_interval: int,
) -> tuple[Phase, ...]:
    """Return the phases of an iteration in order; a penalty of weight zero has none.

    Args:
        modalities: names in order.
        has_path_length: whether the generator is regularised.
        has_r1: names of the modalities whose discriminator is regularised.
        g_reg_interval: iterations between regularisations of the generator.
        d_reg_interval: the same for the discriminators.
    Source: Karras et al. 2020 (arXiv:1912.04958), appendix B, lazy regularisation.
    """
    phases = [Phase(kind=PhaseKind.G_MAIN, modality=None)]
    if has_path_length:
        phases.append(Phase(kind=PhaseKind.G_REG, modality=None, interval=g_reg_interval))
    phases += [Phase(kind=PhaseKind.D_MAIN, modality=name) for name in modalities]
    phases += [
        Phase(kind=PhaseKind.D_REG, modality=name, interval=d_reg_interval)
        for name in modalities
        if name in has_r1
    ]
    return tuple(phases)
