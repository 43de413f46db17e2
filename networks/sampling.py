"""Samples of a generator: latents, ws, images and feature maps, in micro-batches of one size.

Convolutions round differently at other batch sizes. Whoever needs images therefore gets them from
here, in micro-batches whose size follows from resolution and device, the last one padded. Sample i
of a data set is then a function of network, options and i: how many samples are asked for at
once, by how many processes, and after how many restarts changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.labels import load_labels
from data.numbers import load_archived_rows, load_rows, rows_of
from data.pairs import open_pairs
from data.pixels import to_uint8
from dnnlib import files
from networks.generator import Generator
from networks.options import NoiseMode, Truncation
from networks.snapshot import load_generator
from torch_utils.seeding import derive_seed, generator_for

_CUDA_AT_512_PX = 8
_CUDA_AT_MOST = 64
_CPU = 4


def micro_batch_size(resolution: int, device_type: str) -> int:
    """Return how many samples a device computes together; part of the identity of data sets.

    >>> [micro_batch_size(side, "cuda") for side in (32, 256, 512)], micro_batch_size(512, "cpu")
    ([64, 32, 8], 4)
    """
    if device_type != "cuda":
        return _CPU
    return max(1, min(_CUDA_AT_MOST, int(_CUDA_AT_512_PX * (512 / resolution) ** 2)))


def latents_of_seeds(seeds: Sequence[int], z_dim: int) -> Tensor:
    """Return the latents that the published tools draw for seeds: [N, z_dim] float32."""
    rows = [np.random.RandomState(seed).standard_normal((1, z_dim)) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).float()


def load_ws(path: Path, option: str, generator: Generator) -> Tensor:
    """Read projected ws, [N, L, w_dim] float32, from the array w of a .npz file.

    Raises: FileNotFoundError; ValueError naming option and file where they do not fit the network.
    """
    rows = load_archived_rows(path, "w", option)
    shape = (generator.num_ws, generator.config.w_dim)
    if rows.shape[1:] != shape:
        wanted = f"[N, {shape[0]}, {shape[1]}]"
        raise ValueError(f"{option} {path}: w must be {wanted} here, got {list(rows.shape)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        ws = rows.astype(np.float32)
    if not np.isfinite(ws).all():
        raise ValueError(f"{option} {path}: w must be finite in float32")
    return torch.from_numpy(ws)


def replace_layers(ws: Tensor, others: Tensor, layers: Sequence[int]) -> Tensor:
    """Return ws with some layers taken from others.

    Args:
        ws, others: [N, L, w_dim] float32.
        layers: which layers come from `others`.
    Raises: ValueError for a layer that the network does not have.
    Source: style mixing, Karras et al. 2019 (arXiv:1812.04948), section 3.1.
    """
    check_layers(layers, ws.shape[1])
    mixed = ws.clone()
    mixed[:, list(layers)] = others[:, list(layers)]
    return mixed


def check_layers(layers: Sequence[int], num_ws: int) -> None:
    """Raise ValueError for a layer that a network of `num_ws` layers does not have."""
    if layers and max(layers) >= num_ws:
        raise ValueError(f"--mix-layers must be from 0 to {num_ws - 1} here, got {max(layers)}")


@dataclass(frozen=True)
class FeatureSample:
    """One sample with its feature maps.

    Attributes:
        images: [C, R, R] uint8 0..255 by modality.
        maps: [C, side, side] float32 feature maps, on the generator's device.
    """

    images: dict[str, np.ndarray]
    maps: list[Tensor]


class Sampler:
    """A generator with everything that decides its images besides latents and conditions.

    Args:
        generator: in evaluation mode, on its device.
        truncation: of w.
        noise_mode: with RANDOM, the noise of a sample follows from `seed` and its key alone.
        seed: of random noise.
        micro_batch: samples computed together, which decides the last bits; None is
            `micro_batch_size`.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        truncation: Truncation | None = None,
        noise_mode: NoiseMode = NoiseMode.CONST,
        seed: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        self.generator, self.truncation = generator, truncation or Truncation()
        self.noise_mode, self.seed = noise_mode, seed
        config = generator.config
        self.device = generator.mapping.w_avg.device
        self.micro_batch = micro_batch or micro_batch_size(config.resolution, self.device.type)
        self.z_dim, self.c_dim, self.resolution = config.z_dim, config.c_dim, config.resolution
        self.modalities = tuple(config.heads)

    @torch.inference_mode()
    def map(self, z: Tensor, c: Tensor | None) -> Tensor:
        """Return ws [N, L, w_dim] float32 on the CPU.

        Args:
            z: [N, z_dim] float32.
            c: [N, c_dim] float32; None for an unconditional network.
        """
        parts = []
        for index, count in self._micro_batches(len(z)):
            part_c = None if c is None else c[index].to(self.device)
            psi, cutoff = self.truncation.psi, self.truncation.cutoff
            parts.append(self.generator.map(z[index].to(self.device), part_c, psi, cutoff)[:count])
        return torch.cat(parts).cpu()

    def batches(
        self, ws: Tensor, keys: Sequence[int | str] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the images of one micro-batch after the other, without its padding.

        Args:
            ws: [N, L, w_dim] float32.
            keys: N, of the samples' random noise; not needed without it.
        Yields: [n, C, R, R] float32 by modality, on the device, nominally -1..1, not clipped.
        """
        for index, count in self._micro_batches(len(ws)):
            noise = None
            if self.noise_mode is NoiseMode.RANDOM:
                assert keys is not None, "random noise needs keys"
                noise = [
                    generator_for(self.seed, "noise", keys[i], device=self.device)
                    for i in index.tolist()
                ]
            with torch.inference_mode():
                images = self.generator.synthesis(ws[index].to(self.device), self.noise_mode, noise)
            yield {name: image[:count] for name, image in images.items()}

    def images(
        self, ws: Tensor, keys: Sequence[int | str] | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Yield one sample after the other, [C, R, R] float32 on the CPU; see `batches`."""
        for batch in self.batches(ws, keys):
            on_cpu = {name: images.cpu() for name, images in batch.items()}
            for row in range(len(on_cpu[self.modalities[0]])):
                yield {name: images[row] for name, images in on_cpu.items()}

    def pixels(self, ws: Tensor, keys: Sequence[int | str] | None = None) -> dict[str, Tensor]:
        """Return [N, C, R, R] uint8 0..255 on the CPU, by modality; see `batches`."""
        parts = [
            {name: to_uint8(images) for name, images in batch.items()}
            for batch in self.batches(ws, keys)
        ]
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in self.modalities}

    def features(self, ws: Tensor) -> Iterator[FeatureSample]:
        """Yield one sample after the other, with its feature maps, of ws [N, L, w_dim] float32."""
        for index, count in self._micro_batches(len(ws)):
            with torch.inference_mode():
                images, maps = self.generator.synthesis.with_features(
                    ws[index].to(self.device), self.noise_mode
                )
                pixels = {name: to_uint8(image).cpu().numpy() for name, image in images.items()}
            for row in range(count):
                yield FeatureSample(
                    {name: image[row] for name, image in pixels.items()},
                    [m[row].float() for m in maps],
                )

    def _micro_batches(self, total: int) -> Iterator[tuple[Tensor, int]]:
        """Yield [M] indices, the last sample repeated as padding, and how many of them count."""
        size = self.micro_batch
        for start in range(0, total, size):
            yield torch.arange(start, start + size).clamp(max=total - 1), min(size, total - start)


