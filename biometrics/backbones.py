"""Backbones by name, and their shape read from published or own weights."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biometrics.backbone_networks import (
    PUBLISHED_SIZE,
    BackboneConfig,
    IResNet,
    MobileFaceNet,
)
from dnnlib.config import suggest

SIZE_KEY = "input_size"  # of backbones for other images; insightface's have no such entry

_IRESNETS = {
    "r18": (2, 2, 2, 2),
    "r34": (3, 4, 6, 3),
    "r50": (3, 4, 14, 3),
    "r100": (3, 13, 30, 3),
    "r200": (6, 26, 60, 6),
}
_IRESNET_CHANNELS = (64, 64, 128, 256, 512)
_MOBILE = ("mobilefacenet", "mbf")
_MOBILE_BLOCKS = (4, 6, 2)
_MOBILE_WIDTH = 128
# An entry that only an iresnet, and one that only a mobilefacenet has.
_MARKS = ("layer1.0.prelu.weight", "conv_sep.layers.0.weight")
_UNKNOWN = "not the weights of an iresnet or a mobilefacenet of insightface's names"


def named_backbone(
    name: str,
    *,
    in_channels: int = 3,
    embedding: int = 512,
    size: int = PUBLISHED_SIZE,
    width: float = 1.0,
) -> BackboneConfig:
    """Return the shape of r18, r34, r50, r100, r200 or mobilefacenet (mbf).

    Below 112 pixels an iresnet's first stage keeps the size, so that 32 pixels end in 4x4. `width`
    is a factor of all channels; 1 is as published.

    Raises: ValueError for an unknown name or a size that 16 does not divide.
    """
    if size % 16 or size < 16:
        raise ValueError(f"--size must be a multiple of 16, at least 16, got {size}")
    shape = {"in_channels": in_channels, "embedding": embedding, "size": size}
    if name in _MOBILE:
        channels = (2 * max(round(_MOBILE_WIDTH * width / 2), 1),)
        return BackboneConfig(
            kind="mobilefacenet", blocks=_MOBILE_BLOCKS, channels=channels, **shape
        )
    blocks = _IRESNETS.get(name.removeprefix("i").replace("resnet", "r"))
    if blocks is None:
        known = [*_IRESNETS, *_MOBILE]
        raise ValueError(
            f"--backbone must be one of {', '.join(known)}, got {name!r}{suggest(name, known)}"
        )
    return BackboneConfig(
        kind="iresnet",
        blocks=blocks,
        channels=tuple(max(round(c * width), 1) for c in _IRESNET_CHANNELS),
        first_stride=2 if size >= PUBLISHED_SIZE else 1,
        **shape,
    )


def build_backbone(config: BackboneConfig, dropout: float = 0.0) -> nn.Module:
    """Return a backbone with random weights: images [N, C, S, S] in -1..1 -> [N, E]."""
    is_mobile = config.kind == "mobilefacenet"
    return MobileFaceNet(config) if is_mobile else IResNet(config, dropout)


def state_of(backbone: nn.Module, config: BackboneConfig) -> dict[str, Tensor]:
    """Return what a .pth file holds: insightface's entries, and the size where it is not 112."""
    state = {name: tensor.detach().cpu() for name, tensor in backbone.state_dict().items()}
    if config.size != PUBLISHED_SIZE:
        state[SIZE_KEY] = torch.tensor(config.size)
    return state


def config_of_state(state: Mapping[str, Tensor]) -> BackboneConfig:
    """Return the shape of the backbone of these weights. Raises: ValueError for unknown ones."""
    try:
        if "fc.weight" in state:
            return _iresnet_config(state)
        if "conv_sep.layers.0.weight" in state:
            return _mobile_config(state)
    except (KeyError, IndexError) as error:
        raise ValueError(f"weights of an incomplete backbone: no {error.args[0]}") from None
    raise ValueError(_UNKNOWN)


def backbone_of(content: object, path: Path) -> tuple[nn.Module, BackboneConfig]:
    """Return the backbone whose weights a file holds, in evaluation mode, and its shape.

    The weights may lie below other keys ("state_dict", "state_dict_backbone", ...), their names
    behind any prefix ("module.", "model.backbone.", ...) and beside those of other modules, in any
    precision.

    Args:
        content: plain containers and tensors, as read.
        path: the file, for messages.
    Raises: ValueError naming the file for everything that is no backbone.
    """
    found = [*_states_in(content, "")]
    if len(found) != 1:
        where = ", ".join(repr(key or "the whole") for key, _ in found)
        raise ValueError(
            f"{path}: holds several backbones ({where}): save one of them alone"
            if found
            else f"{path}: {_UNKNOWN}; other networks are read as ONNX or TorchScript"
        )
    state = found[0][1]
    bad = next((k for k, v in state.items() if not isinstance(v, Tensor)), None)
    if bad is not None:
        raise ValueError(f"{path}: expected named tensors, got {bad!r:.60}")
    try:
        config = config_of_state(state)
        backbone = build_backbone(config)
        backbone.load_state_dict({k: v for k, v in state.items() if k != SIZE_KEY})
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: {reason:.300}") from None
    bad = next((k for k, v in state.items() if not bool(torch.isfinite(v).all())), None)
    if bad is not None:
        raise ValueError(f"{path}: weights must be finite, but {bad} is not")
    return backbone.eval().requires_grad_(False), config


def _states_in(content: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each backbone's weights under the backbone's own names, and where they were."""
    if not isinstance(content, Mapping):
        return
    names = [name for name in content if isinstance(name, str)]
    for mark in (name for name in names if name.endswith(_MARKS)):
        prefix = next(mark.removesuffix(end) for end in _MARKS if mark.endswith(end))
        if not prefix or prefix.endswith("."):
            inner = {n.removeprefix(prefix): content[n] for n in names if n.startswith(prefix)}
            yield f"{key}{prefix}", inner
    for name in names:
        yield from _states_in(content[name], f"{key}{name}.")


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many modules are numbered 0, 1, ... below `prefix`."""
    numbers = {k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)}
    return len(numbers)


def _iresnet_config(state: Mapping[str, Tensor]) -> BackboneConfig:
    channels = [state["conv1.weight"].shape[0]]
    channels += [state[f"layer{i}.0.conv1.weight"].shape[0] for i in range(1, 5)]
    embedding, inputs = state["fc.weight"].shape
    side = math.isqrt(inputs // channels[-1])
    size = int(state[SIZE_KEY]) if SIZE_KEY in state else side * 16
    if side < 1 or size % (8 * side) or side * side * channels[-1] != inputs:
        raise ValueError(f"fc.weight has {inputs} inputs, which fit no square images")
    return BackboneConfig(
        kind="iresnet",
        blocks=tuple(_count(state, f"layer{i}.") for i in range(1, 5)),
        channels=tuple(channels),
        in_channels=state["conv1.weight"].shape[1],
        embedding=embedding,
        size=size,
        first_stride=size // (8 * side),
    )


def _mobile_config(state: Mapping[str, Tensor]) -> BackboneConfig:
    stem = state["layers.0.layers.0.weight"]
    return BackboneConfig(
        kind="mobilefacenet",
        blocks=tuple(_count(state, f"layers.{i}.layers.") for i in (3, 5, 7)),
        channels=(stem.shape[0],),
        in_channels=stem.shape[1],
        embedding=state["features.layers.2.weight"].shape[0],
        size=state["features.layers.0.layers.0.weight"].shape[-1] * 16,
    )
