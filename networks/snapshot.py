"""Snapshots: networks on disk, ours as plain containers, and published ones read without running.

Ours is a `torch.save` archive of plain containers that `torch.load(weights_only=True)` reads:
{"format", "version", "options", "progress": {"nimg"}, "augment": {modality: p},
"networks": {name: {"kind", "config", "state"}}}. Published networks are brought to the same form.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.numbers import DEFAULT_FEATURE_SCALE
from dnnlib import config as configs
from networks import import_published, import_tensorflow
from networks.config import DiscriminatorConfig, GeneratorConfig, NetworkConfig
from networks.discriminator import Discriminator
from networks.generator import Generator
from torch_utils import safe_pickle
from torch_utils.checkpoints import save_checkpoint

FORMAT = "biface-snapshot"
VERSION = 1
_MAX_NETWORKS = 16
_CONFIGS = {"generator": GeneratorConfig, "discriminator": DiscriminatorConfig}
_KEYS = {"format", "version", "options", "progress", "augment", "networks"}


@dataclass(frozen=True, eq=False)
class NetworkState:
    """A network without its code.

    Attributes:
        kind: "generator" or "discriminator".
        config: of that kind.
        state: entries of the state dict, float32 on the CPU.
    """

    kind: str
    config: NetworkConfig
    state: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Everything that is needed to generate images, or to start another run.

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
        """Length of identity features as conditions; None leaves each at its own length.

        Our training records it. A snapshot that does not say is a published one: 4 then, which the
        published generation of recognition data multiplies unit vectors with whatever the network
        was trained on. One network is thus shown one length, whichever script asks.
        """
        data = self.options.get("data")
        if not isinstance(data, Mapping) or "feature_scale" not in data:
            return DEFAULT_FEATURE_SCALE
        scale = data["feature_scale"]
        return float(scale) if isinstance(scale, int | float) and scale > 0 else None

    def new_feature_scale(self, features: np.ndarray | None) -> float:
        """Return the length of new identity features, which have none of their own.

        Args:
            features: [N, E], known ones, whose mean length counts where the network was trained on
                features at their own lengths.
        Raises: ValueError where that is so and there are none.
        """
        if self.feature_scale is not None:
            return self.feature_scale
        if features is None:
            raise ValueError(
                "the network was trained with features of their own lengths: give --feature-scale"
            )
        return round(float(np.linalg.norm(features, axis=1).mean()), 6)

    def describe_origin(self, path: Path) -> dict[str, Any]:
        """Return, for the card of a data set, what its file says of where its networks come from.

        Args:
            path: of the snapshot, of which the name is told.
        """
        data, start = self.options.get("data"), self.options.get("resume")
        if self.origin != "biface":
            weights = "published, under the licence that they came with"
        elif start:
            weights = f"trained from those of the snapshot {start}, whose licence holds as well"
        else:
            weights = "trained from scratch"
        return {
            "snapshot": path.name,
            "training_set": data.get("name") if isinstance(data, Mapping) else None,
            "images_shown_in_training": self.nimg or None,
            "weights": weights,
        }


# Files


def save_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot in our form, atomically.

    Equal snapshots give equal bytes, whatever the file is called.
    """
    save_checkpoint(path, as_content(snapshot))


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


def load_generator(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    use_raw_g: bool = False,
    fp32: bool = False,
) -> tuple[Generator, Snapshot]:
    """Read a generator, in evaluation mode and without gradients, and the snapshot it is from.

    Args:
        path: of the snapshot, ours or published.
        use_raw_g: take G instead of its average G_ema.
        fp32: compute in 32 bits on CUDA too.
    Raises: as `load_snapshot`; ValueError where the file has no such generator.
    """
    snapshot = load_snapshot(path)
    try:
        generator = build_generator(snapshot, "G" if use_raw_g else "G_ema", fp32=fp32)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return generator.to(device), snapshot


# Networks


