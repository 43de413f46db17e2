"""A small network from images to latents, trained on samples of the generator, for a near start.

Source: encoders of Zhu et al. 2020 (arXiv:2004.00049, in-domain inversion) for the loss in latents
and images; style mixing (Karras et al. 2019, arXiv:1812.04948) gives each layer a latent to learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.pixels import to_float, to_uint8
from dnnlib.config import to_dict
from dnnlib.files import sha256_file
from dnnlib.options import Progress
from dnnlib.runs import OPTIONS_FILE, OutputFolder, find_output
from networks.generator import Generator
from networks.options import NoiseMode
from networks.sampling import IndexedSampler
from projection.optimisation import (
    Images,
    LatentStatistics,
    image_loss,
    joint,
    projection_batch,
)
from projection.options import EncoderConfig
from torch_utils.checkpoints import load_checkpoint, save_checkpoint, state_sha256
from torch_utils.guarded_step import GuardedStep
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Cadence, Task, train

ENCODER_FILE = "encoder.pt"
FORMAT, VERSION = "biface-encoder", 1
_CADENCE = Cadence(row_steps=100)
_STREAM = "encoder"
_LEAST_PX = 4


class Encoder(nn.Module):
    """Convolutions that halve the size down to 4x4, and a matrix to the latents of all layers."""

    def __init__(
        self, channels: int, resolution: int, latents: tuple[int, int], config: EncoderConfig
    ) -> None:
        """Build the network.

        Args:
            channels: of the images.
            resolution: side of the images in pixels.
            latents: layers and w_dim.
            config: width.
        """
        super().__init__()
        self.latents = latents
        layers: list[nn.Module] = []
        side, into, width = resolution, channels, config.width
        while side > _LEAST_PX:
            layers += [nn.Conv2d(into, width, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            into, width, side = width, min(2 * width, config.most), side // 2
        last = nn.Linear(into * side**2, latents[0] * latents[1])
        self.layers = nn.Sequential(*layers, nn.Flatten(), last)
        nn.init.zeros_(last.weight)  # the first answer is the mean w
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, R, R] float32 in -1..1 -> coordinates [N, L, w_dim] float32."""
        return self.layers(x).unflatten(1, self.latents)


