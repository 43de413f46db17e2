"""Networks of published PyTorch snapshots under our configurations and names.

Read are StyleGAN2-ADA, StyleGAN3's StyleGAN2, and the dual-branch family (BiFaceGAN, ArcBiFaceGAN).
A published module tree describes itself: options are taken from the attributes that its modules
were built with rather than from defaults, which differ between these systems.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from reprlib import repr as shorten
from typing import Any

from torch import Tensor

from data.modalities import NIR, RGB
from networks.config import MAX_RESOLUTION, block_resolutions
from torch_utils.safe_pickle import PersistentObject

NETWORK_NAMES = ("G", "D", "D_NIR", "G_ema")
# More than any network has: what a file can make us do stays small.
_MAX_TENSORS = 10_000
_MAX_PREFIX = 200
_CLASSES = {
    "Generator",
    "MappingNetwork",
    "SynthesisNetwork",
    "SynthesisBlock",
    "SynthesisLayer",
    "ToRGBLayer",
    "ToSEGLayer",
    "Discriminator",
    "DiscriminatorBlock",
    "DiscriminatorEpilogue",
    "MinibatchStdLayer",
    "FullyConnectedLayer",
    "Conv2dLayer",
}
_HEADS = {"torgb": RGB.name, "toseg": NIR.name}


def convert_networks(content: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Return the networks of a published snapshot in the plain form of our own, not yet checked.

    Args:
        content: what the pickle holds: "G", "D", "G_ema" and for the dual-branch family "D_NIR".
        where: the file, for messages.
    Raises: ValueError for a network of another kind or one that is not whole.
    """
    networks = {}
    for name in NETWORK_NAMES:
        record = content.get(name)
        if record is None:
            continue
        label = f"{where}: {name}"
        if not isinstance(record, PersistentObject):
            raise ValueError(f"{label} is a {type(record).__name__}, not a network")
        networks[name] = _convert_network(Module(record, label), label)
    return networks


def convert_augment(content: Mapping[str, Any]) -> dict[str, float]:
    """Return the strength of augmentation, which published systems share among modalities."""
    record = content.get("augment_pipe")
    if not isinstance(record, PersistentObject):
        return {}
    buffers = record.state.get("_buffers")
    strength = buffers.get("p") if isinstance(buffers, dict) else None
    if not isinstance(strength, Tensor) or strength.numel() != 1 or not strength.isfinite():
        return {}
    names = [RGB.name, NIR.name] if content.get("D_NIR") is not None else [RGB.name]
    return {name: min(max(float(strength), 0.0), 1.0) for name in names}


