"""Networks of TensorFlow StyleGAN2 and StyleGAN2-ADA pickles under our configurations and names.

Their weights are stored as HWIO and dense ones as [in, out]; here OIHW and [out, in].
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from reprlib import repr as shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.modalities import RGB
from dnnlib.config import suggest
from torch_utils.safe_pickle import TensorflowNetwork

NETWORK_NAMES = ("G", "D", "G_ema")  # the order in the tuple, where the last is called Gs
_OLDEST_VERSION = 4
_LARGEST_NUMBER = 1e38  # of float32

Array = np.ndarray[Any, Any]
Entry = tuple[str, Array]

_OPTIONS = {
    "resolution": "resolution",
    "label_size": "c_dim",
    "fmap_base": "channel_base",
    "fmap_max": "channel_max",
    "num_fp16_res": "num_fp16_res",
    "conv_clamp": "conv_clamp",
    "architecture": "architecture",
    "nonlinearity": "activation",
    "resample_kernel": "resample_filter",
    "mapping_layers": "mapping.layers",
    "mapping_fmaps": "mapping.layer_features",
    "mapping_nonlinearity": "mapping.activation",
    "mapping_lrmul": "mapping.lr_multiplier",
    "label_fmaps": "mapping.embed_features",
}
_GENERATOR_OPTIONS = {
    **_OPTIONS,
    "num_channels": f"heads.{RGB.name}",
    "latent_size": "z_dim",
    "dlatent_size": "w_dim",
    "w_avg_beta": "mapping.w_avg_beta",
    "use_noise": "use_noise",
}
_DISCRIMINATOR_OPTIONS = {
    **_OPTIONS,
    "num_channels": "channels",
    "mbstd_group_size": "mbstd_group_size",
    "mbstd_num_features": "mbstd_num_channels",
}
# What an absent option means there, where our default is another one.
_GENERATOR_DEFAULTS = {"resolution": 1024, "num_channels": 3}
_DISCRIMINATOR_DEFAULTS = {"resolution": 1024, "mapping_layers": 0, "mapping_lrmul": 0.1}
# Options of generation or of training, which do not change what the network is.
_IGNORED = {
    "truncation_psi",
    "truncation_cutoff",
    "style_mixing_prob",
    "structure",
    "conditioning",
    "fused_modconv",
}
_GENERATOR_LAYERS = {
    "Conv": "conv1",
    "Conv0_up": "conv0",
    "Conv1": "conv1",
    "Skip": "skip",
    "ToRGB": f"heads.{RGB.name}",
}
_FLIPPED_LAYERS = {"Conv0_up", "Skip"}
_BLOCK_LAYERS = {"FromRGB": "from_image", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}
_EPILOGUE_LAYERS = {"FromRGB": "from_image", "Conv": "conv", "Dense0": "fc"}
# Styles are stored as what is added to 1.
_SHIFTED = ".affine.bias"
_PARTS = {"mod_weight": "affine.weight", "mod_bias": "affine.bias"}


def convert_networks(content: Sequence[Any], where: str) -> dict[str, dict[str, Any]]:
    """Return the networks of a TensorFlow snapshot in the plain form of our own, not yet checked.

    Args:
        content: (G, D, Gs), as TensorflowNetwork records.
        where: the file, for messages.
    Raises: ValueError for StyleGAN1, an unknown option or variable.
    """
    if len(content) != len(NETWORK_NAMES):
        raise ValueError(f"{where} holds {len(content)} values, a TensorFlow snapshot (G, D, Gs)")
    return {
        name: _convert_network(network, f"{where}: {name}", is_generator=name != "D")
        for name, network in zip(NETWORK_NAMES, content, strict=True)
    }


def _convert_network(network: Any, where: str, *, is_generator: bool) -> dict[str, Any]:
    convert = _generator_entry if is_generator else _discriminator_entry
    variables = dict(_variables(network, where))
    options = _options(network, where, is_generator=is_generator)
    entries = list(_convert_entries(variables, options, convert, where))
    kind = "generator" if is_generator else "discriminator"
    return {"kind": kind, "config": options, "state": _copies(entries, where)}


def _variables(network: Any, where: str, prefix: str = "") -> Iterator[Entry]:
    """Yield the variables of a network and of its components, as "component/name"."""
    if not isinstance(network, TensorflowNetwork):
        raise ValueError(f"{where} is a {type(network).__name__}, not a TensorFlow network")
    version, variables = network.state.get("version"), network.state.get("variables")
    components = network.state.get("components")
    if not isinstance(version, int) or version < _OLDEST_VERSION:
        raise ValueError(
            f"{where} is a TensorFlow network of version {shorten(version)}, as StyleGAN1 has;"
            f" StyleGAN2's are {_OLDEST_VERSION} and above"
        )
    if not isinstance(variables, list) or not isinstance(components, dict):
        raise ValueError(f"{where} has no variables or components")
    for entry in variables:
        match entry:
            case (str(name), np.ndarray() as value):
                yield prefix + name, value
            case (str(name), float() | int() as number) if abs(number) < _LARGEST_NUMBER:
                yield prefix + name, np.asarray(number, dtype=np.float32)
            case _:
                raise ValueError(f"{where} has a variable that is not a name with numbers")
    for name, component in components.items():
        yield from _variables(component, where, f"{prefix}{name}/")


def _options(network: TensorflowNetwork, where: str, *, is_generator: bool) -> dict[str, Any]:
    """Return the content of our configuration. Raises: ValueError for an unknown option."""
    names = _GENERATOR_OPTIONS if is_generator else _DISCRIMINATOR_OPTIONS
    given = network.state.get("static_kwargs")
    if not isinstance(given, dict):
        raise ValueError(f"{where} has no static_kwargs")
    options: dict[str, Any] = {"mapping": {}}
    defaults = _GENERATOR_DEFAULTS if is_generator else _DISCRIMINATOR_DEFAULTS
    for key, value in {**defaults, **given}.items():
        if key in _IGNORED:
            continue
        if key not in names:
            raise ValueError(
                f"{where} has the option {key[:80]!r}, which the StyleGAN2 networks that are read"
                f" do not have{suggest(key, names)}"
            )
        section, _, name = names[key].rpartition(".")
        # Their feature maps are counted one resolution further down than ours.
        is_doubled = key == "fmap_base" and isinstance(value, int)
        target = options.setdefault(section, {}) if section else options
        target[name] = 2 * value if is_doubled else value
    return options


def _convert_entries(
    variables: Mapping[str, Array],
    options: dict[str, Any],
    convert: Callable[[str, Array], Entry | None],
    where: str,
) -> Iterator[Entry]:
    """Yield our names and views; layers named by level of detail mean `orig` in `options`."""
    for theirs, value in variables.items():
        if theirs == "lod":
            continue
        name = theirs
        match = re.fullmatch(r"(synthesis/)?(ToRGB|FromRGB)_lod(\d)/(.*)", name)
        if match and isinstance(options["resolution"], int):
            side = options["resolution"] >> int(match[3])
            options["architecture"] = "orig"
            name = f"{match[1] or ''}{side}x{side}/{match[2]}/{match[4]}"
        entry = convert(name, value)
        if entry is None:
            raise ValueError(f"{where} has the unknown variable {theirs[:80]!r}")
        yield entry


def _copies(entries: Sequence[Entry], where: str) -> dict[str, Tensor]:
    """Return float32 copies of arrays, once it is known that they are no more than the file's."""
    stored = {id(_owner(value)): value.nbytes for _, value in entries}
    if sum(value.nbytes for _, value in entries) > sum(stored.values()):
        raise ValueError(f"{where}: variables share their numbers, which those of networks do not")
    tensors = {}
    for name, value in entries:
        with np.errstate(over="ignore"):
            array = np.array(value, dtype=np.float32, order="C")
        tensors[name] = torch.from_numpy(array + 1 if name.endswith(_SHIFTED) else array)
    return tensors


