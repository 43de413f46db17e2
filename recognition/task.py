"""Training of a recogniser: margin loss over identities by SGD, mixups, verification."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biometrics.backbones import build_backbone, named_backbone, state_of
from biometrics.embedding import Embedder, Preprocessing
from recognition.augmentation import augment
from recognition.face_sets import FaceSet
from recognition.heads import MarginHead, PartialHead
from recognition.mixup import DomainMixup, IdentityMixup
from recognition.options import TrainingConfig
from recognition.training_items import Batch, Item, TrainingItems, make_batch, read_steps
from torch_utils.checkpoints import save_checkpoint
from torch_utils.distributed import World
from torch_utils.guarded_step import GuardedStep
from torch_utils.precision import Precision
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Task, Timing

MODEL_FILE = "recogniser.pth"


def rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then (share left) squared."""
    rising = max(round(config.warmup * steps), 1)
    if step < rising:
        return config.lr * (step + 1) / rising
    return config.lr * (1 - (step - rising) / max(steps - rising, 1)) ** 2


class RecognitionTask(Task):
    """A recogniser in training.

    Args:
        faces: images and identities.
        config: how to train.
        device: where to compute.
        verify: measures the embedder after each epoch; None measures nothing.
        domain: real images to mix in; None for none.
        identity_mixup: images of mixed identities that replace some; None for none.
        world: processes that share each batch; every one has its own batch statistics.
        workers: processes that decode images, each; 0 where they are in memory.
    Raises: ValueError for an unknown backbone, fewer images than a batch, a batch that the
        processes do not divide, real images of other modalities, or half precision on a CPU.
    """

    def __init__(
        self,
        faces: FaceSet,
        config: TrainingConfig,
        device: torch.device,
        verify: Callable[[Embedder], dict[str, float]] | None = None,
        *,
        domain: DomainMixup | None = None,
        identity_mixup: IdentityMixup | None = None,
        world: World | None = None,
        workers: int = 0,
    ) -> None:
        self.steps_per_epoch = len(faces) // config.batch
        super().__init__(self.steps_per_epoch * config.epochs, device, world)
        self.faces, self.config, self.verify = faces, config, verify
        self.domain, self.identity_mixup, self.workers = domain, identity_mixup, workers
        self.precision = Precision(config.precision)
        self._check_fit()
        further = () if domain is None else domain.faces.identities
        self.identities = (*faces.identities, *further)
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
        trained = nn.ModuleList([self.backbone, self.head]).parameters()
        self.optimizer = torch.optim.SGD(
            [p for p in trained if p.requires_grad],
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.scaler = self.precision.scaler(device)
        advice = f"lower --lr ({config.lr}) or raise --warmup; the last checkpoint is kept"
        guard = GuardedStep("recogniser", device, advice, world=self.world, scaler=self.scaler)
        self.guards = [guard]
        self.preprocessing = Preprocessing(size=config.size, channels=faces.channels)
        self._items: Iterator[list[Item]] = iter(())
        self._done = 0

    def begin(self, index: int) -> None:
        """Read images from this step on; those that fit are kept in memory."""
        self.faces.cache()
        if self.domain is not None:
            self.domain.faces.cache()
        items = TrainingItems(self.faces, self.config.seed, self.domain)
        self._done = index
        self._items = read_steps(
            items,
            batch=self.config.batch,
            start=index,
            world=self.world,
            workers=0 if self.faces.is_cached else self.workers,
        )

    def step(self, index: int) -> None:
        """Train on one batch."""
        config = self.config
        items = self._with_mixed_identities(next(self._items))
        batch = make_batch(items, self.preprocessing, self.device)
        random = generator_for(config.seed, "augment", index)
        x = augment(config.augmentation, batch.images, random, self.world)
        self._begin_head(batch, index)
        losses, is_right = self.head(self._embed(x, index), batch.identities, batch.weights)
        self.rate = rate_at(index, self.steps, config)
        self.descend(losses.mean(), self.optimizer)
        self.head.end_step(self.optimizer)
        self.statistics.report("Loss/total", losses)
        self.statistics.report("Accuracy/identities", is_right.float())
        self._done = index + 1

    def networks(self) -> dict[str, nn.Module]:
        """Return backbone and head."""
        return {"backbone": self.backbone, "head": self.head}

    def scalars(self, timing: Timing) -> dict[str, float]:
        """Add the epoch."""
        return {**super().scalars(timing), "Progress/epoch": self._done / self.steps_per_epoch}

    def validate(self, folder: Path) -> dict[str, float]:
        """Verify other identities, in the first process."""
        if self.verify is None or not self.world.is_first:
            return {}
        return self.verify(self.embedder())

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the backbone."""
        save_checkpoint(folder / MODEL_FILE, state_of(self.backbone, self.shape))
        return {"people": len(self.identities)}

    def parts(self) -> dict[str, Any]:
        """Return networks, optimiser and loss scale."""
        return {**self.networks(), "optimizer": self.optimizer, "scaler": self.scaler}

    def embedder(self) -> Embedder:
        """Return the recogniser as it is."""
        return Embedder(
            self.backbone,
            self.preprocessing,
            hash="in training",
            width=self.config.embedding,
            device=self.device,
        )

    def _check_fit(self) -> None:
        faces, config, domain = self.faces, self.config, self.domain
        if len(faces) < config.batch:
            raise ValueError(f"--batch must be at most the {len(faces)} images, got {config.batch}")
        if config.batch % self.world.size:
            raise ValueError(
                f"--batch must be a multiple of the {self.world.size} processes, got {config.batch}"
            )
        if config.batch < 2 * self.world.size:  # batch normalisation needs two
            least = 2 * self.world.size
            raise ValueError(
                f"--batch must be at least {least}, 2 images per process, got {config.batch}"
            )
        self.precision.use_on(self.device)
        if domain is not None:
            ours, theirs = ((f.modalities, f.is_joint) for f in (faces, domain.faces))
            if ours != theirs:
                raise ValueError(f"domain mixup: modalities must be {ours}, got {theirs}")

    def _build_head(self) -> MarginHead | PartialHead:
        config = self.config
        if config.sample_rate < 1:
            return PartialHead(
                config.embedding, len(self.identities), config.head, config.sample_rate
            )
        return MarginHead(config.embedding, len(self.identities), config.head)

    def _embed(self, x: Tensor, index: int) -> Tensor:
        """Run the backbone; dropout draws from a stream of its own."""
        self.backbone.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self.precision.autocast(self.device):
            torch.manual_seed(derive_seed(self.config.seed, "dropout", index, self.world.rank))
            return self.backbone(x)

    def _with_mixed_identities(self, items: list[Item]) -> list[Item]:
        """Return the items, some replaced by images of mixed identities."""
        mixup = self.identity_mixup
        if mixup is None:
            return items
        rows = mixup.rows([item.position for item in items])
        chosen = [items[row] for row in rows]
        made = mixup.sample([i.position for i in chosen], [i.column for i in chosen])
        result = list(items)
        for row, (image, target) in zip(rows, made, strict=True):
            result[row] = items[row].showing(image, target)
        return result

    def _begin_head(self, batch: Batch, index: int) -> None:
        is_present = torch.zeros(len(self.identities), device=self.device)
        is_present[batch.identities.flatten()] = 1
        random = generator_for(self.config.seed, "people", index)
        self.head.begin_step(self.optimizer, self.world.sum(is_present) > 0, random)
