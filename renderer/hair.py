"""Hair: the cap on the skull, what hangs behind and beside the face, and the beard."""

from dataclasses import replace

import numpy as np

from renderer import classes
from renderer.body import BODY_FOLLOWS
from renderer.canvas import (
    Array,
    Canvas,
    Material,
    Surface,
    plane_noise,
    ridge,
    smoothstep,
    soft,
    spectra,
    unit,
    wave_noise,
)
from renderer.geometry import cast_head, grown, head_window, upright_coordinates
from renderer.identity import HairStyle, Identity
from renderer.sample import Sample

_HAIR = Material(ident=classes.HAIR, scatter=0.25, gloss=0.28)
_STUBBLE = Material(ident=None, scatter=0.6)
_ROUGHNESS = {HairStyle.CURLY: 0.075, HairStyle.WAVY: 0.05, HairStyle.SHORT: 0.03}
_FRONT = {HairStyle.RECEDING: 0.50, HairStyle.BUZZ: 0.55, HairStyle.CURLY: 0.65}
_FULL_BEARD = 0.6


def paint_back_hair(canvas: Canvas, subject: Identity, sample: Sample, table: Array) -> None:
    """Paint what lies behind neck and ears: hanging hair, or a bun on top."""
    _paint_back_cap(canvas, subject, sample, table)
    if subject.hair.style.hangs:
        _paint_hanging(canvas, subject, sample, table)
    if subject.hair.style is HairStyle.TIED:
        x, y, px = _hair_coordinates(canvas, sample)
        top = -subject.head.top - subject.hair.volume + 0.01
        radius = np.sqrt((x * 0.85) ** 2 + (y - top) ** 2)
        normal = np.stack([x * 4, (y - top) * 4, np.full_like(x, 0.7)])
        colour = _strands(subject, 3.0 * np.arctan2(y - top, x), table)
        canvas.paint(soft(0.15 - radius, 1.5 * px), colour, _HAIR, normal)


def _paint_back_cap(canvas: Canvas, subject: Identity, sample: Sample, table: Array) -> None:
    """Paint the hair at the back of the skull, seen between the face and the hair's outline."""
    margin = subject.hair.volume + 0.08
    part = head_window(canvas, subject.head, sample.pose, margin)
    shell = _shell(part, subject, sample, table)
    side = max(subject.hair.side, 0.05)
    alpha = shell.alpha
    if subject.hair.style is not HairStyle.CURLY:
        alpha = alpha * soft(side - shell.y - 0.02, 3 * shell.px)
    part.paint(alpha, _strands(subject, 30 * shell.x, table), _HAIR, shell.normal)
    part.shade(0.45 * alpha)


def paint_side_hair(canvas: Canvas, subject: Identity, sample: Sample, table: Array) -> None:
    """Paint hanging hair that falls over the shoulders, beside the neck."""
    if not subject.hair.style.hangs:
        return
    x, y, px = _hair_coordinates(canvas, sample)
    inner = subject.neck_half_width * (1.0 + 0.25 * smoothstep(0.4, 1.0, y))
    only = soft(np.abs(x) - inner, 2 * px)
    _paint_hanging(canvas, subject, sample, table, only)


def paint_hair(
    canvas: Canvas, surface: Surface, subject: Identity, sample: Sample, table: Array
) -> None:
    """Paint the cap of hair over head and ears, with its shadow on the forehead."""
    hair = subject.hair
    shell = _shell(canvas, subject, sample, table)
    across = (shell.x - hair.part) / np.maximum(0.45 - shell.y, 0.15)  # strands fan out from there
    line = _hairline(shell, subject, sample, across, table)
    width = max(0.02, 1.5 * shell.px)
    alpha = soft(line - shell.y, width) * shell.alpha
    if hair.style is HairStyle.BUZZ:
        alpha = alpha * 0.86
    shadow = smoothstep(0.11, 0.0, surface.y - line) * surface.alpha
    canvas.shade((0.16 + 1.6 * min(hair.volume, 0.15)) * shadow)
    normal = unit(shell.normal)
    if hair.style is HairStyle.CURLY:
        curls = _curls(shell, table)
        normal[:2] += 0.7 * curls
        colour = spectra(subject.hair_colour) * (1 + 0.4 * curls[0])
    else:
        normal[0] += 0.45 * wave_noise(across * 26, table[3])
        colour = _strands(subject, across * 40, table)
    canvas.paint(alpha, colour, _HAIR, normal)


def paint_beard(canvas: Canvas, surface: Surface, subject: Identity, table: Array) -> None:
    """Paint beard and moustache; short ones stay skin in the mask, full ones are hair."""
    hair, face, head = subject.hair, subject.face, subject.head
    if not hair.beard:
        return
    x, y, side = surface.x, surface.y, np.abs(surface.x)
    ratio = side * (1 / head.half_width)
    edge = 0.05 + (face.mouth_y - 0.09) * smoothstep(1.02, 0.50, ratio)
    beard = smoothstep(-0.035, 0.035, y - edge)
    lips = np.sqrt(
        (x / (1.12 * face.mouth_half_width)) ** 2 + ((y - face.mouth_y - 0.012) * (1 / 0.075)) ** 2
    )
    beard = beard * smoothstep(0.85, 1.15, lips)
    middle = 0.55 * face.nose_y + 0.45 * face.mouth_y + 0.10 * side
    lip = ridge(x, 1.05 * face.mouth_half_width) * ridge(y - middle - 0.012, 0.034)
    cover = np.maximum(beard, np.clip(1.5 * lip, 0, 1) * hair.moustache)
    grain = 0.82 + 0.18 * plane_noise(x * 30, y * 16, table)
    alpha = surface.alpha * cover * grain * (0.35 + 0.6 * hair.beard)
    material = _HAIR if hair.beard >= _FULL_BEARD else _STUBBLE
    canvas.paint(np.clip(alpha, 0, 1), subject.brow_colour, material)


