"""Snapshots in other forms: safetensors with JSON, there and back, and ONNX for other programs."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib import files
from dnnlib.extras import need
from dnnlib.options import Job, Progress
from networks.generator import Generator
from networks.options import GenerationOptions, NoiseMode
from networks.snapshot import (
    Snapshot,
    as_content,
    build_generator,
    load_snapshot,
    read_content,
    save_snapshot,
)
from torch_utils.checkpoints import read_safetensors
from torch_utils.ops import backends

ONNX_OPSET = 18


# Endings of the forms, and the optional packages that each needs.
_FORMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {".pkl": (), ".pt": (), ".safetensors": ("safetensors",), ".onnx": ("onnx", "onnxscript")}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConversionJob(Job):
    """A snapshot to be written in another form.

    Attributes:
        options: truncation, cutoff and noise mode become part of an exported generator.
        target: its ending decides the form.
        snapshot: as read.
        generator: that is exported to ONNX; None for the other forms.
    """

    options: GenerationOptions
    target: Path
    snapshot: Snapshot
    generator: Generator | None

    def describe(self) -> dict[str, Any]:
        """Return the file, and what the snapshot holds."""
        return {"convert_to": str(self.target), "networks": list(self.snapshot.networks)}

    def run(self, progress: Progress) -> str:
        """Write the file."""
        if self.generator is not None:
            save_onnx(self.target, self.generator, self.options)
        elif self.target.suffix == ".safetensors":
            save_safetensors(self.target, self.snapshot)
        else:
            save_snapshot(self.target, self.snapshot)
        names = ", ".join(self.snapshot.networks)
        origin = self.snapshot.origin
        return f"{self.options.network}: {names} in the {origin} form -> {self.target}"


def prepare_conversion(options: GenerationOptions, target: Path) -> ConversionJob:
    """Read the snapshot that is to be written to `target` of --convert-to.

    Raises: FileNotFoundError; ValueError naming file or option, rule and value.
    """
    if target.suffix not in _FORMS:
        known = ", ".join(_FORMS)
        raise ValueError(f"--convert-to {target}: the name must end in one of {known}")
    is_onnx = target.suffix == ".onnx"
    if is_onnx and options.noise_mode is NoiseMode.RANDOM:
        raise ValueError("--noise-mode=random cannot be exported: use const or none")
    need(f"{target}", *_FORMS[target.suffix])
    is_safe = options.network.suffix == ".safetensors"
    snapshot = load_safetensors(options.network) if is_safe else load_snapshot(options.network)
    name = "G" if options.use_raw_g else "G_ema"
    generator = build_generator(snapshot, name, fp32=True) if is_onnx else None
    return ConversionJob(options=options, target=target, snapshot=snapshot, generator=generator)


# Safetensors


def save_safetensors(path: Path, snapshot: Snapshot) -> None:
    """Write the tensors of a snapshot, and beside them, ending in .json, all the rest."""
    from safetensors.torch import save  # noqa: PLC0415  # optional

    content = as_content(snapshot)
    tensors = {
        f"{name}.{key}": tensor
        for name, network in content["networks"].items()
        for key, tensor in network.pop("state").items()
    }
    with files.atomic_write(path) as file:
        file.write(save(tensors))
    # Last, and with the sum of the other file: a pair that does not belong together is noticed.
    files.write_json(_json_of(path), {**content, "sha256": files.sha256_file(path)})


def load_safetensors(path: Path) -> Snapshot:
    """Read what `save_safetensors` wrote.

    Raises: FileNotFoundError; ValueError naming the file where the two are damaged or no pair.
    """
    need(f"{path}", "safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such snapshot")
    content = files.read_json(_json_of(path))
    networks = content.get("networks") if isinstance(content, dict) else None
    if not isinstance(networks, dict) or not all(isinstance(n, dict) for n in networks.values()):
        raise ValueError(f"{_json_of(path)}: not what was written beside safetensors")
    if content.pop("sha256", None) != files.sha256_file(path):
        raise ValueError(f"{path} and {_json_of(path).name} do not belong together")
    tensors = read_safetensors(path)
    for network in networks.values():
        network["state"] = {}
    for name, tensor in tensors.items():
        network, _, key = name.partition(".")
        if network not in networks:
            raise ValueError(f"{path}: {name[:80]} is of no network in {_json_of(path).name}")
        networks[network]["state"][key] = tensor
    return read_content(content, str(path))


def _json_of(path: Path) -> Path:
    return path.with_suffix(".json")


# ONNX


class _FixedGenerator(nn.Module):
    """A generator with its options fixed, whose images are a tuple."""

    def __init__(self, generator: Generator, options: GenerationOptions) -> None:
        super().__init__()
        self.generator, self.options = generator, options

    def forward(self, z: Tensor | None = None, c: Tensor | None = None) -> tuple[Tensor, ...]:
        options = self.options
        images = self.generator(
            z, c, options.truncation, options.truncation_cutoff, options.noise_mode
        )
        return tuple(images.values())


def save_onnx(path: Path, generator: Generator, options: GenerationOptions) -> None:
    """Write a generator as ONNX.

    Inputs: z [N, z_dim] float32 and, of a conditional one, c [N, c_dim] float32; any N.
    Outputs: rgb [N, 3, R, R] and nir [N, 1, R, R] float32, nominally -1..1, not clipped; a
    single-branch generator has no nir.

    Args:
        path: of the file.
        generator: on the CPU, without 16-bit blocks.
        options: truncation and noise become part of the graph.
    """
    config = generator.config
    widths = {"z": config.z_dim, "c": config.c_dim}
    inputs = {name: torch.zeros([2, width]) for name, width in widths.items() if width > 0}
    samples = torch.export.Dim("N")
    settings: dict[str, Any] = {
        "dynamo": True,
        "opset_version": ONNX_OPSET,
        "input_names": list(inputs),
        "output_names": list(config.heads),
        "dynamic_shapes": {name: {0: samples} for name in inputs},
        "verbose": False,
    }
    fixed = _FixedGenerator(generator, options).eval()
    # Kernels of ours are no operators of ONNX; the exporter's warnings are about itself.
    with backends.using(backends.OpBackend.PLAIN), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(fixed, kwargs=inputs, **settings)
    with files.atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())
