"""Reads recognisers of every form: weights of our backbones, ONNX, TorchScript.

What a file does not say stands beside it (see `RecogniserSettings`), so that every command takes
the same images for the same network. Nothing in a file is executed as Python.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from biometrics.backbone_networks import PUBLISHED_SIZE
from biometrics.backbones import backbone_of
from biometrics.onnx_network import OnnxNetwork
from biometrics.recogniser_settings import (
    HALF_RANGE,
    ChannelOrder,
    InputFormat,
    RecogniserSettings,
    read_settings,
    settings_path,
)
from dnnlib import files
from torch_utils.checkpoints import read_safetensors
from torch_utils.safe_pickle import load_archive
from torch_utils.torchscript import is_torchscript, load_torchscript

COMMAND = "evaluate.py recogniser"
_ASSUMABLE = ("size", "order", "mean", "std")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recogniser:
    """A network and what it takes.

    Attributes:
        network: [N, C, S, S] float32 as of `takes` -> [N, E].
        takes: the images.
        width: E.
        hash: the file's SHA-256; another one where the settings beside it change what is computed.
        file_hash: SHA-256 of the file.
        kind: form of the file.
        centre: [E] float32, subtracted from embeddings of unit length; None for none.
        assumed: what neither the file nor settings say.
    """

    network: nn.Module
    takes: InputFormat
    width: int
    hash: str
    file_hash: str
    kind: str
    centre: Tensor | None = None
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Content:
    """A file as it was read.

    Attributes:
        stated: what it says of its images, by field of InputFormat.
        width: None for what must be tried.
    """

    network: nn.Module
    kind: str
    hash: str
    stated: Mapping[str, Any] = field(default_factory=dict)
    width: int | None = None


class ScriptNetwork(nn.Module):
    """The first output of a TorchScript module; computes alike each time."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, S, S] float32 -> [N, E] float32."""
        with torch.jit.optimized_execution(False):  # the first runs would differ from later ones
            answer = self.script(x)
        first = answer[0] if isinstance(answer, tuple | list) and answer else answer
        return cast(Tensor, first).flatten(1).float()


def load_recogniser(
    path: Path, *, device: str = "cpu", settings: RecogniserSettings | None = None
) -> Recogniser:
    """Read a recogniser of any form: .pth, .safetensors, .onnx or TorchScript.

    Args:
        path: of the file; TorchScript is known by its content.
        device: that computes.
        settings: instead of those beside the file.
    Raises: FileNotFoundError; ValueError naming the file, or the settings that do not fit it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    settings = read_settings(path) if settings is None else settings
    where = f"{path} with {settings_path(path).name}"
    content = _read(path, device)
    stated = content.stated
    given = {name: getattr(settings, name) for name in _ASSUMABLE}
    given = {name: value for name, value in given.items() if value is not None}
    size = stated.get("size")
    if size and given.get("size", size) != size:
        raise ValueError(
            f"{where}: size must be {size}, as the network has it, got {settings.size}"
        )
    assumed = tuple(name for name in _ASSUMABLE if name not in {*given, *stated})
    if settings.order is ChannelOrder.GREY:
        channels = stated.get("channels", 1)
        if channels != 1:
            raise ValueError(f"{where}: order grey is of 1 channel, the network takes {channels}")
        given |= {"channels": 1, "order": ChannelOrder.RGB}
    try:
        plain = InputFormat(**{"size": PUBLISHED_SIZE, **stated})
        takes = replace(plain, **given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    width = content.width or _probe(content.network, takes, path, device)
    if settings.centre and len(settings.centre) != width:
        raise ValueError(f"{where}: centre must be {width} numbers, got {len(settings.centre)}")
    own_hash = content.hash
    if takes != plain or settings.centre:  # which make other embeddings
        changed = json.dumps([vars(takes), settings.centre], sort_keys=True)
        own_hash = hashlib.sha256(f"{content.hash} {changed}".encode()).hexdigest()
    if assumed:
        _logger.info(
            "%s: takes %dx%d %s, (x - %s) / %s; %s is not in the file but assumed: %s sets it",
            *(path.name, takes.size, takes.size, takes.order),
            *("/".join(f"{v:g}" for v in numbers) for numbers in (takes.mean, takes.std)),
            *(", ".join(assumed), COMMAND),
        )
    return Recogniser(
        network=content.network,
        takes=takes,
        width=width,
        hash=own_hash,
        file_hash=content.hash,
        kind=content.kind,
        centre=torch.tensor(settings.centre) if settings.centre else None,
        assumed=assumed,
    )


def _read(path: Path, device: str) -> _Content:
    if path.suffix.lower() == ".onnx":
        files.check_content(path)
        network = OnnxNetwork(path, device)
        stated = {"size": network.size, "channels": network.channels}
        stated = {name: value for name, value in stated.items() if value}
        if network.channels == 1:
            stated["order"] = ChannelOrder.RGB
        if network.takes_bytes:
            stated |= {"mean": (0.0,), "std": (1.0,)}
        return _Content(network=network, kind="ONNX", hash=network.hash, stated=stated)
    content_hash = files.sha256_file(path)
    if is_torchscript(path):
        script = ScriptNetwork(load_torchscript(path, device))
        return _Content(network=script, kind="TorchScript", hash=content_hash)
    is_safe = path.suffix.lower() == ".safetensors"
    backbone, config = backbone_of(read_safetensors(path) if is_safe else load_archive(path), path)
    return _Content(
        network=backbone,
        kind=config.kind,
        hash=content_hash,
        stated={
            **{"size": config.size, "channels": config.in_channels, "order": ChannelOrder.RGB},
            **{"mean": HALF_RANGE, "std": HALF_RANGE},
        },
        width=config.embedding,
    )


@torch.no_grad()
def _probe(network: nn.Module, takes: InputFormat, path: Path, device: str) -> int:
    """Return the width of the embeddings of two empty images."""
    images = torch.zeros([2, takes.channels, takes.size, takes.size], device=device)
    try:
        answer = network(images)
    except Exception as error:  # whatever a network does with images that it was not made for
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path}: takes no {takes.size}x{takes.size} images of {takes.channels} channels "
            f"({reason:.200}); {COMMAND} --size or --order says what it takes"
        ) from None
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != 2:
        shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(f"{path}: [N, E] embeddings are needed, got {shape} for 2 images")
    return int(answer.shape[1])