class IndexedSampler(Sampler):
    """A generator whose samples have numbers: latent, condition and noise follow from i.

    Args:
        generator: in evaluation mode, on its device.
        conditions: [n, c_dim] float32 of which each sample takes one; None, or c_dim 0, for an
            unconditional network.
        name: of the snapshot, or the option of the conditions, for messages.
        stream: keeps the samples of different purposes apart.
        truncation, noise_mode: as in Sampler.
        seed: of latents, conditions and noise.
    Raises: ValueError for conditions that the network does not take.
    """

    def __init__(
        self,
        generator: Generator,
        conditions: Tensor | None = None,
        *,
        name: str,
        stream: str = "sample",
        truncation: Truncation | None = None,
        noise_mode: NoiseMode = NoiseMode.CONST,
        seed: int = 0,
    ) -> None:
        super().__init__(generator, truncation=truncation, noise_mode=noise_mode, seed=seed)
        check_conditions(self.c_dim, conditions, name)
        self.labels = conditions if self.c_dim else None
        self.name, self._stream = name, stream

    def latents(self, indices: Sequence[int]) -> Tensor:
        """Return z of some samples: [N, z_dim] float32, standard normal."""
        streams = [generator_for(self.seed, self._stream, "latent", i) for i in indices]
        return torch.stack([torch.randn([self.z_dim], generator=stream) for stream in streams])

    def label(self, index: int) -> int | None:
        """Return which of the conditions a sample takes; None for an unconditional network."""
        if self.labels is None:
            return None
        random = generator_for(self.seed, self._stream, "label", index)
        return int(torch.randint(len(self.labels), [], generator=random))

    def conditions(self, indices: Sequence[int]) -> Tensor | None:
        """Return the conditions of some samples: [N, c_dim] float32."""
        if self.labels is None:
            return None
        return self.labels[[self.label(index) for index in indices]]

    def ws(self, indices: Sequence[int]) -> Tensor:
        """Return the ws of some samples: [N, L, w_dim] float32."""
        return self.map(self.latents(indices), self.conditions(indices))

    def sample(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return some samples: [N, C, R, R] uint8 0..255 on the CPU, by modality."""
        return self.pixels(self.ws(indices), indices)

    def synthesize(self, ws: Tensor, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return float32 [N, C, R, R] a modality, on the device; equal indices are equal noise.

        All layers compute in float32, as in the published path length: 16 bits do not resolve the
        difference that a step along a path makes.
        """
        parts = list(self._precise.batches(ws, indices))
        return {name: torch.cat([part[name] for part in parts]) for name in self.modalities}

    @cached_property
    def _precise(self) -> Sampler:
        """The sampler without 16-bit layers."""
        generator = self.generator
        if generator.config.num_fp16_res:
            generator = Generator(replace(generator.config, num_fp16_res=0))
            generator.load_state_dict(self.generator.state_dict())
            generator.eval().requires_grad_(False).to(self.device)
        return Sampler(generator, noise_mode=self.noise_mode, seed=self.seed)


def check_conditions(c_dim: int, conditions: Tensor | None, where: str) -> None:
    """Raise ValueError unless a conditional network, and only it, gets conditions of its width."""
    shape = (0,) if conditions is None else tuple(conditions.shape)
    if c_dim == 0 and shape[-1] != 0:
        raise ValueError(f"{where}: the network is unconditional, it takes no conditions")
    if c_dim and (len(shape) != 2 or shape[0] == 0 or shape[1] != c_dim):
        found = "none" if conditions is None else str(list(shape))
        raise ValueError(f"{where}: the network needs conditions [N, {c_dim}], got {found}")


def load_conditions(path: Path | None, option: str, scale: float | None) -> Tensor | None:
    """Read conditions from a .npy file, or from identity features by sorted file names.

    Args:
        path: .npy file of [N, c_dim] numbers, or JSON object {file name: [numbers]}; None gives
            no conditions.
        option: named in messages.
        scale: length that identity features get, see `Snapshot.feature_scale`; None leaves them as
            they are. A .npy file has conditions as they are.
    Returns: [N, c_dim] float32.
    Raises: FileNotFoundError; ValueError naming option and file.
    """
    if path is None:
        return None
    if path.suffix.lower() != ".json":
        rows = load_rows(path, option)
        if rows.ndim != 2:
            raise ValueError(f"{option} {path}: shape must be [N, c_dim], got {list(rows.shape)}")
        return torch.from_numpy(rows.astype(np.float32))
    content = files.read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{option} {path}: expected an object of file names and numbers")
    named = {name: content[name] for name in sorted(content)}
    return torch.from_numpy(rows_of(named, f"{option} {path}", scale))


def load_sampler(
    path: Path,
    *,
    data: Path | None,
    truncation: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    use_raw_g: bool = False,
) -> IndexedSampler:
    """Return a snapshot's samples as published metrics see them, with random noise.

    Args:
        path: of the snapshot.
        data: data set whose labels are the conditions of a conditional network.
        truncation: 1 leaves w as it is.
        seed: of latents, conditions and noise.
        use_raw_g: sample from G instead of its average.
    Raises: FileNotFoundError; ValueError naming the snapshot or the labels that do not fit it.
    """
    generator, snapshot = load_generator(path, device, use_raw_g=use_raw_g)
    labels = None
    if generator.config.c_dim:
        if data is None:
            raise ValueError(f"{path}: is conditional and needs --data with labels")
        labels = torch.from_numpy(load_labels(open_pairs(data), snapshot.feature_scale))
    return snapshot_sampler(generator, labels, name=path.name, truncation=truncation, seed=seed)


def snapshot_sampler(
    generator: Generator,
    labels: Tensor | None,
    *,
    name: str,
    truncation: float = 1.0,
    seed: int = 0,
) -> IndexedSampler:
    """Return the samples that metrics are measured on; see `load_sampler`."""
    return IndexedSampler(
        generator,
        labels,
        name=name,
        stream="evaluation",
        truncation=Truncation(psi=truncation),
        noise_mode=NoiseMode.RANDOM,
        seed=seed,
    )


def evaluation_seed(seed: int) -> int:
    """Return the seed of samples that are measured during training, apart from all others."""
    return derive_seed(seed, "evaluation")
