"""What is painted on the face: skin, eyes, brows, mouth, glasses."""

import numpy as np

from renderer import classes
from renderer.canvas import (
    Array,
    Canvas,
    Material,
    Surface,
    bump,
    plane_noise,
    ridge,
    smoothstep,
    soft,
    spectra,
    window,
)
from renderer.geometry import nose_outline
from renderer.identity import Identity
from renderer.materials import BLACK_LASH, MOUTH_INSIDE, PUPIL, SCLERA, TEETH, Spectrum
from renderer.sample import Sample

SKIN = Material(ident=classes.SKIN, scatter=1.0, gloss=0.14)
_BROW = Material(ident=classes.BROWS, scatter=0.3)
_SCLERA = Material(ident=classes.SCLERA, scatter=0.8, gloss=0.15)
_IRIS = Material(ident=classes.IRIS, scatter=0.3)
_PUPIL = Material(ident=classes.PUPIL)
_LIPS = Material(ident=classes.LIPS, scatter=1.0, gloss=0.22)
_MOUTH = Material(ident=classes.LIPS, scatter=0.5)
_FRAME = Material(ident=None, gloss=0.5)
_LENS = Material(ident=None, scatter=0.2)
_LASH = Material(ident=None)


def paint_skin(canvas: Canvas, surface: Surface, subject: Identity, table: Array) -> None:
    """Paint the head's skin with its blotches, freckles and blush, and label the nose.

    Args:
        table: [T, T] float32 -1..1, the subject's texture.
    """
    x, y = surface.x, surface.y
    mottle = 1 + 0.05 * plane_noise(x * 9, y * 9, table)
    blush = subject.blush * bump(np.abs(x) - 0.27, y - 0.20, 0.13, 0.11)
    blush += 0.5 * subject.blush * bump(x, y - subject.face.nose_y, 0.07, 0.06)
    spots = 0.0
    if subject.freckles:
        field = plane_noise(x * 42, y * 42, table)
        near = bump(np.abs(x) - 0.14, y - 0.15, 0.24, 0.17)
        spots = subject.freckles * near * smoothstep(0.15, 0.75, field)
    red, green, blue, nir = subject.skin
    colour = (
        red * mottle * (1 - 0.28 * spots),
        green * mottle * (1 - 0.20 * blush) * (1 - 0.42 * spots),
        blue * mottle * (1 - 0.22 * blush) * (1 - 0.52 * spots),
        nir * (1 + 0.3 * (mottle - 1)),
    )
    canvas.paint(surface.alpha, colour, SKIN, surface.normal)
    canvas.ident[surface.alpha * nose_outline(x, y, subject, surface.px) >= 0.5] = classes.NOSE


def shade_face(canvas: Canvas, surface: Surface, subject: Identity, sample: Sample) -> None:
    """Take away the light that sockets, nostrils, folds and the nose's shadow keep off."""
    x, y, face, eyes = surface.x, surface.y, subject.face, subject.eyes
    side = np.abs(x)
    loss = 0.30 * bump(side - 0.80 * eyes.spacing, y + 0.035, 0.10, 0.05)
    loss += 0.16 * bump(side - 0.35 * eyes.spacing, y + 0.01, 0.045, 0.06)
    loss += 0.15 * bump(x, y - face.nose_y - 0.055, 0.95 * face.nose_half_width, 0.030)
    under = sample.expression.mouth_open + face.mouth_y + 1.25 * face.lower_lip
    loss += 0.22 * bump(x, y - under, 0.75 * face.mouth_half_width, 0.022)
    toward_x, toward_y, _ = sample.light.direction
    cast_x = x + 0.11 * toward_x
    cast_y = y - 0.70 * face.nose_y + 0.10 * toward_y
    reach = abs(toward_x) * 0.55
    loss += reach * bump(cast_x, cast_y, 0.06, 0.13) * (x * toward_x < 0)
    canvas.shade(surface.alpha * np.clip(loss, 0, 0.7))
    nostril = bump(side - 0.42 * face.nose_half_width, y - face.nose_y - 0.012, 0.024, 0.014)
    canvas.shade(surface.alpha * np.clip(1.0 * nostril, 0, 0.75))


