"""What makes a subject: geometry and materials, drawn once for a seed and a number.

Lengths are in half image sizes at scale 1, x to the right, y down, origin between the eyes.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from renderer.materials import (
    HAIR_NAMES,
    IRIS_NAMES,
    Spectrum,
    hair_spectrum,
    iris_spectrum,
    lip_spectrum,
    skin_spectrum,
)

SEED_LIMIT = 1 << 32


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


class Stream(Enum):
    """Independent random streams of one subject."""

    IDENTITY = 0
    SAMPLE = 1
    TEXTURE = 2


@dataclass(frozen=True, kw_only=True)
class Head:
    """Shape of the skull: a superellipsoid with a jaw.

    Attributes:
        half_width: at the cheekbones.
        top: distance from the eyes' line to the top of the skull.
        chin: distance from the eyes' line to the chin.
        depth: half depth from face to the back of the head.
        jaw: 0 (oval) .. 1 (tapers strongly).
        squareness: exponent of the lower outline, 2 (ellipse) .. 3 (square).
    """

    half_width: float
    top: float
    chin: float
    depth: float
    jaw: float
    squareness: float


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """Eyes and brows of a subject.

    Attributes:
        spacing: x of the eye centres.
        half_width: of the opening.
        openness: height of the upper lid above the eye's line over half_width.
        tilt: radians, positive lifts the outer corner.
        iris_radius: of the iris.
        pupil: radius of the pupil over that of the iris.
        crease: strength of the upper lid's fold, 0..1.
        lashes: strength of the lash line, 0..1.
        brow_y: y of the brows (negative is up).
        brow_arch: height of the brow's arch.
        brow_slope: rise of the inner to the outer end.
        brow_thickness: half thickness.
        brow_half_width: half length.
    """

    spacing: float
    half_width: float
    openness: float
    tilt: float
    iris_radius: float
    pupil: float
    crease: float
    lashes: float
    brow_y: float
    brow_arch: float
    brow_slope: float
    brow_thickness: float
    brow_half_width: float


@dataclass(frozen=True, kw_only=True)
class NoseMouth:
    """Nose and mouth of a subject.

    Attributes:
        nose_y: y of the nose's base.
        nose_half_width: at the wings.
        nose_height: how far the tip stands out.
        bridge_half_width: at the eyes.
        mouth_y: y of the mouth's line.
        mouth_half_width: at rest.
        upper_lip: thickness.
        lower_lip: thickness.
        bow: depth of Cupid's bow, 0..1.
        cheeks: fullness, 0..1.
    """

    nose_y: float
    nose_half_width: float
    nose_height: float
    bridge_half_width: float
    mouth_y: float
    mouth_half_width: float
    upper_lip: float
    lower_lip: float
    bow: float
    cheeks: float


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair on head and face.

    Attributes:
        style: shape of the hair.
        volume: thickness over the skull.
        line: y of the hairline over the forehead.
        side: y down to which hair covers the temples.
        part: x of the parting.
        slant: how far the hairline falls to one side.
        length: y of the ends of long hair.
        beard: 0 (none) .. 1 (full).
        moustache: 0 .. 1.
    """

    style: HairStyle
    volume: float
    line: float
    side: float
    part: float
    slant: float
    length: float
    beard: float
    moustache: float


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A subject: everything that is the same in all of its images.

    Attributes:
        head: shape of the skull.
        eyes: eyes and brows.
        face: nose and mouth.
        hair: hair and beard.
        neck_half_width: of the neck.
        ear: half height of the ears.
        melanin: 0 (light skin) .. 1 (dark skin).
        freckles: 0..1, seen in the visible only.
        blush: 0..1, redness of the cheeks, seen in the visible only.
        skin, lips, hair_colour, brow_colour, iris: reflectances.
        hair_name, iris_name: names of the colours.
        wears_glasses: chance that an image shows glasses, 0..1.
        glasses_round: 0 (square) .. 1 (round).
        texture_seed: seeds skin texture and strands.
    """

    head: Head
    eyes: Eyes
    face: NoseMouth
    hair: Hair
    neck_half_width: float
    ear: float
    melanin: float
    freckles: float
    blush: float
    skin: Spectrum
    lips: Spectrum
    hair_colour: Spectrum
    brow_colour: Spectrum
    iris: Spectrum
    hair_name: str
    iris_name: str
    wears_glasses: float
    glasses_round: float
    texture_seed: int


def stream_rng(
    stream: Stream, style: Style, seed: int, identity: int, sample: int = 0
) -> np.random.Generator:
    """Return the generator of one purpose.

    The purpose is the spawn key: SeedSequence pads its entropy with zeros, so that [seed, identity]
    alone would equal [seed, identity, 0].

    Raises: ValueError where a number is negative or 2**32 or more.
    """
    for name, value in (("seed", seed), ("identity", identity), ("sample", sample)):
        if not 0 <= value < SEED_LIMIT:
            raise ValueError(f"{name}: must be 0 .. 2**32 - 1, got {value}")
    key = (list(Style).index(style), stream.value)
    return np.random.default_rng(np.random.SeedSequence([seed, identity, sample], spawn_key=key))


def draw_identity(seed: int, identity: int, style: Style) -> Identity:
    """Draw a subject; a pure function of its arguments.

    Args:
        seed: of the data set.
        identity: identity number.
        style: photo and plain have different identities.
    """
    rng = stream_rng(Stream.IDENTITY, style, seed, identity)
    build = float(np.clip(rng.beta(0.7, 0.7), 0, 1))  # 0 fine .. 1 strong: jaw, brows, beard
    head = _draw_head(rng, build)
    hair = _draw_hair(rng, build, head)
    melanin = float(rng.beta(0.8, 1.25))
    redness = float(rng.uniform(-1, 1))
    skin = skin_spectrum(melanin, redness, float(rng.uniform(0.56, 0.64)))
    hair_name = _draw_hair_name(rng, melanin)
    is_dyed = bool(rng.uniform() < 0.22)
    hair_nir = float(rng.uniform())
    iris_name = _draw_iris_name(rng, melanin)
    brow_name = "dark_brown" if hair_name in ("grey", "white") or is_dyed else hair_name
    return Identity(
        head=head,
        eyes=_draw_eyes(rng, build, head),
        face=_draw_face(rng, build, head),
        hair=hair,
        neck_half_width=head.half_width * float(rng.uniform(0.52, 0.60) + 0.12 * build),
        ear=float(rng.uniform(0.10, 0.15)),
        melanin=melanin,
        freckles=float(rng.uniform(0.4, 1)) if rng.uniform() < 0.3 * (1 - melanin) else 0.0,
        blush=float(rng.uniform(0, 1)) * (1 - melanin),
        skin=skin,
        lips=lip_spectrum(skin, float(rng.uniform(0, 1)) * (1 - 0.5 * build)),
        hair_colour=hair_spectrum(hair_name, hair_nir, is_dyed=is_dyed),
        brow_colour=_brow_colour(brow_name, hair_nir),
        iris=iris_spectrum(iris_name, float(rng.uniform())),
        hair_name=hair_name,
        iris_name=iris_name,
        wears_glasses=float(rng.choice([0.03, 0.85], p=[0.75, 0.25])),
        glasses_round=float(rng.uniform()),
        texture_seed=int(rng.integers(SEED_LIMIT)),
    )


def _draw_head(rng: np.random.Generator, build: float) -> Head:
    return Head(
        half_width=float(rng.uniform(0.410, 0.490)) + 0.015 * build,
        top=float(rng.uniform(0.60, 0.70)),
        chin=float(rng.uniform(0.58, 0.67)) + 0.025 * build,
        depth=float(rng.uniform(0.50, 0.60)),
        jaw=float(rng.uniform(0.2, 1.1)) * (1 - 0.5 * build),
        squareness=float(rng.uniform(2.1, 2.5)) + 0.55 * build * float(rng.uniform()),
    )


def _draw_eyes(rng: np.random.Generator, build: float, head: Head) -> Eyes:
    half_width = float(rng.uniform(0.106, 0.134))
    return Eyes(
        spacing=head.half_width * float(rng.uniform(0.41, 0.485)),
        half_width=half_width,
        openness=float(rng.uniform(0.38, 0.60)),
        tilt=float(rng.uniform(-0.10, 0.20)),
        iris_radius=float(rng.uniform(0.054, 0.062)),
        pupil=float(rng.uniform(0.40, 0.50)),
        crease=float(rng.uniform(0, 1)),
        lashes=float(rng.uniform(0.35, 1.0)) * (1 - 0.45 * build),
        brow_y=-float(rng.uniform(0.145, 0.205)) + 0.02 * build,
        brow_arch=float(rng.uniform(0.0, 0.045)) * (1 - 0.5 * build),
        brow_slope=float(rng.uniform(-0.022, 0.010)),
        brow_thickness=float(rng.uniform(0.013, 0.024)) + 0.013 * build,
        brow_half_width=float(rng.uniform(0.115, 0.145)),
    )


def _draw_face(rng: np.random.Generator, build: float, head: Head) -> NoseMouth:
    nose_y = head.chin * float(rng.uniform(0.40, 0.48))
    return NoseMouth(
        nose_y=nose_y,
        nose_half_width=float(rng.uniform(0.075, 0.125)),
        nose_height=float(rng.uniform(0.085, 0.15)),
        bridge_half_width=float(rng.uniform(0.030, 0.050)),
        mouth_y=nose_y + (head.chin - nose_y) * float(rng.uniform(0.38, 0.46)),
        mouth_half_width=float(rng.uniform(0.135, 0.195)),
        upper_lip=float(rng.uniform(0.018, 0.042)) * (1 - 0.25 * build),
        lower_lip=float(rng.uniform(0.028, 0.058)) * (1 - 0.2 * build),
        bow=float(rng.uniform(0, 1)),
        cheeks=float(rng.uniform(0, 1)),
    )


def _draw_hair(rng: np.random.Generator, build: float, head: Head) -> Hair:
    strong = [0.16, 0.30, 0.18, 0.14, 0.02, 0.02, 0.05, 0.03, 0.10]
    fine = [0.02, 0.06, 0.06, 0.00, 0.16, 0.19, 0.22, 0.18, 0.11]
    weights = np.array(strong) * build + np.array(fine) * (1 - build)
    style = list(HairStyle)[int(rng.choice(len(HairStyle), p=weights / weights.sum()))]
    low, high = _VOLUMES[style]
    height = float(rng.uniform(0.50, 0.66))
    if style is HairStyle.RECEDING:
        height = float(rng.uniform(0.74, 0.86))
    has_fringe = style in (HairStyle.BOB, HairStyle.LONG) and rng.uniform() < 0.5
    if has_fringe:
        height = float(rng.uniform(0.28, 0.38))
    slants = {HairStyle.SIDE_PART: (0.12, 0.30), HairStyle.WAVY: (0.05, 0.25)}
    slant = float(rng.uniform(*slants.get(style, (0.0, 0.05)))) * float(rng.choice([-1, 1]))
    has_beard = rng.uniform() < 0.45 * max(build - 0.35, 0) / 0.65
    lengths = {HairStyle.BOB: (0.35, 0.62), HairStyle.LONG: (0.8, 1.25)}
    return Hair(
        style=style,
        volume=float(rng.uniform(low, high)),
        line=-head.top * height,
        side=0.22 if style is HairStyle.CURLY else float(rng.uniform(-0.06, 0.10)),
        part=-0.45 * head.half_width * float(np.sign(slant)) * float(rng.uniform(0.5, 1)),
        slant=slant,
        length=float(rng.uniform(*lengths.get(style, (0.75, 1.2)))),
        beard=float(rng.uniform(0.45, 1)) if has_beard else 0.0,
        moustache=float(rng.uniform(0.5, 1)) if has_beard and rng.uniform() < 0.85 else 0.0,
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


def _draw_hair_name(rng: np.random.Generator, melanin: float) -> str:
    light = np.array([0.12, 0.18, 0.24, 0.09, 0.09, 0.20, 0.05, 0.03])
    dark = np.array([0.64, 0.22, 0.05, 0.02, 0.00, 0.02, 0.03, 0.02])
    share = min(1.0, 1.5 * melanin)
    weights = light * (1 - share) + dark * share
    return HAIR_NAMES[int(rng.choice(len(HAIR_NAMES), p=weights / weights.sum()))]


def _draw_iris_name(rng: np.random.Generator, melanin: float) -> str:
    light = np.array([0.06, 0.20, 0.16, 0.16, 0.28, 0.14])
    dark = np.array([0.72, 0.24, 0.03, 0.01, 0.00, 0.00])
    share = min(1.0, 1.4 * melanin)
    weights = light * (1 - share) + dark * share
    return IRIS_NAMES[int(rng.choice(len(IRIS_NAMES), p=weights / weights.sum()))]


def _brow_colour(name: str, position: float) -> Spectrum:
    """Return brows: the hair's own colour, a little darker."""
    red, green, blue, nir = hair_spectrum(name, position, is_dyed=False)
    return 0.6 * red, 0.6 * green, 0.6 * blue, 0.8 * nir
