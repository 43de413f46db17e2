"""Fidelity and coverage from nearest neighbours, in blocks: no matrix of all pairs is kept.

Products are float32 on the given device, of features from which the mean of the real ones is
taken off; distances that rounding cannot tell from zero are zero, so that copies are copies.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics.statistics import Features, check_comparable

PR_NEIGHBOURS, DC_NEIGHBOURS = 3, 5
_BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class NeighbourScores:
    """What balls around samples say; a ball reaches to the k-th other sample of the same set.

    Attributes:
        precision: share of generated samples inside any real sample's ball, 0..1.
        recall: share of real samples inside any generated sample's ball, 0..1.
        density: mean number of real balls around a generated sample, over k; may exceed 1.
        coverage: share of real samples whose ball holds a generated one, 0..1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(
    real: Features, fake: Features, *, k: int, device: torch.device | str = "cpu"
) -> NeighbourScores:
    """Return precision, recall, density and coverage.

    Balls are closed: a sample at exactly the radius is inside.

    Args:
        real, fake: [N, D] and [M, D] float32, more than k rows each.
        k: which neighbour gives the radius.
        device: that computes.
    Source: Kynkäänniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2; Naeem et al. 2020
        (arXiv:2002.09797), equations 5 and 6.
    """
    check_comparable(real, fake, at_least=k + 1)
    centre = real.mean(axis=0, dtype=np.float64)
    reals, fakes = (_Rows.of(rows, centre, device) for rows in (real, fake))
    real_radii, fake_radii = squared_radii(reals, k), squared_radii(fakes, k)
    balls = torch.zeros(len(fakes), dtype=torch.int64, device=device)  # real ones a fake is in
    is_recalled = torch.zeros(len(reals), dtype=torch.bool, device=device)
    is_covered = torch.zeros(len(reals), dtype=torch.bool, device=device)
    for a, b in _tiles(len(reals), len(fakes)):
        squares = _squared_distances(reals.part(a), fakes.part(b))
        inside = squares <= real_radii[a, None]
        balls[b] += inside.sum(dim=0)
        is_covered[a] |= inside.any(dim=1)
        is_recalled[a] |= (squares <= fake_radii[None, b]).any(dim=1)
    return NeighbourScores(
        precision=float((balls > 0).double().mean()),
        recall=float(is_recalled.double().mean()),
        density=float(balls.double().mean() / k),
        coverage=float(is_covered.double().mean()),
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Centred features [N, D] float32 with their squared lengths [N]."""

    values: Tensor
    squares: Tensor

    @classmethod
    def of(
        cls, features: Features, centre: np.ndarray, device: torch.device | str = "cpu"
    ) -> "_Rows":
        values = np.empty(features.shape, dtype=np.float32)
        for start in range(0, len(features), _BLOCK):
            values[start : start + _BLOCK] = features[start : start + _BLOCK] - centre
        rows = torch.from_numpy(values).to(device)
        return cls(rows, rows.square().sum(dim=1))

    def __len__(self) -> int:
        return len(self.values)

    def part(self, index: slice) -> "_Rows":
        return _Rows(self.values[index], self.squares[index])


def squared_radii(rows: _Rows, k: int) -> Tensor:
    """Return each row's squared distance to its k-th nearest other row: [N] float32.

    Distances are symmetric: tiles below the diagonal serve both their rows and their columns.
    """
    nearest = torch.full([len(rows), k], math.inf, device=rows.values.device)
    for a, b in _tiles(len(rows), len(rows)):
        if a.start > b.start:
            continue
        squares = _squared_distances(rows.part(a), rows.part(b))
        if a == b:
            squares.fill_diagonal_(math.inf)
        else:
            nearest[b] = _smallest(nearest[b], squares.T, k)
        nearest[a] = _smallest(nearest[a], squares, k)
    return nearest.amax(dim=1)


def _smallest(held: Tensor, found: Tensor, k: int) -> Tensor:
    both = torch.cat([held, found.topk(min(k, found.shape[1]), largest=False).values], dim=1)
    return both.topk(k, largest=False).values


def _squared_distances(a: _Rows, b: _Rows) -> Tensor:
    """Return [n, m] float32; what rounding cannot tell from zero is zero."""
    scale = a.squares[:, None] + b.squares[None, :]
    squares = torch.addmm(scale, a.values, b.values.T, alpha=-2)
    # Each of the D terms rounds by half an eps; errors add up like a random walk.
    floor = 4 * torch.finfo(torch.float32).eps
    return torch.where(squares <= floor * scale, 0.0, squares)


def _tiles(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, rows, _BLOCK):
        for left in range(0, columns, _BLOCK):
            yield slice(top, min(top + _BLOCK, rows)), slice(left, min(left + _BLOCK, columns))
