"""One training iteration: its phases, each an optimiser step of one network."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from data.modalities import JOINT
from data.pixels import to_float
from networks.generator import Images
from torch_utils.devices import upload
from torch_utils.guarded_step import GuardedStep
from torch_utils.seeding import generator_for
from training.augmentation.pipe import AugmentPipe
from training.config import MISMATCH, LossConfig, TrainingConfig
from training.latents import Latents, draw_latents
from training.losses import (
    SUFFIXES,
    Embed,
    LossTerms,
    Rngs,
    discriminator_input,
    loss_as_fake,
    loss_as_real,
    mismatched_pairs,
)
from training.state import TrainingState, ema_beta, update_ema

Fakes = list[tuple[Images, Tensor]]

ADVICE = (
    "lower the learning rates, raise gamma, or train with --fp32=1; the last checkpoint is kept"
)


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
        modality: whose discriminator steps, or JOINT; None where the generator does.
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


def build_phases(modalities: Sequence[str], loss: LossConfig) -> tuple[Phase, ...]:
    """Return the phases of an iteration in order; a penalty of weight zero has none.

    Source: Karras et al. 2020 (arXiv:1912.04958), appendix B, lazy regularisation.
    """
    phases = [Phase(kind=PhaseKind.G_MAIN, modality=None)]
    if loss.pl_weight > 0:
        phases.append(Phase(kind=PhaseKind.G_REG, modality=None, interval=loss.g_reg_interval))
    phases += [Phase(kind=PhaseKind.D_MAIN, modality=name) for name in modalities]
    phases += [
        Phase(kind=PhaseKind.D_REG, modality=name, interval=loss.d_reg_interval)
        for name in modalities
        if loss.gammas[name] > 0
    ]
    return tuple(phases)


class Iteration:
    """Runs iterations on a state, with `batch_gpu` images at once on a device.

    Conditions are drawn from `labels`, [n, c_dim] float32; `embed` is the recogniser of the
    identity loss, see LossTerms.
    """

    def __init__(
        self,
        config: TrainingConfig,
        state: TrainingState,
        *,
        batch_gpu: int,
        labels: Tensor,
        embed: Embed | None = None,
    ) -> None:
        self.config, self.state, self.device, self.world = config, state, state.device, state.world
        self.share, self.batch_gpu = self.world.per_rank(config.batch), batch_gpu
        self.labels = labels.to(self.device)
        augment = AugmentPipe(config.augment).to(self.device)
        self.terms = LossTerms(config.loss, state, augment, embed)
        self.phases = build_phases(tuple(state.discriminators), config.loss)
        self.guards = {
            phase: GuardedStep(
                phase.name,
                self.device,
                ADVICE,
                max_bad_steps=config.max_bad_steps,
                world=self.world,
            )
            for phase in self.phases
        }

    def run(self, batch: Mapping[str, Tensor]) -> None:
        """Do one iteration.

        Args:
            batch: this process's share, uint8 [N, C, R, R] a modality and "label" [N, c_dim]
                float32, on the CPU.
        """
        names = tuple(self.state.discriminators)
        images = {
            modality: to_float(upload(batch[modality], self.device))
            for modality in self.state.generator.config.heads
        }
        reals = {name: discriminator_input(name, images) for name in names}
        labels = upload(batch["label"], self.device)
        self.signs = {name: torch.zeros([], device=self.device) for name in names}
        phases = [phase for phase in self.phases if phase.runs_at(self.state.step)]
        fakes: Fakes = []
        for phase in phases:
            if phase.kind is PhaseKind.D_MAIN and not fakes:
                fakes = self._draw_fakes()
            self._accumulate(phase, reals, labels, fakes)
            is_bad = self.guards[phase].step(self.state.optimizers[phase.modality or "G"])
            self.state.statistics.report("Progress/nonfinite_steps", is_bad)
        self._advance()

    def _accumulate(self, phase: Phase, reals: Images, labels: Tensor, fakes: Fakes) -> None:
        """Gather the gradients of a phase over the parts that a device computes at once."""
        rngs = self._rngs(phase.kind.value, phase.modality or "")
        if phase.modality is None:
            self._accumulate_generator(phase, rngs)
            return
        for index, part in enumerate(self._parts()):
            real, c = reals[phase.modality][part], labels[part]
            if phase.kind is PhaseKind.D_MAIN:
                self._discriminate_both(phase.modality, real, c, fakes[index], rngs)
            else:
                term = self.terms.r1(phase.modality, real, c, rngs)
                self._backward(term * phase.interval)

    def _accumulate_generator(self, phase: Phase, rngs: Rngs) -> None:
        latents = self._latents(phase.kind)
        is_main = phase.kind is PhaseKind.G_MAIN
        compute = self.terms.generator if is_main else self.terms.path_length
        with _untrained(self.state.discriminators.values()):
            for part in self._parts():
                self._backward(compute(latents.part(part), rngs) * phase.interval)

    def _discriminate_both(
        self, name: str, real: Tensor, c: Tensor, fake: tuple[Images, Tensor], rngs: Rngs
    ) -> None:
        images, fake_c = fake
        seen = discriminator_input(name, images)
        fake_loss = loss_as_fake(self.terms.score("fake", name, seen, fake_c, rngs))
        self._backward(fake_loss)
        logits = self.terms.score("real", name, real, c, rngs)
        real_loss = loss_as_real(logits)
        self._backward(real_loss)
        self.signs[name] += logits.detach().sign().sum()
        total = (fake_loss + real_loss).detach()
        weight = self.config.loss.weights.get(MISMATCH, 0.0)
        if name == JOINT and weight > 0:
            logits = self.terms.score(MISMATCH, name, mismatched_pairs(real), c, rngs)
            mismatch_loss = loss_as_fake(logits) * weight
            if c.shape[1] > 0:  # images of one identity may be a pair
                mismatch_loss = mismatch_loss * (c != c.roll(1, 0)).any(dim=1, keepdim=True)
            self._backward(mismatch_loss)
            total = total + mismatch_loss.detach()
        self.state.statistics.report(f"Loss/D/loss{SUFFIXES[name]}", total)

    @torch.no_grad()
    def _draw_fakes(self) -> Fakes:
        """Draw the images of a discriminator step once, for all discriminators."""
        latents = self._latents(PhaseKind.D_MAIN)
        rngs = self._rngs(PhaseKind.D_MAIN.value, "fakes")
        parts = [latents.part(part) for part in self._parts()]
        return [(self.terms.draw(part, rngs), part.c) for part in parts]

    def _advance(self) -> None:
        """Count the iteration, adapt the augmentation and move the generator's average."""
        state, config = self.state, self.config
        state.nimg += config.batch
        state.step += 1
        for name, controller in state.ada.items():
            controller.update(self.world.sum(self.signs[name]), config.batch)
        beta = ema_beta(
            batch=config.batch,
            nimg=state.nimg,
            ema_kimg=config.ema_kimg,
            rampup=config.ema_rampup,
        )
        update_ema(state.ema, state.generator, beta)

    def _parts(self) -> list[slice]:
        size = self.batch_gpu
        return [slice(start, start + size) for start in range(0, self.share, size)]

    def _latents(self, kind: PhaseKind) -> Latents:
        return draw_latents(
            self.state.generator,
            self.labels,
            batch=self.config.batch,
            world=self.world,
            style_mixing=self.config.loss.style_mixing,
            random=generator_for(self.config.seed, "latents", self.state.step, kind.value),
        )

    def _rngs(self, *place: str) -> Rngs:
        seed, here = self.config.seed, (self.state.step, self.world.rank, *place)
        return Rngs(
            noise=generator_for(seed, "noise", *here, device=self.device),
            augment=generator_for(seed, "augment", *here),
        )

    def _backward(self, values: Tensor) -> None:
        """Add the gradients of the share's mean; `values` are those of the part at hand."""
        (values.mean() * (self.batch_gpu / self.share)).backward()


@contextlib.contextmanager
def _untrained(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Compute no gradients for the parameters of other networks while one trains."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
