"""What the generator draws from in one phase, as a function of seed, iteration and phase alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from networks.generator import Generator
from torch_utils.devices import upload
from torch_utils.distributed import World


@dataclass(frozen=True)
class Latents:
    """Inputs of the generator for a batch.

    Attributes:
        z: [N, z_dim] float32, standard normal.
        z_mix: [N, z_dim] float32, the second latent of style mixing.
        c: [N, c_dim] float32, conditions drawn from the data set's.
        cutoff: first layer that takes the w of `z_mix`; num_ws where nothing is mixed.
    """

    z: Tensor
    z_mix: Tensor
    c: Tensor
    cutoff: int

    def part(self, rows: slice) -> "Latents":
        """Return some of the samples."""
        return Latents(self.z[rows], self.z_mix[rows], self.c[rows], self.cutoff)


def draw_latents(
    generator: Generator,
    labels: Tensor,
    *,
    batch: int,
    world: World,
    style_mixing: float,
    random: torch.Generator,
) -> Latents:
    """Draw the latents of a batch.

    Args:
        generator: whose widths and layers count.
        labels: [n, c_dim] float32 on the device that computes.
        batch: number of samples over all processes, of which this one gets its rows.
        style_mixing: probability that the batch mixes two latents.
        random: on the CPU.
    Source: style mixing: Karras et al. 2019 (arXiv:1812.04948), section 3.1.
    """
    z, z_mix = torch.randn([2, batch, generator.config.z_dim], generator=random)
    index = torch.randint(len(labels), [batch], generator=random)
    cutoff = int(torch.randint(1, generator.num_ws, [], generator=random))
    is_mixed = float(torch.rand([], generator=random)) < style_mixing
    device = labels.device
    return Latents(
        z=upload(world.shard(z), device),
        z_mix=upload(world.shard(z_mix), device),
        c=labels[upload(world.shard(index), device)],
        cutoff=cutoff if is_mixed else generator.num_ws,
    )


def mixed_ws(generator: Generator, latents: Latents) -> tuple[Tensor, Tensor]:
    """Map latents to w a layer, mixed from `cutoff` on.

    Returns: ws [N, L, w_dim] float32, and w [N, w_dim] of the first latent.
    """
    w = generator.mapping(latents.z, latents.c)
    ws = w[:, None].expand(-1, generator.num_ws, -1)
    if latents.cutoff >= generator.num_ws:
        return ws, w
    mixed = generator.map(latents.z_mix, latents.c)
    return torch.cat([ws[:, : latents.cutoff], mixed[:, latents.cutoff :]], dim=1), w
