"""Training of a refiner against a discriminator of patches (SimGAN)."""

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.pixels import to_float, to_uint8
from data.sampler import InfiniteSampler
from data.sheets import before_after, save_image, spread_indices
from refinement.history import HistoryBuffer
from refinement.images import JointImages, Masks
from refinement.losses import (
    Objective,
    Terms,
    discriminator_loss,
    realism_loss,
    region_weights,
)
from refinement.model_files import MICRO_BATCH, TrainedRefiner, save_refiner
from refinement.networks import PatchDiscriminator, Refiner, RefinerConfig
from refinement.options import RefinementConfig, RefinerShape
from torch_utils.devices import upload
from torch_utils.guarded_step import GuardedStep
from torch_utils.precision import Precision
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Task

MODEL_FILE = "refiner.pt"
SHEET_FILE = "before_after.png"


class Phase(Enum):
    """Parts of the training, in their order."""

    REFINER_WARMUP = "refiner warm-up"
    DISCRIMINATOR_WARMUP = "discriminator warm-up"
    ROUNDS = "rounds"


class RefinementTask(Task):
    """A refiner in training.

    Args:
        rendered: images to refine.
        real: images that refined ones should look like.
        config: how to train.
        device: where to compute.
        masks: of the rendered images, with `class_weights`; None weighs all pixels alike.
        class_weights: [256] float32, factor of the regularisation in each class.
        feature_network: images -> features, where the regularisation compares those.
    Raises: ValueError where the two data sets do not fit each other or the batch.
    """

    def __init__(
        self,
        rendered: JointImages,
        real: JointImages,
        config: RefinementConfig,
        device: torch.device,
        *,
        masks: Masks | None = None,
        class_weights: Tensor | None = None,
        feature_network: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._rounds_begin_at = config.refiner_warmup + config.discriminator_warmup
        super().__init__(self._rounds_begin_at + config.steps, device)
        _check_fit(rendered, real, config)
        Precision.FP32.use_on(device)
        self.rendered, self.real, self.config = rendered, real, config
        self.masks, self.class_weights = masks, class_weights
        self.objective = Objective(config, rendered.channels, feature_network)
        self.modules = self._build_networks()
        self.refiner: Refiner = self.modules["refiner"]
        self.discriminator: PatchDiscriminator = self.modules["discriminator"]
        self.optimizers = self._build_optimizers()
        advice = (
            f"lower --lr ({config.lr}) or --discriminator-lr ({config.discriminator_lr}); the last "
            "checkpoint is kept"
        )
        self._guards = {name: GuardedStep(name, device, advice) for name in self.optimizers}
        self.guards = list(self._guards.values())
        self.history = HistoryBuffer(config.history)
        self.samplers = {
            name: InfiniteSampler(len(images), derive_seed(config.seed, name) % (1 << 32))
            for name, images in (("rendered", rendered), ("real", real))
        }
        self.drawn = dict.fromkeys(self.samplers, 0)

    def begin(self, index: int) -> None:
        """Keep the images in memory where they fit."""
        for side in (self.rendered, self.real):
            side.pairs.cache()

    def step(self, index: int) -> None:
        """Take one step of its phase, and report its terms."""
        for name, term in self.update(index).items():
            self.statistics.report(name, term)

    def networks(self) -> dict[str, nn.Module]:
        """Return refiner and discriminator, and the refiner of the way back."""
        return dict(self.modules.items())

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the refiner, and a sheet of images before and after."""
        save_refiner(folder / MODEL_FILE, self.refiner, self.rendered.modalities)
        save_image(folder / SHEET_FILE, self.sheet())
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimisers, kept images, and how many images were drawn."""
        return {
            "drawn": dict(self.drawn),
            "networks": self.modules.state_dict(),
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.drawn = state["drawn"]
        self.modules.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.history.load_state_dict(state["history"])

    def phase_at(self, index: int) -> Phase:
        """Return the phase of a step."""
        if index < self.config.refiner_warmup:
            return Phase.REFINER_WARMUP
        if index < self._rounds_begin_at:
            return Phase.DISCRIMINATOR_WARMUP
        return Phase.ROUNDS

    def update(self, index: int) -> Terms:
        """Take one step of its phase; return its terms by their published names, a number each."""
        config, terms = self.config, Terms()
        match self.phase_at(index):
            case Phase.REFINER_WARMUP:
                terms |= self._update_refiner(is_adversarial=False)
            case Phase.DISCRIMINATOR_WARMUP:
                terms |= self._update_discriminator(uses_history=False)
            case Phase.ROUNDS:
                for _ in range(config.refiner_updates):
                    terms |= self._update_refiner(is_adversarial=True)
                for _ in range(config.discriminator_updates):
                    terms |= self._update_discriminator(uses_history=True)
        return terms

    def trained(self) -> TrainedRefiner:
        """Return the refiner as it is."""
        return TrainedRefiner(self.refiner, self.rendered.modalities, "in training")

    def sheet(self) -> Any:
        """Draw some rendered images before and after: [3, h, w] uint8."""
        trained = self.trained()
        before = self.rendered.batch(spread_indices(len(self.rendered), MICRO_BATCH))
        return before_after(trained.split(before), trained.split(trained.refine(before)))

    def _update_refiner(self, *, is_adversarial: bool) -> Terms:
        x, weights = self._draw_rendered(self.config.batch)
        self.discriminator.requires_grad_(False)
        refined = self.refiner(x)
        terms = {"regularisation": self.objective.regularisation(x, refined, weights)}
        if is_adversarial:
            terms["realism"] = realism_loss(self.discriminator(refined))
        if "back" in self.modules:
            back, y = self.modules["back"], self._draw_real(self.config.batch)
            terms |= self.objective.cycle(self.refiner, back, x, refined, y)
        self._descend("refiner", self.objective.total(terms))
        self.discriminator.requires_grad_(True)
        return {f"Loss/{name}": term.detach().mean() for name, term in terms.items()}

    def _update_discriminator(self, *, uses_history: bool) -> Terms:
        config = self.config
        old = self.history.share_of(config.batch) if uses_history else 0
        x, _ = self._draw_rendered(config.batch - old)
        with torch.no_grad():
            refined = self.refiner(x)
        if uses_history:
            refined = self._mix_with_history(refined, old)
        logits = {
            "refined": self.discriminator(refined),
            "real": self.discriminator(self._draw_real(config.batch)),
        }
        losses = [
            discriminator_loss(values, is_refined=name == "refined", smoothing=config.smoothing)
            for name, values in logits.items()
        ]
        loss = sum(term.mean() for term in losses)
        assert isinstance(loss, Tensor), "there are two kinds of images"
        self._descend("discriminator", loss)
        return {
            "Loss/discriminator": loss.detach(),
            "Accuracy/refined": (logits["refined"].detach() > 0).float().mean(),
            "Accuracy/real": (logits["real"].detach() <= 0).float().mean(),
        }

    def _mix_with_history(self, refined: Tensor, old: int) -> Tensor:
        """Return new images and `old` earlier ones; half a batch of the new ones is kept."""
        random = generator_for(self.config.seed, "history", self.drawn["real"])
        drawn = [to_float(upload(self.history.draw(old, random), self.device))] if old else []
        self.history.add(to_uint8(refined[: self.config.batch // 2]), random)
        return torch.cat([refined, *drawn])

    def _descend(self, name: str, loss: Tensor) -> None:
        self.descend(loss, self.optimizers[name], self._guards[name])

    def _draw_rendered(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Return the next images in -1..1, and the weights of their pixels."""
        indices = self._next_indices("rendered", count)
        x = to_float(upload(self.rendered.batch(indices), self.device))
        if self.masks is None or self.class_weights is None:
            return x, None
        return x, region_weights(upload(self.masks.batch(indices), self.device), self.class_weights)

    def _draw_real(self, count: int) -> Tensor:
        return to_float(upload(self.real.batch(self._next_indices("real", count)), self.device))

    def _next_indices(self, side: str, count: int) -> list[int]:
        start = self.drawn[side]
        self.drawn[side] += count
        return [self.samplers[side].index_at(start + i) for i in range(count)]

    def _build_networks(self) -> nn.ModuleDict:
        config, channels = self.config, sum(self.rendered.channels)
        shape = {field.name: getattr(config, field.name) for field in fields(RefinerShape)}
        refiner = RefinerConfig(channels=channels, **shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "refinement"))
            networks = {
                "refiner": Refiner(refiner),
                "discriminator": PatchDiscriminator(channels, config.patches, config.patch_width),
            }
            if config.cycle > 0:
                networks["back"] = Refiner(refiner)
        return nn.ModuleDict(networks).to(self.device)

    def _build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        groups = {
            "refiner": (config.lr, ("refiner", "back")),
            "discriminator": (config.discriminator_lr, ("discriminator",)),
        }
        return {
            name: torch.optim.Adam(
                [p for key in keys if key in self.modules for p in self.modules[key].parameters()],
                lr=lr,
                betas=(config.beta1, config.beta2),
            )
            for name, (lr, keys) in groups.items()
        }


def _check_fit(rendered: JointImages, real: JointImages, config: RefinementConfig) -> None:
    if rendered.modalities != real.modalities:
        names = [[modality.name for modality in images.modalities] for images in (rendered, real)]
        raise ValueError(f"--data and --real must have the same modalities, got {names}")
    if rendered.pairs.resolution != real.pairs.resolution:
        raise ValueError(
            "--data and --real must have images of one size, got "
            f"{rendered.pairs.resolution} and {real.pairs.resolution} pixels"
        )
    for option, images in (("--data", rendered), ("--real", real)):
        if len(images) < config.batch:
            raise ValueError(
                f"--batch must be at most the {len(images)} pairs of {option}, got {config.batch}"
            )
