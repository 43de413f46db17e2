"""Start a run from a snapshot: copy what fits, build the NIR branch where there is none."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data.modalities import NIR, RGB
from training.network_state import NetworkState
from training.snapshots import Snapshot
from training.state import TrainingState

# Rec. 601 luma, as Pillow's conversion to grey uses it.
LUMA = (0.299, 0.587, 0.114)

_log = logging.getLogger(__name__)


def start_from(state: TrainingState, snapshot: Snapshot, where: str) -> None:
    """Copy a snapshot's networks into a fresh state; counters stay at zero.

    A single-branch snapshot gets its second head as the luma of the first and its second
    discriminator from the first, whose input layer is summed over colours.

    Args:
        state: freshly built.
        snapshot: to start from.
        where: names the snapshot in messages.
    Raises: ValueError that names the network, what does not fit and the option to change.
    """
    names = _NETWORK_NAMES
    sources = {name: snapshot.networks.get(name) for name in names}
    is_single = all(
        source is None or NIR.name not in getattr(source.config, "heads", {})
        for source in (sources["G"], sources["G_ema"])
    )
    for name, network in state.networks().items():
        source = sources[name] or sources[_STAND_INS[name]]
        if source is None:
            raise ValueError(f"--resume {where}: the snapshot has no network {name}")
        tensors: Mapping[str, Tensor] = source.state
        if is_single and name in ("G", "G_ema"):
            tensors = add_luma_head(tensors)
            _log.info("%s: NIR heads start as the luma of the RGB heads", name)
        if name == "D_NIR" and sources["D_NIR"] is None:
            tensors = sum_over_colors(tensors)
            _log.info("D_NIR: starts from D, its input layer summed over colours")
        _copy(network, tensors, source, f"--resume {where}: {name}")
        _log.info("%s: %d tensors copied", name, len(tensors))


_NETWORK_NAMES = ("G", "G_ema", "D", "D_NIR")
_STAND_INS = {"G": "G_ema", "G_ema": "G", "D": "D", "D_NIR": "D"}


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


def _copy(
    network: nn.Module, tensors: Mapping[str, Tensor], source: NetworkState, where: str
) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    resolution = network.config.resolution
    if source.config.resolution != resolution:
        raise ValueError(
            f"{where} draws {source.config.resolution} pixels, the data has {resolution}: choose"
            f" another snapshot or `prepare_dataset.py import --resolution"
            f" {source.config.resolution}`"
        )
    for name, shape in wanted.items():
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != shape:
            raise ValueError(
                f"{where}: {name} is {'absent' if got is None else list(got)}, this run needs"
                f" {list(shape)}; {_hint(name)}"
            )
    extra = [name for name in tensors if name not in wanted]
    if extra:
        raise ValueError(f"{where} has {extra[0]}, which this run lacks; {_hint(extra[0])}")
    network.load_state_dict(dict(tensors))


def _hint(name: str) -> str:
    if "embed" in name:
        return "the snapshot's condition differs: check --cond and the labels"
    if name.startswith("mapping."):
        return "check --map-depth, --z-dim, --w-dim and --cond"
    return "check --cfg, --cbase, --cmax and --w-dim"
