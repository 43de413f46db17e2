"""Faces in images and the rule that accepts an image: one likely face that looks ahead."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)

_FRONTAL_ASYMMETRY = 1 / 3


class FaceReason(Enum):
    """Why an image is refused, the gravest first; the value is shown and counted."""

    NO_FACE = "no face"
    SEVERAL_FACES = "several faces"
    LOW_PROBABILITY = "low face probability"
    NOT_FRONTAL = "face not frontal"


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One detected face, in pixels of the image with pixel centres at integers.

    Attributes:
        box: [4] float64: left, upper, right, lower.
        probability: of being a face, 0..1.
        landmarks: [5, 2] float64, (x, y) of the eye on the image's left, the eye on its right, the
            tip of the nose, and the corners of the mouth on the left and on the right.
    """

    box: np.ndarray
    probability: float
    landmarks: np.ndarray


@dataclass(frozen=True, kw_only=True)
class FaceRules:
    """Which faces are accepted.

    Attributes:
        min_probability: of the likeliest face.
        max_asymmetry: how far its nose may be from between the eyes, see `asymmetry`; a face is
            frontal below it. None accepts any pose.
        reject_several: whether an image with a further face is refused. The published code meant
            to, but looked at the number of images instead, so that it never did.
        rival_probability: from which probability on a further face counts; what the detector
            thinks less likely is mostly a hand or a pattern.

    The same rules serve RGB and NIR images; which of them are checked is the caller's choice.
    """

    min_probability: float = 0.97
    max_asymmetry: float | None = _FRONTAL_ASYMMETRY
    reject_several: bool = True
    rival_probability: float = 0.9

    @classmethod
    def published(cls) -> "FaceRules":
        """Return the rules of the published generation of recognition data.

        Source: ArcBiFaceGAN, generate_recognition_data.py: first face of at least 0.97, frontal
        test with a third, several faces never refused.
        """
        return cls(reject_several=False)


@dataclass(frozen=True, kw_only=True)
class FaceVerdict:
    """Why an image is refused, the gravest reason first, nothing where it is accepted.

    `face` is the likeliest one, None where there is none.
    """

    reasons: tuple[FaceReason, ...] = ()
    face: Face | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether nothing speaks against the image."""
        return not self.reasons


def check_face(faces: Sequence[Face], rules: FaceRules) -> FaceVerdict:
    """Apply the rules to the faces found in an image; their order plays no part."""
    if not faces:
        return FaceVerdict(reasons=(FaceReason.NO_FACE,))
    face, *others = sort_faces(faces)
    rivals = [other for other in others if other.probability >= rules.rival_probability]
    reasons = []
    if rivals and rules.reject_several:
        reasons.append(FaceReason.SEVERAL_FACES)
    if not face.probability >= rules.min_probability:  # so that NaN is refused
        reasons.append(FaceReason.LOW_PROBABILITY)
    if rules.max_asymmetry is not None and not asymmetry(face.landmarks) < rules.max_asymmetry:
        reasons.append(FaceReason.NOT_FRONTAL)
    return FaceVerdict(reasons=tuple(reasons), face=face)


def asymmetry(landmarks: np.ndarray) -> float:
    """Return how far the nose is from between the eyes: 0 in the middle, 1 below an eye or beyond.

    With dl and dr the x offsets from the eyes to the nose: |dl + dr| / (|dl| + |dr|). A turned
    head moves the nose; a tilted one looks the same, since y plays no part.

    Args:
        landmarks: [5, 2], see Face.
    Source: frontal test of ArcBiFaceGAN, generate_recognition_data.py.

    >>> asymmetry(np.array([[0, 0], [4, 0], [3, 2], [0, 4], [4, 4]]))
    0.5
    """
    left, right = landmarks[NOSE, 0] - landmarks[[LEFT_EYE, RIGHT_EYE], 0]
    total = abs(left) + abs(right)
    return float(abs(left + right) / total) if total > 0 else 1.0


def sort_faces(faces: Iterable[Face]) -> tuple[Face, ...]:
    """Return faces by falling probability, equal ones by falling area of their box."""

    def key(face: Face) -> tuple[float, float]:
        left, upper, right, lower = face.box
        return face.probability, float((right - left) * (lower - upper))

    return tuple(sorted(faces, key=key, reverse=True))
