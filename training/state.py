"""Everything that training changes, and how it is kept: networks, optimisers, ADA, counters."""

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from data.modalities import RGB
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.layers import Convolution
from torch_utils.distributed import World
from torch_utils.seeding import derive_seed
from torch_utils.statistics import Statistics
from training.ada import AdaController
from training.config import TrainingConfig

ADAM_BETAS = (0.0, 0.99)
ADAM_EPS = 1e-8
_COUNTERS = ("nimg", "step", "tick")


class TrainingState:
    """The networks of a run and all numbers that a continued run needs.

    Attributes:
        generator, ema: the generator and its running average.
        discriminators: by modality or JOINT.
        optimizers: "G" and one a discriminator.
        ada: strength of the augmentation by discriminator.
        pl_mean: [] float32, running mean of path lengths.
        statistics: gathered since the last tick.
        nimg: images shown.
        step: iterations done.
        tick: ticks done, each a row of stats.jsonl.
    """

    def __init__(
        self, config: TrainingConfig, device: torch.device, world: World | None = None
    ) -> None:
        self.config, self.device, self.world = config, device, world or World()
        layout = torch.channels_last if config.nhwc else torch.contiguous_format
        with _seeded_init(config.seed, "G"):
            self.generator = Generator(config.generator).to(device=device, memory_format=layout)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminators: dict[str, Discriminator] = {}
        for name, discriminator_config in config.discriminators.items():
            with _seeded_init(config.seed, "D", name):
                network = Discriminator(discriminator_config)
            self.discriminators[name] = network.to(device=device, memory_format=layout)
            freeze_layers(self.discriminators[name], config.freezed)
        self.optimizers = self._build_optimizers()
        self.ada = {name: AdaController(config.ada) for name in self.discriminators}
        self.pl_mean = torch.zeros([], device=device)
        self.statistics = Statistics(device, self.world)
        self.nimg, self.step, self.tick = 0, 0, 0

    def networks(self) -> dict[str, nn.Module]:
        """Return all networks under their snapshot names: G, G_ema, D, D_NIR, D_JOINT."""
        named: dict[str, nn.Module] = {"G": self.generator, "G_ema": self.ema}
        for name, network in self.discriminators.items():
            named[snapshot_name(name)] = network
        return named

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as tensors and plain containers, for `torch.load(weights_only=True)`.

        All processes call it together; the state of the first is the one to keep.
        """
        return {
            "networks": {name: net.state_dict() for name, net in self.networks().items()},
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "ada": {name: controller.state_dict() for name, controller in self.ada.items()},
            "pl_mean": self.pl_mean,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises: RuntimeError for a state of other networks.
        """
        for name, network in self.networks().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, controller in self.ada.items():
            controller.load_state_dict(state["ada"][name])
        self.pl_mean.copy_(state["pl_mean"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])

    def _build_optimizers(self) -> dict[str, torch.optim.Adam]:
        loss, config = self.config.loss, self.config
        interval = loss.g_reg_interval if loss.pl_weight > 0 else None
        optimizers = {"G": build_adam(self.generator.parameters(), config.g_lr, interval)}
        for name, network in self.discriminators.items():
            interval = loss.d_reg_interval if loss.gammas[name] > 0 else None
            trained = [p for p in network.parameters() if p.requires_grad]
            optimizers[name] = build_adam(trained, config.d_lr, interval)
        return optimizers


def build_adam(
    parameters: Iterable[nn.Parameter], lr: float, reg_interval: int | None
) -> torch.optim.Adam:
    """Return the optimiser of one network.

    Args:
        parameters: those that train.
        lr: learning rate as if every iteration were regularised.
        reg_interval: iterations between regularisation steps, which are extra steps: rate and
            decays are adapted so that k + 1 steps act as k; None where there is no such step.
    Source: arXiv:1912.04958, appendix B.
    """
    ratio = 1.0 if reg_interval is None else reg_interval / (reg_interval + 1)
    betas = (ADAM_BETAS[0] ** ratio, ADAM_BETAS[1] ** ratio)
    return torch.optim.Adam(list(parameters), lr=lr * ratio, betas=betas, eps=ADAM_EPS, fused=True)


def ema_beta(*, batch: int, nimg: int, ema_kimg: float, rampup: float | None) -> float:
    """Return the decay of one iteration.

    Args:
        batch: images of the iteration.
        nimg: images shown so far.
        ema_kimg: half-life in thousands of images; 0 copies the network.
        rampup: the half-life is at most this share of `nimg`; None for no limit.
    Returns: 0..1, the weight of the old average.
    Source: Karras et al. 2020 (arXiv:2006.06676), appendix; half-life arXiv:1710.10196.

    >>> ema_beta(batch=1000, nimg=0, ema_kimg=1, rampup=None)
    0.5
    """
    half_life = ema_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, nimg * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(ema: Generator, generator: Generator, beta: float) -> None:
    """Move `ema` towards `generator`: parameters by 1 - beta, buffers by copying."""
    averaged, current = list(ema.parameters()), list(generator.parameters())
    torch._foreach_lerp_(averaged, current, 1 - beta)
    for kept, buffer in zip(ema.buffers(), generator.buffers(), strict=True):
        kept.copy_(buffer)


def snapshot_name(modality: str) -> str:
    """Return the name of a discriminator in snapshots; published ones for modalities.

    >>> snapshot_name("rgb"), snapshot_name("nir"), snapshot_name("joint")
    ('D', 'D_NIR', 'D_JOINT')
    """
    return "D" if modality == RGB.name else f"D_{modality.upper()}"


def freeze_layers(discriminator: Discriminator, count: int) -> None:
    """Stop the first `count` convolutions from training, counted from the image inwards.

    Source: Mo et al. 2020 (arXiv:2002.10964), Freeze-D; order as in StyleGAN2-ADA: from_image,
    conv0, conv1, skip of each block.
    """
    layers = [
        layer
        for block in discriminator.blocks.values()
        for layer in block.children()
        if isinstance(layer, Convolution)
    ]
    for layer in layers[:count]:
        layer.requires_grad_(False)


@contextlib.contextmanager
def _seeded_init(seed: int, *path: str) -> Iterator[None]:
    """Initialise a network from its own random stream, leaving torch's global one as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init", *path))
        yield
