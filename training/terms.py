"""The loss terms of each phase, computed on the networks and reported to the statistics."""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.modalities import MODALITIES
from networks.generator import Images
from training.augmentation.pipe import AugmentPipe
from training.config import LossConfig
from training.latents import Latents, mixed_ws
from training.losses import (
    discriminator_loss_fake,
    discriminator_loss_real,
    generator_loss,
    path_lengths,
    r1_penalty,
)
from training.state import TrainingState

SUFFIXES = {modality.name: modality.suffix for modality in MODALITIES}


@dataclass(frozen=True)
class Rngs:
    """Random rngs of a phase: `noise` on the device that computes, `augment` on the CPU."""

    noise: torch.Generator
    augment: torch.Generator


class LossTerms:
    """Terms of the loss; each method returns one value a sample.

    Args:
        loss: weights.
        state: networks, ADA strengths and statistics.
        augment: the augmentation pipe.
    """

    def __init__(self, loss: LossConfig, state: TrainingState, augment: AugmentPipe) -> None:
        self.loss, self.state, self.augment = loss, state, augment

    def generator(self, latents: Latents, rngs: Rngs) -> Tensor:
        """Return the generator's adversarial loss, the modalities' weighted sum."""
        images = self.draw(latents, rngs, updates_w_avg=True)
        total = torch.zeros([], device=self.state.device)
        for name, image in images.items():
            logits = self._discriminate(name, image, latents.c, rngs)
            self._report_scores("fake", name, logits)
            total = total + generator_loss(logits) * self.loss.weights[name]
        self.state.statistics.report("Loss/G/loss", total)
        return total

    def path_length(self, latents: Latents, rngs: Rngs) -> Tensor:
        """Return the path length penalty and move the running mean of lengths.

        Source: Karras et al. 2020 (arXiv:1912.04958), equation 4.
        """
        count = max(len(latents.z) // self.loss.pl_batch_shrink, 1)
        ws, _ = mixed_ws(self.state.generator, latents.part(0, count))
        images = self.state.generator.synthesis(ws, generator=rngs.noise)
        directions = {
            name: torch.randn(image.shape, generator=rngs.noise, device=image.device)
            for name, image in images.items()
        }
        lengths = path_lengths(images, ws, directions)
        with torch.no_grad():
            self.state.pl_mean.lerp_(self.state.world.mean(lengths.mean()), self.loss.pl_decay)
        penalty = (lengths - self.state.pl_mean).square()
        self.state.statistics.report("Loss/pl_penalty", penalty)
        self.state.statistics.report("Loss/G/reg", penalty * self.loss.pl_weight)
        return penalty * self.loss.pl_weight

    def fake(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        """Return a discriminator's loss on generated images [N, C, R, R]."""
        logits = self._discriminate(name, images, c, rngs)
        self._report_scores("fake", name, logits)
        return discriminator_loss_fake(logits)

    def real(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Return a discriminator's loss on real images [N, C, R, R], and their signs' sum."""
        logits = self._discriminate(name, images, c, rngs)
        self._report_scores("real", name, logits)
        return discriminator_loss_real(logits), logits.detach().sign().sum()

    def r1(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        """Return a discriminator's gradient penalty on real images [N, C, R, R].

        The NIR discriminator is regularised too; a misspelt phase name kept the published code
        from ever doing so.
        """
        images = images.detach().requires_grad_(True)
        penalty = r1_penalty(self._discriminate(name, images, c, rngs), images)
        weighted = penalty * (self.loss.gammas[name] / 2)
        self.state.statistics.report(f"Loss/r1_penalty{SUFFIXES[name]}", penalty)
        self.state.statistics.report(f"Loss/D/reg{SUFFIXES[name]}", weighted)
        return weighted

    def draw(self, latents: Latents, rngs: Rngs, *, updates_w_avg: bool = False) -> Images:
        """Return generated images of every modality."""
        ws, w = mixed_ws(self.state.generator, latents)
        if updates_w_avg:
            self.state.generator.mapping.update_w_avg(self.state.world.mean(w.detach().mean(dim=0)))
        return self.state.generator.synthesis(ws, generator=rngs.noise)

    def _discriminate(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        augmented = self.augment(images, self.state.ada[name].p, rngs.augment)
        return self.state.discriminators[name](augmented, c)

    def _report_scores(self, kind: str, name: str, logits: Tensor) -> None:
        statistics = self.state.statistics
        statistics.report(f"Loss/scores/{kind}{SUFFIXES[name]}", logits)
        statistics.report(f"Loss/signs/{kind}{SUFFIXES[name]}", logits.sign())
