"""Optimisation of latents until a generator shows given images.

The micro-batch is fixed and padded, and what is drawn follows from seed and name of an image, so
that its latents do not depend on how many images are projected together or after what restart.

Source: Karras et al. 2020 (arXiv:1912.04958), appendix D, for the schedule; w+ of Abdal et al. 2019
(arXiv:1904.03189). Departures: coordinates are deviations from the mean w, pixels and edges of all
modalities take the place of a network's features, and a prior keeps w near its mean. Exploration
has the published factor 0.05, but of the deviation of one coordinate; the published unit is the
root of the squared deviations' sum over all w_dim, so that its noise is sqrt(w_dim) times ours.
Noise maps stay as they are stored; the published projector optimises and regularises them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from networks.generator import Generator
from networks.options import NoiseMode
from networks.sampling import IndexedSampler
from projection.options import LatentSpace, ProjectionConfig
from torch_utils.seeding import generator_for

Images = Mapping[str, Tensor]  # modality -> [N, C, R, R] float32 in -1..1

MEAN_SAMPLES = 1024
_CPU_BATCH, _CPU_FULL_PX, _CPU_LEAST = 16, 128, 4
_CUDA_AT_256_PX, _CUDA_AT_MOST = 16, 64  # 0.5 GB an image there, kept for the gradients
# Shares of the steps, as published; noise at the start, in deviations of a coordinate.
_RAMP_UP, _RAMP_DOWN, _EXPLORATION, _EXPLORATION_END = 0.05, 0.25, 0.05, 0.75


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Where a generator's w lie.

    Attributes:
        mean: [w_dim] float32.
        deviation: root mean square deviation of a coordinate.
    """

    mean: Tensor
    deviation: float

    @classmethod
    def of(cls, sampler: IndexedSampler, count: int = MEAN_SAMPLES) -> "LatentStatistics":
        """Return those of a generator's samples over its conditions."""
        w = sampler.ws(range(count))[:, 0]
        mean = w.mean(dim=0)
        return cls(mean, float((w - mean).square().mean().sqrt()))

    def coordinates(self, ws: Tensor) -> Tensor:
        """Return ws as deviations from the mean, in standard deviations."""
        return (ws - self.mean.to(ws.device)) / self.deviation

    def ws(self, coordinates: Tensor) -> Tensor:
        """Return the inverse of `coordinates`."""
        return self.mean.to(coordinates.device) + self.deviation * coordinates


def projection_batch(sampler: IndexedSampler) -> int:
    """Return how many images are projected together: what their gradients leave room for."""
    if sampler.device.type != "cpu":
        fitting = _CUDA_AT_256_PX * 256**2 // sampler.resolution**2
        return max(1, min(_CUDA_AT_MOST, fitting))
    fitting = _CPU_BATCH * _CPU_FULL_PX**2 // sampler.resolution**2
    return max(_CPU_LEAST, min(_CPU_BATCH, fitting))


def learning_rate(config: ProjectionConfig, step: int) -> float:
    """Return the rate of a step: up linearly, down by a cosine."""
    share = step / config.steps
    ramp = 0.5 - 0.5 * torch.cos(torch.tensor(min(1.0, (1 - share) / _RAMP_DOWN) * torch.pi)).item()
    return config.lr * ramp * min(1.0, share / _RAMP_UP if step else 1 / config.steps / _RAMP_UP)


def image_loss(found: Images, wanted: Images, edge: float) -> Tensor:
    """Return how far images are from the wanted ones: [N] float32.

    Mean squares of the differences of pixels, and of those of neighbouring pixels, summed over the
    modalities of `wanted`.
    """
    total = torch.zeros([])
    for name, target in wanted.items():
        difference = found[name] - target
        total = total.to(target.device) + difference.square().mean(dim=(1, 2, 3))
        for axis in (2, 3) if edge else ():
            total = total + edge * difference.diff(dim=axis).square().mean(dim=(1, 2, 3))
    return total


