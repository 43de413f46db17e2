"""What makes a subject: geometry and materials, drawn once for a seed and a number.

Lengths are in half image sizes at scale 1, x to the right, y down, origin between the eyes.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from renderer.materials import HAIR, IRISES, Spectrum, draw_name, lip_spectrum, skin_spectrum

SEED_LIMIT = 1 << 32
IDENTITY_STREAM, SAMPLE_STREAM = range(2)  # independent random numbers of one subject


class Style(Enum):
    """How faces are drawn: `photo` is shaded; `plain` is flat, and shows other identities."""

    PHOTO = "photo"
    PLAIN = "plain"


class HairStyle(Enum):
    """Shapes of hair."""

    BUZZ = "buzz"
    SHORT = "short"
    SIDE_PART = "side_part"
    RECEDING = "receding"
    TIED = "tied"
    BOB = "bob"
    LONG = "long"
    WAVY = "wavy"
    CURLY = "curly"

    @property
    def hangs(self) -> bool:
        """Whether the hair falls beside the face and covers the ears."""
        return self in (HairStyle.BOB, HairStyle.LONG, HairStyle.WAVY)


@dataclass(frozen=True, kw_only=True)
class Head:
    """Shape of the skull: a superellipsoid with a jaw."""

    half_width: float  # at the cheekbones
    top: float  # distance from the eyes' line to the top of the skull
    chin: float  # distance from the eyes' line to the chin
    depth: float  # half depth from face to the back of the head
    jaw: float  # 0 (oval) .. 1 (tapers strongly)
    squareness: float  # exponent of the lower outline, 2 (ellipse) .. 3 (square)


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """Eyes and brows of a subject."""

    spacing: float  # x of the eye centres
    half_width: float  # of the opening
    openness: float  # height of the upper lid above the eye's line over half_width
    tilt: float  # radians, positive lifts the outer corner
    iris_radius: float
    pupil: float  # radius of the pupil over that of the iris
    crease: float  # strength of the upper lid's fold, 0..1
    lashes: float  # strength of the lash line, 0..1
    brow_y: float  # negative is up
    brow_arch: float  # height of the brow's arch
    brow_slope: float  # rise of the inner to the outer end
    brow_thickness: float  # half thickness
    brow_half_width: float  # half length


@dataclass(frozen=True, kw_only=True)
class NoseMouth:
    """Nose and mouth of a subject."""

    nose_y: float  # of the nose's base
    nose_half_width: float  # at the wings
    nose_height: float  # how far the tip stands out
    bridge_half_width: float  # at the eyes
    mouth_y: float  # of the mouth's line
    mouth_half_width: float  # at rest
    upper_lip: float  # thickness
    lower_lip: float  # thickness
    bow: float  # depth of Cupid's bow, 0..1
    cheeks: float  # fullness, 0..1


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair on head and face."""

    style: HairStyle
    volume: float  # thickness over the skull
    line: float  # y of the hairline over the forehead
    side: float  # y down to which hair covers the temples
    part: float  # x of the parting
    slant: float  # how far the hairline falls to one side
    length: float  # y of the ends of long hair
    beard: float  # 0 (none) .. 1 (full)
    moustache: float  # 0 .. 1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A subject: everything that is the same in all of its images."""

    head: Head
    eyes: Eyes
    face: NoseMouth
    hair: Hair
    neck_half_width: float
    ear: float  # half height
    melanin: float  # 0 (light skin) .. 1 (dark skin)
    freckles: float  # 0..1, seen in the visible only
    blush: float  # 0..1, redness of the cheeks, seen in the visible only
    skin: Spectrum
    lips: Spectrum
    hair_colour: Spectrum
    brow_colour: Spectrum
    iris: Spectrum
    hair_name: str
    iris_name: str
    wears_glasses: float  # chance that an image shows glasses, 0..1
    glasses_round: float  # 0 (square) .. 1 (round)
    texture_seed: int  # of skin texture and strands


