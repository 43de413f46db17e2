"""The head as a turned superellipsoid seen by parallel rays, with the face's relief on it."""

from dataclasses import replace

import numpy as np

from renderer.canvas import Array, Canvas, Surface, bump, smoothstep, soft, span, unit, window
from renderer.identity import Head, Identity
from renderer.sample import Expression, Pose

_SKULL_EXPONENT = 2.25
_JAW_TAPER = 0.30
_CAST_STEPS = 4
_TINY = 1e-6
_MAX_RATIO = 1.5  # rays far above and below the head need no exact value
_RELIEF_STEPS = 3


def rotation(pose: Pose) -> Array:
    """Return [3, 3] float64 that takes the head's frame to the camera's: roll x pitch x yaw."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (np.cos(angle), np.sin(angle)) for angle in (pose.yaw, pose.pitch, pose.roll)
    )
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def upright_coordinates(
    canvas: Canvas, pose: Pose, follow: float = 1.0
) -> tuple[Array, Array, float]:
    """Return x, y [S, S] and a subpixel in the head's units; `follow` of its shift in x counts."""
    x, y = canvas.x - follow * pose.shift_x, canvas.y - pose.shift_y
    return x * (1 / pose.scale), y * (1 / pose.scale), canvas.px / pose.scale


def grown(head: Head, by: float) -> Head:
    """Return the head with a layer of thickness `by` around the skull."""
    return replace(head, half_width=head.half_width + by, top=head.top + by, depth=head.depth + by)


def head_window(canvas: Canvas, head: Head, pose: Pose, margin: float) -> Canvas:
    """Return the part of the canvas that the head and a layer of `margin` around it can reach."""
    wide = max(head.half_width, head.depth) + margin
    tilt = abs(float(np.sin(pose.roll))) * max(head.top, head.chin)
    nod = abs(float(np.sin(pose.pitch))) * head.depth + abs(float(np.sin(pose.roll))) * wide
    left, right = (pose.shift_x + pose.scale * sign * (wide + tilt) for sign in (-1, 1))
    top = pose.shift_y - pose.scale * (head.top + margin + nod)
    bottom = pose.shift_y + pose.scale * (head.chin + nod + 0.05)
    return window(canvas, span(canvas.y[:, 0], top, bottom), span(canvas.x[0], left, right))


def cast_head(canvas: Canvas, head: Head, pose: Pose, noise: Array | float = 0.0) -> Surface:
    """Meet the rays with the front of the head.

    The outline's width depends on y, and y on the depth that is sought: a fixed point of a few
    steps, each of which solves a quadratic. `noise` is added to the implicit function; where it is
    positive the outline grows.
    """
    turn = rotation(pose)
    image_x, image_y, px = upright_coordinates(canvas, pose)
    start = [image_x * float(turn[0, i]) + image_y * float(turn[1, i]) for i in range(3)]
    along = [float(turn[2, i]) for i in range(3)]
    t = np.full_like(image_x, head.depth)
    level = t
    for _ in range(_CAST_STEPS):
        y = start[1] + t * along[1]
        inside = 1 - _profile_power(head, y, 0.0)[0] + noise
        width = _half_width(head, y)
        weight = 1 / (width * width)
        depth_weight = 1 / head.depth**2
        a = along[0] ** 2 * weight + along[2] ** 2 * depth_weight
        b = along[0] * start[0] * weight + along[2] * depth_weight * start[2]
        c = start[0] ** 2 * weight + start[2] ** 2 * depth_weight - inside
        level = b * b - a * c
        t = (np.sqrt(np.maximum(level, 0)) - b) / a
    point = [start[i] + t * along[i] for i in range(3)]
    gradient_y, gradient_x = np.gradient(level)
    slope = np.sqrt(gradient_x**2 + gradient_y**2) + 1e-6
    normal = _turned(turn, _implicit_normal(head, *point))
    return Surface(
        x=point[0],
        y=point[1],
        z=point[2],
        alpha=np.clip(level / slope + 0.5, 0, 1),
        normal=normal,
        px=px,
    )


def add_relief(surface: Surface, subject: Identity, expression: Expression, pose: Pose) -> Surface:
    """Raise nose, brows, cheeks and lips from the smooth head.

    The raised point lies elsewhere on the image when the head is turned; the points are moved
    accordingly, so features shift by parallax.
    """
    turn = rotation(pose)
    along_x, along_y = float(turn[2, 0]), float(turn[2, 1])
    height = relief(surface.x, surface.y, subject, expression)
    for _ in range(_RELIEF_STEPS - 1):
        x, y = surface.x + height * along_x, surface.y + height * along_y
        height = relief(x, y, subject, expression)
    gradient_y, gradient_x = np.gradient(height, surface.px)
    normal = unit(surface.normal)
    normal[0] -= gradient_x
    normal[1] -= gradient_y
    return replace(
        surface,
        x=surface.x + height * along_x,
        y=surface.y + height * along_y,
        normal=normal,
    )


