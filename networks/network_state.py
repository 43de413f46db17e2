"""What one network is on disk: its kind, its configuration and its tensors, checked together."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from reprlib import repr as shorten
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib import config as configs
from networks.config import DiscriminatorConfig, GeneratorConfig
from networks.discriminator import Discriminator
from networks.generator import Generator

_MAX_HEADS = 16
_MAX_NAME = 40


class NetworkKind(StrEnum):
    """What a network does."""

    GENERATOR = "generator"
    DISCRIMINATOR = "discriminator"


@dataclass(frozen=True, eq=False)
class NetworkState:
    """A network without its code.

    Attributes:
        kind: generator or discriminator.
        config: of that kind.
        state: entries of the state dict, float32 on the CPU.
    """

    kind: NetworkKind
    config: GeneratorConfig | DiscriminatorConfig
    state: dict[str, Tensor]


def make_network_state(
    config: GeneratorConfig | DiscriminatorConfig, state: Mapping[str, Tensor], where: str
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
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise ValueError(f"{where} {noun} tensors: {shown}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{where}: {name} must have shape {list(shape)} by the network's configuration,"
                f" got {list(state[name].shape)}"
            )
    _check_memory(state, where)
    tensors = {name: state[name].detach().to("cpu", torch.float32) for name in expected}
    is_generator = isinstance(config, GeneratorConfig)
    kind = NetworkKind.GENERATOR if is_generator else NetworkKind.DISCRIMINATOR
    return NetworkState(kind, config, tensors)


def _check_memory(state: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors that are the same numbers again and again: the network would not be small."""
    storages = [tensor.untyped_storage() for tensor in state.values()]
    stored = {storage.data_ptr(): storage.nbytes() for storage in storages}
    if sum(t.numel() * t.element_size() for t in state.values()) > sum(stored.values()):
        raise ValueError(f"{where}: tensors share their numbers, which those of networks never do")


def parse_config(
    kind: NetworkKind, content: Any, where: str
) -> GeneratorConfig | DiscriminatorConfig:
    """Return a configuration from plain containers. Raises: ValueError naming key and rule."""
    if kind is NetworkKind.GENERATOR and isinstance(content, Mapping):
        _check_heads(content.get("heads", {}), where)
    try:
        if kind is NetworkKind.GENERATOR:
            return configs.from_dict(GeneratorConfig, content, where)
        return configs.from_dict(DiscriminatorConfig, content, where)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if where in message else f"{where}: {message}") from error


def _check_heads(heads: Any, where: str) -> None:
    if not isinstance(heads, Mapping) or len(heads) > _MAX_HEADS:
        raise ValueError(f"{where}: heads must be an object of at most {_MAX_HEADS} channel counts")
    for name, channels in heads.items():
        # A module may not be called like an attribute of the table of modules.
        is_name = str(name).isidentifier() and not hasattr(nn.ModuleDict(), name)
        if not is_name or len(name) > _MAX_NAME or type(channels) is not int:
            raise ValueError(
                f"{where}: heads must give numbers of channels by names,"
                f" got {shorten(name)}: {shorten(channels)}"
            )


def expected_shapes(config: GeneratorConfig | DiscriminatorConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a network's tensors without making any of them."""
    with torch.device("meta"):
        network = _network(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def capture(network: Generator | Discriminator) -> NetworkState:
    """Return the present state of a network, as copies on the CPU."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return make_network_state(network.config, state, type(network).__name__)


def restore(network: NetworkState) -> Generator | Discriminator:
    """Return the network on the CPU, in evaluation mode and without gradients."""
    # The first weights are drawn and then replaced; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        module = _network(network.config)
    module.load_state_dict(network.state)
    return module.eval().requires_grad_(False)


def _network(config: GeneratorConfig | DiscriminatorConfig) -> Generator | Discriminator:
    return Generator(config) if isinstance(config, GeneratorConfig) else Discriminator(config)