def stream_rng(
    stream: int, style: Style, seed: int, identity: int, sample: int = 0
) -> np.random.Generator:
    """Return the generator of one purpose.

    The purpose is the spawn key: SeedSequence pads its entropy with zeros, so that [seed, identity]
    alone would equal [seed, identity, 0].

    Raises: ValueError where a number is negative or 2**32 or more.
    """
    for name, value in (("seed", seed), ("identity", identity), ("sample", sample)):
        if not 0 <= value < SEED_LIMIT:
            raise ValueError(f"{name}: must be 0 .. 2**32 - 1, got {value}")
    key = (list(Style).index(style), stream)
    return np.random.default_rng(np.random.SeedSequence([seed, identity, sample], spawn_key=key))


def draw_identity(seed: int, identity: int, style: Style) -> Identity:
    """Draw a subject; a pure function of its arguments."""
    rng = stream_rng(IDENTITY_STREAM, style, seed, identity)
    build = float(np.clip(rng.beta(0.7, 0.7), 0, 1))  # 0 fine .. 1 strong: jaw, brows, beard
    head = _draw_head(rng, build)
    hair = _draw_hair(rng, build, head)
    melanin = rng.beta(0.8, 1.25)
    redness = rng.uniform(-1, 1)
    skin = skin_spectrum(melanin, redness, rng.uniform(0.56, 0.64))
    hair_name = draw_name(rng, HAIR, min(1.0, 1.5 * melanin))
    is_dyed = rng.uniform() < 0.22
    hair_nir = rng.uniform()
    iris_name = draw_name(rng, IRISES, min(1.0, 1.4 * melanin))
    brow_name = "dark_brown" if hair_name in ("grey", "white") or is_dyed else hair_name
    red, green, blue, nir = HAIR[brow_name].spectrum(hair_nir)
    return Identity(
        head=head,
        eyes=_draw_eyes(rng, build, head),
        face=_draw_face(rng, build, head),
        hair=hair,
        neck_half_width=head.half_width * (rng.uniform(0.52, 0.60) + 0.12 * build),
        ear=rng.uniform(0.10, 0.15),
        melanin=melanin,
        freckles=rng.uniform(0.4, 1) if rng.uniform() < 0.3 * (1 - melanin) else 0.0,
        blush=rng.uniform(0, 1) * (1 - melanin),
        skin=skin,
        lips=lip_spectrum(skin, rng.uniform(0, 1) * (1 - 0.5 * build)),
        hair_colour=HAIR[hair_name].spectrum(hair_nir, is_dyed=is_dyed),
        brow_colour=(0.6 * red, 0.6 * green, 0.6 * blue, 0.8 * nir),
        iris=IRISES[iris_name].spectrum(rng.uniform()),
        hair_name=hair_name,
        iris_name=iris_name,
        wears_glasses=float(rng.choice([0.03, 0.85], p=[0.75, 0.25])),
        glasses_round=rng.uniform(),
        texture_seed=int(rng.integers(SEED_LIMIT)),
    )


def _draw_head(rng: np.random.Generator, build: float) -> Head:
    return Head(
        half_width=rng.uniform(0.410, 0.490) + 0.015 * build,
        top=rng.uniform(0.60, 0.70),
        chin=rng.uniform(0.58, 0.67) + 0.025 * build,
        depth=rng.uniform(0.50, 0.60),
        jaw=rng.uniform(0.2, 1.1) * (1 - 0.5 * build),
        squareness=rng.uniform(2.1, 2.5) + 0.55 * build * rng.uniform(),
    )


