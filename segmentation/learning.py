"""Training of a segmentation network: steps, checkpoints, evaluation, exact continuation."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from data.pixels import to_float
from data.sampler import InfiniteSampler
from dnnlib import files
from dnnlib.outputs import OutputFolder
from segmentation import losses
from segmentation.augmentation import MaskAugmentation
from segmentation.labelled_set import LabelledSet, UncertaintyKind, check_classes_occur
from segmentation.losses import ClassWeighting
from segmentation.model_files import Segmenter, check_fits, save_segmenter
from segmentation.networks import NetworkConfig, build_network
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.precision import Precision
from torch_utils.seeding import derive_seed, generator_for

RECORD_FILE = "training_options.json"
STATS_FILE = "stats.jsonl"
MODEL_FILE = "segmenter.pth"
BEST_FILE = "segmenter_best.pth"
CHECKPOINT_FILE = "checkpoint.pt"

Row = dict[str, float]
_log = logging.getLogger(__name__)


class OptimizerKind(Enum):
    """How weights are changed."""

    ADAMW = "adamw"
    SGD = "sgd"


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised.

    Attributes:
        weighting: of the classes, from the training masks.
        factors: of the classes, instead of `weighting`; empty for none.
        uncertainty: of pixels or samples, which then count exp(-strength * uncertainty).
        strength: see there; uncertainty is 0..1.
        dice: weight of the Dice loss beside the cross-entropy; 0 for none.
    """

    weighting: ClassWeighting = ClassWeighting.NONE
    factors: tuple[float, ...] = ()
    uncertainty: UncertaintyKind = UncertaintyKind.NONE
    strength: float = 5.0
    dice: float = 0.0

    def __post_init__(self) -> None:
        if self.factors and self.weighting is not ClassWeighting.NONE:
            raise ValueError("class weights: give numbers or a kind, not both")
        if any(not (math.isfinite(f) and f >= 0) for f in self.factors):
            raise ValueError(f"class weights must be at least 0, got {list(self.factors)}")
        if self.factors and not any(self.factors):
            raise ValueError("class weights: at least one must be more than 0")
        if not self.strength >= 0 or not self.dice >= 0:
            raise ValueError(
                f"strength and dice must be at least 0, got {self.strength}, {self.dice}"
            )


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a segmentation network is trained.

    Attributes:
        network: shape.
        loss: what is minimised.
        augmentation: of the samples.
        optimizer: AdamW or SGD with momentum 0.9.
        steps: of the whole training.
        batch: samples a step.
        lr: learning rate at the start; it falls to 0 with (share left) ** power.
        power: see there.
        weight_decay: of all weights.
        every: steps between checkpoints, evaluations and rows of the record.
        precision: of the network's arithmetic.
        seed: of everything random.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: MaskAugmentation = field(default_factory=MaskAugmentation)
    optimizer: OptimizerKind = OptimizerKind.ADAMW
    steps: int = 2000
    batch: int = 16
    lr: float = 1e-3
    power: float = 0.9
    weight_decay: float = 1e-4
    every: int = 200
    precision: Precision = Precision.FP32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch < 2:  # DeepLabV3 normalises over the batch
            raise ValueError(f"batch must be at least 2, got {self.batch}")
        if not 0 < self.lr < math.inf or self.seed < 0:
            raise ValueError(
                f"lr must be more than 0 and seed at least 0, got {self.lr}, {self.seed}"
            )
        if not 0 <= self.power < math.inf:  # below 0 the rate would rise
            raise ValueError(f"power must be at least 0, got {self.power}")


class Judge(Protocol):
    """Measures a network on samples that it is not trained on."""

    def watch(self, segmenter: Segmenter) -> Row:
        """Return named numbers during training."""

    def conclude(self, segmenter: Segmenter, folder: Path) -> dict[str, Any]:
        """Measure the finished network, write what belongs into the folder, return plain JSON."""


def rate_at(step: int, config: LearningConfig) -> float:
    """Return the learning rate of a step: lr * (share left) ** power.

    Source: Liu et al. 2015 (arXiv:1506.04579), "poly" policy.
    """
    return config.lr * (1 - step / config.steps) ** config.power


