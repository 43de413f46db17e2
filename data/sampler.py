"""The order in which training meets its data: a pure function of seed and position."""

import sys
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
        start: first global position, such as the number of images seen so far; a multiple of
            num_replicas.
    """

    def __init__(
        self,
        dataset_size: int,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        start: int = 0,
    ) -> None:
        assert dataset_size > 0, "an empty data set has no order"
        assert start % num_replicas == 0, "ranks would take other positions than before"
        self._size, self._seed = dataset_size, seed
        self._positions = range(start + rank, sys.maxsize, num_replicas)
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        yield from map(self.index_at, self._positions)

    def index_at(self, position: int) -> int:
        """Return the dataset index at a global position, whatever the rank and start."""
        epoch, index = divmod(position, self._size)
        if epoch != self._epoch:
            seeds = np.random.SeedSequence([self._seed, epoch])
            self._permutation = np.random.Generator(np.random.PCG64(seeds)).permutation(self._size)
            self._epoch = epoch
        return int(self._permutation[index])
