"""What each position of a training run sees: an image, whom it shows, and a real one to mix in."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from biometrics.embedding import Preprocessing, preprocess
from data.sampler import InfiniteSampler
from recognition.face_sets import FaceSet, Target
from recognition.mixup import DomainMixup, draw_mixture, shifted
from torch_utils.devices import upload
from torch_utils.distributed import World
from torch_utils.seeding import generator_for
from torch_utils.trainer import start_workers


@dataclass(frozen=True)
class Item:
    """An image of a training step before it is mixed."""

    position: int  # in the run; image `batch` x step + i of it
    image: Tensor  # [C, H, W] uint8
    target: Target  # whom it shows
    column: int  # number of its modality
    real: Tensor | None = None  # [C, H, W] uint8 image to mix in; None for none
    psi: float = 1.0  # share of `image` in the mixture
    mixed_in: Target | None = None  # whom `real` shows, who has a share of `target`; None for none

    def showing(self, image: Tensor, target: Target) -> "Item":
        """Return the item with another image of other identities; what is mixed in stays."""
        if self.mixed_in is not None:
            target = mix_targets(target, self.mixed_in, self.psi)
        return replace(self, image=image, target=target)


@dataclass(frozen=True)
class Batch:
    """The images of a step of one process."""

    images: Tensor  # [N, C, S, S] float32 in -1..1
    identities: Tensor  # [N, K] int64
    weights: Tensor  # [N, K] float32 that sum to 1


class TrainingItems(Dataset[Item]):
    """Items by position; a pure function of seed and position.

    Args:
        faces: images and identities.
        seed: of the order and of everything drawn.
        domain: real images to mix in; None for none.
    """

    def __init__(self, faces: FaceSet, seed: int, domain: DomainMixup | None) -> None:
        self._faces, self._seed, self._domain = faces, seed, domain
        self._sampler = InfiniteSampler(len(faces), seed)
        if domain is not None:
            self._real = InfiniteSampler(domain.faces.num_samples, seed + 1)

    def __getitem__(self, position: int) -> Item:
        index = self._sampler.index_at(position)
        faces = self._faces
        item = Item(position, faces.image(index), faces.target(index), faces.column(index))
        return item if self._domain is None else self._with_real(item, self._domain)

    def _with_real(self, item: Item, domain: DomainMixup) -> Item:
        chance, phi = draw_mixture(generator_for(self._seed, "domain", item.position))
        if chance >= domain.share:
            return item
        index = item.column * domain.faces.num_samples + self._real.index_at(item.position)
        other = shifted(domain.faces.target(index), len(self._faces.identities))
        mixed = replace(item, real=domain.faces.image(index), psi=phi, mixed_in=other)
        return mixed.showing(item.image, item.target)


def mix_targets(first: Target, second: Target, share: float) -> Target:
    """Return the identities of both; those of the first weigh `share` in all."""
    weights = [weight * share for weight in first.weights]
    weights += [weight * (1 - share) for weight in second.weights]
    return Target((*first.identities, *second.identities), tuple(weights))


def read_steps(
    items: TrainingItems, *, batch: int, start: int, world: World, workers: int
) -> Iterator[list[Item]]:
    """Yield this process's items of step `start`, `start` + 1, ... without end.

    Args:
        items: by position.
        batch: images a step, of all processes.
        start: first step.
        world: rows are given out as `World.shard` does.
        workers: processes that decode; 0 decodes here. They change nothing else.
    """
    positions = _step_positions(batch, start, world)
    if workers == 0:
        for step in positions:
            yield [items[position] for position in step]
        return
    # A tensor travels from a worker as a file descriptor, of which a process has few; an array
    # goes by value.
    loader: DataLoader[Any] = DataLoader(
        items,
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=partial(_with_images, change=Tensor.numpy),
    )
    for step in start_workers(loader):
        yield _with_images(step, torch.from_numpy)


def _with_images(items: list[Item], change: Callable[[Any], Any]) -> list[Item]:
    """Return items whose images are changed from tensors to arrays, or back."""
    return [
        replace(
            item,
            image=change(item.image),
            real=None if item.real is None else change(item.real),
        )
        for item in items
    ]


def _step_positions(batch: int, start: int, world: World) -> Iterator[list[int]]:
    """Yield each step's positions of this process."""
    for first in itertools.count(start * batch, batch):
        yield list(range(first + world.rank, first + batch, world.size))


def make_batch(items: Sequence[Item], preprocessing: Preprocessing, device: torch.device) -> Batch:
    """Return a step's images as the backbone sees them, real ones mixed in.

    Source: domain mixup: Qiu et al. 2021 (SynFace, arXiv:2108.07960): psi x synthetic + (1 - psi)
        x real, labels alike.
    """
    images = stack_images([item.image for item in items], preprocessing, device)
    mixed = [row for row, item in enumerate(items) if item.real is not None]
    if mixed:
        reals = [item.real for item in items if item.real is not None]
        real = stack_images(reals, preprocessing, device)
        psi = upload(torch.tensor([items[row].psi for row in mixed]), device)[:, None, None, None]
        index = upload(torch.tensor(mixed), device)
        images[index] = psi * images[index] + (1 - psi) * real
    width = max(len(item.target.identities) for item in items)
    rows = [item.target for item in items]
    identities = torch.tensor([_padded(target.identities, width) for target in rows])
    weights = torch.tensor([_padded(target.weights, width) for target in rows])
    return Batch(images, upload(identities, device), upload(weights.float(), device))


def stack_images(
    images: Sequence[Tensor], preprocessing: Preprocessing, device: torch.device
) -> Tensor:
    """Return images of any sizes as the backbone sees them: [N, C, S, S] float32 in -1..1."""
    shapes = dict.fromkeys(image.shape for image in images)
    if len(shapes) == 1:
        return preprocess(upload(torch.stack(list(images)), device), preprocessing)
    size = preprocessing.size
    result = torch.empty([len(images), preprocessing.channels, size, size], device=device)
    for shape in shapes:
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        group = upload(torch.stack([images[row] for row in rows]), device)
        result[upload(torch.tensor(rows), device)] = preprocess(group, preprocessing)
    return result


def _padded(values: Sequence[float], width: int) -> list[float]:
    return [*values, *[0] * (width - len(values))]
