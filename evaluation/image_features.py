"""Images to features, once: all networks and modalities in one pass, shared between processes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.extractors import Extractor
from evaluation.sources import BLOCK, Source
from metrics.names import JOINT
from metrics.statistics import Features, Moments, MomentStream, merge_moments
from torch_utils.distributed import World

GROUPS = 10
ROWS_UP_TO = 20_000  # images whose features are kept one by one, where moments would do

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Features that a metric needs.

    Attributes:
        extractor: hash of the network.
        view: modality, or "joint" for the features of all of them side by side.
        count: of images, from the first on.
        keeps_rows: keep each image's features; otherwise only moments of groups of images.
    """

    extractor: str
    view: str
    count: int
    keeps_rows: bool


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What is kept of the features of a set of images.

    Attributes:
        groups: [N] int64, group 0..GROUPS - 1 of each image; a person's images are in one group.
        rows: [N, D] float32; None where only moments are kept.
        moments: of each group, None of an empty one; () where rows are kept.
    """

    groups: np.ndarray
    rows: Features | None = None
    moments: tuple[Moments | None, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)

    def group_moments(self) -> tuple[Moments | None, ...]:
        """Return the moments of each group."""
        if self.rows is None:
            return self.moments
        streams = [MomentStream() for _ in range(GROUPS)]
        for number, stream in enumerate(streams):
            stream.add(self.rows[self.groups == number])
        return tuple(stream.finish() for stream in streams)

    def first(self, count: int) -> "FeatureSet":
        """Return the first images of a set whose rows are kept."""
        assert self.rows is not None, "moments cannot be cut"
        return FeatureSet(self.groups[:count], self.rows[:count])


def group_numbers(people: np.ndarray) -> np.ndarray:
    """Return the group of each image: [N] int64, people in the order in which they first come.

    Args:
        people: [N] int64.
    """
    _, first, person = np.unique(people, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[person.reshape(-1)] * GROUPS // max(len(first), 1)


def collect_features(
    source: Source,
    requests: Sequence[Request],
    extractors: Mapping[str, Extractor],
    *,
    world: World,
    advance: Advance | None = None,
) -> dict[Request, FeatureSet]:
    """Compute the features of images, each image once.

    All processes call it together; each looks at a range of blocks, and what they found is merged
    in the order of the images.

    Args:
        source: images, at least as many as the requests count.
        requests: what is needed.
        extractors: networks by their hash.
        world: the processes.
        advance: called with the number of further images, of this process.
    Returns: features by request in the first process, nothing in the others.
    """
    stores: dict[Request, _RowStore | _MomentStore] = {}
    people = source.people()
    for request in requests:
        groups = group_numbers(people[: request.count])
        stores[request] = _RowStore(groups) if request.keeps_rows else _MomentStore(groups)
    count = max((request.count for request in requests), default=0)
    for block in _share(range(math.ceil(count / BLOCK)), world):
        images = source.load(block)
        views = {(request.extractor, request.view) for request in requests}
        found = {key: _features(extractors[key[0]], images, key[1]) for key in sorted(views)}
        start = block * BLOCK
        for request, store in stores.items():
            rows = found[request.extractor, request.view][: max(request.count - start, 0)]
            store.add(start, rows)
        if advance is not None:
            advance(len(next(iter(images.values()))))
    merged = {request: store.merge(world) for request, store in stores.items()}
    return {request: features for request, features in merged.items() if features is not None}


def extract(extractor: Extractor, images: Tensor) -> Features:
    """Return the features of at most BLOCK images, always computed for BLOCK of them.

    Args:
        extractor: which network.
        images: [n, C, H, W] uint8, C 1 or 3; one channel is repeated, as published.
    Returns: [n, D] float32.
    """
    filled = torch.cat([images, images[-1:].expand(BLOCK - len(images), -1, -1, -1)])
    rows = extractor(filled.expand(-1, 3, -1, -1).contiguous())
    return rows[: len(images)].cpu().numpy()


def gather_rows(rows: Sequence[tuple[int, Features]], count: int, world: World) -> Features | None:
    """Return [count, D] rows of all processes by their place, None in all but the first.

    Args:
        rows: (place of the first, [n, D] float32) of this process.
        count: rows of all processes.
        world: the processes.
    """
    whole = np.zeros((count, _common_width(rows, world)), dtype=np.float32)
    for start, part in rows:
        whole[start : start + len(part)] = part
    total = world.sum(torch.from_numpy(whole)).numpy()  # adding zeros changes nothing
    return total if world.is_first else None


class _RowStore:
    def __init__(self, groups: np.ndarray) -> None:
        self._groups = groups
        self._rows: list[tuple[int, Features]] = []

    def add(self, start: int, rows: Features) -> None:
        if len(rows):
            self._rows.append((start, rows))

    def merge(self, world: World) -> FeatureSet | None:
        rows = gather_rows(self._rows, len(self._groups), world)
        return None if rows is None else FeatureSet(self._groups, rows)


class _MomentStore:
    def __init__(self, groups: np.ndarray) -> None:
        self._groups = groups
        self._streams = [MomentStream() for _ in range(GROUPS)]

    def add(self, start: int, rows: Features) -> None:
        groups = self._groups[start : start + len(rows)]
        for number in np.unique(groups):
            self._streams[number].add(rows[groups == number])

    def merge(self, world: World) -> FeatureSet | None:
        found = [stream.finish() for stream in self._streams]
        merged = tuple(_merge_processes(moments, world) for moments in found)
        return FeatureSet(self._groups, None, merged) if world.is_first else None


def _features(extractor: Extractor, images: Mapping[str, Tensor], view: str) -> Features:
    if view == JOINT:
        return np.concatenate([extract(extractor, image) for image in images.values()], axis=1)
    return extract(extractor, images[view])


def _share(blocks: range, world: World) -> Iterable[int]:
    """Return this process's consecutive part of the blocks."""
    start = len(blocks) * world.rank // world.size
    return blocks[start : len(blocks) * (world.rank + 1) // world.size]


def _common_width(rows: Sequence[tuple[int, Features]], world: World) -> int:
    own = rows[0][1].shape[1] if rows else 0  # a process with few images may have none
    widths = torch.zeros(world.size, dtype=torch.int64)
    widths[world.rank] = own
    return int(world.sum(widths).max())


def _merge_processes(moments: Moments | None, world: World) -> Moments | None:
    """Return the moments of all processes, added in their order."""
    if world.size == 1:
        return moments
    sizes = torch.zeros([world.size, 2], dtype=torch.int64)
    if moments is not None:
        sizes[world.rank] = torch.tensor([moments.count, len(moments.mean)])
    sizes = world.sum(sizes)
    width = int(sizes[:, 1].max())
    parts = []
    for rank, (count, _) in enumerate(sizes.tolist()):
        if count == 0:
            continue
        own = torch.zeros([width + 1, width], dtype=torch.float64)
        if rank == world.rank and moments is not None:
            own = torch.from_numpy(np.concatenate([moments.mean[None], moments.scatter]))
        both = world.sum(own).numpy()
        parts.append(Moments(count, both[0], both[1:]))
    return merge_moments(parts) if parts else None
