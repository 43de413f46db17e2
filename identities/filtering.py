"""Tells which images show a person of the training data, or no face.

What is compared are the uint8 images that are saved; one embedding path serves all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from biometrics.detection import FaceCheck
from biometrics.faces import FaceReason
from biometrics.features import IdentityFeatures
from data.modalities import MODALITIES, NIR
from identities.rules import FilterRules, Reason, Which
from metrics.nearest import Nearest, References

SCORE_DIGITS = 6  # scores are rounded before they are compared, so that what is written decides


class ImageEmbedder(Protocol):
    """What is needed of biometrics.embedding.Embedder.

    Attributes:
        hash: SHA-256 of its weights.
        width: E.
    """

    hash: str
    width: int

    def embed(self, images: Tensor) -> Tensor:
        """Return [N, E] float32 unit rows of [N, C, H, W] uint8 images."""


class TrainingPeople:
    """Everyone whose images a generator was trained on.

    Args:
        features: of their images.
        which: compare with the first image of each person, in the file's order, or with all.
        device: where products are computed.
    """

    def __init__(
        self, features: IdentityFeatures, which: Which, device: torch.device | str = "cpu"
    ) -> None:
        rows = np.arange(len(features.stems))
        if which is Which.FIRST:
            rows = np.sort(np.unique(features.identities, return_index=True)[1])
        self.stems = tuple(features.stems[row] for row in rows)
        self.people = len(set(features.identities))
        self._references = References(features.vectors[rows], device=device)

    @property
    def width(self) -> int:
        """Numbers a feature."""
        return self._references.width

    def nearest(self, vectors: np.ndarray, *, is_absolute: bool) -> Nearest:
        """Return the nearest image of a training person for each of [N, E] vectors."""
        found = self._references.nearest(vectors, is_absolute=is_absolute)
        return Nearest(found.scores.round(SCORE_DIGITS), found.indices)


@dataclass(frozen=True, eq=False)
class PairScores:
    """What is known of N samples before any is compared with another.

    Attributes:
        vectors: [N, E] float32 embeddings of the first modality that is there.
        training: nearest images of training people, by modality that is checked.
        agreement: [N] float32 cosine between RGB and NIR; NaN where one is not there.
        faces: by modality that is checked: what is wrong with each image, or None.
    """

    vectors: np.ndarray
    training: Mapping[str, Nearest]
    agreement: np.ndarray
    faces: Mapping[str, Sequence[FaceReason | None]]

    def __len__(self) -> int:
        return len(self.vectors)


class PairScorer:
    """Embeds samples, looks for faces, and finds the nearest training people.

    Args:
        embedder: recogniser of the features.
        people: to compare with.
        rules: how to compare.
        face_check: of the images.
        people_nir: to compare NIR images with; None takes `people`.
    Raises: ValueError where embedder and features have other widths.
    """

    def __init__(
        self,
        embedder: ImageEmbedder,
        people: TrainingPeople,
        rules: FilterRules,
        face_check: FaceCheck | None = None,
        people_nir: TrainingPeople | None = None,
    ) -> None:
        for known in (people, people_nir or people):
            if embedder.width != known.width:
                raise ValueError(
                    f"--rec-model gives {embedder.width} numbers an image, the features have "
                    f"{known.width}: they are of another recogniser"
                )
        self._people_nir = people_nir or people
        self.embedder, self.people, self.rules = embedder, people, rules
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
                name: self.people_of(name).nearest(
                    vectors[name], is_absolute=self.rules.is_absolute
                )
                for name in checked
            },
            agreement=agreement,
            faces={name: self._faces(images[name]) for name in checked},
        )

    def people_of(self, modality: str) -> TrainingPeople:
        """Return whom images of a modality are compared with."""
        return self._people_nir if modality == NIR.name else self.people

    def _faces(self, images: Tensor) -> list[FaceReason | None]:
        return [next(iter(verdict.reasons), None) for verdict in self.face_check(images)]


def reasons_alone(scores: PairScores, index: int, rules: FilterRules) -> list[Reason]:
    """Return why a sample must go whatever the other samples are; faces are not judged here."""
    reasons = []
    for name, nearest in scores.training.items():
        is_nir = name == NIR.name
        limit = rules.privacy_nir if is_nir and rules.privacy_nir is not None else rules.privacy
        if nearest.scores[index] >= limit:
            reasons.append(Reason.TRAINING_PERSON_NIR if is_nir else Reason.TRAINING_PERSON)
    is_low = rules.min_agreement is not None and scores.agreement[index] < rules.min_agreement
    return [*reasons, Reason.DISAGREEMENT] if is_low else reasons


class PeopleFilter:
    """Drops samples that show a training person, or no face; the interpreter's `SampleFilter`.

    Args:
        scorer: with its rules.
        features: hashes of the files of the training people's features, for the record.
    """

    def __init__(self, scorer: PairScorer, features: Any) -> None:
        self._scorer, self._features = scorer, features

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""
        rules = self._scorer.rules
        return {
            "recogniser": self._scorer.embedder.hash,
            "features": self._features,
            "privacy": rules.privacy,
            "privacy_nir": rules.privacy_nir,
            "training": rules.training.value,
            "is_absolute": rules.is_absolute,
            "check_nir": rules.check_nir,
            "min_agreement": rules.min_agreement,
            "face_check": self._scorer.face_check.describe(),
        }

    def __call__(self, samples: Sequence[Mapping[str, np.ndarray]]) -> list[str | None]:
        """Return the first reason to drop each sample, or None.

        Args:
            samples: images [C, R, R] uint8 0..255 by modality.
        """
        if not samples:
            return []
        images = {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }
        scores = self._scorer.score(images)
        return [self._reason(scores, index) for index in range(len(samples))]

    def _reason(self, scores: PairScores, index: int) -> str | None:
        wrong = [found[index] for found in scores.faces.values() if found[index] is not None]
        if wrong:
            return f"{Reason.FACE.value}: {wrong[0].value}"
        reasons = reasons_alone(scores, index, self._scorer.rules)
        return reasons[0].value if reasons else None


def check_features(
    features: IdentityFeatures, path: Path, embedder: ImageEmbedder, option: str
) -> None:
    """Refuse features of another recogniser or width. Raises: ValueError."""
    features.check_recogniser(embedder.hash, f"{option} {path}")
    width = features.vectors.shape[1]
    if width != embedder.width:
        raise ValueError(
            f"{option} {path}: features of {width} numbers, but --rec-model gives "
            f"{embedder.width}: they are of another recogniser"
        )
