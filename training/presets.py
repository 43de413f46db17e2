"""Numbers of the published configurations of StyleGAN2-ADA and the dual-branch systems."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Preset:
    """Numbers of one published configuration.

    Attributes:
        kimg: duration.
        batch: images an iteration.
        mbstd: minibatch standard deviation group.
        fmaps: share of the full channel base.
        lrate: learning rate of all networks.
        gamma: R1 weight.
        ema: half-life of the average in kimg.
        ramp: EMA ramp-up; None for none.
        map_depth: mapping layers.
        pl_weight: of path length regularisation.
        style_mixing: probability of mixing two latents.
        discriminator: architecture of the discriminators.
    """

    kimg: int
    batch: int
    mbstd: int
    fmaps: float
    lrate: float
    gamma: float
    ema: float
    ramp: float | None = None
    map_depth: int = 8
    pl_weight: float = 2.0
    style_mixing: float = 0.9
    discriminator: str = "resnet"


# `auto*` are heuristics of resolution and processes, with this factor on the batch.
AUTO_BATCH_FACTORS: Mapping[str, float] = MappingProxyType(
    {"auto": 1.0, "auto_512": 0.5, "auto_128": 2.0}
)
PUBLISHED: Mapping[str, Preset] = MappingProxyType(
    {  #                  kimg batch mbstd fmaps lrate gamma ema
        "biface256": Preset(25000, 12, 4, 0.5, 0.0025, 1, 20),
        "stylegan2": Preset(25000, 32, 4, 1.0, 0.002, 10, 10),
        "paper256": Preset(25000, 64, 8, 0.5, 0.0025, 1, 20),
        "paper512": Preset(25000, 64, 8, 1.0, 0.0025, 0.5, 20),
        "paper1024": Preset(25000, 32, 4, 1.0, 0.002, 2, 10),
        "cifar": Preset(100000, 64, 32, 1.0, 0.0025, 0.01, 500, 0.05, 2, 0.0, 0.0, "orig"),
    }
)
PRESET_NAMES = (*AUTO_BATCH_FACTORS, *PUBLISHED)


def auto_preset(resolution: int, gpus: int, batch_factor: float) -> Preset:
    """Return the dual-branch family's heuristic preset (8 mapping layers, 10000 kimg).

    Source: StyleGAN2-ADA's `auto` (gamma = 0.0002 * resolution² / batch and so on).
    """
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    batch = max(int(batch * batch_factor), gpus)
    return Preset(
        kimg=10000,
        batch=batch,
        mbstd=min(batch // gpus, 4),
        fmaps=1.0 if resolution >= 512 else 0.5,
        lrate=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema=batch * 10 / 32,
        ramp=0.05,
    )


def find_preset(name: str, resolution: int, gpus: int) -> Preset:
    """Return a preset by name; `auto*` depend on the resolution and the number of processes."""
    factor = AUTO_BATCH_FACTORS.get(name)
    return PUBLISHED[name] if factor is None else auto_preset(resolution, gpus, factor)
