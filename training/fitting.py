"""Whether the networks of a snapshot fit those of a run, and which option to change if not."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from data.modalities import RGB
from networks.config import DiscriminatorConfig, GeneratorConfig
from networks.snapshot import NetworkState, expected_shapes

Config = GeneratorConfig | DiscriminatorConfig


def check_fit(
    tensors: Mapping[str, Tensor],
    config: Config,
    source: NetworkState,
    where: str,
    left_out: Sequence[str] = (),
) -> None:
    """Check that a network of a run can start with some tensors.

    Args:
        tensors: to start with.
        config: of the run's network.
        source: of the snapshot, from which the tensors were made.
        where: option, file and network, for messages.
        left_out: parts of the names of tensors that may be absent.
    Raises: ValueError that names what does not fit and the option to change.
    """
    drawn = source.config.resolution
    if drawn != config.resolution:
        raise ValueError(
            f"{where} is of {drawn} pixels, the data has {config.resolution}: choose another"
            f" snapshot or `prepare_dataset.py import --resolution {drawn}`"
        )
    _check_condition(config, source, where)
    _check_kind(config, source.config, where)
    wanted = {
        name: shape
        for name, shape in expected_shapes(config).items()
        if not any(part in name for part in left_out)
    }
    for name, shape in wanted.items():
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != shape:
            found = "is absent" if got is None else f"has shape {list(got)}"
            raise ValueError(f"{where}: {name} {found}, needed is {list(shape)}; {_hint(name)}")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        raise ValueError(f"{where} has {extra[0]}, which this run lacks; {_hint(extra[0])}")


def _check_condition(config: Config, source: NetworkState, where: str) -> None:
    here, there = config.c_dim, source.config.c_dim
    if there in (0, here):  # an unconditional network learns to see conditions
        return
    is_nir = where.endswith("D_NIR")
    if here == 0:
        change = "--nir-cond=1 or --nir-init=random" if is_nir else "--cond=1 with labelled data"
        raise ValueError(f"{where} is conditional on {there} labels: use {change}")
    raise ValueError(f"{where} is conditional on {there} labels, the data has {here}: check --cond")


def _check_kind(config: Config, source: Config, where: str) -> None:
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