def joint(images: Images) -> Tensor:
    """Return the channels of all modalities as one image, [N, C, R, R]."""
    return torch.cat(list(images.values()), dim=1)


class Projector:
    """Finds latents of images.

    Args:
        generator: in evaluation mode without gradients, on its device, without 16-bit layers.
        statistics: of its latents.
        config: how.
        batch: images that are computed together.
        encoder: gives the start, from all fitted channels [N, C, R, R] to coordinates
            [N, L, w_dim]; None starts at the mean w.
        features: network of [N, 3, R, R] whose features are compared; None compares none.
    """

    def __init__(
        self,
        generator: Generator,
        statistics: LatentStatistics,
        config: ProjectionConfig,
        batch: int,
        encoder: Callable[[Tensor], Tensor] | None = None,
        features: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.generator, self.statistics, self.config = generator, statistics, config
        self.batch, self.device = batch, generator.mapping.w_avg.device
        self.encoder, self._features = encoder, features

    def project(
        self,
        wanted: Images,
        names: Sequence[str],
        advance: Callable[[int], None] = lambda _: None,
        history: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the latents of images: [n, L, w_dim] float32 on the CPU.

        Args:
            wanted: n images, up to `batch`, of each modality that is fitted.
            names: n, which decide what is drawn.
            advance: called after each step with the number of images.
            history: gets the latents of every step, [n, L, w_dim] float32 on the CPU.
        """
        config, count = self.config, len(names)
        index = torch.arange(self.batch).clamp(max=count - 1)
        images = {name: rows[index].to(self.device) for name, rows in wanted.items()}
        streams = [generator_for(config.seed, "projection", names[i]) for i in index.tolist()]
        x = self._start(images).requires_grad_(True)
        wanted_features = self._describe(images)
        optimizer = torch.optim.Adam([x], betas=(0.9, 0.999))
        for step in range(config.steps):
            optimizer.param_groups[0]["lr"] = learning_rate(config, step)
            left = max(0.0, 1 - step / config.steps / _EXPLORATION_END)
            noise = torch.stack([torch.randn(x.shape[1:], generator=one) for one in streams])
            tried = x + noise.to(self.device) * (_EXPLORATION * left**2)
            shown = self._show(tried)
            loss = image_loss(shown, images, config.edge)
            found_features = self._describe({name: shown[name] for name in images})
            for found, known in zip(found_features, wanted_features, strict=True):
                loss = loss + config.feature * (found - known).square().flatten(1).mean(dim=1)
            loss = loss + config.prior * x.square().mean(dim=(1, 2))
            (x.grad,) = torch.autograd.grad(loss.sum(), x)
            optimizer.step()
            if history is not None:
                history.append(self._spread(x.detach())[:count].cpu())
            advance(count)
        return self._spread(x.detach())[:count].cpu()

    def _describe(self, images: Images) -> list[Tensor]:
        """Return the features of each modality, grey repeated, [N, ...] each; none without."""
        if self._features is None:
            return []
        return [self._features(rows.expand(-1, 3, -1, -1)) for rows in images.values()]

    @torch.no_grad()
    def _start(self, images: Images) -> Tensor:
        """Return the first coordinates, [N, 1 or L, w_dim]."""
        is_one = self.config.space is LatentSpace.W
        if self.encoder is None:
            layers = 1 if is_one else self.generator.num_ws
            return torch.zeros(
                [self.batch, layers, self.generator.config.w_dim], device=self.device
            )
        found = self.encoder(joint(images))
        return found.mean(dim=1, keepdim=True) if is_one else found.clone()

    def _spread(self, x: Tensor) -> Tensor:
        """Return coordinates [n, 1 or L, w_dim] as ws [n, L, w_dim]."""
        return self.statistics.ws(x).expand(-1, self.generator.num_ws, -1)

    def _show(self, x: Tensor) -> Images:
        return self.generator.synthesis(self._spread(x), NoiseMode.CONST)
