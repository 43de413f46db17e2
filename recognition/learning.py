"""Training of a recogniser: margin loss over people, SGD, checkpoints, exact continuation."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from data.sampler import InfiniteSampler
from dnnlib import files
from dnnlib.outputs import OutputFolder
from dnnlib.runs import lock_run
from recognition.augmentation import FaceAugmentation
from recognition.backbones import build_backbone, named_backbone, state_of
from recognition.embedding import Embedder, Preprocessing, preprocess
from recognition.heads import HeadConfig, MarginHead
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.seeding import derive_seed, generator_for

RECORD_FILE = "training_options.json"
STATS_FILE = "stats.jsonl"
MODEL_FILE = "recogniser.pth"
CHECKPOINT_FILE = "checkpoint.pt"

Row = dict[str, float]
_log = logging.getLogger(__name__)


class Faces(Protocol):
    """What is trained on; see recognition.face_sets."""

    people: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """How a recogniser is trained.

    Attributes:
        backbone: r18, r34, r50, r100, r200 or mobilefacenet.
        width: factor of its channels.
        embedding: width of the embeddings.
        size: width and height that images are resized to, in pixels.
        dropout: before the last layer.
        head: margin loss.
        augmentation: of the images.
        epochs: passes over the data.
        batch: images a step.
        lr: largest learning rate of SGD with momentum; it falls with the square of what is left.
        momentum: of SGD.
        weight_decay: of all weights.
        warmup: share of the steps in which the rate rises.
        seed: of everything random.
    """

    backbone: str = "r50"
    width: float = 1.0
    embedding: int = 512
    size: int = 112
    dropout: float = 0.0
    head: HeadConfig = field(default_factory=HeadConfig)
    augmentation: FaceAugmentation = field(default_factory=FaceAugmentation)
    epochs: int = 20
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be more than 0, got {self.lr}")
        if not 0 <= self.dropout < 1 or not 0 <= self.warmup < 1:
            raise ValueError(f"dropout and warmup must be 0..1, got {self.dropout}, {self.warmup}")


def rate_at(step: int, steps: int, config: LearningConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then (share left) squared."""
    rising = max(round(config.warmup * steps), 1)
    if step < rising:
        return config.lr * (step + 1) / rising
    return config.lr * (1 - (step - rising) / max(steps - rising, 1)) ** 2


class Learning:
    """A recogniser in training.

    Args:
        faces: images and people.
        config: of everything.
        device: where to compute.
        evaluate: named numbers of the recogniser as it is, once an epoch; None for none.
    Raises: ValueError for an unknown backbone, or fewer images than a batch.
    """

    def __init__(
        self,
        faces: Faces,
        config: LearningConfig,
        device: torch.device,
        evaluate: Callable[[Embedder], Row] | None = None,
    ) -> None:
        if len(faces) < config.batch:
            raise ValueError(f"batch must be at most the {len(faces)} images, got {config.batch}")
        self.faces, self.config, self.device, self.evaluate = faces, config, device, evaluate
        self.shape = named_backbone(
            config.backbone, embedding=config.embedding, size=config.size, width=config.width
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "recogniser"))
            self.backbone = build_backbone(self.shape, config.dropout).to(device)
            self.head = MarginHead(config.embedding, len(faces.people), config.head).to(device)
        parameters = [p for p in self._modules().parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.sampler = InfiniteSampler(len(faces), config.seed)
        self.preprocessing = Preprocessing(size=config.size)
        self.steps_per_epoch = len(faces) // config.batch
        self.step = 0
        self.rows: list[Row] = []

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.config.epochs

    def run(self, output: OutputFolder, progress: Callable[[int], None]) -> Row:
        """Train to the end, continuing what is in the folder; return the last epoch's numbers.

        Raises: FloatingPointError where the loss is no longer finite; the last checkpoint is kept.
        """
        checkpoint = output.path / CHECKPOINT_FILE
        if checkpoint.is_file():
            self._load(checkpoint)
            progress(self.step)
            _log.info("continuing at step %d of %d", self.step, self.steps)
        while self.step < self.steps:
            self.rows.append(self._run_epoch(progress))
            self._save(checkpoint)
            _write_rows(output.path / STATS_FILE, self.rows)
        save_checkpoint(output.path / MODEL_FILE, state_of(self.backbone, self.shape))
        output.finish({"people": len(self.faces.people), "result": self.rows[-1]})
        checkpoint.unlink(missing_ok=True)
        return self.rows[-1]

    def embedder(self) -> Embedder:
        """Return the recogniser as it is."""
        return Embedder(
            self.backbone,
            self.preprocessing,
            hash=f"step {self.step}",
            width=self.config.embedding,
            device=self.device,
        )

    def _run_epoch(self, progress: Callable[[int], None]) -> Row:
        began = time.perf_counter()
        self._modules().train()
        losses, hits = [], []
        for _ in range(self.steps_per_epoch):
            loss, right = self._run_step()
            losses.append(loss)
            hits.append(right)
            progress(1)
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step}: lower lr ({self.config.lr}) or raise "
                "warmup; the checkpoint of the epoch before is kept"
            )
        row = {
            "epoch": self.step // self.steps_per_epoch,
            "loss": loss,
            "accuracy": float(torch.stack(hits).mean()),
            "lr": rate_at(self.step - 1, self.steps, self.config),
            "seconds": time.perf_counter() - began,
        }
        if self.evaluate is not None:
            row |= self.evaluate(self.embedder())
        _log.info("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return row

    def _run_step(self) -> tuple[Tensor, Tensor]:
        config, start = self.config, self.step * self.config.batch
        items = [self.faces[self.sampler.index_at(start + i)] for i in range(config.batch)]
        images = torch.stack([image for image, _ in items]).to(self.device)
        people = torch.tensor([person for _, person in items], device=self.device)
        x = preprocess(images, self.preprocessing)
        x = config.augmentation(x, generator_for(config.seed, "augment", self.step))
        losses, is_right = self.head(self.backbone(x), people)
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.steps, config)
        self.optimizer.step()
        self.step += 1
        return losses.detach().mean(), is_right.float().mean()

    def _modules(self) -> nn.ModuleList:
        return nn.ModuleList([self.backbone, self.head])

    def _save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "rows": self.rows,
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(path, state)

    def _load(self, path: Path) -> None:
        state = load_checkpoint(path, self.device)
        self.step, self.rows = state["step"], state["rows"]
        self.backbone.load_state_dict(state["backbone"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


def learn(learning: Learning, output: OutputFolder, progress: Callable[[int], None]) -> Row:
    """Train in a folder that no other process works in; see `Learning.run`."""
    output.begin()
    lock = lock_run(output.path)
    try:
        return learning.run(output, progress)
    finally:
        lock.release()


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with files.atomic_write(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
