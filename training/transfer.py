"""Start a run from a snapshot: copy what fits, build the NIR branch where there is none."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from data.modalities import NIR, RGB
from training.architecture import DiscriminatorConfig, GeneratorConfig
from training.config import TrainingConfig
from training.network_state import NetworkState, expected_shapes
from training.snapshots import Snapshot
from training.state import snapshot_name

# Rec. 601 luma, as Pillow's conversion to grey uses it.
LUMA = (0.299, 0.587, 0.114)

# Network that stands in for one that a snapshot lacks.
_STAND_INS = {"G": "G_ema", "G_ema": "G", "D": "D", "D_NIR": "D"}

_log = logging.getLogger(__name__)


def transfer_states(
    config: TrainingConfig, snapshot: Snapshot, where: str
) -> dict[str, dict[str, Tensor]]:
    """Return what each network of a new run starts with: name -> tensors by name.

    A single-branch snapshot gets its second head as the luma of the first and its second
    discriminator from the first, whose input layer is summed over colours.

    Args:
        config: of the new run.
        snapshot: to start from.
        where: names the snapshot in messages.
    Raises: ValueError that names the network, what does not fit and the option to change.
    """
    configs = {"G": config.generator, "G_ema": config.generator}
    configs |= {snapshot_name(name): net for name, net in config.discriminators.items()}
    states = {}
    for name, network_config in configs.items():
        stand_in = _STAND_INS[name]
        source = snapshot.networks.get(name) or snapshot.networks.get(stand_in)
        if source is None:
            raise ValueError(f"--resume {where}: the snapshot has no network {name}")
        states[name] = _adapt(name, source, is_own=name in snapshot.networks)
        _check_fit(states[name], network_config, source, f"--resume {where}: {name}")
    return states


def _adapt(name: str, source: NetworkState, *, is_own: bool) -> dict[str, Tensor]:
    if isinstance(source.config, GeneratorConfig):
        if NIR.name in source.config.heads:
            return source.state
        _log.info("%s: copied; the NIR heads start as the luma of the RGB heads", name)
        return add_luma_head(source.state)
    if is_own:
        return source.state
    _log.info("%s: starts from D, its input layer summed over colours", name)
    return sum_over_colors(source.state)


def add_luma_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a single-branch generator's tensors with NIR heads that draw the RGB image's luma.

    Head weights are [3, I, 1, 1] and biases [3]; both are linear in the image, so the luma of the
    heads is a head that draws the luma.
    """
    extended = dict(state)
    for name, tensor in state.items():
        if f".heads.{RGB.name}." not in name:
            continue
        target = name.replace(f".heads.{RGB.name}.", f".heads.{NIR.name}.")
        is_shared = ".affine." in name
        extended[target] = tensor.clone() if is_shared else _luma(tensor)
    return extended


def sum_over_colors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a discriminator's tensors for grey images: what it answers to three equal channels.

    The runtime gain of the input layer is 1 / sqrt(channels), hence the root.
    """
    changed = dict(state)
    for name, tensor in state.items():
        if name.endswith("from_image.weight"):
            changed[name] = tensor.sum(dim=1, keepdim=True) / tensor.shape[1] ** 0.5
    return changed


def _luma(tensor: Tensor) -> Tensor:
    if tensor.shape[0] == 1:
        return tensor.clone()
    weights = torch.tensor(LUMA, dtype=tensor.dtype).reshape([-1] + [1] * (tensor.ndim - 1))
    return (tensor * weights).sum(dim=0, keepdim=True)


def _check_fit(
    tensors: Mapping[str, Tensor],
    config: GeneratorConfig | DiscriminatorConfig,
    source: NetworkState,
    where: str,
) -> None:
    drawn, wanted = source.config.resolution, expected_shapes(config)
    if drawn != config.resolution:
        raise ValueError(
            f"{where} is of {drawn} pixels, the data has {config.resolution}: choose another"
            f" snapshot or `prepare_dataset.py import --resolution {drawn}`"
        )
    for name, shape in wanted.items():
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != shape:
            found = "is absent" if got is None else f"has shape {list(got)}"
            raise ValueError(f"{where}: {name} {found}, needed is {list(shape)}; {_hint(name)}")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        raise ValueError(f"{where} has {extra[0]}, which this run lacks; {_hint(extra[0])}")


def _hint(name: str) -> str:
    if "embed" in name:
        return "the snapshot's condition differs: check --cond and the labels"
    if name.startswith("mapping."):
        return "check --map-depth, --z-dim, --w-dim and --cond"
    return "check --cfg, --cbase, --cmax and --w-dim"
