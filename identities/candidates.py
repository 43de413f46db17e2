"""Candidates: samples of new identities before it is decided which are accepted.

Candidate j of identity k is a function of (seed, k, j) and of which feature vector k has by then.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from identities.decisions import Candidate
from identities.identity_sources import IdentitySource
from networks.sampling import Sampler, check_layers, replace_layers
from torch_utils.seeding import generator_for

_STREAM = "recognition"


class Variation(StrEnum):
    """Whose latent a sample has.

    OWN: its own. SHARED: attempt j of all identities has the same one. MIXED: only the layers that
    the generator shares have it.
    """

    OWN = "own"
    SHARED = "shared"
    MIXED = "mixed"


class CandidateSampler:
    """Generates candidates.

    Args:
        generator: conditional, of the source's width.
        source: of feature vectors.
        seed: random seed of latents and feature vectors.
        scale: length of the vectors as conditions.
        variation: whose latent a sample has.
        shared_layers: layers whose w comes from the shared latent under MIXED.
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
        variation: Variation = Variation.OWN,
        shared_layers: Sequence[int] = (),
        is_null: bool = False,
    ) -> None:
        check_layers(shared_layers, generator.generator.num_ws)
        self.generator, self.source, self._shared_layers = generator, source, shared_layers
        self._seed, self._scale, self._variation = seed, scale, variation
        self._is_null = is_null

    def sample(self, candidates: Sequence[Candidate]) -> Mapping[str, Tensor]:
        """Return [N, C, R, R] uint8 images by modality."""
        conditions = self.conditions(candidates)
        if self._variation is not Variation.SHARED:
            own = torch.stack([self._own_latent(c) for c in candidates])
            ws = self.generator.map(own, conditions)
        if self._variation is not Variation.OWN:
            latents = torch.stack([self._shared_latent(c.attempt) for c in candidates])
            shared = self.generator.map(latents, conditions)
            is_mixed = self._variation is Variation.MIXED
            ws = replace_layers(ws, shared, self._shared_layers) if is_mixed else shared
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

    def _own_latent(self, candidate: Candidate) -> Tensor:
        path = (_STREAM, "latent", candidate.identity, candidate.attempt)
        return torch.randn([self.generator.z_dim], generator=generator_for(self._seed, *path))

    def _shared_latent(self, attempt: int) -> Tensor:
        random = generator_for(self._seed, _STREAM, "variation", attempt)
        return torch.randn([self.generator.z_dim], generator=random)
