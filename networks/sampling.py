"""Samples of a generator by number, for those who measure it: images, and paths between latents.

A block of samples is a function of network, options and its number alone: latents, conditions and
noise come from their own streams, and a block is always drawn whole.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from data.dataset import PairDataset
from data.pixels import to_uint8
from networks.generator import Generator, NoiseMode
from networks.snapshot import build_generator, load_snapshot
from torch_utils.seeding import derive_seed, generator_for

BLOCK = 16


class IndexedSampler:
    """A generator whose samples have numbers.

    Args:
        generator: in evaluation mode, on the device that draws.
        labels: [n, c_dim] float32, the data set's; conditions are drawn from them. None or c_dim
            0 for an unconditional network.
        name: of the snapshot.
        truncation: 1 leaves w as it is.
        seed: of latents, conditions and noise.
    """

    block = BLOCK

    def __init__(
        self,
        generator: Generator,
        labels: Tensor | None = None,
        *,
        name: str,
        truncation: float = 1.0,
        seed: int = 0,
    ) -> None:
        c_dim = generator.config.c_dim
        if c_dim and (labels is None or labels.shape[1:] != (c_dim,)):
            found = "none" if labels is None else f"{labels.shape[1]} numbers"
            raise ValueError(f"{name}: needs labels of {c_dim} numbers, the data has {found}")
        self.generator, self.labels = generator, labels if c_dim else None
        self.name, self.truncation, self.seed = name, truncation, seed
        self.modalities = tuple(generator.config.heads)
        self.device = generator.mapping.w_avg.device

    @property
    def z_dim(self) -> int:
        """Width of z."""
        return self.generator.config.z_dim

    def draw(self, block: int) -> Mapping[str, Tensor]:
        """Return the samples of a block: [BLOCK, C, R, R] uint8 a modality, on the CPU."""
        z = torch.randn([BLOCK, self.z_dim], generator=generator_for(self.seed, "z", block))
        images = self._synthesize(self.generator, self.map(z, self.conditions(block)), block)
        return {name: to_uint8(image).cpu() for name, image in images.items()}

    def conditions(self, block: int) -> Tensor | None:
        """Return conditions [BLOCK, c_dim] drawn from the data set's, None for none."""
        if self.labels is None:
            return None
        random = generator_for(self.seed, "conditions", block)
        return self.labels[torch.randint(len(self.labels), [BLOCK], generator=random)]

    @torch.inference_mode()
    def map(self, z: Tensor, c: Tensor | None) -> Tensor:
        """Return ws [N, L, w_dim] of latents [N, z_dim] float32, on the generator's device."""
        c = None if c is None else c.to(self.device)
        return self.generator.map(z.to(self.device), c, self.truncation)

    def synthesize(self, w: Tensor, noise: int) -> Mapping[str, Tensor]:
        """Return float32 [N, C, R, R] a modality; equal `noise` is equal noise.

        All layers compute in float32, as in the published path length: 16 bits do not resolve the
        difference that a step along a path makes.
        """
        return self._synthesize(self._precise, w, noise)

    @cached_property
    def _precise(self) -> Generator:
        """The generator without 16-bit layers."""
        if self.generator.config.num_fp16_res == 0:
            return self.generator
        precise = Generator(replace(self.generator.config, num_fp16_res=0))
        precise.load_state_dict(self.generator.state_dict())
        return precise.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def _synthesize(self, generator: Generator, w: Tensor, noise: int) -> Mapping[str, Tensor]:
        random = generator_for(self.seed, "noise", noise, device=self.device)
        return generator.synthesis(w, NoiseMode.RANDOM, random)


def load_sampler(
    path: Path,
    *,
    data: Path | None,
    truncation: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    use_raw_g: bool = False,
) -> IndexedSampler:
    """Return a snapshot's sampler.

    Args:
        path: of the snapshot.
        data: data set whose labels are the conditions of a conditional network.
        truncation: 1 leaves w as it is.
        seed: of all that is drawn.
        device: "cpu" or "cuda:N".
        use_raw_g: draw from G instead of its average.
    Raises: FileNotFoundError; ValueError naming the snapshot or the labels that do not fit it.
    """
    snapshot = load_snapshot(path)
    try:
        generator = build_generator(snapshot, "G" if use_raw_g else "G_ema").to(device)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    labels = None
    if generator.config.c_dim:
        if data is None:
            raise ValueError(f"{path}: is conditional and needs --data with labels")
        labels = labels_of(data, snapshot.feature_scale)
    return IndexedSampler(
        generator,
        labels,
        name=path.name,
        truncation=truncation,
        seed=seed,
    )


def labels_of(data: Path, feature_scale: float | None) -> Tensor:
    """Return the labels of a data set as conditions: [n, c_dim] float32.

    Args:
        data: data set.
        feature_scale: length of identity features, as the snapshot's training had them; None
            leaves them as they are.
    """
    dataset = PairDataset(data, use_labels=True, cache_gib=0.0, feature_scale=feature_scale)
    return labels_of_dataset(dataset)


def labels_of_dataset(dataset: PairDataset) -> Tensor:
    """Return the labels of all pairs: [n, c_dim] float32."""
    return torch.stack([dataset.label(index) for index in range(len(dataset.stems))])


def evaluation_seed(seed: int) -> int:
    """Return the seed of samples that are measured during training, apart from all others."""
    return derive_seed(seed, "evaluation")
