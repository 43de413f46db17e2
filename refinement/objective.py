"""What the refiner minimises: realism, nearness to its input, and optionally a way back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refinement.losses import (
    feature_difference,
    image_difference,
    mean_difference,
    realism_loss,
)
from refinement.networks import PatchDiscriminator, Refiner
from refinement.options import Measure, Norm, RefinementConfig
from torch_utils.torchscript import load_torchscript

Terms = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """Terms of the loss.

    Attributes:
        config: weights and measures.
        channels: of each modality in turn.
        network: images -> features, where features are compared.
    """

    config: RefinementConfig
    channels: tuple[int, ...]
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

    def realism(self, discriminator: PatchDiscriminator, refined: Tensor) -> Tensor:
        """Return how easily the discriminator tells refined images: [N] float32."""
        return realism_loss(discriminator(refined))

    def cycle(
        self, refiner: Refiner, back: Refiner, x: Tensor, refined: Tensor, y: Tensor
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


def load_feature_network(
    path: Path, channels: int, side: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Read a TorchScript module that takes [N, C, H, W] float32 in -1..1 and gives features.

    Its weights stay as they are; gradients go through it to the images.

    Args:
        path: the file.
        channels: C of the images that it will be given.
        side: H and W of them.
        device: where to compute.
    Raises: FileNotFoundError; ValueError where the file is no TorchScript module, or one for other
        images.
    """
    module = load_torchscript(path, device)
    images = torch.zeros([1, channels, side, side], device=device)
    try:
        features = module(images)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"--features {path}: does not take images of {list(images.shape)}: {reason}"
        ) from error
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"--features {path}: must give one tensor of features")
    return module
