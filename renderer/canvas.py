"""The picture in the making: planes of reflectance, normal, gloss and class."""

from dataclasses import dataclass, fields

import numpy as np

from renderer.materials import BANDS, Spectrum

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a layer answers light.

    Attributes:
        ident: class number in the mask, None keeps what lies below.
        scatter: 0 (hard shading) .. 1 (skin: light passes below the surface).
        gloss: strength of highlights.
    """

    ident: int | None
    scatter: float = 0.0
    gloss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Planes of S x S subpixels; `paint` changes them in place.

    Attributes:
        x, y: [S, S] float32 -1..1, image coordinates of the subpixels.
        px: side of a subpixel.
        reflectance: [4, S, S] float32 0..1, linear r, g, b, nir.
        normal: [3, S, S] float32, towards the viewer (z > 0), not unit length.
        light: [S, S] float32 0..1, share of light that reaches the point.
        scatter, gloss: [S, S] float32, see Material.
        ident: [S, S] uint8, classes.
    """

    x: Array
    y: Array
    px: float
    reflectance: Array
    normal: Array
    light: Array
    scatter: Array
    gloss: Array
    ident: Array

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

    def window(self, rows: slice, columns: slice) -> "Canvas":
        """Return a part of the canvas; painting on it paints on this one."""
        planes = {
            field.name: getattr(self, field.name)[..., rows, columns]
            for field in fields(self)
            if field.name != "px"
        }
        return Canvas(px=self.px, **planes)

    def shade(self, alpha: Array) -> None:
        """Take light away: alpha [S, S] 0..1 is the share that is lost."""
        np.multiply(self.light, 1 - alpha, out=self.light)

    def label(self, alpha: Array, ident: int) -> None:
        """Set the class where alpha [S, S] is 0.5 or more; nothing visible changes."""
        self.ident[alpha >= 0.5] = ident


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


def span(axis: Array, low: float, high: float) -> slice:
    """Return the slice of a rising [S] axis that lies in low..high, at least one entry long."""
    start = min(int(np.searchsorted(axis, low)), len(axis) - 1)
    return slice(start, max(int(np.searchsorted(axis, high)), start + 1))


def _mix(plane: Array, value: Array | float, alpha: Array) -> None:
    plane += alpha * (value - plane)
