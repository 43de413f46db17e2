"""Trains all members of an ensemble at once on gathered pixels."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interpreter.ensemble import PixelEnsemble, hidden_widths, save_models
from interpreter.experiment import Experiment, Stopping
from interpreter.features import FeatureLayout, FeatureTable
from torch_utils.devices import upload
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Task

_PUBLISHED_EPOCHS = 4  # numbers 0 to 3, in which the published rule ignores losses
_PUBLISHED_PATIENCE = 50  # batches
_TILES_A_SIDE = 16
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PixelSplit:
    """Pixels by their index, image * R**2 + row * R + column, in [n] int64 each."""

    train: Tensor  # pixels to learn from
    heldout: Tensor  # pixels to stop by; empty under the published rule


def split_pixels(images: int, resolution: int, experiment: Experiment) -> PixelSplit:
    """Hold out tiles of 1/16 of the side, chosen at random, so that neighbours stay together.

    At least one tile is held out and at least one is not.
    """
    everything = torch.arange(images * resolution**2)
    if experiment.stopping is Stopping.PUBLISHED:
        return PixelSplit(everything, everything[:0])
    side = min(_TILES_A_SIDE, resolution)
    tiles = images * side * side
    random = generator_for(experiment.seed, "heldout")
    order = torch.randperm(tiles, generator=random)
    count = min(max(1, round(tiles * experiment.heldout_fraction)), tiles - 1)
    is_held = torch.zeros(tiles, dtype=torch.bool)
    is_held[order[:count]] = True
    tile = torch.arange(resolution) * side // resolution
    mask = is_held.view(images, side, side)[:, tile][:, :, tile].flatten()
    heldout = everything[mask]
    chosen = torch.randperm(len(heldout), generator=random)[: experiment.heldout_pixels]
    return PixelSplit(everything[~mask], heldout[chosen.sort().values])


class PixelSampler:
    """Samples training pixels with repetition.

    A class with n pixels is taken in proportion to n ** (1 - balance), its pixels alike: balance 0
    gives every pixel the same chance, as published; 1 gives every class the same.

    Attributes:
        weights: [K] float32, n ** -balance.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, classes: int, balance: float) -> None:
        """Sort the pixels by class.

        Args:
            pixels: [n] int64, indices of pixels.
            labels: [n] int64, their classes.
            classes: K.
            balance: 0..1.
        """
        self._pixels = pixels[labels.argsort(stable=True)]
        self._counts = torch.bincount(labels, minlength=classes)
        self._first = self._counts.cumsum(0) - self._counts
        found = self._counts.double().clamp(min=1)
        self.shares = torch.where(self._counts > 0, found ** (1 - balance), 0.0)
        self.shares /= self.shares.sum()
        self.weights = (found**-balance).float()

    def sample(self, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
        """Return pixels, [*shape] int64; `random` is a source on the CPU."""
        count = torch.Size(shape).numel()
        label = torch.multinomial(self.shares, count, replacement=True, generator=random)
        offset = torch.rand(count, dtype=torch.float64, generator=random) * self._counts[label]
        return self._pixels[self._first[label] + offset.long()].view(shape)


class EnsembleTask(Task):
    """An ensemble in training.

    Args:
        labels: [images * R * R] uint8, below `classes`.
        layout: of each image's feature maps.
        experiment: how to train.
        classes: K.
        device: where features are kept and training computes.

    Attributes:
        table: features of all images, before the first step.
        ensemble: as it is now.
        kept: the weights of each member that its stopping rule keeps, in evaluation mode at the
            end.
    """

    table: FeatureTable

    def __init__(
        self,
        labels: Tensor,
        layout: FeatureLayout,
        experiment: Experiment,
        classes: int,
        device: torch.device,
    ) -> None:
        self.layout, self.experiment = layout, experiment
        self.images = len(labels) // layout.resolution**2
        self.split = split_pixels(self.images, layout.resolution, experiment)
        self.steps_an_epoch = max(1, len(self.split.train) // experiment.batch_size)
        by_epochs = self.steps_an_epoch * experiment.max_epochs
        super().__init__(min(by_epochs, experiment.max_steps or by_epochs), device)
        self._labels = labels.long().to(device)
        learnt = labels.cpu().long()[self.split.train]
        balance = experiment.class_balance
        self.sampler = PixelSampler(self.split.train, learnt, classes, balance)
        widths = (layout.total, hidden_widths(classes), classes)
        members, seed = experiment.model_num, derive_seed(experiment.seed, "initial weights")
        self.ensemble = PixelEnsemble(*widths, members, seed=seed).to(device)
        self.kept = PixelEnsemble(*widths, members, seed=seed).to(device)
        self._optimizer = torch.optim.Adam(
            self.ensemble.parameters(), lr=experiment.learning_rate, fused=True
        )
        self.done = 0
        self._best = [math.inf] * members
        self._stale = [0] * members
        self.is_stopped = [False] * members

    def step(self, index: int) -> None:
        """Train all members on pixels of their own."""
        shape = (self.experiment.model_num, self.experiment.batch_size)
        random = generator_for(self.experiment.seed, "batch", index)
        pixels = upload(self.sampler.sample(shape, random), self.device)
        features = self.table.gather(pixels.flatten()).view(*shape, -1)
        self.ensemble.train()
        losses = _member_losses(self.ensemble(features), self._labels[pixels])
        self._optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self._optimizer.step()
        self.done = index + 1
        self.statistics.report("Loss/total", losses.detach())
        if self.experiment.stopping is Stopping.PUBLISHED:
            self.stop_as_published(losses.tolist())

    def is_finished(self, index: int) -> bool:
        """Tell whether all members have stopped or the limit is reached."""
        return index >= self.steps or all(self.is_stopped)

    def networks(self) -> dict[str, nn.Module]:
        """Return the ensemble."""
        return {"interpreter": self.ensemble}

    def validate(self, folder: Path) -> dict[str, float]:
        """Measure held-out pixels; keep the best weights of each member, and stop it."""
        heldout = self.split.heldout.to(self.device)
        if not len(heldout):
            return {}
        self.ensemble.eval()
        with torch.no_grad():
            logits = self.ensemble(self.table.gather(heldout))
        labels = self._labels[heldout].expand(len(logits), -1)
        losses = _member_losses(logits, labels, self.sampler.weights.to(self.device))
        is_right = (logits.argmax(dim=2) == labels).float()
        self._keep(self._stop(losses.tolist(), self.experiment.patience - 1)[0])
        return {
            "heldout_loss": float(losses.mean()),
            "heldout_accuracy": float(is_right.mean()),
            "members_in_training": float(self.is_stopped.count(False)),
        }

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the models as published code reads them."""
        if count := self.is_stopped.count(False):
            _logger.info(
                "%d of %d members were ended by the limit of %d steps, before they had stopped"
                " learning; max_steps in the experiment raises it",
                count,
                len(self.is_stopped),
                self.steps,
            )
        if self.experiment.stopping is Stopping.PUBLISHED:
            self._keep([member for member, done in enumerate(self.is_stopped) if not done])
        save_models(folder, self.kept.eval().requires_grad_(False), self.done)
        return {"members": len(self.is_stopped), "steps": self.done}

    def summary(self, record: Mapping[str, Any]) -> str:
        """Return how many models there are."""
        return f"{record['members']} models after {record['steps']} steps"

    def parts(self) -> dict[str, Any]:
        """Return the ensemble, what is kept of it, and the optimiser."""
        return {"ensemble": self.ensemble, "kept": self.kept, "optimizer": self._optimizer}

    def state_dict(self) -> dict[str, Any]:
        """Add how far each member has come."""
        return {
            **super().state_dict(),
            "done": self.done,
            "best": self._best,
            "stale": self._stale,
            "is_stopped": self.is_stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state)
        self.done, self._best, self._stale = state["done"], state["best"], state["stale"]
        self.is_stopped = state["is_stopped"]

    def _stop(self, losses: list[float], most_stale: int) -> tuple[list[int], list[int]]:
        """Stop members whose losses have not fallen for longer than `most_stale`.

        Returns: those with a new best, and those that this stopped.
        """
        improved, stopped = [], []
        for member, loss in enumerate(losses):
            if self.is_stopped[member]:
                continue
            if loss < self._best[member]:
                self._best[member], self._stale[member] = loss, 0
                improved.append(member)
                continue
            self._stale[member] += 1
            if self._stale[member] > most_stale:
                self.is_stopped[member] = True
                stopped.append(member)
        return improved, stopped

    def stop_as_published(self, losses: list[float]) -> None:
        """Stop members by the losses of the last step, see `Stopping.PUBLISHED`."""
        if self.done > _PUBLISHED_EPOCHS * self.steps_an_epoch:
            self._keep(self._stop(losses, _PUBLISHED_PATIENCE)[1])

    @torch.no_grad()
    def _keep(self, members: list[int]) -> None:
        for kept, current in zip(
            self.kept.state_dict().values(), self.ensemble.state_dict().values(), strict=True
        ):
            kept[members] = current[members]


def _member_losses(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of each member: [M].

    Args:
        logits: [M, B, K].
        labels: [M, B] int64.
        weights: [K], of the classes in the mean; None for equal ones.
    """
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    losses = losses.view(labels.shape)
    if weights is None:
        return losses.mean(dim=1)
    share = weights[labels]
    return (losses * share).sum(dim=1) / share.sum(dim=1)
