"""Faces brought to their place before they are embedded."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

from biometrics.alignment import fit_similarity, template_points, warp
from biometrics.detection import FaceDetector, MtcnnDetector
from biometrics.faces import FaceRules, check_face

_MAX_SIDE = 1024  # larger photographs are searched at this side
_RULES = FaceRules(max_asymmetry=None)

Aligner = Callable[[np.ndarray], np.ndarray | str]


class AlignKind(StrEnum):
    """How images become what the recogniser was trained on."""

    NONE = "none"
    MTCNN = "mtcnn"


def align_face(image: np.ndarray, detector: FaceDetector, side: int) -> np.ndarray | str:
    """Return an image with its one face on ArcFace's template, or why not.

    Args:
        image: [H, W, 1 or 3] uint8.
        detector: finds the face.
        side: of the result, in pixels.
    Returns: [side, side, 1 or 3] uint8, or the reason, such as "several faces".
    """
    verdict = check_face(detector.detect([np.repeat(image, 3 // image.shape[2], 2)])[0], _RULES)
    if verdict.face is None or not verdict.is_accepted:
        return verdict.reasons[0].value
    transform = fit_similarity(verdict.face.landmarks, template_points(side))
    moved = warp(image if image.shape[2] == 3 else image[..., 0], transform, side)
    return moved.reshape(side, side, -1)


def build_aligner(kind: AlignKind, side: int, device: str = "cpu") -> Aligner | None:
    """Return what aligns images of any size, None for images that are aligned already.

    Raises: ValueError where the detector's package is not installed.
    """
    if kind is AlignKind.NONE:
        return None
    detector = MtcnnDetector(device=device, max_side=_MAX_SIDE)
    return lambda image: align_face(image, detector, side)
