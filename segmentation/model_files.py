"""Trained segmentation networks: as files, and as functions from images to masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.class_list import ClassList, class_list_as_json, class_list_from_json
from data.modalities import Modality, choose_modalities
from data.pixels import to_float
from dnnlib.config import from_dict, to_dict
from segmentation.labelled_set import LabelledSet, channels_of
from segmentation.networks import build_network, smallest_side
from segmentation.options import NetworkConfig
from torch_utils.checkpoints import load_checkpoint, save_checkpoint

FORMAT = "biface-segmenter"
VERSION = 1
BATCH = 32  # fixed, so that a mask does not depend on how many are asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmenter:
    """A network and what it needs to be used."""

    network: nn.Module  # on `device`
    config: NetworkConfig  # its shape
    classes: ClassList  # of the masks that it makes
    modalities: tuple[Modality, ...]  # of the images that it takes
    side: int | None  # that images are resized to; None leaves them
    device: torch.device  # where it computes

    def __post_init__(self) -> None:
        if channels_of(self.modalities) != self.config.channels:
            names = ", ".join(modality.name for modality in self.modalities)
            raise ValueError(f"the network takes {self.config.channels} channels, got {names}")
        if len(self.classes) != self.config.classes:
            raise ValueError(
                f"the network knows {self.config.classes} classes, got {len(self.classes)}"
            )

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Return the most likely class of each pixel.

        Args:
            images: [N, C, H, W] uint8 0..255.
        Returns: [N, H, W] uint8 on the CPU.
        """
        self.network.eval()
        masks = []
        for batch in images.split(BATCH):
            padded = torch.cat([batch, batch[-1:].expand(BATCH - len(batch), *batch.shape[1:])])
            logits = self.network(to_float(padded.to(self.device)))
            masks.append(logits.argmax(dim=1)[: len(batch)].byte().cpu())
        return torch.cat(masks)


def check_fits(config: NetworkConfig, labelled: LabelledSet) -> None:
    """Raise ValueError unless a network of this shape can take the samples."""
    if labelled.channels != config.channels:
        raise ValueError(
            f"the network takes {config.channels} channels, the images have {labelled.channels}"
        )
    least = smallest_side(config)
    if min(labelled.size) < least:
        height, width = labelled.size
        raise ValueError(
            f"--network={config.kind.value}: images must measure at least {least} pixels, got "
            f"{width}x{height}"
        )


def save_segmenter(path: Path, segmenter: Segmenter) -> None:
    """Write a network with its shape, classes and modalities."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "network": to_dict(segmenter.config),
        "classes": class_list_as_json(segmenter.classes),
        "modalities": [modality.name for modality in segmenter.modalities],
        "side": segmenter.side,
        "state": {name: tensor.cpu() for name, tensor in segmenter.network.state_dict().items()},
    }
    save_checkpoint(path, content)


def load_segmenter(path: Path, device: torch.device) -> Segmenter:
    """Read what `save_segmenter` wrote.

    Raises: FileNotFoundError; ValueError that names the file where it is anything else.
    """
    content = load_checkpoint(path, device, (FORMAT, VERSION))
    try:
        return _build(content, str(path), device)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its content does not fit together: {reason}") from error


def _build(content: dict[str, Any], where: str, device: torch.device) -> Segmenter:
    config = from_dict(NetworkConfig, content["network"], where)
    with torch.random.fork_rng(devices=[]):
        network = build_network(config)
    network.load_state_dict(content["state"])
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ValueError(f"{where}: weights must be finite numbers")
    return Segmenter(
        network=network.to(device),
        config=config,
        classes=class_list_from_json(content["classes"], where),
        modalities=choose_modalities(content["modalities"]),
        side=content["side"],
        device=device,
    )
