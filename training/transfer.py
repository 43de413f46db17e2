"""Start a run from a snapshot: find it, copy what fits, build a NIR branch where there is none."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from data.modalities import JOINT, MODALITIES, NIR, RGB
from data.pixels import LUMA
from dnnlib import downloads
from networks.config import DiscriminatorConfig, GeneratorConfig, NetworkConfig
from networks.snapshot import NetworkState, Snapshot, expected_shapes
from torch_utils.checkpoints import load_checkpoint
from torch_utils.trainer import CHECKPOINT_FILE, CHECKPOINT_FORMAT, CHECKPOINT_VERSION
from training.config import TrainingConfig
from training.options import AdaMode
from training.state import TrainingState, snapshot_name

BASE_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets"
PUBLISHED_SNAPSHOTS: Mapping[str, str] = MappingProxyType(
    {
        "ffhq256": "ffhq-res256-mirror-paper256-noaug.pkl",
        "ffhq512": "ffhq-res512-mirror-stylegan2-noaug.pkl",
        "ffhq1024": "ffhq-res1024-mirror-stylegan2-noaug.pkl",
        "celebahq256": "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        "lsundog256": "lsundog-res256-paper256-kimg100000-noaug.pkl",
    }
)

# Network that stands in for one that a snapshot lacks.
_STAND_INS = {"G": "G_ema", "G_ema": "G", "D": "D", "D_NIR": "D"}
_NIR_HEADS = f".heads.{NIR.name}."
_FIRST_MAPPING = "mapping.fc0.weight"
_LAST = "epilogue.out."

_log = logging.getLogger(__name__)


def find_snapshot(
    resume: str, *, may_fetch: bool = True, progress: downloads.Progress | None = None
) -> Path | None:
    """Return the file that --resume means: a path, a published name or an address.

    Args:
        resume: as the user gave it.
        may_fetch: fetch what is not on disk; `progress` shows what has come.
    Returns: the file; None for one that would have to be fetched.
    Raises: FileNotFoundError; ValueError naming address and place where fetching fails.
    """
    name = PUBLISHED_SNAPSHOTS.get(resume)
    if name is None and not downloads.is_url(resume):
        path = Path(resume)
        if not path.is_file():
            names = ", ".join(PUBLISHED_SNAPSHOTS)
            raise FileNotFoundError(f"--resume: {path} is not a file, an address or one of {names}")
        return path
    url = resume if name is None else f"{BASE_URL}/{name}"
    try:
        if may_fetch:
            return downloads.fetch(url, name, progress)
        return downloads.find_cached(url, name)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"--resume={resume}: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """What a run from a snapshot begins with; whatever is absent begins as it does from scratch.

    Attributes:
        networks: tensors by network; those of a random NIR branch are left out.
        checkpoint: "optimizers", "ada" and "pl_mean" of the run that wrote the snapshot, at the
            same image; None where there is none.
    """

    networks: Mapping[str, Mapping[str, Tensor]]
    checkpoint: Mapping[str, Any] | None = None


def plan_start(config: TrainingConfig, snapshot: Snapshot, path: Path) -> Start:
    """Return what a new run takes from a snapshot; logs one line a network.

    A dual snapshot is restored whole; the published code left its D_NIR random. A single-branch
    one gets a NIR branch as `config.nir_init` says. Counters always begin at 0.

    Args:
        config: of the new run.
        snapshot: to start from.
        path: its file, beside which the run's checkpoint may lie.
    Raises: ValueError that names the network, what does not fit and the option to change.
    """
    configs: dict[str, NetworkConfig] = {"G": config.generator, "G_ema": config.generator}
    configs |= {snapshot_name(name): net for name, net in config.discriminators.items()}
    is_luma = config.nir_init != "random"
    states = {}
    for name, network_config in configs.items():
        if name == snapshot_name(JOINT) and name not in snapshot.networks:
            states[name] = join_first_layers(snapshot.networks, expected_shapes(network_config))
            count = f"{len(states[name])} of {len(expected_shapes(network_config))} tensors"
            _log.info("%s: %s from D and D_NIR, the rest starts random", name, count)
            continue
        stand_in = name if name in snapshot.networks else _STAND_INS[name]
        source = snapshot.networks.get(stand_in)
        if source is None:
            raise ValueError(f"--resume {path}: the snapshot has no network {name}")
        state, comment = _adapt(name, stand_in, source, is_luma=is_luma)
        if state:
            has_nir = is_luma or any(_NIR_HEADS in key for key in state)
            left_out = () if has_nir else (_NIR_HEADS,)
            if network_config.c_dim > 0 and source.config.c_dim == 0:
                state, new = add_condition(state, network_config)
                left_out += new
                comment += "; the condition starts random"
            where = f"--resume {path}: {name}"
            _check_fit(state, network_config, source.config, where, left_out)
        states[name] = state
        _log.info("%s: %s", name, comment)
    return Start(networks=states, checkpoint=find_checkpoint(snapshot, path))


def _adapt(
    name: str, stand_in: str, source: NetworkState, *, is_luma: bool
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors to start with and a line that says what they are."""
    count = len(source.state)
    if isinstance(source.config, GeneratorConfig):
        copied = f"{count} tensors copied" + (f" from {stand_in}" if stand_in != name else "")
        if NIR.name in source.config.heads:
            return source.state, copied
        if not is_luma:
            return source.state, f"{copied}; the NIR heads start random"
        extended = add_luma_head(source.state)
        made = len(extended) - count
        return extended, f"{copied}; {made} of the NIR heads start as the luma of the RGB heads"
    if stand_in == name:
        return source.state, f"{count} tensors copied"
    if not is_luma:
        return {}, "starts random, the snapshot has none"
    return sum_over_colors(source.state), f"{count} tensors from D, the input summed over colours"


