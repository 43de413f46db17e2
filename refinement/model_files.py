"""Trained refiners on disk: plain content, read without executing anything."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.modalities import Modality, choose_modalities
from data.pixels import to_float, to_uint8
from dnnlib import config as configs
from dnnlib.files import sha256_file
from refinement.networks import Refiner, RefinerConfig
from torch_utils.checkpoints import load_checkpoint, save_checkpoint

FORMAT = "biface-refiner"
VERSION = 1
MICRO_BATCH = 16


@dataclass(frozen=True, eq=False)
class TrainedRefiner:
    """A refiner and what it is for."""

    network: Refiner  # in evaluation mode
    modalities: tuple[Modality, ...]  # whose channels it takes, in order
    sha256: str  # of its file

    def refine(self, images: Tensor) -> Tensor:
        """Return refined pixels.

        Args:
            images: [n, C, H, W] uint8, n up to MICRO_BATCH; always computed for that many, so that
                the result does not depend on n.
        Returns: the same shape, uint8, on the CPU.
        """
        filled = torch.cat([images, images[-1:].expand(MICRO_BATCH - len(images), -1, -1, -1)])
        device = self.network.last.weight.device
        with torch.no_grad():
            return to_uint8(self.network(to_float(filled.to(device))))[: len(images)].cpu()

    def split(self, images: Tensor) -> list[dict[str, np.ndarray]]:
        """Return [n, C, R, R] as samples, modality -> [C, R, R]."""
        parts = images.split([modality.channels for modality in self.modalities], 1)
        names = [modality.name for modality in self.modalities]
        rows = zip(*(part.numpy() for part in parts), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]


def save_refiner(path: Path, refiner: Refiner, modalities: tuple[Modality, ...]) -> None:
    """Write a refiner; equal ones give equal bytes."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": {"channels": refiner.config.channels} | configs.to_dict(refiner.config),
        "modalities": [modality.name for modality in modalities],
        "state": {name: tensor.cpu() for name, tensor in refiner.state_dict().items()},
    }
    save_checkpoint(path, content)


def load_refiner(path: Path, device: torch.device) -> TrainedRefiner:
    """Read what `save_refiner` wrote.

    Raises: FileNotFoundError; ValueError where the file is damaged, or something else.
    """
    content = load_checkpoint(path, device, (FORMAT, VERSION))
    config = configs.from_dict(RefinerConfig, content["config"], str(path))
    modalities = choose_modalities(content["modalities"])
    if sum(modality.channels for modality in modalities) != config.channels:
        raise ValueError(f"{path}: {config.channels} channels do not fit {content['modalities']}")
    network = Refiner(config)
    try:
        network.load_state_dict(content["state"])
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: weights do not fit the network: {str(error)[:200]}") from error
    network.to(device).eval().requires_grad_(False)
    return TrainedRefiner(network, modalities, sha256_file(path))