def _owner(value: Array) -> Array:
    """Return the array whose numbers a view shows."""
    while isinstance(value.base, np.ndarray):
        value = value.base
    return value


def _generator_entry(name: str, value: Array) -> Entry | None:
    if name == "dlatent_avg":
        return "mapping.w_avg", value
    if name == "synthesis/4x4/Const/const":
        return "synthesis.blocks.b4.const", _first(value)
    if match := re.fullmatch(r"synthesis/noise(\d\d?)", name):
        side, layer = 2 ** ((int(match[1]) + 5) // 2), (int(match[1]) + 1) % 2
        return f"synthesis.blocks.b{side}.conv{layer}.noise_const", _first(_first(value))
    if match := re.fullmatch(r"mapping/(LabelEmbed|Dense\d\d?)/(weight|bias)", name):
        layer_name = match[1].replace("LabelEmbed", "embed").replace("Dense", "fc")
        return f"mapping.{layer_name}.{match[2]}", _reordered(value)
    match = re.fullmatch(r"synthesis/(\d+)x\1/(\w+)/(\w+)", name)
    if not match or match[2] not in _GENERATOR_LAYERS:
        return None
    value = _reordered(value)
    if match[2] in _FLIPPED_LAYERS and match[3] == "weight":
        value = value[..., ::-1, ::-1] if value.ndim == 4 else value
    layer_name, part = _GENERATOR_LAYERS[match[2]], _PARTS.get(match[3], match[3])
    return f"synthesis.blocks.b{match[1]}.{layer_name}.{part}", value


def _discriminator_entry(name: str, value: Array) -> Entry | None:
    value = _reordered(value)
    if match := re.fullmatch(r"(LabelEmbed|Mapping\d\d?)/(weight|bias)", name):
        layer = match[1].replace("LabelEmbed", "embed").replace("Mapping", "fc")
        return f"mapping.{layer}.{match[2]}", value
    if match := re.fullmatch(r"Output/(weight|bias)", name):
        return f"epilogue.out.{match[1]}", value
    match = re.fullmatch(r"(\d+)x\1/(\w+)/(weight|bias)", name)
    if not match:
        return None
    is_last = match[1] == "4"
    layers = _EPILOGUE_LAYERS if is_last else _BLOCK_LAYERS
    if match[2] not in layers:
        return None
    block = "epilogue" if is_last else f"blocks.b{match[1]}"
    return f"{block}.{layers[match[2]]}.{match[3]}", value


def _reordered(value: Array) -> Array:
    """Return a weight as OIHW or [out, in]; other arrays as they are."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value


def _first(value: Array) -> Array:
    return value[0] if value.ndim > 0 and len(value) > 0 else value