def _check_fit(
    tensors: Mapping[str, Tensor],
    config: NetworkConfig,
    source: NetworkConfig,
    where: str,
    left_out: Sequence[str],
) -> None:
    """Check that a network of a run can start with tensors made from a snapshot's of `source`.

    Those whose names have a part in `left_out` may be absent.
    """
    if source.resolution != config.resolution:
        raise ValueError(
            f"{where} is of {source.resolution} pixels, the data has {config.resolution}: choose"
            f" another snapshot or `prepare_dataset.py import --resolution {source.resolution}`"
        )
    _check_condition(config.c_dim, source.c_dim, where)
    _check_kind(config, source, where)
    wanted = {
        name: shape
        for name, shape in expected_shapes(config).items()
        if not any(part in name for part in left_out)
    }
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in {**wanted, **given}:
        if name not in wanted:
            raise ValueError(f"{where} has {name}, which this run lacks; {_hint(name)}")
        if given.get(name) != wanted[name]:
            found = f"has shape {list(given[name])}" if name in given else "is absent"
            needed = f"needed is {list(wanted[name])}"
            raise ValueError(f"{where}: {name} {found}, {needed}; {_hint(name)}")


def _check_condition(here: int, there: int, where: str) -> None:
    if there in (0, here):  # an unconditional network learns to see conditions
        return
    is_nir = where.endswith("D_NIR")
    if here == 0:
        change = "--nir-cond=1 or --nir-init=random" if is_nir else "--cond=1 with labelled data"
        raise ValueError(f"{where} is conditional on {there} labels: use {change}")
    raise ValueError(f"{where} is conditional on {there} labels, the data has {here}: check --cond")