def relief(x: Array, y: Array, subject: Identity, expression: Expression) -> Array:
    """Return the height of the face over the smooth head, float32 like x and y."""
    eyes, face, head = subject.eyes, subject.face, subject.head
    side = np.abs(x)
    smile = max(expression.smile, 0.0)
    height = _nose_height(x, y, side, subject)
    height += 0.020 * bump(side - 0.9 * eyes.spacing, y - eyes.brow_y - 0.02, 0.13, 0.05)
    height -= 0.048 * bump(side - 0.86 * eyes.spacing, y + 0.015, 0.115, 0.075)
    height += 0.026 * bump(side - eyes.spacing, y - 0.005, 0.075, 0.055)
    cheek_y = face.nose_y - 0.07 - 0.03 * smile
    height += (0.020 + 0.03 * face.cheeks + 0.02 * smile) * bump(
        side - 0.27, y - cheek_y, 0.13, 0.12
    )
    gap, mouth = expression.mouth_open, face.mouth_y
    width = face.mouth_half_width
    height += 0.030 * bump(x, y - mouth - 0.01, 1.2 * width, 0.12)
    height += 0.35 * face.upper_lip * bump(x, y - mouth + 0.5 * face.upper_lip, width, 0.022)
    lower = mouth + gap + 0.5 * face.lower_lip
    height += 0.45 * face.lower_lip * bump(x, y - lower, 0.75 * width, 0.7 * face.lower_lip)
    height -= 0.018 * bump(x, y - lower - 1.1 * face.lower_lip - 0.015, 0.12, 0.030)
    height += 0.035 * bump(x, y - head.chin + 0.10, 0.12, 0.07)
    height -= 0.006 * bump(x, y - 0.5 * (face.nose_y + mouth), 0.018, 0.06)
    fold = side - face.nose_half_width - 0.03 - 0.55 * (y - face.nose_y)
    height -= (0.006 + 0.012 * smile) * bump(fold, y - face.nose_y - 0.06, 0.03, 0.08)
    return height


def nose_outline(x: Array, y: Array, subject: Identity, px: float) -> Array:
    """Return the coverage [S, S] 0..1 of the nose's class."""
    face = subject.face
    top = 0.03
    t = (y - top) * (1 / (face.nose_y - top))
    half = face.bridge_half_width + (face.nose_half_width - face.bridge_half_width) * (
        smoothstep(0.35, 0.88, t)
    )
    bottom = face.nose_y + 0.035 - 0.9 * np.abs(x) ** 2 / face.nose_half_width
    inside = np.minimum(half - np.abs(x), np.minimum(y - top, bottom - y))
    return soft(inside, px)


def _nose_height(x: Array, y: Array, side: Array, subject: Identity) -> Array:
    face = subject.face
    t = y * (1 / face.nose_y)
    rise = 0.30 + 0.70 * np.clip(t, 0, 1) ** 1.4
    end = t + 0.30 * (x * (1 / face.nose_half_width)) ** 2
    profile = rise * smoothstep(-0.55, 0.05, t) * smoothstep(1.40, 0.88, end)
    width = 0.037 + 0.40 * face.nose_half_width * smoothstep(0.2, 1.0, t)
    height = face.nose_height * profile * np.exp(-((x / width) ** 2))
    height += 0.028 * bump(x, y - 0.93 * face.nose_y, 0.42 * face.nose_half_width, 0.036)
    return height + 0.036 * bump(
        side - 0.72 * face.nose_half_width, y - face.nose_y + 0.015, 0.028, 0.034
    )


def _half_width(head: Head, y: Array) -> Array:
    """Return the half width at y, which tapers below the eyes."""
    t = np.clip(y * (1 / head.chin), 0, 1)
    shrink = _JAW_TAPER * head.jaw
    return head.half_width * (1 - shrink * t * t * (3 - 2 * t))


def _profile_power(head: Head, y: Array, lowered: float) -> tuple[Array, Array]:
    """Return |y/H|^(n - lowered) and n/H; H and n are other ones below the eyes than above.

    The power is exp(n log), which numpy computes several times faster than the power itself.
    """
    is_jaw = y > 0
    exponent = np.where(is_jaw, np.float32(head.squareness), np.float32(_SKULL_EXPONENT))
    inverse = np.where(is_jaw, np.float32(1 / head.chin), np.float32(1 / head.top))
    ratio = np.clip(np.abs(y) * inverse, _TINY, _MAX_RATIO)
    return np.exp((exponent - lowered) * np.log(ratio)), exponent * inverse


def _implicit_normal(head: Head, x: Array, y: Array, z: Array) -> list[Array]:
    power, factor = _profile_power(head, y, 1.0)
    width = _half_width(head, y)
    t = np.clip(y * (1 / head.chin), 0, 1)
    slope = t * (1 - t) * (-6 * head.half_width * _JAW_TAPER * head.jaw / head.chin)
    across = x / (width * width)
    down = np.sign(y) * factor * power - 2 * across * x * slope / width
    return [2 * across, down, 2 * z * (1 / head.depth**2)]


def _turned(turn: Array, vector: list[Array]) -> Array:
    """Rotate a vector field [3][S, S] to the camera's frame."""
    return np.stack(
        [sum(float(turn[row, i]) * vector[i] for i in range(3)) for row in range(3)]
    ).astype(np.float32)
