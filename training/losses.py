"""The losses: pure functions, and the terms of each phase, computed on the networks."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data.modalities import JOINT, MODALITIES
from networks.generator import Images
from torch_utils.ops import backends
from training.augmentation.pipe import AugmentPipe
from training.config import IDENTITY, LossConfig
from training.latents import Latents, mixed_ws
from training.state import TrainingState

SUFFIXES = {modality.name: modality.suffix for modality in MODALITIES} | {JOINT: f"_{JOINT}"}
Embed = Callable[[Tensor], Tensor]
_CHANNELS = tuple(modality.channels for modality in MODALITIES)


def discriminator_input(name: str, images: Mapping[str, Tensor]) -> Tensor:
    """Return what a discriminator sees of a batch: one modality, or all as [N, sum of C, R, R]."""
    return torch.cat(list(images.values()), dim=1) if name == JOINT else images[name]


def mismatched_pairs(pairs: Tensor) -> Tensor:
    """Return pairs, as the joint discriminator sees them, with the images of other samples.

    Sample n has the first modality of n, the second of n - 1 and so on.
    Source: Reed et al. 2016 (arXiv:1605.05396), matching-aware discriminator.
    """
    parts = pairs.split(_CHANNELS, dim=1)
    return torch.cat([part.roll(shift, 0) for shift, part in enumerate(parts)], dim=1)


def loss_as_real(logits: Tensor) -> Tensor:
    """Return -log sigmoid(logit), the loss of images that should be taken for real.

    These are real images in a discriminator's step, generated ones in the generator's.

    Args:
        logits: [N, 1] float32.
    Returns: [N, 1] float32, >= 0.
    Source: Goodfellow et al. 2014 (arXiv:1406.2661), section 3, the non-saturating loss.
    """
    return F.softplus(-logits)


def loss_as_fake(logits: Tensor) -> Tensor:
    """Return -log(1 - sigmoid(logit)); shapes as in `loss_as_real`."""
    return F.softplus(logits)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return each image's squared gradient norm of its logit.

    Args:
        logits: [N, 1] float32, the discriminator's answer to `images`.
        images: [N, C, H, W] float32 in -1..1; must require gradients.
    Returns: [N] float32, >= 0. The loss term is this times gamma / 2.
    Raises: ValueError if `images` does not require gradients.
    Source: Mescheder et al. 2018 (arXiv:1801.04406), R1 regulariser.
    """
    if not images.requires_grad:
        raise ValueError("r1_penalty: images must require gradients")
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.square().sum(dim=[1, 2, 3])


def identity_loss(embeddings: Tensor, conditions: Tensor) -> Tensor:
    """Return 1 - cosine of generated identities and those that were asked for: [N] float32, 0..2.

    Args:
        embeddings, conditions: [N, E] float32, of any length above zero.
    Source: Richardson et al. 2021 (pSp, arXiv:2008.00951), identity loss.
    """
    return 1 - F.cosine_similarity(embeddings, conditions)


def path_lengths(images: Mapping[str, Tensor], ws: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
    """Return how far random steps in image space move each sample's w, over all modalities at once.

    The gradients of the modalities are added before the norm is taken, as in the published
    dual-branch systems: one pair is one output of one w.

    Args:
        images: [N, C, H, W] float32 a modality, drawn from `ws`.
        ws: [N, L, w_dim] float32; must be part of the graph of the images.
        noise: standard normal, shaped as the images.
    Returns: [N] float32, >= 0.
    Source: Karras et al. 2020 (arXiv:1912.04958), equation 4.
    """
    projected = [
        (image * noise[name]).sum() / math.sqrt(image.shape[2] * image.shape[3])
        for name, image in images.items()
    ]
    (gradients,) = torch.autograd.grad(torch.stack(projected).sum(), ws, create_graph=True)
    return gradients.square().sum(dim=2).mean(dim=1).sqrt()


@dataclass(frozen=True)
class Rngs:
    """Random rngs of a phase: `noise` on the device that computes, `augment` on the CPU."""

    noise: torch.Generator
    augment: torch.Generator


class LossTerms:
    """Terms of the loss; each method returns one value a sample and reports it.

    Args:
        loss: weights.
        state: the networks.
        augment: of what discriminators see.
        embed: recogniser of the identity loss, [N, C, R, R] float32 in -1..1 -> [N, c_dim].
    """

    def __init__(
        self,
        loss: LossConfig,
        state: TrainingState,
        augment: AugmentPipe,
        embed: Embed | None = None,
    ) -> None:
        self.loss, self.state, self.augment, self.embed = loss, state, augment, embed

    def generator(self, latents: Latents, rngs: Rngs) -> Tensor:
        """Return the generator's loss: the discriminators' weighted sum, and that of identities."""
        images = self.draw(latents, rngs, updates_w_avg=True)
        total = torch.zeros([], device=self.state.device)
        for name in self.state.discriminators:
            seen = discriminator_input(name, images)
            logits = self.score("fake", name, seen, latents.c, rngs)
            total = total + loss_as_real(logits) * self.loss.weights[name]
        self.state.statistics.report("Loss/G/loss", total)
        for name, key in IDENTITY.items():
            if key in self.loss.weights:
                assert self.embed is not None, "an identity loss has a recogniser"
                distance = identity_loss(self.embed(images[name]), latents.c)
                self.state.statistics.report(f"Loss/G/identity{SUFFIXES[name]}", distance)
                total = total + distance[:, None] * self.loss.weights[key]
        return total

    def path_length(self, latents: Latents, rngs: Rngs) -> Tensor:
        """Return the path length penalty and move the running mean of lengths.

        Source: Karras et al. 2020 (arXiv:1912.04958), equation 4.
        """
        count = max(len(latents.z) // self.loss.pl_batch_shrink, 1)
        ws, _ = mixed_ws(self.state.generator, latents.part(slice(count)))
        with backends.no_weight_gradients():
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

    def r1(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        """Return a discriminator's gradient penalty on real images [N, C, R, R].

        The NIR discriminator is regularised too; a misspelt phase name kept the published code
        from ever doing so.
        """
        images = images.detach().requires_grad_(True)
        with backends.no_weight_gradients():
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

    def score(self, kind: str, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        """Return and report a discriminator's logits of images [N, C, R, R].

        `kind` is "real" or "fake", or MISMATCH for real images that are no pairs.
        """
        logits = self._discriminate(name, images, c, rngs)
        self.state.statistics.report(f"Loss/scores/{kind}{SUFFIXES[name]}", logits)
        self.state.statistics.report(f"Loss/signs/{kind}{SUFFIXES[name]}", logits.sign())
        return logits

    def _discriminate(self, name: str, images: Tensor, c: Tensor, rngs: Rngs) -> Tensor:
        channels = _CHANNELS if name == JOINT else ()
        augmented = self.augment(images, self.state.ada[name].p, rngs.augment, channels)
        return self.state.discriminators[name](augmented, c)
