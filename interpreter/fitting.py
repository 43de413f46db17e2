"""Trains all members of an ensemble at once on gathered pixels, and continues after a kill."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interpreter.ensemble import PixelEnsemble, hidden_widths
from interpreter.features import FeatureTable
from interpreter.sampling import PixelSampler
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.seeding import derive_seed, generator_for

_PUBLISHED_EPOCHS = 4  # numbers 0 to 3, in which the published rule looks at no loss
_PUBLISHED_PATIENCE = 50  # batches
_TILES_A_SIDE = 16
_logger = logging.getLogger(__name__)


class Stopping(StrEnum):
    """When a member has learnt enough.

    HELDOUT: its loss on held-out pixels has not fallen for some evaluations; the best is kept.
    PUBLISHED: after epoch 3, counted from 0, more than 50 batches without a loss below those of all
    batches since then.
    """

    HELDOUT = "heldout"
    PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How the ensemble is trained.

    Attributes:
        members: M.
        classes: K.
        batch: pixels a step and member.
        class_balance: 0..1, how much more often small classes are drawn (PixelSampler); the
            held-out loss weighs them alike. 0 is published.
        learning_rate: of Adam.
        max_epochs: limit, in passes over as many pixels as there are.
        max_steps: limit in steps; 0 is none.
        stopping: when a member stops.
        heldout_fraction: share of the image area, in tiles, kept from training under HELDOUT.
        heldout_pixels: of these, pixels that are looked at in an evaluation.
        evaluate_every: steps between evaluations and checkpoints.
        patience: evaluations without a lower held-out loss after which a member stops.
        seed: of everything random.
    """

    members: int
    classes: int
    batch: int = 64
    class_balance: float = 0.5
    learning_rate: float = 1e-3
    max_epochs: int = 100
    max_steps: int = 0
    stopping: Stopping = Stopping.HELDOUT
    heldout_fraction: float = 0.0625
    heldout_pixels: int = 2048
    evaluate_every: int = 100
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"members": 1, "classes": 2, "batch": 2, "max_epochs": 1, "max_steps": 0}
        least |= {"heldout_pixels": 1, "evaluate_every": 1, "patience": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 <= self.class_balance <= 1:
            raise ValueError(f"class_balance must be within 0..1, got {self.class_balance}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.heldout_fraction < 1:
            raise ValueError(f"heldout_fraction must be within 0..1, got {self.heldout_fraction}")


@dataclass(frozen=True)
class PixelSplit:
    """Pixels by their place, image * R**2 + row * R + column, in [n] int64 each.

    Attributes:
        train: pixels to learn from.
        heldout: pixels to stop by; empty under the published rule.
    """

    train: Tensor
    heldout: Tensor


@dataclass(frozen=True)
class FitResult:
    """A trained ensemble.

    Attributes:
        ensemble: in evaluation mode; each member as it was kept.
        steps: batches that were computed.
        history: an entry an evaluation: step, mean training loss, held-out loss and accuracy of
            each member.
    """

    ensemble: PixelEnsemble
    steps: int
    history: list[dict[str, Any]]


def split_pixels(images: int, resolution: int, options: FitOptions) -> PixelSplit:
    """Hold out tiles of 1/16 of the side, drawn at random, so that neighbours stay together.

    At least one tile is held out and at least one is not.
    """
    everything = torch.arange(images * resolution**2)
    if options.stopping is Stopping.PUBLISHED:
        return PixelSplit(everything, everything[:0])
    side = min(_TILES_A_SIDE, resolution)
    tiles = images * side * side
    random = generator_for(options.seed, "heldout")
    order = torch.randperm(tiles, generator=random)
    count = min(max(1, round(tiles * options.heldout_fraction)), tiles - 1)
    is_held = torch.zeros(tiles, dtype=torch.bool)
    is_held[order[:count]] = True
    place = torch.arange(resolution) * side // resolution
    mask = is_held.view(images, side, side)[:, place][:, :, place].flatten()
    heldout = everything[mask]
    chosen = torch.randperm(len(heldout), generator=random)[: options.heldout_pixels]
    return PixelSplit(everything[~mask], heldout[chosen.sort().values])


class Fit:
    """One training of an ensemble; its state is everything that a checkpoint holds."""

    def __init__(self, table: FeatureTable, labels: Tensor, options: FitOptions) -> None:
        """Start from initial weights.

        Args:
            table: features of all images.
            labels: [images * R * R] uint8, classes below `options.classes`.
            options: how to train.
        """
        self.options, self._table = options, table
        self._device = table.device
        self._labels = labels.long().to(self._device)
        self.split = split_pixels(table.images, table.layout.resolution, options)
        learnt = labels.cpu().long()[self.split.train]
        self.sampler = PixelSampler(
            self.split.train, learnt, options.classes, options.class_balance
        )
        widths = (table.layout.total, hidden_widths(options.classes), options.classes)
        seed = derive_seed(options.seed, "initial weights")
        self.ensemble = PixelEnsemble(*widths, options.members, seed=seed).to(self._device)
        self._kept = PixelEnsemble(*widths, options.members, seed=seed).to(self._device)
        self._optimizer = torch.optim.Adam(
            self.ensemble.parameters(), lr=options.learning_rate, fused=True
        )
        self.step = 0
        self._best = [math.inf] * options.members
        self._stale = [0] * options.members
        self._is_stopped = [False] * options.members
        self.history: list[dict[str, Any]] = []

    @property
    def steps_an_epoch(self) -> int:
        """Batches in as many pixels as there are to train on."""
        return max(1, len(self.split.train) // self.options.batch)

    @property
    def limit(self) -> int:
        """Steps after which training ends in any case."""
        by_epochs = self.steps_an_epoch * self.options.max_epochs
        return min(by_epochs, self.options.max_steps or by_epochs)

    @property
    def is_finished(self) -> bool:
        """Whether all members have stopped or the limit is reached."""
        return self.step >= self.limit or all(self._is_stopped)

    def run(self, checkpoint: Path | None, progress: Callable[[int], None]) -> FitResult:
        """Train to the end, saving a checkpoint after each evaluation.

        Args:
            checkpoint: file to save to; None saves nothing.
            progress: called with the number of further steps.
        Raises: FloatingPointError where the loss is not finite.
        """
        held_features = self._table.gather(self.split.heldout.to(self._device))
        while not self.is_finished:
            losses = self._train_batch()
            if self.options.stopping is Stopping.PUBLISHED:
                self._stop_as_published(losses)
            if self.step % self.options.evaluate_every == 0 or self.is_finished:
                self._evaluate(held_features)
                if checkpoint is not None:
                    save_checkpoint(checkpoint, self.state())
            progress(1)
        if count := self._is_stopped.count(False):
            _logger.info(
                "%d of %d members were ended by the limit of %d steps, before they had stopped"
                " learning; max_steps in the experiment raises it",
                count,
                len(self._is_stopped),
                self.limit,
            )
        if self.options.stopping is Stopping.PUBLISHED:
            self._keep([index for index, done in enumerate(self._is_stopped) if not done])
        return FitResult(self._kept.eval().requires_grad_(False), self.step, self.history)

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on to the same bytes."""
        return {
            "step": self.step,
            "ensemble": self.ensemble.state_dict(),
            "kept": self._kept.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
            "stale": self._stale,
            "is_stopped": self._is_stopped,
            "history": self.history,
        }

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same training."""
        state = load_checkpoint(path, self._device)
        self.ensemble.load_state_dict(state["ensemble"])
        self._kept.load_state_dict(state["kept"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]
        self._best, self._stale = state["best"], state["stale"]
        self._is_stopped = state["is_stopped"]

    def _train_batch(self) -> list[float]:
        """Train all members on pixels of their own; return their losses."""
        options = self.options
        random = generator_for(options.seed, "batch", self.step)
        shape = (options.members, options.batch)
        pixels = self.sampler.draw(shape, random).to(self._device)
        features = self._table.gather(pixels.flatten()).view(*shape, -1)
        self.ensemble.train()
        losses = _member_losses(self.ensemble(features), self._labels[pixels])
        self._optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self._optimizer.step()
        self.step += 1
        values = losses.tolist()
        if not all(math.isfinite(value) for value in values):
            raise FloatingPointError(f"training: loss is not finite at step {self.step}")
        return values

    def _evaluate(self, features: Tensor) -> None:
        """Record losses; under HELDOUT keep the best weights of each member and stop it."""
        entry: dict[str, Any] = {"step": self.step}
        if len(features):
            self.ensemble.eval()
            with torch.no_grad():
                logits = self.ensemble(features)
            labels = self._labels[self.split.heldout.to(self._device)]
            labels = labels.expand(self.options.members, -1)
            losses = _member_losses(logits, labels, self.sampler.weights.to(labels.device)).tolist()
            entry["heldout_loss"] = losses
            entry["heldout_accuracy"] = (
                (logits.argmax(dim=2) == labels).float().mean(dim=1).tolist()
            )
            self._stop_by_heldout(losses)
        self.history.append(entry)

    def _stop_by_heldout(self, losses: list[float]) -> None:
        improved = []
        for member, loss in enumerate(losses):
            if self._is_stopped[member]:
                continue
            if loss < self._best[member]:
                self._best[member], self._stale[member] = loss, 0
                improved.append(member)
                continue
            self._stale[member] += 1
            self._is_stopped[member] = self._stale[member] >= self.options.patience
        self._keep(improved)

    def _stop_as_published(self, losses: list[float]) -> None:
        if self.step <= _PUBLISHED_EPOCHS * self.steps_an_epoch:
            return
        for member, loss in enumerate(losses):
            if self._is_stopped[member]:
                continue
            if loss < self._best[member]:
                self._best[member], self._stale[member] = loss, 0
                continue
            self._stale[member] += 1
            if self._stale[member] > _PUBLISHED_PATIENCE:
                self._is_stopped[member] = True
                self._keep([member])

    @torch.no_grad()
    def _keep(self, members: list[int]) -> None:
        for kept, current in zip(
            self._kept.state_dict().values(), self.ensemble.state_dict().values(), strict=True
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
