"""Networks from TorchScript files.

Such a file is a program of PyTorch's own operations; nothing of Python is run. Before it is loaded,
its source is searched for what would run at loading, and for operations that touch files.
"""

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.files import check_content
from torch_utils.safe_pickle import RefusedError, check_entries

_MAX_SOURCE_BYTES = 64 << 20
_FORBIDDEN = re.compile(rb"\b(?:__setstate__|save|from_file)\b")
_NAMESPACE = re.compile(rb"\bops\s*\.\s*(\w+)")
_NAMESPACES = {b"prim", b"aten", b"quantized"}


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is an archive with the source of a program, as torch.jit.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # none, or a damaged one
        return False


def load_torchscript(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """Read a module that is only used, not trained.

    Raises: FileNotFoundError; ValueError where the file is no TorchScript module, or one that runs
        something at loading or has operations on files.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    check_content(path)
    try:
        _check_source(path)
        with warnings.catch_warnings():
            # PyTorch wants other formats for new networks; published ones are in this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device)
    except RefusedError as error:
        raise ValueError(f"{path}: the TorchScript module is refused: {error}") from error
    except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a TorchScript module") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


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
    Raises: FileNotFoundError; ValueError where the file is no TorchScript module, one for other
        images, or one whose answer is not one row of features an image, with gradients.
    """
    module = load_torchscript(path, device)
    images = torch.zeros([2, channels, side, side], device=device, requires_grad=True)
    try:
        features = module(images)
    except (RuntimeError, torch.jit.Error) as error:
        reason = str(error).strip().splitlines()[-1]
        if "out of memory" in reason:  # of which the interpreter makes a plain RuntimeError
            raise torch.OutOfMemoryError(reason) from error
        raise ValueError(
            f"--features {path}: does not take images of {list(images.shape)}: {reason}"
        ) from error
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"--features {path}: must give one tensor of features")
    if features.ndim < 2 or len(features) != len(images):
        raise ValueError(
            f"--features {path}: must give features of each image, {list(features.shape)} is what"
            f" {len(images)} images give"
        )
    if not features.requires_grad:
        raise ValueError(f"--features {path}: must let gradients through to the images")
    return module


def _check_source(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        source = [
            entry
            for entry in check_entries(archive).values()
            if entry.filename.lower().endswith(".py")
        ]
        if sum(entry.file_size for entry in source) > _MAX_SOURCE_BYTES:
            raise RefusedError(f"its source is larger than {_MAX_SOURCE_BYTES >> 20} MiB")
        for entry in source:
            text = archive.read(entry)
            used = {name for name in _NAMESPACE.findall(text) if name not in _NAMESPACES}
            if found := [*_FORBIDDEN.findall(text), *used]:
                raise RefusedError(f"it uses {found[0].decode()!r}")
