"""Snapshots: networks on disk, ours as plain containers, and published ones read without running.

Ours is a `torch.save` archive of plain containers that `torch.load(weights_only=True)` reads:
{"format", "version", "options", "progress": {"nimg"}, "augment": {modality: p},
"networks": {name: {"kind", "config", "state"}}}.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import torch
from torch import Tensor

from dnnlib import config as configs
from networks import import_published as published
from networks import import_tensorflow as published_tensorflow
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.network_state import (
    NetworkKind,
    NetworkState,
    capture,
    make_network_state,
    parse_config,
    restore,
)
from torch_utils import safe_pickle
from torch_utils.checkpoints import save_checkpoint

__all__ = [
    "NetworkKind",
    "NetworkState",
    "Snapshot",
    "build_discriminator",
    "build_generator",
    "capture",
    "load_snapshot",
    "save_snapshot",
]

FORMAT = "biface-snapshot"
VERSION = 1
_MAX_NETWORKS = 16
_KEYS = {"format", "version", "options", "progress", "augment", "networks"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Everything that is needed to draw from a run, or to start another one from it.

    Attributes:
        networks: by the published names G, D, D_NIR, G_ema, as far as they are there.
        augment: strength p of the augmentation of each modality, 0..1.
        options: what the run was started with, as plain JSON values.
        nimg: images that training had seen; 0 where the file does not say.
        origin: "biface", "pytorch" or "tensorflow": who wrote the file.
    """

    networks: Mapping[str, NetworkState]
    augment: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    nimg: int = 0
    origin: str = "biface"

    @property
    def feature_scale(self) -> float | None:
        """Length of identity features as conditions; None: as in their file, or not recorded."""
        data = self.options.get("data")
        scale = data.get("feature_scale") if isinstance(data, Mapping) else None
        return float(scale) if isinstance(scale, int | float) else None


def save_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot in our form, atomically.

    Equal snapshots give equal bytes, whatever the file is called.
    """
    save_checkpoint(path, as_content(snapshot))


def as_content(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as the plain containers and tensors of our form."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "options": snapshot.options,
        "progress": {"nimg": snapshot.nimg},
        "augment": snapshot.augment,
        "networks": {
            name: {
                "kind": network.kind.value,
                "config": configs.to_dict(network.config),
                "state": {key: _contiguous(tensor) for key, tensor in network.state.items()},
            }
            for name, network in snapshot.networks.items()
        },
    }


def load_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read a snapshot of ours or a published pickle; its content tells which, not its name.

    Raises: FileNotFoundError; ValueError, naming the file, where it is empty, cut short, hostile,
        of an unknown form, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such snapshot")
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return read_content(safe_pickle.load_archive(path), str(path))
    if start[:1] == b"\x80":
        return _read_published(safe_pickle.load_pickle(path), str(path))
    found = f"starts with {start!r}" if start else "is empty"
    raise ValueError(f"{path}: a snapshot is an archive of ours or a pickle, but this file {found}")


def build_generator(snapshot: Snapshot, name: str = "G_ema", *, fp32: bool = False) -> Generator:
    """Return a generator on the CPU, in evaluation mode and without gradients.

    Args:
        snapshot: where it is kept.
        name: "G_ema", the average, or "G".
        fp32: compute in 32 bits on CUDA too.
    Raises: ValueError where the snapshot has no generator of that name.
    """
    network = _find(snapshot, name, NetworkKind.GENERATOR)
    if fp32:
        network = replace(network, config=replace(network.config, num_fp16_res=0))
    generator = restore(network)
    assert isinstance(generator, Generator), "a generator's state restores a generator"
    return generator


def build_discriminator(snapshot: Snapshot, name: str = "D") -> Discriminator:
    """Return a discriminator on the CPU, in evaluation mode and without gradients.

    Raises: ValueError where the snapshot has no discriminator of that name.
    """
    discriminator = restore(_find(snapshot, name, NetworkKind.DISCRIMINATOR))
    assert isinstance(discriminator, Discriminator), "a discriminator's state restores one"
    return discriminator


def _find(snapshot: Snapshot, name: str, kind: NetworkKind) -> NetworkState:
    network = snapshot.networks.get(name)
    if network is None or network.kind is not kind:
        names = [name for name, other in snapshot.networks.items() if other.kind is kind]
        raise ValueError(
            f"the snapshot has no {kind.value} {name!r}; it has {', '.join(names) or 'none'}"
        )
    return network


def read_content(content: Any, where: str) -> Snapshot:
    """Return the snapshot that `as_content` describes. Raises: ValueError naming `where`."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{where}: not a snapshot: its format is not {FORMAT!r}")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"{where}: snapshot version {shorten(version)} is not known, only {VERSION}"
        )
    if content.keys() != _KEYS:
        raise ValueError(f"{where}: a snapshot has the keys {', '.join(sorted(_KEYS))}")
    networks = _dict(content["networks"], f"{where}: networks")
    if len(networks) > _MAX_NETWORKS:
        raise ValueError(f"{where}: at most {_MAX_NETWORKS} networks are read, got {len(networks)}")
    return Snapshot(
        networks={
            name: _read_network(network, f"{where}: {name[:80]}")
            for name, network in networks.items()
        },
        augment=_strengths(content["augment"], f"{where}: augment"),
        options=_dict(content["options"], f"{where}: options"),
        nimg=_count(_dict(content["progress"], f"{where}: progress").get("nimg"), where),
    )


def _read_network(content: Any, where: str) -> NetworkState:
    match content:
        case {"kind": str(kind), "config": config, "state": dict(state)} if len(content) == 3:
            pass
        case _:
            raise ValueError(f"{where}: a network has kind, config and state")
    if kind not in [known.value for known in NetworkKind]:
        raise ValueError(f"{where}: kind must be generator or discriminator, got {kind[:80]!r}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{where}: {name[:80]} must be a tensor, got {type(tensor).__name__}")
    return make_network_state(parse_config(NetworkKind(kind), config, where), state, where)


def _read_published(content: Any, where: str) -> Snapshot:
    if isinstance(content, tuple):
        networks = published_tensorflow.convert_networks(content, where)
        return Snapshot(networks=networks, origin="tensorflow")
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{where}: a pickle of a {kind}, not a snapshot of networks")
    networks = published.convert_networks(content, where)
    if not networks:
        raise ValueError(f"{where}: a pickle without {', '.join(published.NETWORK_NAMES)}")
    augment = published.convert_augment(content.get("augment_pipe"), networks)
    return Snapshot(networks=networks, augment=augment, origin="pytorch")


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {type(value).__name__}")
    return value


def _strengths(value: Any, where: str) -> dict[str, float]:
    strengths = _dict(value, where)
    for name, strength in strengths.items():
        if not isinstance(strength, float) or not 0 <= strength <= 1:
            raise ValueError(f"{where}: {name[:80]} must be from 0 to 1, got {shorten(strength)}")
    return strengths


def _count(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{where}: nimg must be a count of images, got {shorten(value)}")
    return value


def _contiguous(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU whose bytes do not depend on the layout it was trained in."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
