"""Networks from files whose features the regularisation compares."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from torch_utils.torchscript import load_torchscript


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
    _try(module, torch.zeros([1, channels, side, side], device=device), path)
    return module


def _try(module: torch.jit.ScriptModule, images: Tensor, path: Path) -> None:
    try:
        features = module(images)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"--features {path}: does not take images of {list(images.shape)}: {reason}"
        ) from error
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"--features {path}: must give one tensor of features")
