"""Face detectors, and the check of generated images that they serve."""

import importlib.metadata
import warnings
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from biometrics.faces import Face, FaceRules, FaceVerdict, check_face, sort_faces
from dnnlib.config import to_dict
from dnnlib.extras import need

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_PACKAGE = "facenet-pytorch"
_MIN_FACE_SIZE = 20  # pixels of the smallest face that is looked for


class FaceMethod(StrEnum):
    """How faces are found; the value is the option's."""

    NONE = "none"
    MTCNN = "mtcnn"


class FaceDetector(Protocol):
    """Finds faces in images."""

    def detect(self, images: Sequence[Pixels]) -> list[tuple[Face, ...]]:
        """Return the faces of each [H, W, 3] uint8 image, the likeliest first."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""


class MtcnnDetector:
    """MTCNN with the weights that come with facenet-pytorch; implements FaceDetector.

    The networks, their thresholds and the pyramid are those of `MTCNN(select_largest=False)`,
    which the published code uses: faces come by falling probability, so that the first is the
    likeliest and not the largest.

    One detector may serve several threads. Images are searched one by one: in a batch, neighbours
    would change the last digits (some 1e-5 pixels).

    Args:
        device: of the networks.
        max_side: larger images are reduced to this side before the search, coordinates are given
            in the pixels of the original; None looks at every image as it is.
    Raises: ValueError where the package is not installed.
    Source: Zhang et al. 2016 (arXiv:1604.02878), in the package's implementation.
    """

    def __init__(self, *, device: str | torch.device = "cpu", max_side: int | None = None) -> None:
        self._max_side = max_side
        self._network = _build_mtcnn(torch.device(device))

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""
        return {
            "name": "mtcnn",
            "package": f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}",
            "min_face_size": _MIN_FACE_SIZE,
            "max_side": self._max_side,
        }

    def detect(self, images: Sequence[Pixels]) -> list[tuple[Face, ...]]:
        """Return the faces of each [H, W, 3] uint8 image, the likeliest first.

        Raises: ValueError for images of another shape or dtype.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"images must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}"
                )
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: Pixels) -> tuple[Face, ...]:
        reduced = _reduce(image, self._max_side)
        if min(reduced.shape[:2]) < _MIN_FACE_SIZE:
            return ()  # too small for the network, and for a face
        boxes, probabilities, landmarks = self._network.detect(reduced[None], landmarks=True)
        scale = np.array(image.shape[1::-1]) / reduced.shape[1::-1]
        return _faces(boxes[0], probabilities[0], landmarks[0], scale)


class FaceCheck:
    """Accepts or refuses images, RGB or NIR, by the faces in them.

    Args:
        detector: finds the faces; None accepts all images, such as drawings or eyes.
        rules: accept the faces found.
    """

    def __init__(
        self, detector: FaceDetector | None = None, rules: FaceRules | None = None
    ) -> None:
        self._detector, self.rules = detector, rules or FaceRules()

    def __call__(self, images: Tensor) -> list[FaceVerdict]:
        """Return a verdict for each image of [N, 1 or 3, H, W] uint8; grey is shown as RGB.

        Raises: ValueError for other shapes or dtypes.
        """
        if self._detector is None:
            return [FaceVerdict()] * len(images)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"face check: images must be uint8 [N, 1 or 3, H, W], "
                f"got {images.dtype} {list(images.shape)}"
            )
        count, _, height, width = images.shape
        rgb = images.expand(count, 3, height, width).permute(0, 2, 3, 1).contiguous()
        found = self._detector.detect(list(rgb.cpu().numpy()))
        return [check_face(faces, self.rules) for faces in found]

    def describe(self) -> dict[str, Any]:
        """Return kind, detector and rules: what decides the verdicts, as plain JSON values."""
        if self._detector is None:
            return {"kind": FaceMethod.NONE.value}
        detector = self._detector.describe()
        return {"kind": detector["name"], "detector": detector, "rules": to_dict(self.rules)}


def build_face_check(
    method: FaceMethod | str,
    *,
    rules: FaceRules | None = None,
    device: str | torch.device = "cpu",
) -> FaceCheck:
    """Return a face check: "none" accepts everything, "mtcnn" looks for one frontal face.

    Raises: ValueError for another method, or where the detector's package is not installed.
    """
    is_none = FaceMethod(method) is FaceMethod.NONE
    return FaceCheck(None if is_none else MtcnnDetector(device=device), rules)


def _build_mtcnn(device: torch.device) -> Any:
    need("face detection", "facenet_pytorch")
    with warnings.catch_warnings():  # the package reads its weights in ways that torch dislikes
        warnings.simplefilter("ignore")
        from facenet_pytorch import MTCNN  # noqa: PLC0415

        return MTCNN(select_largest=False, min_face_size=_MIN_FACE_SIZE, device=device).eval()


def _reduce(image: Pixels, max_side: int | None) -> Pixels:
    """Return the image with no side above `max_side`."""
    height, width = image.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _faces(boxes: Any, probabilities: Any, landmarks: Any, scale: np.ndarray) -> tuple[Face, ...]:
    """Return the package's answer for one image in pixels of the original, likeliest first.

    Args:
        boxes: [F, 4], or None where there is no face.
        probabilities: [F].
        landmarks: [F, 5, 2]; all three are arrays of objects where image counts vary.
        scale: [2], original pixels a pixel in x and y.
    """
    if boxes is None:
        return ()
    corners = _to_original(np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2), scale)
    points = _to_original(np.asarray(landmarks, dtype=np.float64), scale)
    return sort_faces(
        Face(box=box.reshape(4), probability=float(probability), landmarks=five)
        for box, probability, five in zip(corners, probabilities, points, strict=True)
    )


def _to_original(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Scale points whose pixel centres are integers, about the corner of the image."""
    return (points + 0.5) * scale - 0.5