def paint_mouth(canvas: Canvas, surface: Surface, subject: Identity, sample: Sample) -> None:
    """Paint lips, and teeth and the mouth's inside where it is open."""
    face, expression = subject.face, sample.expression
    width = face.mouth_half_width * (1 + 0.16 * max(expression.smile, 0.0))
    down = (face.mouth_y - 0.14, face.mouth_y + expression.mouth_open + 0.12)
    canvas, surface = _crop(canvas, surface, (-1.4 * width, 1.4 * width), down)
    u = surface.x * (1 / width)
    arch = np.maximum(1 - u * u, 0)
    corners = 0.048 * expression.smile
    line = face.mouth_y + corners * (0.45 - u * u)
    bow = 1 - 0.45 * face.bow * ridge(u, 0.16)
    bow = bow + 0.10 * ridge(np.abs(u) - 0.3, 0.2)
    top = line - face.upper_lip * arch**0.75 * bow
    gap = line + expression.mouth_open * arch**0.8
    bottom = gap + face.lower_lip * arch**0.7
    px, on = surface.px, surface.alpha
    inside = soft(np.minimum(surface.y - top, bottom - surface.y), 1.5 * px) * (arch > 0) * on
    canvas.paint(inside, subject.lips, _LIPS)
    if expression.mouth_open:
        hole = soft(np.minimum(surface.y - line, gap - surface.y), px) * inside
        canvas.paint(hole, MOUTH_INSIDE, _MOUTH)
        teeth = soft(line + 0.55 * expression.mouth_open - surface.y, px) * hole
        canvas.paint(teeth * (np.abs(u) < 0.8), TEETH, _MOUTH)
    edge = ridge(surface.y - line, max(0.009, 0.7 * px)) * (np.abs(u) < 1.04)
    canvas.shade(0.62 * edge * on)
    corner = bump(np.abs(u) - 1.03, (surface.y - line) * (1 / width), 0.07, 0.10)
    canvas.shade(0.40 * corner * on)


def paint_eyes(canvas: Canvas, surface: Surface, subject: Identity, sample: Sample) -> None:
    """Paint both eyes: sclera, iris, pupil, catchlight, lids and lashes."""
    for side in (-1.0, 1.0):
        eyes = subject.eyes
        inner, outer = eyes.spacing - 1.3 * eyes.half_width, eyes.spacing + 1.3 * eyes.half_width
        across = (inner, outer) if side > 0 else (-outer, -inner)
        part = _crop(canvas, surface, across, (-1.2 * eyes.half_width, 1.0 * eyes.half_width))
        _paint_eye(*part, subject, sample, side)


def paint_brows(canvas: Canvas, surface: Surface, subject: Identity, sample: Sample) -> None:
    """Paint both brows."""
    eyes = subject.eyes
    canvas, surface = _crop(canvas, surface, (-0.6, 0.6), (eyes.brow_y - 0.22, eyes.brow_y + 0.14))
    side = np.abs(surface.x)
    u = (side - eyes.spacing * 1.02) * (1 / eyes.brow_half_width)
    centre = (
        eyes.brow_y
        - sample.expression.brow_raise
        - eyes.brow_slope * u
        - eyes.brow_arch * (1 - (u - 0.2) ** 2)
    )
    taper = np.clip((1.08 - u) * 0.75, 0, 1) * smoothstep(-1.15, -0.75, u)
    thickness = eyes.brow_thickness * taper
    width = max(0.016, 1.5 * surface.px)
    alpha = soft(thickness - np.abs(surface.y - centre), width) * (np.abs(u) < 1.15) * surface.alpha
    alpha = alpha * np.clip(4 * taper, 0, 1)
    canvas.paint(0.92 * alpha, subject.brow_colour, _BROW)


def paint_glasses(canvas: Canvas, surface: Surface, subject: Identity, sample: Sample) -> None:
    """Paint frames that the head wears; the mask keeps what lies below them."""
    eyes, surroundings = subject.eyes, sample.surroundings
    canvas, surface = _crop(canvas, surface, (-0.7, 0.7), (-0.32, 0.32))
    half_x, half_y = 0.90 * eyes.spacing, (0.62 + 0.12 * subject.glasses_round) * eyes.spacing
    u = (np.abs(surface.x) - 1.06 * eyes.spacing) * (1 / half_x)
    v = (surface.y - 0.02) * (1 / half_y)
    exponent = 6 - 3.6 * subject.glasses_round
    ring = (np.abs(u) ** exponent + np.abs(v) ** exponent + 1e-6) ** (1 / exponent)
    thickness = max(surroundings.frame_width, 0.6 * surface.px)
    rim = soft(thickness - np.abs(ring - 1) * half_y, surface.px)
    side = np.abs(surface.x)
    bridge = soft(thickness - np.abs(surface.y + 0.02 + 0.4 * side), surface.px)
    bridge = bridge * (side < 0.2 * eyes.spacing)
    arm = soft(0.9 * thickness - np.abs(surface.y + 0.01), surface.px) * (u > 1)
    lens = soft(1 - ring, 0.1)
    canvas.paint(0.06 * lens * surface.alpha, (0.5, 0.52, 0.55, 0.45), _LENS)
    frame = np.maximum(np.maximum(rim, bridge), arm)
    canvas.shade(0.25 * surface.alpha * ridge(np.abs(ring - 1.06) * half_y, 0.03))
    canvas.paint(0.95 * frame * surface.alpha, surroundings.frame, _FRAME)


