"""Draws images together with their feature maps, so that a sample depends on nothing beside it.

What is annotated, learnt from and labelled comes from here: constant noise, one truncation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.pixels import to_uint8
from interpreter.features import FeatureLayout, layout_of
from torch_utils.checkpoints import state_sha256
from torch_utils.seeding import generator_for

NOISE_MODE = "const"
_MAX_MICRO_BATCH = 16
_FULL_SIDE = 256


class _Sizes(Protocol):
    resolution: int
    z_dim: int
    c_dim: int
    w_dim: int


class _Synthesis(Protocol):
    def with_features(self, ws: Tensor, noise_mode: str) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return images and feature maps."""


class FeatureGenerator(Protocol):
    """What the interpreter needs of a generator: networks/generator.py has it.

    Attributes:
        config: resolution, z_dim, c_dim and w_dim.
        num_ws: w vectors a sample.
        synthesis: gives images and feature maps of ws.
    """

    config: _Sizes
    num_ws: int
    synthesis: _Synthesis

    def map(
        self, z: Tensor, c: Tensor | None, truncation_psi: float, truncation_cutoff: int | None
    ) -> Tensor:
        """Return ws [N, num_ws, w_dim] of latents and conditions."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return all weights and buffers by name."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How latents become ws.

    Attributes:
        truncation_psi: 1 leaves w as it is, 0 gives the mean image.
        truncation_cutoff: number of first layers to truncate; None is all.
    """

    truncation_psi: float = 0.5
    truncation_cutoff: int | None = 8


@dataclass(frozen=True)
class DrawnSample:
    """One sample.

    Attributes:
        images: [C, R, R] uint8 0..255 on the CPU, a modality.
        maps: [C, side, side] float32 feature maps, on the generator's device.
    """

    images: dict[str, np.ndarray]
    maps: list[Tensor]


def micro_batch(resolution: int) -> int:
    """Return how many samples are always computed together; a function of the size alone.

    >>> micro_batch(32), micro_batch(128), micro_batch(512)
    (16, 4, 1)
    """
    return max(1, min(_MAX_MICRO_BATCH, (_FULL_SIDE // resolution) ** 2))


def sample_latent(seed: int, index: int, z_dim: int, stream: str) -> Tensor:
    """Return latent `index` of a stream: [z_dim] float32, standard normal."""
    return torch.randn([z_dim], generator=generator_for(seed, stream, "latent", index))


def sample_label(seed: int, index: int, labels: int, stream: str) -> int:
    """Return which of some conditions sample `index` of a stream takes."""
    random = generator_for(seed, stream, "label", index)
    return int(torch.randint(labels, [], generator=random))


def map_latents(generator: FeatureGenerator, z: Tensor, c: Tensor | None, style: Style) -> Tensor:
    """Return ws of latents, each row computed in the same way whatever the others are.

    Args:
        generator: on any device.
        z: [N, z_dim] float32.
        c: [N, c_dim] float32; None for an unconditional network.
        style: truncation.
    Returns: [N, num_ws, w_dim] float32 on the CPU.
    """
    device = device_of(generator)
    parts = []
    with torch.inference_mode():
        for index in range(len(z)):
            row_c = None if c is None else c[index : index + 1].to(device)
            row = z[index : index + 1].to(device)
            ws = generator.map(row, row_c, style.truncation_psi, style.truncation_cutoff)
            parts.append(ws.cpu())
    return torch.cat(parts)


def draw_samples(generator: FeatureGenerator, ws: Tensor) -> Iterator[DrawnSample]:
    """Draw samples in micro-batches of a fixed size, the last one padded.

    Args:
        generator: on any device.
        ws: [N, num_ws, w_dim] float32.
    """
    size = micro_batch(generator.config.resolution)
    device = device_of(generator)
    for start in range(0, len(ws), size):
        part = ws[start : start + size]
        padding = part[-1:].expand(size - len(part), -1, -1)
        with torch.inference_mode():
            images, maps = generator.synthesis.with_features(
                torch.cat([part, padding]).to(device), NOISE_MODE
            )
            pixels = {name: to_uint8(image).cpu().numpy() for name, image in images.items()}
        for index in range(len(part)):
            yield DrawnSample(
                {name: image[index] for name, image in pixels.items()},
                [m[index].float() for m in maps],
            )


def feature_layout(generator: FeatureGenerator) -> FeatureLayout:
    """Return the layout of a generator's feature maps, found by drawing one sample."""
    ws = torch.zeros([1, generator.num_ws, generator.config.w_dim], device=device_of(generator))
    with torch.inference_mode():
        maps = generator.synthesis.with_features(ws, NOISE_MODE)[1]
    return layout_of(maps, generator.config.resolution)


def network_sha256(generator: FeatureGenerator) -> str:
    """Return the SHA-256 of all weights and buffers by name; not of the file they are in."""
    return state_sha256(generator.state_dict())


def device_of(generator: FeatureGenerator) -> torch.device:
    """Return the device of a generator's weights."""
    return next(iter(generator.state_dict().values())).device


def check_conditions(
    generator: FeatureGenerator, labels: np.ndarray | None, option: str = "--labels"
) -> None:
    """Check that conditions are given exactly where the network needs them, of its width.

    Args:
        generator: whose c_dim counts.
        labels: [n, c_dim] or None.
        option: named in messages.
    Raises: ValueError.
    """
    c_dim = generator.config.c_dim
    if c_dim == 0 and labels is not None:
        raise ValueError(f"{option}: the network is unconditional, it takes no labels")
    if c_dim > 0 and labels is None:
        raise ValueError(f"{option}: the network is conditional: give labels of {c_dim} numbers")
    if labels is not None and (labels.ndim != 2 or labels.shape[1] != c_dim or not len(labels)):
        raise ValueError(f"{option}: shape must be [N, {c_dim}], got {list(labels.shape)}")
