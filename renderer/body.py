"""What surrounds the face: background, neck, clothes, ears."""

import numpy as np

from renderer import classes
from renderer.canvas import (
    Array,
    Canvas,
    Material,
    bump,
    ridge,
    smoothstep,
    soft,
    spectra,
    wave_noise,
)
from renderer.features import SKIN
from renderer.geometry import rotation, upright_coordinates
from renderer.identity import Identity
from renderer.sample import Pose, Sample

_WALL = Material(ident=classes.BACKGROUND)
_NECK = Material(ident=classes.NECK_AND_CLOTHES, scatter=1.0, gloss=0.05)
_CLOTH = Material(ident=classes.NECK_AND_CLOTHES, scatter=0.15)
BODY_FOLLOWS = 0.6  # share of the head's shift by which the body moves
_NECK_FOLLOWS = 0.45  # share of the head's yaw by which the neck's upper end moves


def paint_background(canvas: Canvas, sample: Sample) -> None:
    """Paint a wall with a gradient and a wide shadow at the rim."""
    surroundings = sample.surroundings
    cos, sin = float(np.cos(surroundings.wall_angle)), float(np.sin(surroundings.wall_angle))
    t = smoothstep(-1.2, 1.2, canvas.x * cos + canvas.y * sin)
    wall = spectra(surroundings.wall_a) * (1 - t) + spectra(surroundings.wall_b) * t
    canvas.paint(np.ones_like(t), wall, _WALL)
    canvas.shade(0.25 * smoothstep(0.8, 1.9, canvas.x**2 + canvas.y**2))


def paint_neck(canvas: Canvas, subject: Identity, sample: Sample) -> None:
    """Paint the neck; clothes and head are painted over it."""
    x, y, px = upright_coordinates(canvas, sample.pose, BODY_FOLLOWS)
    chin, half = subject.head.chin, subject.neck_half_width
    lean = 0.30 * sample.pose.yaw * _NECK_FOLLOWS - 0.5 * sample.pose.roll
    centre = lean * smoothstep(chin + 0.35, 0.2, y)
    across = x - centre
    width = half * (1 + 0.9 * smoothstep(chin + 0.02, chin + 0.30, y) ** 2)
    neck = soft(width - np.abs(across), 1.5 * px) * (y > 0.1)
    ratio = np.clip(across / width, -0.98, 0.98)
    normal = np.stack([ratio, 0.15 + 0 * ratio, np.sqrt(1 - ratio * ratio)])
    canvas.paint(neck, subject.skin, _NECK, normal)
    toward_x, _, _ = sample.light.direction
    under = smoothstep(chin + 0.22, chin - 0.10, y + 0.35 * across * toward_x)
    canvas.shade(neck * 0.62 * under)
    tendon = ridge(np.abs(across) - 0.45 * half - 0.15 * (chin + 0.3 - y), 0.035)
    canvas.shade(neck * 0.14 * tendon * (y > chin))


def paint_clothes(canvas: Canvas, subject: Identity, sample: Sample) -> None:
    """Paint the clothes with their pattern and collar."""
    x, y, px = upright_coordinates(canvas, sample.pose, BODY_FOLLOWS)
    surroundings, chin, half = sample.surroundings, subject.head.chin, subject.neck_half_width
    side = np.abs(x)
    slope = 0.30 * np.maximum(side - half, 0)
    shoulder = chin + 0.03 + slope + 0.5 * np.maximum(side - 0.75, 0) ** 2
    depth = (0.15, 0.34, 0.0)[surroundings.collar]
    if surroundings.collar == 1:
        neckline = chin + 0.04 + depth * np.clip(1 - side / (1.25 * half), 0, 1)
    else:
        neckline = chin + 0.04 + depth * np.sqrt(np.clip(1 - (side / (1.25 * half)) ** 2, 0, 1))
    inside = np.minimum(y - shoulder, y - neckline)
    if surroundings.collar == 2:
        high = np.minimum(y - chin - 0.03 + 0.10 * side, 1.18 * half - side)
        inside = np.maximum(inside, high)
    cloth = soft(inside, 1.5 * px)
    normal = np.stack([0.55 * x, -0.55 * smoothstep(0.25, 0.0, inside), 0.9 + 0 * x])
    normal[0] += 0.12 * wave_noise(x * 5 + 0.8 * y, _FOLDS)
    figure = _pattern(surroundings.pattern, x, y, px)
    colour = spectra(surroundings.cloth_a) * (1 - figure) + spectra(surroundings.cloth_b) * figure
    canvas.paint(cloth, colour, _CLOTH, normal)
    canvas.shade(cloth * 0.30 * smoothstep(0.06, 0.0, inside))


def paint_ears(canvas: Canvas, subject: Identity, pose: Pose) -> None:
    """Paint the ears at the sides of the head, behind it; turning the head moves them."""
    turn = rotation(pose)
    image_x, image_y, px = upright_coordinates(canvas, pose)
    for side in (-1.0, 1.0):
        place = turn @ np.array([side * 0.985 * subject.head.half_width, 0.075, -0.02])
        u = (image_x - float(place[0])) * (side / 0.062)
        v = (image_y - float(place[1])) * (1 / subject.ear)
        u = u + 0.25 * v - side * pose.roll
        radius = np.sqrt(u * u + v * v)
        alpha = soft((1 - radius) * 0.062, px)
        normal = np.stack([0.5 * side * u, 0.3 * v, np.ones_like(u)])
        canvas.paint(alpha, subject.skin, SKIN, normal)
        canvas.shade(alpha * 0.55 * bump(u + 0.15, v, 0.45, 0.55))


def _pattern(kind: int, x: Array, y: Array, px: float) -> Array:
    """Return [S, S] 0..1: how much of the second cloth shows."""
    if kind == 0:
        return np.zeros_like(x)
    width = max(0.10, 3 * px)
    stripes = smoothstep(-width, width, np.sin(28 * y).astype(np.float32))
    if kind == 1:
        return stripes
    return 0.5 * (stripes + smoothstep(-width, width, np.sin(28 * x).astype(np.float32)))


_FOLDS = np.asarray([0.2, -0.8, 0.6, 0.1, -0.4, 0.9, -0.2, -0.6], np.float32)
