"""Faces moved to one place: the similarity transform of five landmarks, and its resampling."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

TEMPLATE_SIDE = 112
# Where ArcFace's 112x112 images have both eyes, the nose and the corners of the mouth.
TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)

_PAD_PX = 8  # of output pixels around what is resampled, where filters reach
_GRID_SIDE = 64  # points a side at which the part outside an image is measured


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

    @property
    def angle_deg(self) -> float:
        """Turn from x towards y, which is clockwise as images are shown."""
        return float(np.degrees(np.arctan2(self.b, self.a)))

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
        margin: what is added on each side of ArcFace's crop, as a fraction of the crop's width;
            0 is the crop that ArcFace was trained on, 0.25 about shows hair and chin.
    Returns: [5, 2] float64, in the order of Face.landmarks, scaled about the image's centre.
    Raises: ValueError for a side below 1 or a negative margin.
    """
    if side < 1 or not 0 <= margin < np.inf:
        raise ValueError(f"side must be at least 1 and margin at least 0, got {side} and {margin}")
    from_centre = np.array(TEMPLATE) - (TEMPLATE_SIDE - 1) / 2
    scale = side / (TEMPLATE_SIDE * (1 + 2 * margin))
    return from_centre * scale + (side - 1) / 2


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Return the similarity that takes points nearest to others, by squared distance.

    With points as complex numbers, centred s and t: the factor sum(conj(s) t) / sum(|s|^2) turns
    and scales. In the plane this is the least-squares solution without reflection.

    Args:
        source: [N, 2].
        target: [N, 2].
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


def align_images(
    images: Mapping[str, Pixels], landmarks: np.ndarray, side: int, margin: float = 0.0
) -> dict[str, Pixels]:
    """Bring all images of a pair to the template by the very same transform.

    Args:
        images: modality -> [H, W] or [H, W, C] uint8, all of one height and width.
        landmarks: [5, 2], see Face.landmarks.
        side: of the aligned images.
        margin: see template_points.
    Returns: modality -> [side, side] or [side, side, C] uint8.
    Raises: ValueError where sizes differ or landmarks define no transform.
    """
    sizes = {image.shape[:2] for image in images.values()}
    if len(sizes) != 1:
        shown = ", ".join(f"{name} {i.shape[1]}x{i.shape[0]}" for name, i in images.items())
        raise ValueError(f"images of a pair must have one size, got {shown}")
    transform = fit_similarity(landmarks, template_points(side, margin))
    return {name: warp(image, transform, side) for name, image in images.items()}


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
    channels = image if image.ndim == 3 else image[..., None]
    region, to_region = _cut_region(channels, transform, side)
    scale = min(1.0, transform.scale)
    planes = [_resample(region[..., c], scale, to_region, side) for c in range(region.shape[2])]
    result = np.clip(np.floor(np.stack(planes, axis=-1) + 0.5), 0, 255).astype(np.uint8)
    return result if image.ndim == 3 else result[..., 0]


def part_outside(transform: Similarity, width: int, height: int, side: int) -> float:
    """Return which part of the aligned image, 0..1, lies beyond the border of the original."""
    steps = (np.arange(_GRID_SIDE) + 0.5) * side / _GRID_SIDE - 0.5
    points = transform.inverse().apply(np.stack(np.meshgrid(steps, steps), axis=-1))
    inside = (points >= -0.5) & (points <= np.array([width, height]) - 0.5)
    return float(1 - inside.all(axis=-1).mean())


def _cut_region(image: Pixels, transform: Similarity, side: int) -> tuple[Pixels, Similarity]:
    """Return the part of the image that the result depends on, mirrored beyond the border.

    Returns: the part, and the transform from pixels of the result to pixels of the part.
    """
    inverse = transform.inverse()
    low, high = -0.5 - _PAD_PX, side - 0.5 + _PAD_PX
    corners = inverse.apply(np.array([[low, low], [low, high], [high, low], [high, high]]))
    first = np.floor(corners.min(axis=0)).astype(int) - _PAD_PX
    last = np.ceil(corners.max(axis=0)).astype(int) + _PAD_PX
    columns = _mirrored(np.arange(first[0], last[0] + 1), image.shape[1])
    rows = _mirrored(np.arange(first[1], last[1] + 1), image.shape[0])
    moved = Similarity(
        inverse.a, inverse.b, inverse.tx - float(first[0]), inverse.ty - float(first[1])
    )
    return image[rows[:, None], columns], moved


def _mirrored(indices: np.ndarray, count: int) -> np.ndarray:
    """Return indices in 0..count - 1; beyond an edge they run back, the edge pixel once.

    >>> _mirrored(np.arange(-2, 5), 3).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    if count == 1:
        return np.zeros_like(indices)
    period = 2 * (count - 1)
    folded = indices % period
    return np.minimum(folded, period - folded)


def _resample(plane: Pixels, scale: float, to_plane: Similarity, side: int) -> np.ndarray:
    """Return [side, side] float64 of a [H, W] plane, which is first reduced by `scale`."""
    from scipy.ndimage import affine_transform  # noqa: PLC0415  # slow to import

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
