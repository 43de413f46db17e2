"""Tells which images show a training identity, or no face.

What is compared are the uint8 images that are saved; one embedding path serves all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biometrics.detection import FaceCheck
from biometrics.embedding import Embedder
from biometrics.faces import FaceReason
from biometrics.features import IdentityFeatures
from data.modalities import MODALITIES, NIR
from identities.decisions import SCORE_DIGITS, Decision, PairScores, judge_alone
from identities.rules import FilterRules, Which
from metrics.nearest import Nearest, References


class TrainingIdentities:
    """The identities whose images a generator was trained on.

    Args:
        features: of their images.
        which: compare with the first image of each identity, in the file's order, or with all.
        device: where products are computed.
    """

    def __init__(
        self, features: IdentityFeatures, which: Which, device: torch.device | str = "cpu"
    ) -> None:
        rows = np.arange(len(features.stems))
        if which is Which.FIRST:
            rows = np.sort(np.unique(features.identities, return_index=True)[1])
        self.stems = tuple(features.stems[row] for row in rows)
        self.num_identities = len(set(features.identities))
        self._references = References(features.vectors[rows], device=device)

    def nearest(self, vectors: np.ndarray, *, is_absolute: bool) -> Nearest:
        """Return the nearest training image for each of [N, E] vectors."""
        found = self._references.nearest(vectors, is_absolute=is_absolute)
        return Nearest(found.scores.round(SCORE_DIGITS), found.indices)


class PairScorer:
    """Embeds samples, looks for faces, and finds the nearest training images.

    Args:
        embedder: recogniser of the features.
        training: identities to compare with, by features of this recogniser.
        rules: how to compare.
        face_check: of the images.
        training_nir: to compare NIR images with; None takes `training`.
    """

    def __init__(
        self,
        embedder: Embedder,
        training: TrainingIdentities,
        rules: FilterRules,
        face_check: FaceCheck | None = None,
        training_nir: TrainingIdentities | None = None,
    ) -> None:
        self._training_nir = training_nir or training
        self.embedder, self.training, self.rules = embedder, training, rules
        self.face_check = face_check or FaceCheck()

    def score(self, images: Mapping[str, Tensor]) -> PairScores:
        """Score [N, C, R, R] uint8 images by modality."""
        present = [m.name for m in MODALITIES if m.name in images]
        first = present[0]
        vectors = {name: self.embedder.embed(images[name]).numpy() for name in present}
        checked = [first, *(name for name in present[1:] if self.rules.check_nir)]
        agreement = np.full(len(vectors[first]), np.nan, np.float32)
        if NIR.name in present[1:]:
            cosines = np.einsum("ne,ne->n", vectors[first], vectors[NIR.name])
            agreement = cosines.round(SCORE_DIGITS)
        return PairScores(
            vectors=vectors[first],
            training={
                name: self.training_of(name).nearest(
                    vectors[name], is_absolute=self.rules.is_absolute
                )
                for name in checked
            },
            agreement=agreement,
            faces={name: self._faces(images[name]) for name in checked},
        )

    def training_of(self, modality: str) -> TrainingIdentities:
        """Return the identities that images of a modality are compared with."""
        return self._training_nir if modality == NIR.name else self.training

    def decide(
        self, samples: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[list[Decision], PairScores]:
        """Decide on samples that stand alone: [C, R, R] uint8 by modality, all of one size."""
        images = {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }
        scores = self.score(images)
        decisions = [judge_alone(scores, index, self.rules) for index in range(len(scores))]
        return decisions, scores

    def describe(self, scores: PairScores, index: int) -> dict[str, Any]:
        """Return what lists of samples say of scores, as plain JSON values."""
        agreement = float(scores.agreement[index])
        training = {
            name: {
                "score": round(float(found.scores[index]), SCORE_DIGITS),
                "image": self.training_of(name).stems[found.indices[index]],
            }
            for name, found in scores.training.items()
        }
        is_known = np.isfinite(agreement)
        return {
            "training": training,
            "agreement": round(agreement, SCORE_DIGITS) if is_known else None,
        }

    def _faces(self, images: Tensor) -> list[FaceReason | None]:
        return [next(iter(verdict.reasons), None) for verdict in self.face_check(images)]


def check_features(features: IdentityFeatures, path: Path, embedder: Embedder, option: str) -> None:
    """Check that features are of this recogniser and width. Raises: ValueError."""
    features.check_recogniser(embedder.hash, f"{option} {path}")
    width = features.vectors.shape[1]
    if width != embedder.width:
        raise ValueError(
            f"{option} {path}: features of {width} numbers, but --rec-model gives "
            f"{embedder.width}: they are of another recogniser"
        )