class Learning:
    """A segmentation network in training.

    Args:
        labelled: what is learned.
        config: of everything.
        side: that images were resized to; None for their own size.
        device: where to compute.
        judge: measures on other samples; None for nobody.
        choose_by: number of the judge by which the best weights are kept; None keeps only the last.
    Raises: ValueError where samples, options and network do not fit each other.
    """

    def __init__(
        self,
        labelled: LabelledSet,
        config: LearningConfig,
        *,
        side: int | None = None,
        device: torch.device,
        judge: Judge | None = None,
        choose_by: str | None = None,
    ) -> None:
        self.labelled, self.config, self.device = labelled, config, device
        self._judge, self._choose_by = judge, choose_by
        check_fits(config.network, labelled)
        check_classes_occur(labelled, "--data")
        config.precision.use_on(device)
        self._factors = torch.from_numpy(self._class_factors()).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "segmenter"))
            network = build_network(config.network).to(device)
        self.segmenter = Segmenter(
            network=network,
            config=config.network,
            classes=labelled.classes,
            modalities=labelled.modalities,
            side=side,
            device=device,
        )
        self._optimizer = build_optimizer(network, config)
        self._scaler = config.precision.scaler(device)
        self._sampler = InfiniteSampler(len(labelled), config.seed)
        self.step = 0
        self.rows: list[Row] = []

    def run(self, output: OutputFolder, progress: Callable[[int], None]) -> dict[str, Any]:
        """Train to the end, continuing what is in the folder; return the judge's conclusion.

        Raises: FloatingPointError where the loss is no longer finite; the last checkpoint is kept.
        """
        checkpoint = output.path / CHECKPOINT_FILE
        if checkpoint.is_file():
            self._load(checkpoint)
            progress(self.step)
            _log.info("continuing at step %d of %d", self.step, self.config.steps)
        while self.step < self.config.steps:
            row = self._run_interval(progress)
            if self._is_best(row):
                save_segmenter(output.path / BEST_FILE, self.segmenter)
            self.rows.append(row)
            self._save(checkpoint)
            files.write_json_lines(output.path / STATS_FILE, self.rows)
        save_segmenter(output.path / MODEL_FILE, self.segmenter)
        result = self._judge.conclude(self.segmenter, output.path) if self._judge else {}
        output.finish({"samples": len(self.labelled), "last": self.rows[-1], "result": result})
        checkpoint.unlink(missing_ok=True)
        return result

    def _run_interval(self, progress: Callable[[int], None]) -> Row:
        began = time.perf_counter()
        self.segmenter.network.train()
        measured = []
        until = min(self.config.steps, (self.step // self.config.every + 1) * self.config.every)
        while self.step < until:
            measured.append(self._run_step())
            progress(1)
        loss, accuracy = torch.stack(measured).mean(dim=0).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step}: lower lr ({self.config.lr}); the last "
                "checkpoint is kept"
            )
        rate = rate_at(self.step - 1, self.config)
        row = {"step": self.step, "loss": loss, "accuracy": accuracy, "lr": rate}
        if self._judge is not None:
            row |= self._judge.watch(self.segmenter)
        row["seconds"] = time.perf_counter() - began
        _log.info("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return row

    def _run_step(self) -> Tensor:
        """Return [2]: the loss, and the share of pixels that were right."""
        images, masks, uncertainty = self._batch()
        with self.config.precision.autocast(self.device):
            logits = self.segmenter.network(images)
        logits = logits.float()
        loss = self._loss(logits, masks, uncertainty)
        for group in self._optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.config)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.step += 1
        is_right = (logits.argmax(dim=1) == masks).float().mean()
        return torch.stack([loss.detach(), is_right])

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        config, start = self.config, self.step * self.config.batch
        samples = [self.labelled[self._sampler.index_at(start + k)] for k in range(config.batch)]
        return config.augmentation(
            to_float(torch.stack([sample.image for sample in samples]).to(self.device)),
            torch.stack([sample.mask for sample in samples]).to(self.device).long(),
            torch.stack([sample.uncertainty for sample in samples]).to(self.device),
            self.labelled.classes.mirrored(),
            generator_for(config.seed, "augment", self.step),
        )

    def _loss(self, logits: Tensor, masks: Tensor, uncertainty: Tensor) -> Tensor:
        config = self.config.loss
        weights = losses.certainty(uncertainty, config.strength)
        loss = losses.weighted_cross_entropy(logits, masks, weights, self._factors)
        if config.dice > 0:
            loss = loss + config.dice * losses.dice_loss(logits, masks, weights)
        return loss

    def _class_factors(self) -> Any:
        config, pixels = self.config.loss, self.labelled.pixels
        if config.factors:
            if len(config.factors) != len(self.labelled.classes):
                raise ValueError(
                    f"--class-weights: {len(self.labelled.classes)} numbers are needed, got "
                    f"{len(config.factors)}"
                )
            return torch.tensor(config.factors, dtype=torch.float32).numpy()
        sizes = pixels.sum(axis=1, keepdims=True)
        present = (sizes * (pixels > 0)).sum(axis=0)
        return losses.class_weights(config.weighting, pixels.sum(axis=0), present)

    def _is_best(self, row: Row) -> bool:
        if self._choose_by is None:
            return False
        return all(row[self._choose_by] > other[self._choose_by] for other in self.rows)

    def _save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "rows": self.rows,
            "network": self.segmenter.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        save_checkpoint(path, state)

    def _load(self, path: Path) -> None:
        state = load_checkpoint(path, torch.device("cpu"))  # the optimizer counts steps there
        self.step, self.rows = state["step"], state["rows"]
        self.segmenter.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])


def build_optimizer(network: torch.nn.Module, config: LearningConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all weights."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer is OptimizerKind.SGD:
        return torch.optim.SGD(network.parameters(), momentum=0.9, **options)
    return torch.optim.AdamW(network.parameters(), **options)


def learn(
    learning: Learning, output: OutputFolder, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Train in a folder that no other process works in; see `Learning.run`."""
    with output.at_work():
        return learning.run(output, progress)