def _check_kind(config: NetworkConfig, source: NetworkConfig, where: str) -> None:
    """Refuse what no tensor's shape tells: other functions of the same weights."""
    if isinstance(source, GeneratorConfig):
        channels = source.heads.get(RGB.name)
        if channels != RGB.channels:
            raise ValueError(f"{where} draws {channels} channels, RGB has {RGB.channels}")
    names = ["architecture", "activation", "resample_filter"]
    pairs = [(name, getattr(source, name), getattr(config, name)) for name in names]
    if isinstance(source, GeneratorConfig) or source.c_dim > 0:
        pairs += [
            (f"mapping {name}", getattr(source.mapping, name), getattr(config.mapping, name))
            for name in ("activation", "lr_multiplier")
        ]
    for name, there, here in pairs:
        if there != here:
            raise ValueError(
                f"{where} has {name} {there}, this run {here}; {_hint(name)}, or choose another"
                " snapshot"
            )


def _hint(name: str) -> str:
    if name.startswith("mapping"):
        return "check --map-depth, --z-dim, --w-dim and --cond"
    if ".noise_" in name:
        return "check --noise"
    return "check --cfg, --cbase, --cmax and --w-dim"


def add_luma_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a single-branch generator's tensors with NIR heads that draw the RGB image's luma.

    Head weights are [3, I, 1, 1] and biases [3]; both are linear in the image, so the luma of the
    heads is a head that draws the luma.
    """
    extended = dict(state)
    for name, tensor in state.items():
        if f".heads.{RGB.name}." not in name:
            continue
        target = name.replace(f".heads.{RGB.name}.", _NIR_HEADS)
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


def join_first_layers(
    networks: Mapping[str, NetworkState], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return tensors of a joint discriminator, as far as those of other ones give any.

    It answers to the mean of what the first layers of all modalities give as D does. The runtime
    gain of a first layer is 1 / sqrt(channels), hence the roots.

    Args:
        networks: of a snapshot; for a modality that has none, D serves, summed over colours.
        shapes: of the joint discriminator's tensors by name; others are left out.
    """
    if "D" not in networks:
        return {}
    grey = sum_over_colors(networks["D"].state)
    names = [snapshot_name(modality.name) for modality in MODALITIES]
    states = [networks[name].state if name in networks else grey for name in names]
    joined = dict(states[0])
    for key in joined:
        if key.endswith("from_image.weight"):
            weights = [state[key] / state[key].shape[1] ** 0.5 for state in states]
            total = torch.cat(weights, dim=1)
            joined[key] = total * (total.shape[1] ** 0.5 / len(states))
        elif key.endswith("from_image.bias"):
            joined[key] = torch.stack([state[key] for state in states]).mean(dim=0)
    return {key: joined[key] for key, shape in shapes.items() if _has_shape(joined.get(key), shape)}


def _has_shape(tensor: Tensor | None, shape: tuple[int, ...]) -> bool:
    return tensor is not None and tuple(tensor.shape) == shape


