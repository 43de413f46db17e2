"""Reflectance of skin, hair, irises and cloth in four bands: red, green, blue and near infrared.

The visible and the NIR value of a material are drawn apart where nature keeps them apart, so that
no function of RGB gives NIR. Values are linear reflectances 0..1, chosen by eye after the
qualitative facts in the comments; they are no measurements.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Spectrum = tuple[float, ...]  # red, green, blue and near infrared

BANDS = 4
PUPIL: Spectrum = (0.006, 0.006, 0.007, 0.010)
SCLERA: Spectrum = (0.74, 0.70, 0.67, 0.56)
TEETH: Spectrum = (0.72, 0.68, 0.60, 0.50)
MOUTH_INSIDE: Spectrum = (0.10, 0.025, 0.025, 0.16)
BLACK_LASH: Spectrum = (0.02, 0.015, 0.012, 0.09)

_LIGHT_SKIN = (0.68, 0.45, 0.35)
_DARK_SKIN = (0.105, 0.052, 0.031)
_DYED_NIR = (0.40, 0.52)


class Colouring(NamedTuple):
    """A colour of hair or irises."""

    rgb: tuple[float, float, float]
    nir: tuple[float, float]  # range in which subjects of one visible colour differ
    weights: tuple[float, float]  # how common it is with the lightest and the darkest skin

    def spectrum(self, position: float, *, is_dyed: bool = False) -> Spectrum:
        """Return reflectances; `position` 0..1 in the NIR range, which is high for dyed hair."""
        low, high = _DYED_NIR if is_dyed else self.nir
        return *self.rgb, low + (high - low) * position


HAIR = {
    "black": Colouring((0.016, 0.013, 0.012), (0.05, 0.20), (0.12, 0.64)),
    "dark_brown": Colouring((0.055, 0.030, 0.018), (0.11, 0.30), (0.18, 0.22)),
    "brown": Colouring((0.140, 0.075, 0.038), (0.20, 0.38), (0.24, 0.05)),
    "auburn": Colouring((0.210, 0.062, 0.022), (0.24, 0.42), (0.09, 0.02)),
    "red": Colouring((0.420, 0.125, 0.030), (0.34, 0.48), (0.09, 0.00)),
    "blond": Colouring((0.540, 0.370, 0.165), (0.40, 0.54), (0.20, 0.02)),
    "grey": Colouring((0.420, 0.410, 0.400), (0.22, 0.40), (0.05, 0.03)),
    "white": Colouring((0.620, 0.610, 0.580), (0.46, 0.62), (0.03, 0.02)),
}
# Dark irises brighten in NIR, light ones are no brighter than those.
IRISES = {
    "dark_brown": Colouring((0.040, 0.018, 0.009), (0.24, 0.40), (0.06, 0.72)),
    "brown": Colouring((0.120, 0.052, 0.018), (0.24, 0.40), (0.20, 0.24)),
    "hazel": Colouring((0.180, 0.120, 0.035), (0.24, 0.40), (0.16, 0.03)),
    "green": Colouring((0.110, 0.190, 0.080), (0.18, 0.32), (0.16, 0.01)),
    "blue": Colouring((0.090, 0.210, 0.420), (0.18, 0.32), (0.28, 0.00)),
    "grey": Colouring((0.230, 0.280, 0.310), (0.18, 0.32), (0.14, 0.00)),
}


def draw_name(rng: np.random.Generator, table: Mapping[str, Colouring], dark: float) -> str:
    """Draw a colour for skin that is `dark` 0..1."""
    weights = [c.weights[0] * (1 - dark) + c.weights[1] * dark for c in table.values()]
    return str(rng.choice(list(table), p=np.array(weights) / np.sum(weights)))


def skin_spectrum(melanin: float, redness: float, nir: float) -> Spectrum:
    """Return skin whose visible tone follows melanin and whose NIR reflectance hardly does.

    Melanin absorbs strongly in the visible and little beyond 800 nm, so all skin is bright there.

    Args:
        melanin: 0 (lightest) .. 1 (darkest).
        redness: -1 (yellowish) .. 1 (reddish).
        nir: NIR reflectance of this subject before the small melanin term.
    """
    red, green, blue = (
        light ** (1 - melanin) * dark**melanin
        for light, dark in zip(_LIGHT_SKIN, _DARK_SKIN, strict=True)
    )
    tint = 0.07 * redness
    return red * (1 + 0.3 * tint), green * (1 - tint), blue * (1 + 0.4 * tint), nir - 0.03 * melanin


def lip_spectrum(skin: Spectrum, colour: float) -> Spectrum:
    """Return lips: skin with more blood, which absorbs green and blue and not NIR.

    Args:
        skin: the subject's skin.
        colour: 0 (pale) .. 1 (strongly red).
    """
    red, green, blue, nir = skin
    return (
        red * (0.90 - 0.16 * colour) + 0.025,
        green * (0.58 - 0.32 * colour),
        blue * (0.66 - 0.30 * colour),
        nir * 0.86,
    )


def dyed_spectrum(
    rng: np.random.Generator, brightness: float, saturation: float, *, is_pigment: bool
) -> Spectrum:
    """Return cloth or a wall of random colour: most dyes are clear in NIR, pigments are not.

    Args:
        rng: draws hue and the NIR value.
        brightness: 0..1, visible reflectance of the strongest band.
        saturation: 0 (grey) .. 1.
        is_pigment: the NIR value is that of a pigment (dark) and not of a dye (light).
    """
    hue = float(rng.uniform(0, 1))
    wheel = (np.cos(2 * np.pi * (hue - np.array([0, 1 / 3, 2 / 3]))) + 1) / 2
    red, green, blue = (float(v) for v in brightness * (1 - saturation * (1 - wheel)))
    nir = float(rng.uniform(0.06, 0.25) if is_pigment else rng.uniform(0.42, 0.80))
    return red, green, blue, nir
