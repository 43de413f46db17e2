"""What a refiner minimises: realism, nearness to its input, and optionally a way back.

Each term is one number an image.

The published terms are sums over patches and over pixels; ours are means, so that a weight means
the same at any size. A published weight w of the regularisation is w * pixels / patches here,
16 w for the discriminator of eyes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refinement.options import Measure, Norm, RefinementConfig

Terms = dict[str, Tensor]


def realism_loss(logits: Tensor) -> Tensor:
    """Return -log(1 - D) of refined images, the mean over their patches.

    Args:
        logits: [N, h, w] float32, log-odds of "refined" that D gives refined images.
    Returns: [N] float32, 0 where D takes every patch for real.
    Source: Shrivastava et al. 2017 (arXiv:1612.07828), equation 3 over the patches of section 3.1.
    """
    return F.softplus(logits).flatten(1).mean(1)


def discriminator_loss(logits: Tensor, *, is_refined: bool, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of D's answer to images of one kind, the mean over their patches.

    Args:
        logits: [N, h, w] float32, log-odds of "refined".
        is_refined: what the images are.
        smoothing: s, 0..0.5: the wanted probabilities are 1 - s and s, not 1 and 0.
    Returns: [N] float32: -log D for refined images, -log(1 - D) for real ones where s is 0.
    Source: Shrivastava et al. 2017 (arXiv:1612.07828), equation 2; smoothing of labels:
        Salimans et al. 2016 (arXiv:1606.03498), section 3.4, there of real images only.
    """
    wanted = 1 - smoothing if is_refined else smoothing
    losses = wanted * F.softplus(-logits) + (1 - wanted) * F.softplus(logits)
    return losses.flatten(1).mean(1)


def image_difference(
    x: Tensor, refined: Tensor, norm: Norm, weights: Tensor | None = None
) -> Tensor:
    """Return how far refined images are from their originals: mean over channels and pixels.

    Args:
        x: [N, C, H, W] float32, the originals.
        refined: the same shape.
        norm: of the difference in each channel.
        weights: [N, H, W] float32 factors of the pixels; None is 1.
    Returns: [N] float32, >= 0.
    Source: "Refining Synthetic Face Images using GANs": mean of the differences of each channel.
    """
    difference = _difference(x, refined, norm).mean(1)
    if weights is not None:
        difference = difference * weights
    return difference.flatten(1).mean(1)


def mean_difference(
    x: Tensor,
    refined: Tensor,
    norm: Norm,
    channels: Sequence[int],
    weights: Tensor | None = None,
) -> Tensor:
    """Return how far the mean of the channels moved: colours may change, light may not.

    Args:
        x: [N, C, H, W] float32, the originals.
        refined: the same shape.
        norm: of the difference.
        channels: of each modality in turn; each has its own mean.
        weights: [N, H, W] float32 factors of the pixels; None is 1.
    Returns: [N] float32, >= 0.
    Source: Shrivastava et al. 2017 (arXiv:1612.07828), section 2.1: mean of the RGB channels.
    """
    means = [
        torch.cat([part.mean(1, keepdim=True) for part in images.split(list(channels), 1)], 1)
        for images in (x, refined)
    ]
    return image_difference(means[0], means[1], norm, weights)


def feature_difference(
    x: Tensor, refined: Tensor, norm: Norm, network: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return how far the features of refined images are from those of their originals.

    Args:
        x: [N, C, H, W] float32 in -1..1, the originals.
        refined: the same shape.
        norm: of the difference.
        network: images -> features [N, ...].
    Returns: [N] float32, the mean over the features.
    Source: Shrivastava et al. 2017 (arXiv:1612.07828), section 2.1: psi, a feature space.
    """
    with torch.no_grad():
        wanted = network(x)
    return _difference(wanted, network(refined), norm).flatten(1).mean(1)


def region_weights(masks: Tensor, table: Tensor) -> Tensor:
    """Return each pixel's weight by its class.

    Args:
        masks: [N, H, W] uint8 classes.
        table: [K] float32, weight of each class.
    Returns: [N, H, W] float32.
    """
    return table.to(masks.device)[masks.long()]


def _difference(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    return (a - b).abs() if norm is Norm.L1 else (a - b).square()


@dataclass(frozen=True, eq=False)
class Objective:
    """Terms of the loss."""

    config: RefinementConfig  # weights and measures
    channels: tuple[int, ...]  # of each modality in turn
    # Images -> features, where features are compared.
    network: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if (self.config.measure is Measure.FEATURES) != (self.network is not None):
            raise ValueError(
                "--measure=features needs a network (--features), and no other --measure does, got "
                f"--measure={self.config.measure.value}"
            )

    def regularisation(self, x: Tensor, refined: Tensor, weights: Tensor | None) -> Tensor:
        """Return how far images moved: [N] float32, without the config's weight.

        Args:
            x: [N, C, H, W] float32 in -1..1, the originals.
            refined: the same shape.
            weights: [N, H, W] float32 factors of the pixels, or None.
        """
        config = self.config
        match config.measure:
            case Measure.IMAGE:
                return image_difference(x, refined, config.norm, weights)
            case Measure.MEAN:
                return mean_difference(x, refined, config.norm, self.channels, weights)
            case Measure.FEATURES:
                assert self.network is not None, "checked when this was made"
                return feature_difference(x, refined, config.norm, self.network)

    def cycle(
        self, refiner: nn.Module, back: nn.Module, x: Tensor, refined: Tensor, y: Tensor
    ) -> Terms:
        """Return what is lost on the way there and back: two terms of [N] float32.

        Args:
            refiner: rendered -> real.
            back: real -> rendered. It has no discriminator of its own.
            x: [N, C, H, W] float32, rendered.
            refined: what the refiner made of it.
            y: [N, C, H, W] float32, real.
        Source: Zhu et al. 2017 (arXiv:1703.10593), equation 2.
        """
        return {
            "cycle_rendered": image_difference(x, back(refined), Norm.L1),
            "cycle_real": image_difference(y, refiner(back(y)), Norm.L1),
        }

    def total(self, terms: Terms) -> Tensor:
        """Return the loss: a number."""
        weights = {
            "realism": 1.0,
            "regularisation": self.config.weight,
            "cycle_rendered": self.config.cycle,
            "cycle_real": self.config.cycle,
        }
        return torch.stack([weights[name] * term.mean() for name, term in terms.items()]).sum()