def add_condition(
    state: Mapping[str, Tensor], config: NetworkConfig
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return an unconditional network's tensors for one that learns to see a condition.

    In a generator the embedded condition enters the first mapping layer beside z, with copies of
    z's weights: both have mean square 1 and runtime gains are 1 / sqrt(inputs), so the condition
    takes the part of half a latent, and samples look at the start as before but depend on it.
    (Weights of zero would hardly move: the mapping learns a hundred times slower than the rest.)
    A discriminator's last layer gives a vector instead of one number, which is projected on the
    condition.

    Returns: the tensors, and parts of the names of those that start random.
    """
    if isinstance(config, DiscriminatorConfig):
        kept = {name: tensor for name, tensor in state.items() if _LAST not in name}
        return kept, ("mapping.", _LAST)
    weight = state[_FIRST_MAPPING]
    width = config.mapping.embed_features or config.w_dim
    columns = torch.arange(width, device=weight.device) % weight.shape[1]
    widened = torch.cat([weight, weight[:, columns]], dim=1)
    return {**state, _FIRST_MAPPING: widened}, ("mapping.embed.",)


def find_checkpoint(snapshot: Snapshot, path: Path) -> dict[str, Any] | None:
    """Return the checkpoint beside a snapshot of ours if it is of the same run and image.

    That it is of the same image shows in the counter, that it is of the same run in equal weights.

    Raises: ValueError where there is one that cannot be read.
    """
    place = path.parent / CHECKPOINT_FILE
    if snapshot.origin != "biface" or not place.is_file():
        return None
    content = load_checkpoint(place)
    kind = content.get("format"), content.get("version")
    if kind == (CHECKPOINT_FORMAT, CHECKPOINT_VERSION) and isinstance(content.get("task"), dict):
        state = content["task"]
    elif kind == ("biface-checkpoint", 1):  # written before the common trainer
        state = content
    else:
        raise ValueError(f"{place}: not a {CHECKPOINT_FORMAT}")
    ours = snapshot.networks["G"].state if "G" in snapshot.networks else {}
    theirs = state["networks"]["G"]
    is_same = state["counters"]["nimg"] == snapshot.nimg and ours.keys() == theirs.keys()
    if not (is_same and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())):
        _log.info("%s: of another moment than %s, not used", place, path.name)
        return None
    return {name: state[name] for name in ("optimizers", "ada", "pl_mean")}


def begin(state: TrainingState, start: Start) -> None:
    """Put what a run starts with into a state that is as it is from scratch.

    From a checkpoint come optimisers, the strength of ADA and the mean of path lengths; learning
    rates, a fixed strength and all counters stay those of the new run.
    """
    for name, network in state.networks().items():
        network.load_state_dict({**network.state_dict(), **start.networks[name]})
    if start.checkpoint is None:
        return
    trained = {"G": state.generator, **state.discriminators}
    for name, optimizer in state.optimizers.items():
        if name not in start.checkpoint["optimizers"]:  # a joint discriminator that is new
            continue
        kept = start.checkpoint["optimizers"][name]["state"]
        is_taken = _take_moments(optimizer, list(trained[name].parameters()), kept)
        _log.info("Adam of %s: %s", name, "taken over" if is_taken else "starts anew")
    for name, controller in state.ada.items():
        if controller.config.mode is AdaMode.ADAPTIVE and name in start.checkpoint["ada"]:
            controller.p = min(max(float(start.checkpoint["ada"][name]["p"]), 0.0), 1.0)
            _log.info("augmentation of %s: starts at %.3f", name, controller.p)
    state.pl_mean.copy_(start.checkpoint["pl_mean"])
    _log.info("path lengths: the mean starts at %.3g", float(state.pl_mean))


def _take_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    kept: Mapping[int, Mapping[str, Tensor]],
) -> bool:
    """Load Adam's moments but neither rates nor decays; False where some parameters lack them.

    Args:
        optimizer: of those parameters of a network that train.
        parameters: all of the network, in order; frozen ones need no moments.
        kept: moments by number among the parameters that trained before.
    """
    numbers = [number for number, p in enumerate(parameters) if p.requires_grad]
    if len(kept) == len(numbers):  # as many were frozen before
        numbers = list(range(len(kept)))
    elif len(kept) != len(parameters):
        return False
    own = [p for group in optimizer.param_groups for p in group["params"]]
    pairs = [(p, kept[number]) for p, number in zip(own, numbers, strict=True)]
    if any(p.shape != moments["exp_avg"].shape for p, moments in pairs):
        return False
    state = {
        # In the layout of the parameter, which fused steps take for granted.
        place: {
            name: torch.empty_like(p).copy_(value) if value.shape == p.shape else value
            for name, value in moments.items()
        }
        for place, (p, moments) in enumerate(pairs)
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return True


def _luma(tensor: Tensor) -> Tensor:
    if tensor.shape[0] == 1:
        return tensor.clone()
    weights = torch.tensor(LUMA, dtype=tensor.dtype).reshape([-1] + [1] * (tensor.ndim - 1))
    return (tensor * weights).sum(dim=0, keepdim=True)