class Module:
    """Reads one module of a published tree, with errors that name the place."""

    def __init__(self, record: PersistentObject, where: str) -> None:
        if record.class_name not in _CLASSES:
            known = "StyleGAN2's Generator and Discriminator are read"
            raise ValueError(f"{where} is of the unknown class {record.class_name[:80]!r}; {known}")
        self._state = record.state
        self.class_name = record.class_name
        self.where = where

    @property
    def children(self) -> dict[str, Any]:
        """Modules inside this one, by name."""
        return self._table("_modules")

    def child(self, name: str) -> "Module":
        """Return a module inside this one. Raises: ValueError where there is none."""
        record = self.children.get(name)
        if not isinstance(record, PersistentObject):
            raise ValueError(f"{self.where} has no module {name[:80]!r}")
        return Module(record, f"{self.where}.{name}")

    def attribute(self, name: str, kind: Any) -> Any:
        """Return an attribute. Raises: ValueError where it is missing or not of the `kind`."""
        value = self._state.get(name)
        if name not in self._state or not isinstance(value, kind):
            wanted = getattr(kind, "__name__", kind)
            raise ValueError(f"{self.where}.{name} must be {wanted}, got {shorten(value)}")
        return value

    def is_half(self) -> bool:
        """Tell whether the module computes in float16 on CUDA."""
        return self._state.get("use_fp16") is True

    def channels(self) -> int:
        """Return the number of output channels."""
        weight = self._table("_parameters").get("weight")
        if not isinstance(weight, Tensor) or weight.ndim == 0:
            raise ValueError(f"{self.where} has no weight")
        return weight.shape[0]

    def option(self, name: str, default: Any) -> Any:
        """Return an argument that the module was built with."""
        return self._table("_init_kwargs").get(name, default)

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Yield all tensors of the tree with their dotted published names."""
        if len(prefix) > _MAX_PREFIX:
            raise ValueError(f"{self.where[:200]} ... is nested deeper than networks are")
        for table in ("_parameters", "_buffers"):
            for name, tensor in self._table(table).items():
                if isinstance(tensor, Tensor):
                    yield f"{prefix}{name}", tensor
        for name in self.children:
            yield from self.child(name).tensors(f"{prefix}{name}.")

    def _table(self, name: str) -> dict[str, Any]:
        table = self._state.get(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{self.where}.{name} must be a dict, got {type(table).__name__}")
        return table


def _convert_network(module: Module, where: str) -> dict[str, Any]:
    if module.class_name == "Generator":
        options, rename = _generator_options(module), _generator_name
    elif module.class_name == "Discriminator":
        options, rename = _discriminator_options(module), _discriminator_name
    else:
        raise ValueError(f"{where} is a {module.class_name}, not a generator or a discriminator")
    tensors = {
        rename(name): tensor
        for name, tensor in islice(module.tensors(), _MAX_TENSORS)
        if not name.endswith("resample_filter")  # built from the configuration
    }
    return {"kind": module.class_name.lower(), "config": options, "state": tensors}


def _generator_options(module: Module) -> dict[str, Any]:
    synthesis = module.child("synthesis")
    if "input" in synthesis.children:
        raise ValueError(
            f"{module.where} is an alias-free StyleGAN3 generator; StyleGAN2's are read"
        )
    blocks = _blocks(synthesis, module.attribute("img_resolution", int))
    layer, last = blocks[0].child("conv1"), blocks[-1]
    return {
        "heads": {
            head: last.child(name).channels()
            for name, head in _HEADS.items()
            if name in last.children
        },
        "z_dim": module.attribute("z_dim", int),
        "w_dim": module.attribute("w_dim", int),
        "mapping": _mapping_options(module.child("mapping")),
        "use_noise": layer.attribute("use_noise", bool),
        **_common_options(module, blocks, synthesis, layer),
    }


def _discriminator_options(module: Module) -> dict[str, Any]:
    blocks = _blocks(module, module.attribute("img_resolution", int))
    epilogue = blocks[0]
    mbstd = epilogue.child("mbstd") if epilogue.children.get("mbstd") else None
    return {
        "channels": module.attribute("img_channels", int),
        "cmap_dim": module.option("cmap_dim", None),
        "mapping": _mapping_options(module.child("mapping"))
        if "mapping" in module.children
        else {},
        "mbstd_group_size": mbstd.attribute("group_size", int | None) if mbstd else None,
        "mbstd_num_channels": mbstd.attribute("num_channels", int) if mbstd else 0,
        **_common_options(module, blocks, module, epilogue.child("conv")),
    }


def _common_options(
    module: Module, blocks: list[Module], owner: Module, layer: Module
) -> dict[str, Any]:
    """Return what generator and discriminator have alike; `layer` is any convolution."""
    last = blocks[-1]
    return {
        "resolution": module.attribute("img_resolution", int),
        "c_dim": module.attribute("c_dim", int),
        "channel_base": owner.option("channel_base", 32768),
        "channel_max": owner.option("channel_max", 512),
        "architecture": last.attribute("architecture", str),
        "num_fp16_res": sum(block.is_half() for block in blocks),
        "conv_clamp": layer.attribute("conv_clamp", int | float | None),
        "activation": layer.attribute("activation", str),
        "resample_filter": last.option("resample_filter", [1, 3, 3, 1]),
    }


def _mapping_options(module: Module) -> dict[str, Any]:
    layers = module.attribute("num_layers", int)
    beta = module.attribute("w_avg_beta", float | None)
    return {
        "layers": layers,
        "embed_features": module.option("embed_features", None),
        "layer_features": module.option("layer_features", None),
        "lr_multiplier": module.option("lr_multiplier", 0.01),
        **({"activation": module.child("fc0").attribute("activation", str)} if layers else {}),
        **({} if beta is None else {"w_avg_beta": beta}),
    }


def _blocks(module: Module, resolution: int) -> list[Module]:
    """Return the blocks, from 4x4 upwards."""
    if resolution > MAX_RESOLUTION:
        raise ValueError(f"{module.where}: images of {resolution} pixels are over {MAX_RESOLUTION}")
    return [module.child(f"b{side}") for side in block_resolutions(resolution)]


def _generator_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "synthesis":
        parts.insert(1, "blocks")
        if len(parts) > 3 and parts[3] in _HEADS:
            parts[3:4] = ["heads", _HEADS[parts[3]]]
    return ".".join(parts)


def _discriminator_name(name: str) -> str:
    parts = ["from_image" if part == "fromrgb" else part for part in name.split(".")]
    if parts[0] == "b4":
        parts[0] = "epilogue"
    elif parts[0] != "mapping":
        parts.insert(0, "blocks")
    return ".".join(parts)
