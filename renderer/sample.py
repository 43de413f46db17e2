"""What differs between the images of one subject: pose, expression, light, clothes, background."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from renderer.identity import Identity, Stream, Style, stream_rng
from renderer.materials import Spectrum, dyed_spectrum


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles in radians and the place of the head in the image.

    Attributes:
        yaw: positive turns the nose to the right of the image.
        pitch: positive lowers the nose.
        roll: positive turns clockwise.
        shift_x, shift_y: of the head's centre, in half image sizes.
        scale: image size of a length of 1.
    """

    yaw: float
    pitch: float
    roll: float
    shift_x: float
    shift_y: float
    scale: float


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Deviations from rest.

    Attributes:
        smile: -0.35 (sad) .. 1.
        mouth_open: gap between the lips.
        brow_raise: upward shift of the brows.
        lids: openness of the eyes over that at rest.
        gaze_x, gaze_y: shift of the irises over the eye's half width.
        pupil: size of the pupils over that at rest.
    """

    smile: float
    mouth_open: float
    brow_raise: float
    lids: float
    gaze_x: float
    gaze_y: float
    pupil: float


@dataclass(frozen=True, kw_only=True)
class Light:
    """The one lighting of both modalities: a directional light and ambient light.

    Attributes:
        direction: unit vector from the face to the light (x right, y down, z to the viewer).
        direct: strength of the directional light in the four bands.
        ambient: strength of the ambient light in the four bands.
    """

    direction: tuple[float, float, float]
    direct: Spectrum
    ambient: Spectrum


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Clothes, background and glasses.

    Attributes:
        wall_a, wall_b: reflectances at the two ends of the background's gradient.
        wall_angle: direction of the gradient, radians.
        cloth_a, cloth_b: reflectances of the cloth and its pattern.
        pattern: 0 plain, 1 stripes, 2 checks.
        collar: 0 round neck, 1 V, 2 high collar.
        has_glasses: whether glasses are worn.
        frame: reflectance of their frame.
        frame_width: half thickness of the frame.
        hair_phase: movement of strands and fringe, radians.
    """

    wall_a: Spectrum
    wall_b: Spectrum
    wall_angle: float
    cloth_a: Spectrum
    cloth_b: Spectrum
    pattern: int
    collar: int
    has_glasses: bool
    frame: Spectrum
    frame_width: float
    hair_phase: float


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image's own parameters."""

    pose: Pose
    expression: Expression
    light: Light
    surroundings: Surroundings
    noise_seed: int


def draw_sample(seed: int, identity: int, sample: int, subject: Identity, style: Style) -> Sample:
    """Draw what is particular to one image; a pure function of its arguments.

    Args:
        seed: of the data set.
        identity: identity number.
        sample: number of the image.
        subject: the subject, which decides how likely glasses are.
        style: photo or plain.
    """
    rng = stream_rng(Stream.SAMPLE, style, seed, identity, sample)
    return Sample(
        pose=_draw_pose(rng),
        expression=_draw_expression(rng),
        light=_draw_light(rng),
        surroundings=_draw_surroundings(rng, subject),
        noise_seed=int(rng.integers(1 << 32)),
    )


def describe(subject: Identity, sample: Sample) -> dict[str, Any]:
    """Return the parameters worth knowing as plain JSON values; angles in degrees."""
    pose, expression, light = sample.pose, sample.expression, sample.light
    return {
        "pose": {
            "yaw_deg": _round(np.rad2deg(pose.yaw)),
            "pitch_deg": _round(np.rad2deg(pose.pitch)),
            "roll_deg": _round(np.rad2deg(pose.roll)),
            "scale": _round(pose.scale),
        },
        "expression": {
            "smile": _round(expression.smile),
            "mouth_open": _round(expression.mouth_open),
            "brow_raise": _round(expression.brow_raise),
            "lids": _round(expression.lids),
        },
        "light": {
            "direction": [_round(value) for value in light.direction],
            "direct": [_round(value) for value in light.direct],
            "ambient": [_round(value) for value in light.ambient],
        },
        "glasses": sample.surroundings.has_glasses,
        "skin_melanin": _round(subject.melanin),
        "hair_style": subject.hair.style.value,
        "hair_colour": subject.hair_name,
        "iris_colour": subject.iris_name,
        "beard": subject.hair.beard > 0,
    }


def _round(value: float) -> float:
    return round(float(value), 4)