class EncoderTask(Task):
    """An encoder in training on samples of a generator.

    Args:
        sampler: of the generator, without 16-bit layers.
        fitted: modalities that it sees.
        config: how.
    """

    def __init__(
        self, sampler: IndexedSampler, fitted: Sequence[str], config: EncoderConfig
    ) -> None:
        super().__init__(config.encoder_steps, sampler.device)
        self.sampler, self.fitted, self.config = sampler, tuple(fitted), config
        self.encoder = build_encoder(sampler.generator, self.fitted, config).to(self.device)
        self._optimizer = torch.optim.Adam(self.encoder.parameters(), lr=config.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR
        self._schedule = schedule(self._optimizer, config.encoder_steps)
        self.guards = [GuardedStep("encoder", self.device, "a smaller rate may help")]

    def begin(self, index: int) -> None:
        """Find where the generator's latents lie."""
        self._statistics = LatentStatistics.of(self.sampler)

    def step(self, index: int) -> None:
        """Train on one batch of samples, some of which have two styles; in parts that fit."""
        with torch.no_grad():
            drawn = self._draw(index)
        *earlier, last = drawn.split(projection_batch(self.sampler))
        for ws in earlier:
            self._loss(ws).backward()
        self.descend(self._loss(last), self._optimizer)
        self._schedule.step()

    def _loss(self, ws: Tensor) -> Tensor:
        """Return the part of a batch's loss that comes from some of its samples: []."""
        with torch.no_grad():
            images = self._show(ws)
            # What it will see are pixels of files.
            images = {name: to_float(to_uint8(images[name])) for name in self.fitted}
        found = self.encoder(joint(images))
        latent = (found - self._statistics.coordinates(ws)).square().mean()
        shown = self._show(self._statistics.ws(found))
        image = image_loss(shown, images, self.config.edge_weight).mean()
        self.statistics.report("Loss/latents", latent.detach())
        self.statistics.report("Loss/images", image.detach())
        loss: Tensor = self.config.latent_weight * latent + image
        return loss * (len(ws) / self.config.batch)

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the encoder."""
        return {"encoder": self.encoder}

    def parts(self) -> dict[str, Any]:
        """Return the encoder, its optimiser and schedule."""
        return {**self.networks(), "optimizer": self._optimizer, "schedule": self._schedule}

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the encoder."""
        state = {name: tensor.cpu() for name, tensor in self.encoder.state_dict().items()}
        save_checkpoint(
            folder / ENCODER_FILE, {"format": FORMAT, "version": VERSION, "state": state}
        )
        return {}

    def _draw(self, index: int) -> Tensor:
        """Return ws [N, L, w_dim] of a step; those of half of the samples change at a layer."""
        count, seed = self.config.batch, self.config.encoder_seed
        random = generator_for(seed, _STREAM, index)
        pairs, labels = [], self.sampler.labels
        for _ in range(2):
            z = torch.randn([count, self.sampler.z_dim], generator=random)
            c = None
            if labels is not None:
                c = labels[torch.randint(len(labels), [count], generator=random)].to(self.device)
            pairs.append(self.sampler.generator.map(z.to(self.device), c))
        first, second = pairs
        layers = first.shape[1]
        cut = torch.randint(1, 2 * layers, [count, 1, 1], generator=random).to(self.device)
        return torch.where(torch.arange(layers, device=self.device)[:, None] < cut, first, second)

    def _show(self, ws: Tensor) -> Images:
        return self.sampler.generator.synthesis(ws, NoiseMode.CONST)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderFolder:
    """An encoder and the folder that it is trained into.

    Attributes:
        task: what trains it.
        output: the folder.
    """

    task: EncoderTask
    output: OutputFolder

    def identity(self) -> dict[str, Any]:
        """Return what decides its answers, as plain JSON values: its weights, where it has them."""
        if not self.output.is_finished:
            return self.output.identity
        return {**self.output.identity, "sha256": sha256_file(self.output.path / ENCODER_FILE)}

    def load(self, progress: Progress) -> Encoder:
        """Return the encoder in evaluation mode, trained to its end where it is not yet.

        Raises: ValueError where its file is damaged or of another network; StoppedError after a
            signal.
        """
        if not self.output.is_finished:
            train(self.task, self.output, _CADENCE, progress=progress)
        path, encoder = self.output.path / ENCODER_FILE, self.task.encoder
        state = load_checkpoint(path, kind=(FORMAT, VERSION))["state"]
        try:
            encoder.load_state_dict(state)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: not the encoder's weights: {str(error)[:200]}") from error
        return encoder.eval().requires_grad_(False)


def open_encoder(
    folder: Path, sampler: IndexedSampler, fitted: Sequence[str], config: EncoderConfig
) -> EncoderFolder:
    """Return the encoder of a generator in a folder, which may have to be trained yet.

    Raises: ValueError where the folder holds another encoder, or anything else.
    """
    labels = {} if sampler.labels is None else {"labels": sampler.labels}
    identity = {
        "network_sha256": state_sha256(sampler.generator.state_dict()),
        "labels_sha256": state_sha256(labels),
        "modalities": list(fitted),
        **to_dict(config),
    }
    output = find_output(folder, OPTIONS_FILE, identity, option="--encoder")
    return EncoderFolder(task=EncoderTask(sampler, fitted, config), output=output)


def build_encoder(generator: Generator, fitted: Sequence[str], config: EncoderConfig) -> Encoder:
    """Return an untrained encoder of some modalities of a generator's images."""
    heads = generator.config.heads
    channels = sum(heads[name] for name in fitted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.encoder_seed, _STREAM))
        latents = (generator.num_ws, generator.config.w_dim)
        return Encoder(channels, generator.config.resolution, latents, config)