def capture(network: Generator | Discriminator) -> NetworkState:
    """Return the present state of a network, as copies on the CPU."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return make_network_state(network.config, state, type(network).__name__)


def build_generator(snapshot: Snapshot, name: str = "G_ema", *, fp32: bool = False) -> Generator:
    """Return a generator on the CPU; see `load_generator`.

    Raises: ValueError where the snapshot has no generator of that name.
    """
    generators = {n: net for n, net in snapshot.networks.items() if net.kind == "generator"}
    if name not in generators:
        names = ", ".join(generators) or "none"
        raise ValueError(f"the snapshot has no generator {name!r}; it has {names}")
    network = generators[name]
    if fp32:
        network = replace(network, config=replace(network.config, num_fp16_res=0))
    return restore(network)


def restore(network: NetworkState) -> Any:
    """Return the network on the CPU, in evaluation mode and without gradients."""
    # The first weights are random and then replaced; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        module = _build(network.config)
    module.load_state_dict(network.state)
    return module.eval().requires_grad_(False)


def _build(config: NetworkConfig) -> Generator | Discriminator:
    return Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)


def expected_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a network's tensors without making any of them."""
    with torch.device("meta"):
        network = _build(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


# Plain containers, there and back; what is read may be damaged or hostile


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
                "kind": network.kind,
                "config": configs.to_dict(network.config),
                # Copies whose bytes do not depend on the layout that they were trained in.
                "state": {
                    key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                    for key, tensor in network.state.items()
                },
            }
            for name, network in snapshot.networks.items()
        },
    }


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
    options, progress, augment, networks = (
        _dict(content[key], f"{where}: {key}")
        for key in ("options", "progress", "augment", "networks")
    )
    nimg = progress.get("nimg")
    if type(nimg) is not int or nimg < 0:
        raise ValueError(f"{where}: nimg must be a count of images, got {shorten(nimg)}")
    for name, strength in augment.items():
        if not isinstance(strength, float) or not 0 <= strength <= 1:
            got = shorten(strength)
            raise ValueError(f"{where}: augment: {name[:80]} must be from 0 to 1, got {got}")
    return Snapshot(
        networks=_read_networks(networks, where), augment=augment, options=options, nimg=nimg
    )


def _read_published(content: Any, where: str) -> Snapshot:
    if isinstance(content, tuple):
        networks = _read_networks(import_tensorflow.convert_networks(content, where), where)
        return Snapshot(networks=networks, origin="tensorflow")
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{where}: a pickle of a {kind}, not a snapshot of networks")
    networks = _read_networks(import_published.convert_networks(content, where), where)
    if not networks:
        raise ValueError(f"{where}: a pickle without {', '.join(import_published.NETWORK_NAMES)}")
    augment = import_published.convert_augment(content)
    return Snapshot(networks=networks, augment=augment, origin="pytorch")


def _read_networks(networks: Mapping[str, Any], where: str) -> dict[str, NetworkState]:
    if len(networks) > _MAX_NETWORKS:
        raise ValueError(f"{where}: at most {_MAX_NETWORKS} networks are read, got {len(networks)}")
    return {name: _read_network(entry, f"{where}: {name[:80]}") for name, entry in networks.items()}


def _read_network(content: Any, where: str) -> NetworkState:
    match content:
        case {"kind": str(kind), "config": config, "state": dict(state)} if len(content) == 3:
            pass
        case _:
            raise ValueError(f"{where}: a network has kind, config and state")
    if kind not in _CONFIGS:
        raise ValueError(f"{where}: kind must be {' or '.join(_CONFIGS)}, got {kind[:80]!r}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{where}: {name[:80]} must be a tensor, got {type(tensor).__name__}")
    try:
        config = configs.from_dict(_CONFIGS[kind], config, where)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if where in message else f"{where}: {message}") from error
    return make_network_state(config, state, where)


def make_network_state(
    config: NetworkConfig, state: Mapping[str, Tensor], where: str
) -> NetworkState:
    """Return configuration and tensors as one, once they have been found to belong together.

    Args:
        config: of a generator or a discriminator.
        state: tensors by our names; any dtype and device, any memory layout.
        where: named in messages, such as "file.pkl: G_ema".
    Raises: ValueError that names the tensors that are missing, unknown or of another shape.
    """
    expected = expected_shapes(config)
    for noun, names in (
        ("lacks", expected.keys() - state.keys()),
        ("has unknown", state.keys() - expected.keys()),
    ):
        if names:
            shown = ", ".join(name[:80] for name in sorted(names)[:3])
            raise ValueError(f"{where} {noun} tensors: {shown}{', ...' if len(names) > 3 else ''}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{where}: {name} must have shape {list(shape)}, got {list(state[name].shape)}"
            )
    # Tensors that are the same numbers again and again: the network would not be small.
    storages = [tensor.untyped_storage() for tensor in state.values()]
    stored = {storage.data_ptr(): storage.nbytes() for storage in storages}
    if sum(t.numel() * t.element_size() for t in state.values()) > sum(stored.values()):
        raise ValueError(f"{where}: tensors share their numbers, which those of networks never do")
    tensors = {name: state[name].detach().to("cpu", torch.float32) for name in expected}
    kind = "generator" if isinstance(config, GeneratorConfig) else "discriminator"
    return NetworkState(kind, config, tensors)


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {type(value).__name__}")
    return value
