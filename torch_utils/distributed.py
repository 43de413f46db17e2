"""Several processes as one: who we are, and sums over all of us.

Processes are started by torchrun, which sets RANK, LOCAL_RANK and WORLD_SIZE; without it there is
one. Every function here does nothing where there is one process.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from dnnlib.options import JobError
from dnnlib.runs import OutputFolder

# What NCCL and the store raise, and what gloo says, when another process has ended or is silent.
_LOST_ERRORS = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
_LOST = re.compile("Connection closed|reset by peer|[Bb]roken pipe|Timed out|Application timeout")


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run.

    Its functions raise JobError where another process has ended.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    Raises: ValueError for a rank that so few processes do not have.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(
                f"RANK must be from 0 to WORLD_SIZE - 1 ({self.size - 1}), got {self.rank}"
            )

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def per_rank(self, count: int) -> int:
        """Return this process's part of a number that the processes divide evenly."""
        return count // self.size

    def shard(self, batch: Tensor) -> Tensor:
        """Return the rows of a whole batch that this process computes: rank, rank + size, ...

        Interleaving keeps the groups of the minibatch standard deviation together.
        """
        return batch[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        with _naming_lost_processes():
            dist.all_reduce(total)
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        return tensor if self.size == 1 else self.sum(tensor) / self.size

    def average_gradients(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients by their mean over all processes, in one message."""
        if self.size == 1:
            return
        gradients = list(gradients)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _naming_lost_processes():
            dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process; this never waits for a GPU."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)
        with _naming_lost_processes():
            dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def barrier(self) -> None:
        """Return when all processes have come here."""
        self.any(False)


@contextlib.contextmanager
def _naming_lost_processes() -> Iterator[None]:
    """Turn what gloo and NCCL raise when another process has ended into one line."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, _LOST_ERRORS) and not _LOST.search(str(error)):
            raise
        reason = next(iter(str(error).strip().splitlines()), "no reason is known")
        raise JobError(
            f"process {os.environ.get('RANK')}: another process of this run has ended or does not"
            f" answer, the same command continues the run: {reason:.200}"
        ) from error


def launched_world() -> World:
    """Return the processes that torchrun started, not connected yet; one without it."""
    return World(rank=int(os.environ.get("RANK", "0")), size=world_size())


def is_launched() -> bool:
    """Tell whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def local_rank() -> int:
    """Return the number of this process on its node; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Return the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def init_distributed(device: torch.device) -> Iterator[World]:
    """Connect with the other processes while the block runs.

    Args:
        device: of this process; tensors on GPUs go through NCCL, those on CPUs through gloo.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # otherwise pinned memory would also open the first GPU
    if world_size() == 1:
        yield World()
        return
    # Nothing may keep the group: one that outlives destroy_process_group() is torn down with the
    # interpreter, where gloo's threads abort the process. These functions have the group as a
    # default, that of the moment when they are imported, which building an optimizer does.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def at_work_together(output: OutputFolder, world: World) -> Iterator[None]:
    """Begin in the first process and keep other runs out while the block runs in all of them.

    Raises: ValueError in the first process where another run is at work in the folder.
    """
    world.barrier()  # until all have looked at the folder as it was
    with output.at_work() if world.is_first else contextlib.nullcontext():
        world.barrier()
        yield
