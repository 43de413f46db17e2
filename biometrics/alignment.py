"""Faces moved to one place: the similarity transform of five landmarks, and its resampling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform

from biometrics.detection import FaceDetector, FaceMethod, MtcnnDetector, Pixels
from biometrics.faces import FaceRules, check_face

TEMPLATE_SIDE = 112
# Where ArcFace's 112x112 images have both eyes, the nose and the corners of the mouth.
TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

MAX_SIDE = 1024  # larger photographs are searched at this side, MTCNN's networks see 48 pixels
_RULES = FaceRules(max_asymmetry=None)
_PAD_PX = 8  # of output pixels around what is resampled, where filters reach
_GRID_SIDE = 64  # points a side at which the part outside an image is measured


Aligner = Callable[[np.ndarray], np.ndarray | str]


@dataclass(frozen=True)
class Similarity:
    """Turning, scaling and moving: x' = a x - b y + tx, y' = b x + a y + ty.

    Coordinates are pixels with centres at integers.
    """

    a: float
    b: float
    tx: float
    ty: float

    @property
    def scale(self) -> float:
        """Target pixels a source pixel."""
        return float(np.hypot(self.a, self.b))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Return where [N, 2] points go."""
        x, y = points[..., 0], points[..., 1]
        return np.stack(
            [self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty], axis=-1
        )

    def inverse(self) -> "Similarity":
        """Return the way back."""
        square = self.a**2 + self.b**2
        a, b = self.a / square, -self.b / square
        return Similarity(a, b, -(a * self.tx - b * self.ty), -(b * self.tx + a * self.ty))


