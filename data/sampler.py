"""The order in which training meets its data: a pure function of seed and position."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class InfiniteSampler(Sampler[int]):
    """Yields dataset indices without end; every epoch is another permutation of all of them.

    The index at global position p is entry p mod n of the permutation that (seed, p div n) seeds.
    Rank r of R takes the positions start + r, start + r + R, ... Nothing else is remembered, so a
    run that is continued at `start` meets exactly what the uninterrupted run meets, with any
    number of ranks and workers.

    Args:
        dataset_size: number of items n, at least 1.
        seed: of the permutations, at least 0.
        rank: which of the positions this process takes.
        num_replicas: number of processes.
        start: first global position, such as the number of images seen so far.
    Raises: ValueError for a value out of its range.
    """

    def __init__(
        self,
        dataset_size: int,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        start: int = 0,
    ) -> None:
        if dataset_size < 1:
            raise ValueError(f"dataset_size must be at least 1, got {dataset_size}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in 0..num_replicas-1, got {rank} of {num_replicas}")
        if start < 0 or start % num_replicas:
            raise ValueError(
                f"start must be a multiple of num_replicas, got {start} and {num_replicas}"
            )
        self._size = dataset_size
        self._seed = seed
        self._first = start + rank
        self._step = num_replicas
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        position = self._first
        while True:
            yield self.index_at(position)
            position += self._step

    def index_at(self, position: int) -> int:
        """Return the dataset index at a global position, whatever the rank and start."""
        epoch, index = divmod(position, self._size)
        if epoch != self._epoch:
            seeds = np.random.SeedSequence([self._seed, epoch])
            self._permutation = np.random.Generator(np.random.PCG64(seeds)).permutation(self._size)
            self._epoch = epoch
        return int(self._permutation[index])
