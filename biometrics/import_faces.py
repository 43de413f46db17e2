"""Face tools of an import: one face is found on the RGB image, both images are moved alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from biometrics.alignment import (
    MAX_SIDE,
    fit_similarity,
    part_outside,
    template_points,
    warp,
)
from biometrics.detection import FaceDetector, MtcnnDetector, Pixels
from biometrics.faces import Face, FaceReason, FaceRules, FaceVerdict, check_face
from data.importing.options import ImportOptions
from data.importing.plan import Reason, SkipPair
from data.modalities import MODALITIES
from dnnlib.config import to_dict
from torch_utils.devices import resolve_device

Boxes = tuple[tuple[float, float, float, float], ...]
_REASONS = {
    FaceReason.NO_FACE: Reason.NO_FACE,
    FaceReason.SEVERAL_FACES: Reason.SEVERAL_FACES,
    FaceReason.LOW_PROBABILITY: Reason.UNLIKELY_FACE,
    FaceReason.NOT_FRONTAL: Reason.NOT_FRONTAL,
}


class ImportFaces:
    """Finds, checks and aligns faces; implements data.importing.job.FaceTools.

    Images are searched one by one, so that what is written depends on nothing but the image.

    Args:
        options: of the import.
        detector: finds the faces; serves several threads at once.
    """

    def __init__(self, options: ImportOptions, detector: FaceDetector) -> None:
        self._options = options
        self._detector = detector
        self._align_rules = FaceRules(max_asymmetry=None, reject_several=not options.align_several)
        self._check_rules = FaceRules()

    def align(self, images: Mapping[str, Image.Image], resolution: int) -> dict[str, Image.Image]:
        """Return the images of a pair with the face aligned. Raises: SkipPair."""
        pixels = {name: np.asarray(image) for name, image in images.items()}
        faces = self._find(pixels[MODALITIES[0].name])
        verdict = check_face(faces, self._align_rules)
        if verdict.face is None or not verdict.is_accepted:
            raise _reason(verdict, faces, _boxes(faces))
        target = template_points(resolution, self._options.align_margin)
        transform = fit_similarity(verdict.face.landmarks, target)
        width, height = images[MODALITIES[0].name].size
        if transform.scale > self._options.align_max_upscale:
            detail = f"would be enlarged {transform.scale:.2f} times"
            raise SkipPair(Reason.SMALL_FACE, detail, _boxes(faces))
        outside = part_outside(transform, width, height, resolution)
        if outside > self._options.align_max_outside:
            detail = f"{outside:.1%} of the aligned image beyond it"
            raise SkipPair(Reason.CUT_FACE, detail, _boxes(faces))
        return {
            name: Image.fromarray(warp(image, transform, resolution))
            for name, image in pixels.items()
        }

    def check(self, image: Image.Image) -> None:
        """Look for one face on an RGB image as it is written. Raises: SkipPair."""
        faces = self._find(np.asarray(image))
        verdict = check_face(faces, self._check_rules)
        if not verdict.is_accepted:
            raise _reason(verdict, faces)

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""
        description: dict[str, Any] = {"detector": self._detector.describe()}
        if self._options.align != "none":
            description["align_rules"] = to_dict(self._align_rules)
        if self._options.face_check == "mtcnn":
            description["check_rules"] = to_dict(self._check_rules)
        return description

    def _find(self, image: Pixels) -> tuple[Face, ...]:
        return self._detector.detect([image])[0]


def build_import_faces(options: ImportOptions) -> ImportFaces:
    """Return the face tools of an import.

    Raises: ValueError where the detector's package is not installed.
    """
    torch.set_num_threads(1)  # images are what runs in parallel; sums round the same everywhere
    device = resolve_device(options.device)
    return ImportFaces(options, MtcnnDetector(device=device, max_side=MAX_SIDE))


def _reason(verdict: FaceVerdict, faces: tuple[Face, ...], boxes: Boxes = ()) -> SkipPair:
    """Return the gravest reason, with the probability of the likeliest of the faces found."""
    detail = ""
    if verdict.face is not None:
        detail = f"{len(faces)} found, likeliest {verdict.face.probability:.3f}"
    return SkipPair(_REASONS[verdict.reasons[0]], detail, boxes)


def _boxes(faces: tuple[Face, ...]) -> Boxes:
    corners = (face.box.tolist() for face in faces)
    return tuple((left, upper, right, lower) for left, upper, right, lower in corners)
