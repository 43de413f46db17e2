"""One image of one subject: RGB, NIR, class mask and what is known about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data.modalities import NIR, RGB
from renderer import body, features, hair
from renderer.canvas import Array, Canvas, new_canvas, spectra, unit
from renderer.classes import FACE_10
from renderer.geometry import add_relief, cast_head, head_window
from renderer.identity import Identity, Style, draw_identity
from renderer.materials import BANDS, SCLERA
from renderer.sample import Light, Sample, describe, draw_sample

RESOLUTIONS = (16, 32, 64, 128, 256)
_MIN_CANVAS = 96
_OVERSAMPLING = 2
_TEXTURE_SIDE = 32
_SENSOR_NOISE = (0.008, 0.008, 0.010, 0.009)
# How far light travels below skin before it leaves, as softening of the shading: red and NIR
# go deepest. Qualitative; chosen by eye.
_SCATTER = (0.34, 0.20, 0.16, 0.46)
_HIGHLIGHT_EXPONENT = 24.0
_ROUGH_EXPONENT = 6.0
_FLAT_AMBIENT = 0.55
_FLAT_SHADOW = 0.30
# Votes of a subpixel for its pixel's class: without them the pupils of small faces would be lost.
_VOTES = (1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.9, 1.0, 1.1, 1.0)


@dataclass(frozen=True, kw_only=True)
class RenderedSample:
    """One aligned image of a subject."""

    images: dict[str, np.ndarray]  # modality -> [C, H, W] uint8 0..255
    mask: np.ndarray  # [H, W] uint8, class 0..9 of each pixel
    attributes: dict[str, Any]  # JSON values: identity, sample, pose, expression, light, ...


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
    radiance = _flatten(canvas) if look is Style.PLAIN else _shade(canvas, parameters.light)
    image = _encode(_block_mean(radiance, factor))
    if look is Style.PHOTO:
        rng = np.random.default_rng(parameters.noise_seed)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image + noise * spectra(_SENSOR_NOISE)
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return RenderedSample(
        images={RGB.name: pixels[:3], NIR.name: pixels[3:]},
        mask=_vote(canvas.ident, factor),
        attributes={"identity": identity, "sample": sample, **describe(subject, parameters)},
    )


def paint(canvas: Canvas, subject: Identity, sample: Sample) -> None:
    """Paint all layers of an image from back to front."""
    rng = np.random.default_rng(subject.texture_seed)
    table = rng.uniform(-1, 1, (_TEXTURE_SIDE, _TEXTURE_SIDE)).astype(np.float32)
    body.paint_background(canvas, sample)
    hair.paint_back_hair(canvas, subject, sample, table)
    body.paint_neck(canvas, subject, sample)
    body.paint_clothes(canvas, subject, sample)
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


def _shade(canvas: Canvas, light: Light) -> Array:
    """Light the canvas.

    Each band has wrapped Lambert shading, hemispheric ambient light and a white highlight.

    Returns: [4, S, S] float32, linear radiance, about 0..1.
    """
    normal = unit(canvas.normal)
    toward_x, toward_y, toward_z = light.direction
    facing = normal[0] * toward_x + normal[1] * toward_y + normal[2] * toward_z
    sky = 0.82 - 0.18 * normal[1]
    half = np.array([toward_x, toward_y, toward_z + 1])
    half = half / np.sqrt((half**2).sum())
    glance = np.maximum(sum(float(half[axis]) * normal[axis] for axis in range(3)), 0)
    highlight = 0.7 * glance**_HIGHLIGHT_EXPONENT + 0.3 * glance**_ROUGH_EXPONENT
    highlight = canvas.gloss * canvas.light * highlight
    radiance = np.empty_like(canvas.reflectance)
    for band in range(BANDS):
        wrap = _SCATTER[band] * canvas.scatter
        direct = np.maximum(facing + wrap, 0) / (1 + wrap)
        arriving = light.direct[band] * direct + light.ambient[band] * sky
        radiance[band] = canvas.reflectance[band] * arriving * canvas.light
        radiance[band] += 0.55 * light.direct[band] * highlight * SCLERA[0]
    return radiance


def _flatten(canvas: Canvas) -> Array:
    """Return the reflectances with a hint of shadow: the look of plain rendering, [4, S, S]."""
    return canvas.reflectance * (_FLAT_AMBIENT + _FLAT_SHADOW * canvas.light)


def _encode(radiance: Array) -> Array:
    """Return sRGB-encoded values 0..1 of linear radiance.

    Source: IEC 61966-2-1:1999, transfer function of sRGB; NIR is encoded likewise.
    """
    linear = np.clip(radiance, 0, 1)
    low = 12.92 * linear
    high = 1.055 * np.power(linear, 1 / 2.4, dtype=np.float32) - 0.055
    return np.where(linear <= 0.0031308, low, high)


def _block_mean(planes: Array, factor: int) -> Array:
    """Return the means of factor x factor blocks of [B, H, W]."""
    steps = range(factor)
    blocks = [planes[:, row::factor, column::factor] for row in steps for column in steps]
    return sum(blocks) * (1 / factor**2)


def _vote(ident: np.ndarray, factor: int) -> np.ndarray:
    """Return each pixel's class: the one with most subpixels, small parts of the eye favoured."""
    side = ident.shape[0] // factor
    block = np.arange(ident.shape[0]) // factor
    keys = (block[:, None] * side + block) * len(FACE_10) + ident
    counts = np.bincount(keys.ravel(), minlength=side * side * len(FACE_10))
    votes = counts.reshape(side, side, len(FACE_10)) * np.asarray(_VOTES)
    return votes.argmax(axis=2).astype(np.uint8)
