"""Training of a segmentation network: what a step does, validation, the best weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.pixels import to_float
from data.sampler import InfiniteSampler
from dnnlib import files
from segmentation import losses
from segmentation.augmentation import augment
from segmentation.evaluation import (
    EVALUATION_FILE,
    count_masks,
    evaluate_masks,
    flat_numbers,
    report_sentence,
    save_sheet,
)
from segmentation.labelled_set import LabelledSet, check_classes_occur
from segmentation.model_files import (
    Segmenter,
    check_fits,
    load_segmenter,
    save_segmenter,
)
from segmentation.networks import build_network
from segmentation.options import OptimizerKind, TrainingConfig
from torch_utils.devices import upload
from torch_utils.guarded_step import GuardedStep
from torch_utils.precision import Precision
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Task

MODEL_FILE = "segmenter.pth"
BEST_FILE = "segmenter_best.pth"


def rate_at(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: lr * (share left) ** power.

    Source: Liu et al. 2015 (arXiv:1506.04579), "poly" policy.
    """
    return config.lr * (1 - step / config.steps) ** config.power


class SegmentationTask(Task):
    """A segmentation network in training.

    Args:
        labelled: the training samples.
        config: how to train.
        side: width and height that images were resized to, in pixels; None for their own size.
        device: where to compute.
        measured: labelled sets, "val" and "test", that the network is measured on. With "val", the
            weights with the best mean IoU there are kept too.
    Raises: ValueError where samples, options and network do not fit each other.
    """

    def __init__(
        self,
        labelled: LabelledSet,
        config: TrainingConfig,
        *,
        device: torch.device,
        side: int | None = None,
        measured: Mapping[str, LabelledSet] | None = None,
    ) -> None:
        super().__init__(config.steps, device)
        self.labelled, self.config, self.measured = labelled, config, measured or {}
        check_fits(config.network, labelled)
        check_classes_occur(labelled, "--data")
        self.precision = Precision(config.precision)
        self.precision.use_on(device)
        self._factors = self._class_factors().to(device)
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
        self.optimizer = build_optimizer(network, config)
        self._scaler = self.precision.scaler(device)
        advice = f"lower --lr ({config.lr}); the last checkpoint is kept"
        self.guards = [GuardedStep("segmentation network", device, advice, scaler=self._scaler)]
        self._sampler = InfiniteSampler(len(labelled), config.seed)
        self._best_iou = -math.inf

    def step(self, index: int) -> None:
        """Train on one batch."""
        images, masks, uncertainty = self._batch(index)
        self.segmenter.network.train()
        with self.precision.autocast(self.device):
            logits = self.segmenter.network(images)
        logits = logits.float()
        loss = self._loss(logits, masks, uncertainty)
        self.rate = rate_at(index, self.config)
        self.descend(loss, self.optimizer)
        self.statistics.report("Loss/total", loss)
        is_right = (logits.argmax(dim=1) == masks).float().mean()
        self.statistics.report("Accuracy/pixels", is_right)

    def networks(self) -> dict[str, nn.Module]:
        """Return the network."""
        return {"segmentation network": self.segmenter.network}

    def validate(self, folder: Path) -> dict[str, float]:
        """Return each set's IoU by class, their mean and the pixel accuracy; keep the best."""
        row: dict[str, float] = {}
        for name, labelled in self.measured.items():
            row |= flat_numbers(count_masks(self.segmenter, labelled), name)
        iou = row.get("val_mean_iou", -math.inf)
        if iou > self._best_iou:
            self._best_iou = iou
            save_segmenter(folder / BEST_FILE, self.segmenter)
        return row

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the last weights; measure them, and the best, on the test set."""
        save_segmenter(folder / MODEL_FILE, self.segmenter)
        labelled = self.measured.get("test", self.measured.get("val"))
        if labelled is None:
            return {"samples": len(self.labelled), "test": {}}
        result = {"last": evaluate_masks(self.segmenter, labelled)}
        if "val" in self.measured:
            best = load_segmenter(folder / BEST_FILE, self.device)
            result["best"] = evaluate_masks(best, labelled)
        save_sheet(folder, self.segmenter, labelled)
        files.write_json(folder / EVALUATION_FILE, result)
        return {"samples": len(self.labelled), "test": result}

    def summary(self, record: Mapping[str, Any]) -> str:
        """Return the numbers of the test."""
        report = record["test"].get("last")
        return report_sentence(report) if report else "trained; --test measures"

    def parts(self) -> dict[str, Any]:
        """Return weights, optimiser and loss scale."""
        network = self.segmenter.network
        return {"network": network, "optimizer": self.optimizer, "scaler": self._scaler}

    def state_dict(self) -> dict[str, Any]:
        """Add the best mean IoU."""
        return {**super().state_dict(), "best_iou": self._best_iou}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state)
        self._best_iou = state["best_iou"]

    def _batch(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        config, start = self.config, index * self.config.batch
        samples = [self.labelled[self._sampler.index_at(start + k)] for k in range(config.batch)]
        return augment(
            config.augmentation,
            to_float(self._stacked([sample.image for sample in samples])),
            self._stacked([sample.mask for sample in samples]).long(),
            self._stacked([sample.uncertainty for sample in samples]),
            self.labelled.classes.mirrored(),
            generator_for(config.seed, "augment", index),
        )

    def _stacked(self, tensors: list[Tensor]) -> Tensor:
        return upload(torch.stack(tensors), self.device)

    def _loss(self, logits: Tensor, masks: Tensor, uncertainty: Tensor) -> Tensor:
        config = self.config.loss
        weights = losses.certainty(uncertainty, config.strength)
        loss = losses.weighted_cross_entropy(logits, masks, weights, self._factors)
        if config.dice > 0:
            loss = loss + config.dice * losses.dice_loss(logits, masks, weights)
        return loss

    def _class_factors(self) -> Tensor:
        weighting, pixels = self.config.loss.weighting, self.labelled.pixels
        if isinstance(weighting, tuple):
            classes = len(self.labelled.classes)
            if len(weighting) != classes:
                raise ValueError(
                    f"--class-weights: {classes} numbers are needed, got {len(weighting)}"
                )
            return torch.tensor(weighting)
        sizes = pixels.sum(axis=1, keepdims=True)
        present = (sizes * (pixels > 0)).sum(axis=0)
        return torch.from_numpy(losses.class_weights(weighting, pixels.sum(axis=0), present))


def build_optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all weights."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer is OptimizerKind.SGD:
        return torch.optim.SGD(network.parameters(), momentum=0.9, **options)
    return torch.optim.AdamW(network.parameters(), **options)
