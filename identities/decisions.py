"""The record of what became of a sample, which all writers share, and the rules for one alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from biometrics.faces import FaceReason
from data.modalities import NIR
from dnnlib import config as configs
from identities.rules import FilterRules, Reason
from metrics.nearest import Nearest

SCORE_DIGITS = 6  # scores are rounded before they are compared, so that what is written decides


class Candidate(NamedTuple):
    """A sample that can be generated."""

    identity: int  # number of the new identity
    attempt: int  # number of the candidate of that identity
    vector: int  # number of the identity's feature vector


@dataclass(frozen=True)
class Decision:
    """What became of a sample; all but `reasons` and `face` is known of new identities alone."""

    candidate: Candidate = Candidate(0, 0, 0)  # what it was generated from
    # Its number among the identity's samples; None where it was not accepted.
    sample: int | None = None
    reasons: tuple[Reason, ...] = ()  # why it was rejected, in the order of `Reason`
    face: FaceReason | None = None  # what a face check found wrong
    own: float | None = None  # cosine to the identity's first sample; None for the first
    own_nearest: float | None = None  # highest cosine to a sample of the identity
    other: float | None = None  # highest cosine to another new identity; None where there was none
    other_identity: int | None = None  # that identity

    @property
    def is_surplus(self) -> bool:
        """Whether a candidate was neither accepted nor rejected, because nobody needed it."""
        return self.sample is None and not self.reasons

    def describe(self) -> dict[str, Any]:
        """Return why a sample was rejected, as plain JSON values."""
        face = None if self.face is None else self.face.value
        return {"reasons": [reason.value for reason in self.reasons], "face": face}

    def as_row(self) -> list[Any]:
        """Return everything as plain JSON values, see `from_row`."""
        return list(configs.to_dict(self).values())

    @classmethod
    def from_row(cls, row: list[Any]) -> "Decision":
        """Return the decision of `as_row`."""
        candidate, sample, reasons, face, *scores = row
        known = None if face is None else FaceReason(face)
        return cls(Candidate(*candidate), sample, tuple(map(Reason, reasons)), known, *scores)


@dataclass(frozen=True, eq=False)
class PairScores:
    """What is known of N samples before any is compared with another."""

    vectors: np.ndarray  # [N, E] float32 embeddings of the first modality that is there
    # Nearest images of training identities, by modality that is checked.
    training: Mapping[str, Nearest]
    agreement: np.ndarray  # [N] float32 cosine between RGB and NIR; NaN where one is not there
    # By modality that is checked: what is wrong with each image, or None.
    faces: Mapping[str, Sequence[FaceReason | None]]

    def __len__(self) -> int:
        return len(self.vectors)


def judge_alone(
    scores: PairScores, index: int, rules: FilterRules, allowed: Iterable[FaceReason] = ()
) -> Decision:
    """Decide on a sample whatever the other samples are.

    Args:
        scores: of N samples.
        index: which of them.
        rules: of acceptance.
        allowed: what may be wrong with its faces.
    """
    found = (faces[index] for faces in scores.faces.values())
    face = next((face for face in found if face is not None and face not in allowed), None)
    reasons = [] if face is None else [Reason.FACE]
    for name, nearest in scores.training.items():
        is_nir = name == NIR.name
        limit = rules.privacy_nir if is_nir and rules.privacy_nir is not None else rules.privacy
        if nearest.scores[index] >= limit:
            reasons.append(Reason.TRAINING_PERSON_NIR if is_nir else Reason.TRAINING_PERSON)
    if rules.min_agreement is not None and scores.agreement[index] < rules.min_agreement:
        reasons.append(Reason.DISAGREEMENT)
    return Decision(reasons=tuple(reasons), face=face)
