"""The picture in the making: planes of reflectance, normal, gloss and class."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

from renderer.materials import BANDS, Spectrum

Array = np.ndarray
Planes = TypeVar("Planes", bound="Canvas | Surface")


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a layer answers light."""

    ident: int | None  # class number in the mask, None keeps what lies below
    scatter: float = 0.0  # 0 (hard shading) .. 1 (skin: light passes below the surface)
    gloss: float = 0.0  # strength of highlights


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Planes of S x S subpixels, float32; `paint` changes them in place."""

    x: Array  # [S, S] -1..1, image coordinates of the subpixels
    y: Array
    px: float  # side of a subpixel
    reflectance: Array  # [4, S, S] 0..1, linear r, g, b, nir
    normal: Array  # [3, S, S], towards the viewer (z > 0), not unit length
    light: Array  # [S, S] 0..1, share of light that reaches the point
    scatter: Array  # [S, S], see Material
    gloss: Array
    ident: Array  # [S, S] uint8, classes

    def paint(
        self,
        alpha: Array,
        colour: Spectrum | Array,
        material: Material,
        normal: Array | None = None,
    ) -> None:
        """Lay a material over what is there.

        Args:
            alpha: [S, S] float32 0..1, coverage; the class is taken over from 0.5.
            colour: four reflectances, or [4, S, S].
            material: class, scatter and gloss.
            normal: [3, S, S] or None to keep what lies below.
        """
        for band in range(BANDS):
            _mix(self.reflectance[band], colour[band], alpha)
        if normal is not None:
            for axis in range(3):
                _mix(self.normal[axis], normal[axis], alpha)
            _mix(self.light, 1.0, alpha)
        _mix(self.scatter, material.scatter, alpha)
        _mix(self.gloss, material.gloss, alpha)
        if material.ident is not None:
            self.ident[alpha >= 0.5] = material.ident

    def shade(self, alpha: Array) -> None:
        """Take light away: alpha [S, S] 0..1 is the share that is lost."""
        np.multiply(self.light, 1 - alpha, out=self.light)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What parallel rays through the subpixels meet, float32."""

    x: Array  # [S, S], points in the head's own frame
    y: Array
    z: Array
    alpha: Array  # [S, S] 0..1, coverage
    normal: Array  # [3, S, S] in the camera's frame
    px: float  # side of a subpixel in the head's units


def window(planes: Planes, rows: slice, columns: slice) -> Planes:
    """Return a part of a canvas or surface; what is painted on the part is on the whole."""
    names = [field.name for field in fields(planes) if field.name != "px"]
    return replace(planes, **{name: getattr(planes, name)[..., rows, columns] for name in names})


def new_canvas(size: int) -> Canvas:
    """Return an empty canvas of `size` x `size` subpixels."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    plane = (size, size)
    normal = np.zeros((3, *plane), np.float32)
    normal[2] = 1
    return Canvas(
        x=np.ascontiguousarray(np.broadcast_to(axis, plane)),
        y=np.ascontiguousarray(np.broadcast_to(axis[:, None], plane)),
        px=2 / size,
        reflectance=np.zeros((BANDS, *plane), np.float32),
        normal=normal,
        light=np.ones(plane, np.float32),
        scatter=np.zeros(plane, np.float32),
        gloss=np.zeros(plane, np.float32),
        ident=np.zeros(plane, np.uint8),
    )


def soft(distance: Array, width: float) -> Array:
    """Return coverage 0..1 of a shape from the signed distance to its edge (positive inside).

    Args:
        distance: [S, S].
        width: over which the edge fades, in the unit of `distance`.
    """
    return np.clip(distance * (1 / width) + 0.5, 0, 1)


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Return the cubic 3t^2 - 2t^3 of t, value's place between low (0) and high (1)."""
    t = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: Array, y: Array, radius_x: float, radius_y: float) -> Array:
    """Return exp(-(x/radius_x)^2 - (y/radius_y)^2)."""
    return np.exp(-((x * (1 / radius_x)) ** 2) - (y * (1 / radius_y)) ** 2)


def ridge(x: Array, radius: float) -> Array:
    """Return exp(-(x/radius)^2)."""
    return np.exp(-((x * (1 / radius)) ** 2))


def wave_noise(coordinate: Array, table: Array) -> Array:
    """Return smooth periodic noise of a coordinate.

    Args:
        coordinate: any shape, one unit an entry of the table.
        table: [T] float32, T a power of two.
    """
    low = np.floor(coordinate)
    index = low.astype(np.int32)
    t = coordinate - low
    t = t * t * (3 - 2 * t)
    a = table[index & (len(table) - 1)]
    return a + (table[(index + 1) & (len(table) - 1)] - a) * t


def plane_noise(x: Array, y: Array, table: Array) -> Array:
    """Return smooth periodic noise of two coordinates.

    Args:
        x, y: same shape, one unit an entry of the table.
        table: [T, T] float32, T a power of two.
    """
    side = len(table)
    low_x, low_y = np.floor(x), np.floor(y)
    column, row = low_x.astype(np.int32), low_y.astype(np.int32)
    u, v = x - low_x, y - low_y
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    left, right = column & (side - 1), (column + 1) & (side - 1)
    top, bottom = (row & (side - 1)) * side, ((row + 1) & (side - 1)) * side
    flat = table.ravel()
    upper = flat[top + left] * (1 - u) + flat[top + right] * u
    lower = flat[bottom + left] * (1 - u) + flat[bottom + right] * u
    return upper * (1 - v) + lower * v


def spectra(spectrum: Spectrum) -> Array:
    """Return [4, 1, 1] float32, which broadcasts over planes."""
    return np.asarray(spectrum, np.float32)[:, None, None]


def unit(normal: Array) -> Array:
    """Return vectors [3, S, S] of length 1."""
    return normal / (np.sqrt((normal**2).sum(axis=0)) + 1e-6)


def span(axis: Array, low: float, high: float) -> slice:
    """Return the slice of a rising [S] axis that lies in low..high, at least one entry long."""
    start = min(int(np.searchsorted(axis, low)), len(axis) - 1)
    return slice(start, max(int(np.searchsorted(axis, high)), start + 1))


def _mix(plane: Array, value: Array | float, alpha: Array) -> None:
    plane += alpha * (value - plane)
