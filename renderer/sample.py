"""What differs between the images of one subject: pose, expression, light, clothes, background."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderer.identity import SAMPLE_STREAM, Identity, Style, stream_rng
from renderer.materials import Spectrum, dyed_spectrum


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles in radians and the place of the head in the image."""

    yaw: float  # positive turns the nose to the right of the image
    pitch: float  # positive lowers the nose
    roll: float  # positive turns clockwise
    shift_x: float  # of the head's centre, in half image sizes
    shift_y: float
    scale: float  # image size of a length of 1


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Deviations from rest."""

    smile: float  # -0.35 (sad) .. 1
    mouth_open: float  # gap between the lips
    brow_raise: float  # upward shift of the brows
    lids: float  # openness of the eyes over that at rest
    gaze_x: float  # shift of the irises over the eye's half width
    gaze_y: float
    pupil: float  # size of the pupils over that at rest


@dataclass(frozen=True, kw_only=True)
class Light:
    """The one lighting of both modalities: a directional light and ambient light."""

    direction: tuple[float, float, float]  # unit vector to it: x right, y down, z to the viewer
    direct: Spectrum  # strength of the directional light
    ambient: Spectrum


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Clothes, background and glasses."""

    wall_a: Spectrum  # the two ends of the background's gradient
    wall_b: Spectrum
    wall_angle: float  # direction of the gradient, radians
    cloth_a: Spectrum
    cloth_b: Spectrum  # of the pattern
    pattern: int  # 0 plain, 1 stripes, 2 checks
    collar: int  # 0 round neck, 1 V, 2 high collar
    has_glasses: bool
    frame: Spectrum  # of the glasses
    frame_width: float  # half thickness
    hair_phase: float  # movement of strands and fringe, radians


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image's own parameters."""

    pose: Pose
    expression: Expression
    light: Light
    surroundings: Surroundings
    noise_seed: int


def draw_sample(seed: int, identity: int, sample: int, subject: Identity, style: Style) -> Sample:
    """Draw what is particular to one image of `subject`; a pure function of its arguments."""
    rng = stream_rng(SAMPLE_STREAM, style, seed, identity, sample)
    return Sample(
        pose=_draw_pose(rng),
        expression=_draw_expression(rng),
        light=_draw_light(rng),
        surroundings=_draw_surroundings(rng, subject),
        noise_seed=int(rng.integers(1 << 32)),
    )


def describe(subject: Identity, sample: Sample) -> dict[str, Any]:
    """Return the parameters worth knowing as plain JSON values; angles in degrees."""
    pose, expression = sample.pose, sample.expression
    angles = {f"{name}_deg": np.rad2deg(getattr(pose, name)) for name in ("yaw", "pitch", "roll")}
    shown = ("smile", "mouth_open", "brow_raise", "lids")
    light = vars(sample.light).items()
    return {
        "pose": _rounded({**angles, "scale": pose.scale}),
        "expression": _rounded({name: getattr(expression, name) for name in shown}),
        "light": {name: [round(value, 4) for value in values] for name, values in light},
        "glasses": sample.surroundings.has_glasses,
        "skin_melanin": round(subject.melanin, 4),
        "hair_style": subject.hair.style.value,
        "hair_colour": subject.hair_name,
        "iris_colour": subject.iris_name,
        "beard": subject.hair.beard > 0,
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}


def _draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        yaw=float(np.clip(rng.normal(0, 0.17), -0.42, 0.42)),
        pitch=float(np.clip(rng.normal(0.02, 0.07), -0.18, 0.18)),
        roll=float(np.clip(rng.normal(0, 0.05), -0.15, 0.15)),
        shift_x=rng.normal(0, 0.02),
        shift_y=rng.normal(-0.005, 0.02),
        scale=rng.uniform(1.12, 1.25),
    )


def _draw_expression(rng: np.random.Generator) -> Expression:
    is_open = rng.uniform() < 0.4
    return Expression(
        smile=float(np.clip(rng.normal(0.30, 0.40), 0.0 if is_open else -0.35, 1)),
        mouth_open=rng.uniform(0.02, 0.10) if is_open else 0.0,
        brow_raise=rng.normal(0, 0.012),
        lids=float(np.clip(rng.normal(1, 0.13), 0.6, 1.3)),
        gaze_x=float(np.clip(rng.normal(0, 0.10), -0.25, 0.25)),
        gaze_y=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        pupil=rng.uniform(0.88, 1.12),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    x, y, z = rng.normal(0, 0.55), rng.uniform(-0.75, 0.05), rng.uniform(0.8, 1.2)
    length = math.sqrt(x * x + y * y + z * z)
    warmth, strength = rng.uniform(-1, 1), rng.uniform(0.85, 1.15)
    fill, nir = rng.uniform(0.22, 0.45), rng.uniform(0.74, 0.84)
    colour = (1 + 0.10 * warmth, 1.0, 1 - 0.14 * warmth, nir)
    shade = (1 - 0.03 * warmth, 1.0, 1 + 0.05 * warmth, nir)
    return Light(
        direction=(x / length, y / length, z / length),
        direct=tuple(value * (strength * (1.1 - 0.6 * fill)) for value in colour),
        ambient=tuple(value * (strength * fill) for value in shade),
    )


def _draw_surroundings(rng: np.random.Generator, subject: Identity) -> Surroundings:
    bright = rng.uniform(0.04, 0.75)
    grey = rng.uniform(0.0, 0.5), rng.uniform(0.0, 0.5)
    wall = dyed_spectrum(rng, bright, grey[0], is_pigment=rng.uniform() < 0.5)
    end = dyed_spectrum(rng, bright * rng.uniform(0.4, 1.2), grey[1], is_pigment=False)
    ramp, mix = rng.uniform(0.45, 1.1), rng.uniform(0, 0.5)
    return Surroundings(
        wall_a=wall,
        wall_b=tuple(ramp * (1 - mix) * a + mix * b for a, b in zip(wall, end, strict=True)),
        wall_angle=rng.uniform(0, 2 * np.pi),
        cloth_a=_draw_cloth(rng, 0.15),
        cloth_b=_draw_cloth(rng, 0.30),
        pattern=int(rng.choice(3, p=[0.6, 0.25, 0.15])),
        collar=int(rng.choice(3, p=[0.45, 0.3, 0.25])),
        has_glasses=rng.uniform() < subject.wears_glasses,
        frame=_draw_frame(rng),
        frame_width=rng.uniform(0.010, 0.019),
        hair_phase=rng.uniform(-1, 1),
    )


def _draw_cloth(rng: np.random.Generator, pigments: float) -> Spectrum:
    """Draw cloth; `pigments` is the chance that it is dark in NIR."""
    bright, saturation = rng.uniform(0.03, 0.7), rng.uniform(0, 0.9)
    return dyed_spectrum(rng, bright, saturation, is_pigment=rng.uniform() < pigments)


def _draw_frame(rng: np.random.Generator) -> Spectrum:
    if rng.uniform() < 0.5:
        return 0.02, 0.02, 0.022, float(rng.choice([0.05, 0.45]))
    if rng.uniform() < 0.5:
        return 0.12, 0.05, 0.02, 0.40
    return 0.45, 0.43, 0.40, 0.42