def _draw_eyes(rng: np.random.Generator, build: float, head: Head) -> Eyes:
    return Eyes(
        half_width=rng.uniform(0.106, 0.134),
        spacing=head.half_width * rng.uniform(0.41, 0.485),
        openness=rng.uniform(0.38, 0.60),
        tilt=rng.uniform(-0.10, 0.20),
        iris_radius=rng.uniform(0.054, 0.062),
        pupil=rng.uniform(0.40, 0.50),
        crease=rng.uniform(0, 1),
        lashes=rng.uniform(0.35, 1.0) * (1 - 0.45 * build),
        brow_y=-rng.uniform(0.145, 0.205) + 0.02 * build,
        brow_arch=rng.uniform(0.0, 0.045) * (1 - 0.5 * build),
        brow_slope=rng.uniform(-0.022, 0.010),
        brow_thickness=rng.uniform(0.013, 0.024) + 0.013 * build,
        brow_half_width=rng.uniform(0.115, 0.145),
    )


def _draw_face(rng: np.random.Generator, build: float, head: Head) -> NoseMouth:
    nose_y = head.chin * rng.uniform(0.40, 0.48)
    return NoseMouth(
        nose_y=nose_y,
        nose_half_width=rng.uniform(0.075, 0.125),
        nose_height=rng.uniform(0.085, 0.15),
        bridge_half_width=rng.uniform(0.030, 0.050),
        mouth_y=nose_y + (head.chin - nose_y) * rng.uniform(0.38, 0.46),
        mouth_half_width=rng.uniform(0.135, 0.195),
        upper_lip=rng.uniform(0.018, 0.042) * (1 - 0.25 * build),
        lower_lip=rng.uniform(0.028, 0.058) * (1 - 0.2 * build),
        bow=rng.uniform(0, 1),
        cheeks=rng.uniform(0, 1),
    )


def _draw_hair(rng: np.random.Generator, build: float, head: Head) -> Hair:
    strong = [0.16, 0.30, 0.18, 0.14, 0.02, 0.02, 0.05, 0.03, 0.10]
    fine = [0.02, 0.06, 0.06, 0.00, 0.16, 0.19, 0.22, 0.18, 0.11]
    weights = np.array(strong) * build + np.array(fine) * (1 - build)
    style: HairStyle = rng.choice(list(HairStyle), p=weights / weights.sum())
    height = rng.uniform(0.50, 0.66)
    if style is HairStyle.RECEDING:
        height = rng.uniform(0.74, 0.86)
    if style in (HairStyle.BOB, HairStyle.LONG) and rng.uniform() < 0.5:  # a fringe
        height = rng.uniform(0.28, 0.38)
    slants = {HairStyle.SIDE_PART: (0.12, 0.30), HairStyle.WAVY: (0.05, 0.25)}
    slant = rng.uniform(*slants.get(style, (0.0, 0.05))) * float(rng.choice([-1, 1]))
    has_beard = rng.uniform() < 0.45 * max(build - 0.35, 0) / 0.65
    lengths = {HairStyle.BOB: (0.35, 0.62), HairStyle.LONG: (0.8, 1.25)}
    return Hair(
        style=style,
        volume=rng.uniform(*_VOLUMES[style]),
        line=-head.top * height,
        side=0.22 if style is HairStyle.CURLY else rng.uniform(-0.06, 0.10),
        part=-0.45 * head.half_width * float(np.sign(slant)) * rng.uniform(0.5, 1),
        slant=slant,
        length=rng.uniform(*lengths.get(style, (0.75, 1.2))),
        beard=rng.uniform(0.45, 1) if has_beard else 0.0,
        moustache=rng.uniform(0.5, 1) if has_beard and rng.uniform() < 0.85 else 0.0,
    )


_VOLUMES = {
    HairStyle.BUZZ: (0.010, 0.022),
    HairStyle.SHORT: (0.045, 0.09),
    HairStyle.SIDE_PART: (0.07, 0.12),
    HairStyle.RECEDING: (0.025, 0.05),
    HairStyle.TIED: (0.030, 0.055),
    HairStyle.BOB: (0.07, 0.12),
    HairStyle.LONG: (0.06, 0.11),
    HairStyle.WAVY: (0.09, 0.14),
    HairStyle.CURLY: (0.12, 0.24),
}
