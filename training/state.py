"""Everything that training changes, and how it is kept: networks, optimisers, ADA, counters."""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.modalities import RGB
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.layers import Convolution
from torch_utils.distributed import World
from torch_utils.seeding import derive_seed
from torch_utils.statistics import Statistics
from training.ada import AdaController
from training.config import TrainingConfig
from training.optimization import build_adam

_COUNTERS = ("nimg", "step", "tick")


class TrainingState:
    """The networks of a run and all numbers that a continued run needs.

    Attributes:
        generator, ema: the generator and its running average.
        discriminators: by modality.
        optimizers: "G" and one a modality.
        ada: strength of the augmentation by modality.
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
        """Return all networks under their published snapshot names: G, G_ema, D, D_NIR."""
        named: dict[str, nn.Module] = {"G": self.generator, "G_ema": self.ema}
        for name, network in self.discriminators.items():
            named[snapshot_name(name)] = network
        return named

    def load_networks(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the tensors of all networks, by their snapshot names; strict."""
        for name, network in self.networks().items():
            network.load_state_dict(dict(states[name]))

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
        self.load_networks(state["networks"])
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


def snapshot_name(modality: str) -> str:
    """Return the published name of a modality's discriminator.

    >>> snapshot_name("rgb"), snapshot_name("nir")
    ('D', 'D_NIR')
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