def _draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        yaw=float(np.clip(rng.normal(0, 0.17), -0.42, 0.42)),
        pitch=float(np.clip(rng.normal(0.02, 0.07), -0.18, 0.18)),
        roll=float(np.clip(rng.normal(0, 0.05), -0.15, 0.15)),
        shift_x=float(rng.normal(0, 0.02)),
        shift_y=float(rng.normal(-0.005, 0.02)),
        scale=float(rng.uniform(1.12, 1.25)),
    )


def _draw_expression(rng: np.random.Generator) -> Expression:
    is_open = rng.uniform() < 0.4
    return Expression(
        smile=float(np.clip(rng.normal(0.30, 0.40), 0.0 if is_open else -0.35, 1)),
        mouth_open=float(rng.uniform(0.02, 0.10)) if is_open else 0.0,
        brow_raise=float(rng.normal(0, 0.012)),
        lids=float(np.clip(rng.normal(1, 0.13), 0.6, 1.3)),
        gaze_x=float(np.clip(rng.normal(0, 0.10), -0.25, 0.25)),
        gaze_y=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        pupil=float(rng.uniform(0.88, 1.12)),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    x, y, z = (
        float(rng.normal(0, 0.55)),
        float(rng.uniform(-0.75, 0.05)),
        float(rng.uniform(0.8, 1.2)),
    )
    length = float(np.sqrt(x * x + y * y + z * z))
    warmth, strength = float(rng.uniform(-1, 1)), float(rng.uniform(0.85, 1.15))
    fill, nir = float(rng.uniform(0.22, 0.45)), float(rng.uniform(0.74, 0.84))
    colour = (1 + 0.10 * warmth, 1.0, 1 - 0.14 * warmth, nir)
    shade = (1 - 0.03 * warmth, 1.0, 1 + 0.05 * warmth, nir)
    return Light(
        direction=(x / length, y / length, z / length),
        direct=_scaled(colour, strength * (1.1 - 0.6 * fill)),
        ambient=_scaled(shade, strength * fill),
    )


def _scaled(spectrum: Spectrum, factor: float) -> Spectrum:
    red, green, blue, nir = spectrum
    return red * factor, green * factor, blue * factor, nir * factor


def _draw_surroundings(rng: np.random.Generator, subject: Identity) -> Surroundings:
    bright = float(rng.uniform(0.04, 0.75))
    grey = [float(value) for value in rng.uniform(0.0, 0.5, 2)]
    wall = dyed_spectrum(rng, bright, grey[0], is_pigment=bool(rng.uniform() < 0.5))
    end = dyed_spectrum(rng, bright * float(rng.uniform(0.4, 1.2)), grey[1], is_pigment=False)
    ramp, mix = float(rng.uniform(0.45, 1.1)), float(rng.uniform(0, 0.5))
    other = tuple(ramp * (1 - mix) * a + mix * b for a, b in zip(wall, end, strict=True))
    return Surroundings(
        wall_a=wall,
        wall_b=(other[0], other[1], other[2], other[3]),
        wall_angle=float(rng.uniform(0, 2 * np.pi)),
        cloth_a=_draw_cloth(rng, 0.15),
        cloth_b=_draw_cloth(rng, 0.30),
        pattern=int(rng.choice(3, p=[0.6, 0.25, 0.15])),
        collar=int(rng.choice(3, p=[0.45, 0.3, 0.25])),
        has_glasses=bool(rng.uniform() < subject.wears_glasses),
        frame=_draw_frame(rng),
        frame_width=float(rng.uniform(0.010, 0.019)),
        hair_phase=float(rng.uniform(-1, 1)),
    )


def _draw_cloth(rng: np.random.Generator, pigments: float) -> Spectrum:
    """Draw cloth; `pigments` is the chance that it is dark in NIR."""
    bright, saturation = float(rng.uniform(0.03, 0.7)), float(rng.uniform(0, 0.9))
    return dyed_spectrum(rng, bright, saturation, is_pigment=bool(rng.uniform() < pigments))


def _draw_frame(rng: np.random.Generator) -> Spectrum:
    if rng.uniform() < 0.5:
        return 0.02, 0.02, 0.022, float(rng.choice([0.05, 0.45]))
    if rng.uniform() < 0.5:
        return 0.12, 0.05, 0.02, 0.40
    return 0.45, 0.43, 0.40, 0.42
