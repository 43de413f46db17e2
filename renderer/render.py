"""One image of one subject: RGB, NIR, class mask and what is known about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from renderer import body, features, hair
from renderer.canvas import Array, Canvas, new_canvas
from renderer.classes import FACE_10
from renderer.geometry import add_relief, cast_head, head_window
from renderer.identity import Identity, Style, draw_identity
from renderer.lighting import encode, flat_canvas, shade_canvas
from renderer.sample import Sample, describe, draw_sample

RESOLUTIONS = (16, 32, 64, 128, 256)
_MIN_CANVAS = 96
_OVERSAMPLING = 2
_TEXTURE_SIDE = 32
_SENSOR_NOISE = (0.008, 0.008, 0.010, 0.009)
# Votes of a subpixel for its pixel's class: without them the pupils of small faces would be lost.
_VOTES = (1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.9, 1.0, 1.1, 1.0)


@dataclass(frozen=True, kw_only=True)
class RenderedSample:
    """One aligned image of a subject.

    Attributes:
        rgb: [H, W, 3] uint8 0..255.
        nir: [H, W] uint8 0..255.
        mask: [H, W] uint8, class 0..9 of each pixel.
        attributes: JSON values: identity, sample, pose, expression, light, glasses, ...
    """

    rgb: np.ndarray
    nir: np.ndarray
    mask: np.ndarray
    attributes: dict[str, Any]


def render_sample(
    seed: int, identity: int, sample: int, resolution: int, style: str = "photo"
) -> RenderedSample:
    """Render one image; a pure function of its arguments.

    Args:
        seed: of the data set.
        identity: identity number.
        sample: number of the image.
        resolution: width and height in pixels, a power of two in 16..256.
        style: "photo" (shaded) or "plain" (flat colours, other identities).
    Raises: ValueError for another resolution or style, or a negative number.
    """
    look = Style(style)
    check_resolution(resolution)
    subject = draw_identity(seed, identity, look)
    parameters = draw_sample(seed, identity, sample, subject, look)
    factor = max(_OVERSAMPLING, _MIN_CANVAS // resolution)
    canvas = new_canvas(resolution * factor)
    paint(canvas, subject, parameters)
    radiance = (
        flat_canvas(canvas) if look is Style.PLAIN else shade_canvas(canvas, parameters.light)
    )
    image = encode(_block_mean(radiance, factor))
    if look is Style.PHOTO:
        noise = np.random.default_rng(parameters.noise_seed).standard_normal(
            image.shape, dtype=np.float32
        )
        image = image + noise * np.asarray(_SENSOR_NOISE, np.float32)[:, None, None]
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return RenderedSample(
        rgb=np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)),
        nir=pixels[3],
        mask=_vote(canvas.ident, factor),
        attributes={"identity": identity, "sample": sample, **describe(subject, parameters)},
    )


def paint(canvas: Canvas, subject: Identity, sample: Sample) -> None:
    """Paint all layers of an image from back to front."""
    rng = np.random.default_rng(subject.texture_seed)
    table = rng.uniform(-1, 1, (_TEXTURE_SIDE, _TEXTURE_SIDE)).astype(np.float32)
    body.paint_background(canvas, sample)
    hair.paint_back_hair(canvas, subject, sample, table)
    body.paint_body(canvas, subject, sample)
    hair.paint_side_hair(canvas, subject, sample, table)
    if not subject.hair.style.hangs:
        body.paint_ears(canvas, subject, sample.pose)
    canvas = head_window(canvas, subject.head, sample.pose, subject.hair.volume + 0.08)
    smooth = cast_head(canvas, subject.head, sample.pose)
    surface = add_relief(smooth, subject, sample.expression, sample.pose)
    features.paint_skin(canvas, surface, subject, table)
    features.shade_face(canvas, surface, subject, sample)
    hair.paint_beard(canvas, surface, subject, table)
    features.paint_mouth(canvas, surface, subject, sample)
    features.paint_eyes(canvas, surface, subject, sample)
    features.paint_brows(canvas, surface, subject, sample)
    hair.paint_hair(canvas, surface, subject, sample, table)
    if sample.surroundings.has_glasses:
        features.paint_glasses(canvas, surface, subject, sample)


def check_resolution(resolution: int) -> None:
    """Raise ValueError unless `resolution` is one that can be rendered."""
    if resolution not in RESOLUTIONS:
        known = ", ".join(str(value) for value in RESOLUTIONS)
        raise ValueError(f"resolution: must be one of {known}, got {resolution!r}")


def _block_mean(planes: Array, factor: int) -> Array:
    """Return the means of factor x factor blocks of [B, H, W]."""
    total = np.zeros(
        (planes.shape[0], planes.shape[1] // factor, planes.shape[2] // factor), np.float32
    )
    for row in range(factor):
        for column in range(factor):
            total += planes[:, row::factor, column::factor]
    return total * (1 / factor**2)


def _vote(ident: np.ndarray, factor: int) -> np.ndarray:
    """Return each pixel's class: the one with most subpixels, small parts of the eye favoured."""
    side = ident.shape[0] // factor
    block = np.arange(ident.shape[0]) // factor
    keys = (block[:, None] * side + block) * len(FACE_10) + ident
    counts = np.bincount(keys.ravel(), minlength=side * side * len(FACE_10))
    votes = counts.reshape(side, side, len(FACE_10)) * np.asarray(_VOTES)
    return votes.argmax(axis=2).astype(np.uint8)
