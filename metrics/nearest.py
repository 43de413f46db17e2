"""Exact nearest neighbours by cosine, in blocks and on any device: memory stays bounded.

The only search of embeddings: the privacy filter, the evaluation and the calibration use it.

Products are float32. The result depends on the sizes of blocks only as far as a matrix product of
another shape may round its last bits differently (about 1e-7); equal calls give equal bits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

QUERIES = 1024
REFERENCES = 16384
_NO_SCORE = -np.inf
_UNIT = 1e-6  # float32 rows of length 1 are not more exact


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest reference of each query.

    Attributes:
        scores: [Q] float32 cosines; -inf where a query has no reference that counts.
        indices: [Q] int64 rows of the references; of equal scores the lowest, -1 for none.
    """

    scores: np.ndarray
    indices: np.ndarray


class References:
    """Unit vectors to compare with, kept once on one device; more can be added.

    Args:
        vectors: [R, E] float; rows of any length above zero.
        groups: [R] int64, whose each row is; None where nothing is excluded.
        device: where products are computed.
        block: references in a product.
    Raises: ValueError for another shape, or rows that are zero or not finite.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        groups: np.ndarray | None = None,
        *,
        device: torch.device | str = "cpu",
        block: int = REFERENCES,
    ) -> None:
        self._vectors = torch.from_numpy(unit_rows(vectors, "references")).to(device)
        self._groups = None if groups is None else _as_groups(groups, len(vectors)).to(device)
        self._count, self._block = len(self._vectors), block

    def __len__(self) -> int:
        return self._count

    @property
    def width(self) -> int:
        """E."""
        return self._vectors.shape[1]

    def group(self, row: int) -> int:
        """Return whose a reference is."""
        assert self._groups is not None, "only references with groups have them"
        return int(self._groups[row])

    def add(self, vectors: np.ndarray, groups: np.ndarray | None = None) -> None:
        """Add references [A, E], and their groups [A] where they have them; the order is kept."""
        assert (groups is None) == (self._groups is None), "all references have groups, or none"
        rows = torch.from_numpy(unit_rows(vectors, "references"))
        self._vectors = _extended(self._vectors, self._count, rows)
        if self._groups is not None and groups is not None:
            self._groups = _extended(self._groups, self._count, _as_groups(groups, len(rows)))
        self._count += len(rows)

    def nearest(
        self,
        queries: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        is_absolute: bool = False,
        block: int = QUERIES,
    ) -> Nearest:
        """Find the reference with the highest cosine for each query.

        Args:
            queries: [Q, E] float; rows of any length above zero.
            groups: [Q] int64; references of a query's own group do not count.
            is_absolute: compare without sign, as published (|cos|).
            block: queries in a product.
        Raises: ValueError for another width, or rows that are zero or not finite.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(
                f"queries must be [Q, {self.width}] as the references are, got "
                f"{list(queries.shape)}: embeddings of different recognisers are not comparable"
            )
        own = None if groups is None else _as_groups(groups, len(queries))
        if own is not None and self._groups is None:
            raise ValueError("groups of queries need groups of the references")
        vectors = torch.from_numpy(unit_rows(queries, "queries"))
        scores, indices = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for start in range(0, len(vectors), block):
            part = slice(start, start + block)
            found = self._search(vectors[part], None if own is None else own[part], is_absolute)
            scores.append(found[0].cpu().numpy())
            indices.append(found[1].cpu().numpy())
        return Nearest(np.concatenate(scores), np.concatenate(indices))

    def _search(
        self, queries: Tensor, own: Tensor | None, is_absolute: bool
    ) -> tuple[Tensor, Tensor]:
        device = self._vectors.device
        queries = queries.to(device)
        best = torch.full([len(queries)], _NO_SCORE, device=device)
        where = torch.full([len(queries)], -1, dtype=torch.int64, device=device)
        for start in range(0, self._count, self._block):
            rows = slice(start, min(start + self._block, self._count))
            cosines = queries @ self._vectors[rows].T
            if is_absolute:
                cosines = cosines.abs_()
            if own is not None:
                assert self._groups is not None, "checked by the caller"
                cosines.masked_fill_(own.to(device)[:, None] == self._groups[rows], _NO_SCORE)
            values, places = cosines.max(dim=1)  # the first of equal ones
            is_better = values > best
            best = torch.where(is_better, values, best)
            where = torch.where(is_better, places + start, where)
        return best, where


def unit_rows(vectors: np.ndarray, name: str = "vectors") -> np.ndarray:
    """Return rows of length 1 as float32; those that have it are not copied.

    Args:
        vectors: [N, E] float, of any length above zero.
        name: of the vectors, for messages.
    Raises: ValueError for another shape, or rows that are zero or not finite.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ValueError(f"{name} must be [N, E], got {list(vectors.shape)}")
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.empty(len(rows))
    for start in range(0, len(rows), REFERENCES):
        part = rows[start : start + REFERENCES].astype(np.float64)
        lengths[start : start + REFERENCES] = np.sqrt(np.einsum("ne,ne->n", part, part))
    is_bad = ~(np.isfinite(lengths) & (lengths > 0))
    if is_bad.any():
        row = int(is_bad.argmax())
        raise ValueError(f"{name} must be finite and other than zero, row {row} is not")
    if np.abs(lengths - 1).max(initial=0) < _UNIT:
        return rows
    return rows / lengths[:, None].astype(np.float32)


def _extended(held: Tensor, count: int, rows: Tensor) -> Tensor:
    """Return a tensor whose first `count` rows are followed by others, with room for more."""
    end = count + len(rows)
    if end > len(held):
        room = held.new_zeros([max(end, 2 * len(held)) - count, *held.shape[1:]])
        held = torch.cat([held[:count], room])
    held[count:end] = rows
    return held


def _as_groups(groups: np.ndarray, count: int) -> Tensor:
    if groups.shape != (count,):
        raise ValueError(f"groups must be one number a vector ({count}), got {list(groups.shape)}")
    return torch.from_numpy(np.asarray(groups, dtype=np.int64))
