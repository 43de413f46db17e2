"""From reflectance, normals and the one lighting to pixels of both modalities."""

import numpy as np

from renderer.canvas import Array, Canvas
from renderer.materials import BANDS, SCLERA
from renderer.sample import Light

# How far light travels below skin before it leaves, as softening of the shading: red and NIR
# go deepest. Qualitative; chosen by eye.
_SCATTER = (0.34, 0.20, 0.16, 0.46)
_HIGHLIGHT_EXPONENT = 24.0
_ROUGH_EXPONENT = 6.0
_FLAT_AMBIENT = 0.55
_FLAT_SHADOW = 0.30


def shade_canvas(canvas: Canvas, light: Light) -> Array:
    """Light the canvas.

    Each band has wrapped Lambert shading, hemispheric ambient light and a white highlight.

    Returns: [4, S, S] float32, linear radiance, about 0..1.
    """
    length = np.sqrt((canvas.normal**2).sum(axis=0)) + 1e-6
    normal = canvas.normal / length
    toward_x, toward_y, toward_z = light.direction
    facing = normal[0] * toward_x + normal[1] * toward_y + normal[2] * toward_z
    sky = 0.82 - 0.18 * normal[1]
    half = np.array([toward_x, toward_y, toward_z + 1])
    half = half / np.sqrt((half**2).sum())
    glance = sum(float(half[axis]) * normal[axis] for axis in range(3))
    glance = np.maximum(glance, 0)
    highlight = (
        canvas.gloss
        * canvas.light
        * (0.7 * glance**_HIGHLIGHT_EXPONENT + 0.3 * glance**_ROUGH_EXPONENT)
    )
    radiance = np.empty_like(canvas.reflectance)
    for band in range(BANDS):
        wrap = _SCATTER[band] * canvas.scatter
        direct = np.maximum(facing + wrap, 0) / (1 + wrap)
        arriving = light.direct[band] * direct + light.ambient[band] * sky
        radiance[band] = canvas.reflectance[band] * arriving * canvas.light
        radiance[band] += 0.55 * light.direct[band] * highlight * SCLERA[0]
    return radiance


def flat_canvas(canvas: Canvas) -> Array:
    """Return the reflectances with a hint of shadow: the look of plain rendering, [4, S, S]."""
    return canvas.reflectance * (_FLAT_AMBIENT + _FLAT_SHADOW * canvas.light)


def encode(radiance: Array) -> Array:
    """Return sRGB-encoded values 0..1 of linear radiance.

    Source: IEC 61966-2-1:1999, transfer function of sRGB; NIR is encoded likewise.
    """
    linear = np.clip(radiance, 0, 1)
    low = 12.92 * linear
    high = 1.055 * np.power(linear, 1 / 2.4, dtype=np.float32) - 0.055
    return np.where(linear <= 0.0031308, low, high)
