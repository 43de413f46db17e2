"""Candidates: samples of new identities before it is decided which are accepted.

Candidate j of identity k is a function of (seed, k, j) and of which feature vector k has by then.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from identities.decisions import Candidate
from identities.identity_sources import IdentitySource
from networks.sampling import Sampler, check_layers, replace_layers
from torch_utils.seeding import generator_for

_STREAM = "recognition"


class CandidateSampler:
    """Generates candidates.

    Args:
        generator: conditional, of the source's width.
        source: of feature vectors.
        seed: random seed of latents and feature vectors.
        scale: length of the vectors as conditions.
        shared_layers: layers whose w comes from a latent that attempt j of all identities has; the
            others have the sample's own.
        is_null: each candidate has a feature vector of its own, so that an "identity" is none: the
            control that shows what selection makes of no identity at all.
    Raises: ValueError for a layer that the network does not have.
    """

    def __init__(
        self,
        generator: Sampler,
        source: IdentitySource,
        *,
        seed: int,
        scale: float,
        shared_layers: Sequence[int] = (),
        is_null: bool = False,
    ) -> None:
        check_layers(shared_layers, generator.generator.num_ws)
        self.generator, self.source, self._shared_layers = generator, source, shared_layers
        self._seed, self._scale, self._is_null = seed, scale, is_null

    def sample(self, candidates: Sequence[Candidate]) -> Mapping[str, Tensor]:
        """Return [N, C, R, R] uint8 images by modality."""
        conditions = self.conditions(candidates)
        own = self._latents(("latent", c.identity, c.attempt) for c in candidates)
        ws = self.generator.map(own, conditions)
        if self._shared_layers:
            latents = self._latents(("variation", c.attempt) for c in candidates)
            shared = self.generator.map(latents, conditions)
            ws = replace_layers(ws, shared, self._shared_layers)
        return self.generator.pixels(ws)

    def conditions(self, candidates: Sequence[Candidate]) -> Tensor:
        """Return [N, c_dim] float32: feature vectors at their scale."""
        rows = [self._vector(c)[0] for c in candidates]
        return torch.from_numpy(np.stack(rows) * np.float32(self._scale))

    def origin(self, candidate: Candidate) -> dict[str, Any]:
        """Return everything that a candidate is generated from, as plain JSON values."""
        origin = {"seed": self._seed, "vector": candidate.vector, "attempt": candidate.attempt}
        return origin | self._vector(candidate)[1]

    def _vector(self, candidate: Candidate) -> tuple[np.ndarray, dict[str, Any]]:
        number = candidate.attempt if self._is_null else candidate.vector
        return self.source.vector(self._seed, candidate.identity, number)

    def _latents(self, paths: Iterable[tuple[str | int, ...]]) -> Tensor:
        streams = [generator_for(self._seed, _STREAM, *path) for path in paths]
        return torch.stack([torch.randn([self.generator.z_dim], generator=s) for s in streams])