def _shell(canvas: Canvas, subject: Identity, sample: Sample, table: Array) -> Surface:
    """Return the outer surface of the hair on the skull."""
    hair = subject.hair
    shape = grown(subject.head, hair.volume)
    if hair.style is HairStyle.CURLY:
        shape = replace(shape, chin=0.30 + hair.volume, squareness=2.2, jaw=0.0)
    rough = _ROUGHNESS.get(hair.style, 0.0)
    if not rough:
        return cast_head(canvas, shape, sample.pose)
    skew_x, skew_y = canvas.x + 0.6 * canvas.y, canvas.y - 0.6 * canvas.x
    noise = plane_noise(skew_x * 8 + 3.1, skew_y * 8, table)
    noise += 0.9 * plane_noise(skew_x * 21, skew_y * 21 + 7, table)
    return cast_head(canvas, shape, sample.pose, rough * noise)


def _curls(shell: Surface, table: Array) -> Array:
    """Return [2, S, S] -1..1: noise in two directions on a warped lattice."""
    x, y = shell.x + 0.7 * shell.y, shell.y - 0.7 * shell.x
    warp = 1.1 * plane_noise(x * 9, y * 9 + 3, table)
    return np.stack(
        [plane_noise(x * 20 + warp, y * 20 - warp + offset, table) for offset in (0.0, 12.5)]
    )


def _hair_coordinates(canvas: Canvas, sample: Sample) -> tuple[Array, Array, float]:
    """Return x, y that roll with the head near it and hang straight below, and a subpixel."""
    x, y, px = upright_coordinates(canvas, sample.pose, BODY_FOLLOWS)
    x = x + sample.pose.roll * smoothstep(0.9, -0.7, y) * y
    x = x - 0.08 * sample.surroundings.hair_phase * smoothstep(0.1, 1.0, y) * 0.4
    return x, y, px


def _paint_hanging(
    canvas: Canvas,
    subject: Identity,
    sample: Sample,
    table: Array,
    only: Array | float = 1.0,
) -> None:
    """Paint hanging hair where `only` [S, S] 0..1 says."""
    x, y, px = _hair_coordinates(canvas, sample)
    hair, head = subject.hair, subject.head
    half = head.half_width + hair.volume
    phase = sample.surroundings.hair_phase
    wave: Array | float = 0.0
    flare = 1 + 0.10 * smoothstep(0.0, 0.9, y)
    if hair.style is HairStyle.WAVY:
        wave = 0.040 * np.sin(9.5 * y + 1.5 * phase + 2.0 * np.sign(x))
        flare += 0.12 * smoothstep(-0.1, 0.5, y)
    outer = half * flare + wave
    ends = hair.length + 0.05 * wave_noise(x * 12 + phase, table[5]) + 0.10 * (x / half) ** 2
    up = np.clip(-y * (1 / (head.top + hair.volume)), 0, 1)
    outer = outer * np.sqrt(1 - up**2.25)
    inside = np.minimum(outer - np.abs(x), ends - y)
    ratio = np.clip(x / np.maximum(outer, 0.05), -0.97, 0.97)
    strand = (np.abs(x) + 0.5 * wave) * (1 / half)
    normal = np.stack(
        [1.1 * ratio + 0.5 * wave_noise(strand * 22, table[7]), 0.1 + 0 * x, 0.8 + 0 * x]
    )
    colour = _strands(subject, strand * 34 + 5 * np.sign(x), table)
    alpha = soft(inside, 2 * px) * (y > -head.top) * only
    canvas.paint(alpha, colour, _HAIR, normal)
    inner = smoothstep(1.0, 0.72, np.abs(x) / half) * smoothstep(-0.2, 0.3, y)
    canvas.shade(alpha * (0.55 * inner))


def _hairline(
    shell: Surface, subject: Identity, sample: Sample, across: Array, table: Array
) -> Array:
    """Return y [S, S] above which the shell is covered."""
    hair, half = subject.hair, subject.head.half_width + subject.hair.volume
    ratio = np.abs(shell.x) * (1 / half)
    front = _FRONT.get(hair.style, 0.60)
    rise = smoothstep(front, 0.5 * front - 0.05, shell.z * (1 / (subject.head.depth + hair.volume)))
    side = max(hair.side, 0.3) if hair.style.hangs else hair.side
    line = hair.line + (side - hair.line) * rise
    if hair.slant:
        toward = (shell.x - hair.part) * float(np.sign(hair.slant)) * (1 / half)
        line = line + abs(hair.slant) * np.clip(toward, -0.2, 1.2) * (1 - rise)
    line = line + 0.035 * (1 - rise) * np.cos(ratio * 5.0).astype(np.float32)
    phase = 0.6 * sample.surroundings.hair_phase
    jag = 0.05 if hair.style in (HairStyle.BOB, HairStyle.SHORT, HairStyle.LONG) else 0.02
    return line + jag * wave_noise(across * 11 + phase, table[2])


def _strands(subject: Identity, coordinate: Array, table: Array) -> Array:
    """Return hair's reflectance [4, S, S] with lighter and darker strands."""
    shade = 1 + 0.30 * wave_noise(coordinate, table[1])
    shade = shade + 0.15 * wave_noise(coordinate * 2.7 + 5, table[4])
    return spectra(subject.hair_colour) * shade
