"""Training of a recogniser: margin loss over people, SGD, checkpoints, exact continuation."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from biometrics.backbones import build_backbone, named_backbone, state_of
from biometrics.embedding import Embedder, Preprocessing
from dnnlib import files
from dnnlib.outputs import OutputFolder
from recognition.face_sets import FaceSet
from recognition.heads import MarginHead
from recognition.learning_config import LearningConfig, rate_at
from recognition.mixup import DomainMixup, IdentityMixup
from recognition.partial_head import PartialHead
from recognition.training_items import Batch, Item, TrainingItems, make_batch, read_steps
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.distributed import World
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.together import at_work_together

RECORD_FILE = "training_options.json"
STATS_FILE = "stats.jsonl"
MODEL_FILE = "recogniser.pth"
CHECKPOINT_FILE = "checkpoint.pt"

Row = dict[str, float]
_log = logging.getLogger(__name__)
_CHECK_INTERVAL = 100  # steps between looks at whether the loss is finite


@dataclass(frozen=True, kw_only=True)
class Mixups:
    """What is mixed into the images and their labels.

    Attributes:
        domain: with real images; None for none.
        identity: of the conditions of two people; None for none.
    """

    domain: DomainMixup | None = None
    identity: IdentityMixup | None = None


class Learning:
    """A recogniser in training.

    Args:
        faces: images and people.
        config: of everything.
        device: where to compute.
        evaluate: named numbers of the recogniser as it is, once an epoch; None for none.
        mixups: of images and labels.
        world: processes that share each batch; every one has its own batch statistics.
        workers: processes that decode images, each; 0 where they are in memory.
    Raises: ValueError for an unknown backbone, fewer images than a batch, a batch that the
        processes do not divide, real images of other modalities, people without images, or half
        precision on a CPU.
    """

    def __init__(
        self,
        faces: FaceSet,
        config: LearningConfig,
        device: torch.device,
        evaluate: Callable[[Embedder], Row] | None = None,
        *,
        mixups: Mixups | None = None,
        world: World | None = None,
        workers: int = 0,
    ) -> None:
        self.faces, self.config, self.device, self.evaluate = faces, config, device, evaluate
        self.mixups, self.world = mixups or Mixups(), world or World()
        self.workers = 0 if faces.is_cached else workers
        self._check()
        self.people = (*faces.people, *self._further_people())
        self.shape = named_backbone(
            config.backbone,
            in_channels=faces.channels,
            embedding=config.embedding,
            size=config.size,
            width=config.width,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "recogniser"))
            self.backbone = build_backbone(self.shape, config.dropout).to(device)
            self.head = self._build_head().to(device)
        parameters = [p for p in self._modules().parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scaler = config.precision.scaler(device)
        self.preprocessing = Preprocessing(size=config.size, channels=faces.channels)
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
        self.world.wait()
        steps = self._read()
        while self.step < self.steps:
            self.rows.append(self._run_epoch(steps, progress))
            if self.world.is_first:
                self._save(checkpoint)
                files.write_json_lines(output.path / STATS_FILE, self.rows)
            self.world.wait()
        if self.world.is_first:
            save_checkpoint(output.path / MODEL_FILE, state_of(self.backbone, self.shape))
            output.finish({"people": len(self.people), "result": self.rows[-1]})
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

    def _check(self) -> None:
        faces, config, domain = self.faces, self.config, self.mixups.domain
        if len(faces) < config.batch:
            raise ValueError(f"--batch must be at most the {len(faces)} images, got {config.batch}")
        if config.batch % self.world.size:
            raise ValueError(
                f"--batch must be a multiple of the {self.world.size} processes, got {config.batch}"
            )
        config.precision.use_on(self.device)
        if domain is not None:
            ours, theirs = ((f.modalities, f.is_joint) for f in (faces, domain.faces))
            if ours != theirs:
                raise ValueError(f"domain mixup: modalities must be {ours}, got {theirs}")
        check_labels(faces)

    def _further_people(self) -> tuple[str, ...]:
        return () if self.mixups.domain is None else self.mixups.domain.faces.people

    def _build_head(self) -> MarginHead | PartialHead:
        config = self.config
        if config.sample_rate < 1:
            return PartialHead(config.embedding, len(self.people), config.head, config.sample_rate)
        return MarginHead(config.embedding, len(self.people), config.head)

    def _read(self) -> Iterator[list[Item]]:
        items = TrainingItems(self.faces, self.config.seed, self.mixups.domain)
        return read_steps(
            items,
            batch=self.config.batch,
            start=self.step,
            world=self.world,
            workers=self.workers,
        )

    def _run_epoch(self, steps: Iterator[list[Item]], progress: Callable[[int], None]) -> Row:
        began = time.perf_counter()
        self._modules().train()
        losses, hits = [], []
        for count in range(1, self.steps_per_epoch + 1):
            loss, right = self._run_step(next(steps))
            losses.append(loss)
            hits.append(right)
            progress(1)
            if count % _CHECK_INTERVAL == 0 or count == self.steps_per_epoch:
                self._check_loss(losses[-_CHECK_INTERVAL:])
        row = {
            "epoch": self.step // self.steps_per_epoch,
            "loss": float(self.world.mean(torch.stack(losses).mean())),
            "accuracy": float(self.world.mean(torch.stack(hits).mean())),
            "lr": rate_at(self.step - 1, self.steps, self.config),
            "seconds": time.perf_counter() - began,
        }
        if self.evaluate is not None and self.world.is_first:
            row |= self.evaluate(self.embedder())
        if self.world.is_first:
            _log.info("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return row

    def _check_loss(self, losses: list[Tensor]) -> None:
        loss = float(self.world.mean(torch.stack(losses).mean()))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step}: lower lr ({self.config.lr}) or raise "
                "warmup; the checkpoint of the epoch before is kept"
            )

    def _run_step(self, items: list[Item]) -> tuple[Tensor, Tensor]:
        config, optimizer = self.config, self.optimizer
        batch = make_batch(self._with_drawn(items), self.preprocessing, self.device)
        x = config.augmentation(
            batch.images, generator_for(config.seed, "augment", self.step), self.world
        )
        self._begin_head(batch)
        losses, is_right = self.head(self._embed(x), batch.people, batch.weights)
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.mean()).backward()
        self.world.average_gradients(
            p.grad for p in self._modules().parameters() if p.grad is not None
        )
        for group in optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.steps, config)
        self.scaler.step(optimizer)
        self.scaler.update()
        self.head.end_step(optimizer)
        self.step += 1
        return losses.detach().mean(), is_right.float().mean()

    def _embed(self, x: Tensor) -> Tensor:
        """Run the backbone; dropout draws from a stream of its own."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self.config.precision.autocast(self.device):
            seed = derive_seed(self.config.seed, "dropout", self.step, self.world.rank)
            torch.manual_seed(seed)
            return self.backbone(x)

    def _with_drawn(self, items: list[Item]) -> list[Item]:
        """Return the items, some replaced by images of mixed people."""
        mixup = self.mixups.identity
        if mixup is None:
            return items
        rows = mixup.rows([item.position for item in items])
        if not rows:
            return items
        chosen = [items[row] for row in rows]
        drawn = mixup.draw([i.position for i in chosen], [i.column for i in chosen])
        result = list(items)
        for row, (image, target) in zip(rows, drawn, strict=True):
            result[row] = items[row].showing(image, target)
        return result

    def _begin_head(self, batch: Batch) -> None:
        is_present = torch.zeros(len(self.people), device=self.device)
        is_present[batch.people.flatten()] = 1
        random = generator_for(self.config.seed, "people", self.step)
        self.head.begin_step(self.optimizer, self.world.sum(is_present) > 0, random)

    def _modules(self) -> nn.ModuleList:
        return nn.ModuleList([self.backbone, self.head])

    def _save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "rows": self.rows,
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        save_checkpoint(path, state)

    def _load(self, path: Path) -> None:
        state = load_checkpoint(path, self.device)
        self.step, self.rows = state["step"], state["rows"]
        self.backbone.load_state_dict(state["backbone"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def check_labels(faces: FaceSet) -> None:
    """Refuse labels that name nobody, and people whom no image shows.

    Raises: ValueError.
    """
    people = len(faces.people)
    shown = [person for index in range(faces.moments) for person in faces.target(index).people]
    counts = torch.tensor(shown)
    if int(counts.min()) < 0 or int(counts.max()) >= people:
        raise ValueError(
            f"labels must be 0..{people - 1}, got {int(counts.min())}..{int(counts.max())}"
        )
    empty = torch.bincount(counts, minlength=people).argmin()
    if not bool((counts == empty).any()):
        raise ValueError(f"no image shows {faces.people[int(empty)]}")


def learn(learning: Learning, output: OutputFolder, progress: Callable[[int], None]) -> Row:
    """Train in a folder that no other process works in; see `Learning.run`."""
    with at_work_together(output, learning.world):
        return learning.run(output, progress)
