"""Which augmentations are on and how strong they are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

NUM_BANDS = 4


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Multipliers of the operations' probabilities, and the spread of their parameters.

    An operation hits a sample with probability min(1, multiplier * p), p being the strength that
    ADA sets. A multiplier of 0 (the default) turns it off. Standard deviations marked "octaves"
    belong to factors drawn as 2 ** normal.

    Attributes:
        xflip: multiplier of mirroring left to right.
        rotate90: multiplier of turning by a multiple of 90 degrees.
        xint: multiplier of shifting by whole pixels.
        xint_max: largest such shift, as a fraction of width and height.
        scale: multiplier of zooming.
        rotate: multiplier of turning by any angle, before and after `aniso`.
        aniso: multiplier of stretching one axis and shrinking the other.
        xfrac: multiplier of shifting by fractions of a pixel.
        scale_std: of the zoom, octaves.
        rotate_max: largest angle, as a fraction of half a turn.
        aniso_std: of the stretch, octaves.
        xfrac_std: of the shift, as a fraction of width and height.
        brightness: multiplier of adding a constant.
        contrast: multiplier of scaling all values.
        lumaflip: multiplier of negating the brightness while keeping the hue.
        hue: multiplier of turning colours about the grey axis; nothing happens to one channel.
        saturation: multiplier of scaling the distance from grey; nothing happens to one channel.
        brightness_std: of the constant, in units of the -1..1 range.
        contrast_std: of the factor, octaves.
        hue_max: largest angle, as a fraction of half a turn.
        saturation_std: of the factor, octaves.
        imgfilter: multiplier of amplifying frequency bands.
        imgfilter_bands: multiplier of each band in addition, from low to high frequencies.
        imgfilter_std: of the amplification, octaves.
        noise: multiplier of adding white noise.
        cutout: multiplier of blanking a rectangle.
        noise_std: spread of the noise's own standard deviation (half-normal), in -1..1 units.
        cutout_size: sides of the rectangle, as a fraction of width and height.
    Raises: ValueError for a negative or infinite value or another number of bands.
    Source: defaults are those of Karras et al. 2020 (arXiv:2006.06676), appendix B.
    """

    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    xint_max: float = 0.125
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    scale_std: float = 0.2
    rotate_max: float = 1.0
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0
    imgfilter: float = 0.0
    imgfilter_bands: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    imgfilter_std: float = 1.0
    noise: float = 0.0
    cutout: float = 0.0
    noise_std: float = 0.1
    cutout_size: float = 0.5

    def __post_init__(self) -> None:
        if len(self.imgfilter_bands) != NUM_BANDS:
            raise ValueError(
                f"imgfilter_bands must have {NUM_BANDS} values, got {self.imgfilter_bands!r}"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if not (math.isfinite(number) and number >= 0):
                    raise ValueError(f"{field.name} must be finite and at least 0, got {value!r}")

    @property
    def has_geometry(self) -> bool:
        """Whether any operation that moves pixels is on."""
        blit = self.xflip or self.rotate90 or self.xint
        return bool(blit or self.scale or self.rotate or self.aniso or self.xfrac)

    @property
    def has_color(self) -> bool:
        """Whether any operation that maps each pixel's value is on."""
        linear = self.brightness or self.contrast
        return bool(linear or self.lumaflip or self.hue or self.saturation)


_BLIT = {"xflip": 1.0, "rotate90": 1.0, "xint": 1.0}
_GEOM = {"scale": 1.0, "rotate": 1.0, "aniso": 1.0, "xfrac": 1.0}
_COLOR = {"brightness": 1.0, "contrast": 1.0, "lumaflip": 1.0, "hue": 1.0, "saturation": 1.0}

AUGPIPES: Mapping[str, AugmentConfig] = MappingProxyType(
    {
        "blit": AugmentConfig(**_BLIT),
        "geom": AugmentConfig(**_GEOM),
        "color": AugmentConfig(**_COLOR),
        "filter": AugmentConfig(imgfilter=1.0),
        "noise": AugmentConfig(noise=1.0),
        "cutout": AugmentConfig(cutout=1.0),
        "bg": AugmentConfig(**_BLIT, **_GEOM),
        "bgc": AugmentConfig(**_BLIT, **_GEOM, **_COLOR),
        "bgcf": AugmentConfig(**_BLIT, **_GEOM, **_COLOR, imgfilter=1.0),
        "bgcfn": AugmentConfig(**_BLIT, **_GEOM, **_COLOR, imgfilter=1.0, noise=1.0),
        "bgcfnc": AugmentConfig(**_BLIT, **_GEOM, **_COLOR, imgfilter=1.0, noise=1.0, cutout=1.0),
    }
)