def template_points(side: int, margin: float = 0.0) -> np.ndarray:
    """Return where the five landmarks belong in an aligned image.

    Args:
        side: of the image in pixels.
        margin: what is added on each side of ArcFace's crop, as a fraction of its width; 0 is the
            crop that ArcFace was trained on, 0.25 about shows hair and chin.
    Returns: [5, 2] float64, in the order of Face.landmarks, scaled about the image's centre.
    Raises: ValueError for a side below 1 or a negative margin.
    """
    if side < 1 or not 0 <= margin < np.inf:
        raise ValueError(f"side must be at least 1 and margin at least 0, got {side} and {margin}")
    from_centre = np.array(TEMPLATE) - (TEMPLATE_SIDE - 1) / 2
    scale = side / (TEMPLATE_SIDE * (1 + 2 * margin))
    return from_centre * scale + (side - 1) / 2


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Return the similarity that takes points [N, 2] nearest to others, by squared distance.

    With points as complex numbers, centred s and t: the factor sum(conj(s) t) / sum(|s|^2) turns
    and scales. In the plane this is the least-squares solution without reflection.

    Raises: ValueError where points are not finite or all source points are one.
    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point
        patterns", in two dimensions.
    """
    s, t = (np.asarray(p, dtype=np.float64) @ [1, 1j] for p in (source, target))
    s_mean, t_mean = s.mean(), t.mean()
    spread = np.sum(np.abs(s - s_mean) ** 2)
    if not (np.isfinite(spread) and np.isfinite(t).all() and spread > 0):
        raise ValueError("landmarks must be finite and not all in one place")
    factor = np.sum(np.conj(s - s_mean) * (t - t_mean)) / spread
    if factor == 0:
        raise ValueError("target landmarks must not all be in one place")
    shift = t_mean - factor * s_mean
    return Similarity(*(float(v) for v in (factor.real, factor.imag, shift.real, shift.imag)))


def warp(image: Pixels, transform: Similarity, side: int) -> Pixels:
    """Resample an image without aliasing; beyond its border it is mirrored.

    Where the transform reduces, a Lanczos filter as wide as the reduction first brings the image
    to the scale of the result; a cubic spline then turns and moves. Computed in floating point and
    rounded once. Where nothing is to be done the pixels stay as they are.

    Args:
        image: [H, W] or [H, W, C] uint8.
        transform: from pixels of `image` to pixels of the result.
        side: of the result.
    Returns: [side, side] or [side, side, C] uint8.
    """
    inverse = transform.inverse()
    region, (x, y) = _mirrored_region(image, inverse, side)
    to_region = replace(inverse, tx=inverse.tx - x, ty=inverse.ty - y)
    planes = region.reshape(*region.shape[:2], -1).transpose(2, 0, 1)
    scale = min(1.0, transform.scale)
    result = np.stack([_resample(plane, scale, to_region, side) for plane in planes], axis=-1)
    rounded = np.floor(result + 0.5).clip(0, 255).astype(np.uint8)
    return rounded.reshape(side, side, *image.shape[2:])


def part_outside(transform: Similarity, width: int, height: int, side: int) -> float:
    """Return which part of the aligned image, 0..1, lies beyond the border of the original."""
    steps = (np.arange(_GRID_SIDE) + 0.5) * side / _GRID_SIDE - 0.5
    points = transform.inverse().apply(np.stack(np.meshgrid(steps, steps), axis=-1))
    inside = (points >= -0.5) & (points <= np.array([width, height]) - 0.5)
    return float(1 - inside.all(axis=-1).mean())


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
    return warp(image, fit_similarity(verdict.face.landmarks, template_points(side)), side)


def template_offset(images: Sequence[Pixels], detector: FaceDetector) -> float | None:
    """Return how far faces lie from ArcFace's template, as a share of the images' width.

    It is the median over images of the mean distance of the five landmarks. Aligned photographs
    have 0.04 by MTCNN, the same ones with a face not in its place 0.09 and more.

    Args:
        images: [H, H, 3] uint8, cut as the template is.
        detector: finds the faces.
    Returns: None where fewer than half of the images show a face.
    """
    detected = zip(images, detector.detect(images), strict=True)
    found = [(image.shape[0], faces[0]) for image, faces in detected if faces]
    if not found or 2 * len(found) < len(images):
        return None
    offsets = [
        np.linalg.norm(face.landmarks - template_points(side), axis=1).mean() / side
        for side, face in found
    ]
    return float(np.median(offsets))


def build_aligner(kind: FaceMethod, side: int, device: str = "cpu") -> Aligner | None:
    """Return what aligns images of any size, None for images that are aligned already.

    Raises: ValueError where the detector's package is not installed.
    """
    if kind is FaceMethod.NONE:
        return None
    detector = MtcnnDetector(device=device, max_side=MAX_SIDE)
    return lambda image: align_face(image, detector, side)


def _mirrored_region(
    image: Pixels, inverse: Similarity, side: int
) -> tuple[Pixels, tuple[int, int]]:
    """Return the part of an image that a result depends on, and where its first pixel is, (x, y).

    Beyond a border the image is mirrored, the pixel at the border once.
    """
    low, high = -0.5 - _PAD_PX, side - 0.5 + _PAD_PX
    corners = inverse.apply(np.array([[low, low], [low, high], [high, low], [high, high]]))
    left, top = (int(v) - _PAD_PX for v in np.floor(corners.min(axis=0)))
    right, bottom = (int(v) + _PAD_PX + 1 for v in np.ceil(corners.max(axis=0)))
    height, width = image.shape[:2]
    pads = [
        (max(0, -top), max(0, bottom - height)),
        (max(0, -left), max(0, right - width)),
        *[(0, 0)] * (image.ndim - 2),
    ]
    padded = np.pad(image, pads, mode="reflect") if np.any(pads) else image
    (above, _), (before, _), *_ = pads
    region = padded[top + above : bottom + above, left + before : right + before]
    return region, (left, top)


def _resample(plane: Pixels, scale: float, to_plane: Similarity, side: int) -> np.ndarray:
    """Return [side, side] float64 of a [H, W] plane, which is first reduced by `scale`."""
    height, width = plane.shape
    reduced = plane.astype(np.float32)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        reduced = np.asarray(Image.fromarray(reduced).resize(size, Image.Resampling.LANCZOS))
    x_scale, y_scale = reduced.shape[1] / width, reduced.shape[0] / height
    # From result to plane to its reduction, whose scales differ slightly by rounding; rows first.
    matrix = np.array(
        [
            [to_plane.a * y_scale, to_plane.b * y_scale],
            [-to_plane.b * x_scale, to_plane.a * x_scale],
        ]
    )
    offset = [
        (to_plane.ty + 0.5) * y_scale - 0.5,
        (to_plane.tx + 0.5) * x_scale - 0.5,
    ]
    return affine_transform(
        reduced.astype(np.float64), matrix, offset, (side, side), order=3, mode="mirror"
    )