def _paint_eye(
    canvas: Canvas, surface: Surface, subject: Identity, sample: Sample, side: float
) -> None:
    eyes, expression = subject.eyes, sample.expression
    unit = eyes.half_width
    u, v = _eye_coordinates(surface, subject, side)
    arch = np.maximum(1 - u * u, 0)
    squint = 1 - 0.18 * max(expression.smile, 0.0)
    upper = -(eyes.openness * expression.lids * squint) * arch**0.62 * (1 + 0.12 * u * (u < 1))
    lower = 0.30 * arch**0.9
    px = surface.px / unit
    opening = soft(np.minimum(v - upper, lower - v), 1.2 * px) * (arch > 0) * surface.alpha
    canvas.paint(opening, SCLERA, _SCLERA)
    gaze_x, gaze_y = side * expression.gaze_x, expression.gaze_y - 0.07
    radius = np.sqrt((u - gaze_x) ** 2 + (v - gaze_y) ** 2)
    iris_radius = eyes.iris_radius / unit
    iris = soft(iris_radius - radius, px) * opening
    canvas.paint(iris, _iris_texture(subject.iris, radius * (1 / iris_radius)), _IRIS)
    pupil_radius = iris_radius * eyes.pupil * expression.pupil
    canvas.paint(soft(pupil_radius - radius, px) * opening, PUPIL, _PUPIL)
    canvas.shade(opening * (0.62 * np.exp(-np.maximum(v - upper, 0) * 6.5)))
    canvas.shade(opening * 0.30 * smoothstep(0.5, 1.0, np.abs(u)))
    near = (np.abs(u) < 1.06) * surface.alpha  # of lashes, the fold over them and the lower lid
    lash = ridge(v - upper + 0.03, max(0.07 + 0.07 * eyes.lashes, 0.55 * px)) * near
    canvas.paint((0.45 + 0.5 * eyes.lashes) * lash, BLACK_LASH, _LASH)
    fold = ridge(v - upper + 0.22 + 0.10 * eyes.crease, 0.08) * near
    canvas.shade((0.15 + 0.35 * eyes.crease) * fold)
    canvas.shade(0.30 * ridge(v - lower - 0.04, 0.07) * near)
    toward_x, toward_y, _ = sample.light.direction
    glint_x = gaze_x + side * iris_radius * (0.36 if toward_x > 0 else -0.36)
    glint_y = gaze_y + iris_radius * min(-0.25, 0.6 * toward_y)
    size = max(0.22 * iris_radius, 0.7 * px)
    glint = bump(u - glint_x, v - glint_y, size, size)
    canvas.paint(0.85 * glint * opening, (1.0, 1.0, 1.0, 1.0), _LASH)


def _crop(
    canvas: Canvas, surface: Surface, across: tuple[float, float], down: tuple[float, float]
) -> tuple[Canvas, Surface]:
    """Return the part that shows the head's points with x in `across` and y in `down`."""
    near = (surface.x > across[0]) & (surface.x < across[1])
    near &= (surface.y > down[0]) & (surface.y < down[1])
    rows, columns = _extent(near.any(axis=1)), _extent(near.any(axis=0))
    return window(canvas, rows, columns), window(surface, rows, columns)


def _extent(is_used: Array) -> slice:
    """Return the slice from the first to the last True of [S]; empty where there is none."""
    used = np.flatnonzero(is_used)
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)


def _eye_coordinates(surface: Surface, subject: Identity, side: float) -> tuple[Array, Array]:
    """Return u (outwards) and v (down) over the eye's half width, turned by its tilt."""
    eyes = subject.eyes
    across = (side * surface.x - eyes.spacing) * (1 / eyes.half_width)
    down = surface.y * (1 / eyes.half_width)
    cos, sin = float(np.cos(eyes.tilt)), float(np.sin(eyes.tilt))
    return across * cos - down * sin, across * sin + down * cos


def _iris_texture(iris: Spectrum, ratio: Array) -> Array:
    """Return [4, S, S]: dark at the limbus, lighter around the pupil."""
    shade = (1.25 - 0.35 * ratio) * (1 - 0.62 * smoothstep(0.78, 1.02, ratio))
    return spectra(iris) * shade
