"""Images as sensors store them: more than 8 bits, further bands or pages, another orientation.

How the images of a set are to be read is decided over all of them, never for one alone. What a
`Reading` does not change is read by the one rule of data.pixels.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from data import pixels
from dnnlib.extras import need

Limits = tuple[float, float]

FULL_16_BIT = (0.0, 65535.0)
_DEPTHS = (8, 10, 12, 14, 16)  # bits of sensors
_LEAST_OF_FLOATS = 0.25  # of a depth's range; floats that use less may be anything
_EXTRA_SAMPLES = 338  # tag of TIFF
_NO_ALPHA, _ASSOCIATED_ALPHA = 0, 1  # its values; the colours are multiplied by the latter
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Pillow's unpackers of 16 bits keep the upper byte: these keep the other one.
_LOWER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the images of a modality are read.

    Attributes:
        limits: stored values that become 0 and 255 where there are more than 8 bits; None is the
            rule of pixels.load_image.
        bands: to take, from 1, or ALPHA. () takes the colours over black, by transparency.
        page: of the file, from 1.
        orientation: as EXIF numbers them, instead of that in the file; None takes the file's.
    """

    limits: Limits | None = None
    bands: tuple[int, ...] = ()
    page: int = 1
    orientation: int | None = None


ALPHA = -1  # as a band
AS_STORED = Reading()


def load_image(file: bytes | BinaryIO, channels: int, name: str, reading: Reading) -> Image.Image:
    """Decode an image file into 8 bits a channel.

    Args:
        file: its bytes, or a binary file that can be read twice.
        channels: 3 (red, green, blue) or 1 (grey).
        name: shown in messages.
        reading: how; `AS_STORED` is pixels.load_image.
    Returns: an image of mode "RGB" or "L".
    Raises: ValueError that names the file where it is no image, a damaged one, or lacks the bands,
        or where only tifffile reads it and is absent.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    is_plain = not reading.bands and reading.page == 1
    if is_plain and (reading.limits is None or read_header(stream, name, reading).bits == 8):
        stream.seek(0)
        return pixels.load_image(stream, channels, name, reading.orientation)
    values = read_values(stream, name, reading)
    if values.dtype != np.uint8:
        if reading.limits is None and values.dtype.kind == "f":
            raise ValueError(f"{name}: floating-point pixels have no stated range")
        limits = reading.limits or FULL_16_BIT
        colours, alpha = split_alpha(values)
        # PNG's alpha uses the whole range, whatever the sensor's is.
        own_limits = FULL_16_BIT if alpha.max(initial=0) > limits[1] else limits
        values = np.dstack([to_8_bit(colours, limits, name), to_8_bit(alpha, own_limits, name)])
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    return pixels.convert(image, channels)


def split_alpha(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored numbers of colours, [H, W, 1 or 3], and alpha, [H, W, 0 or 1]."""
    count = values.shape[2] - (values.shape[2] in (2, 4))
    return values[..., :count], values[..., count:]


def to_8_bit(values: np.ndarray, limits: Limits, name: str = "image") -> np.ndarray:
    """Return stored values as uint8: linear, `limits` become 0 and 255, beyond is clamped.

    >>> to_8_bit(np.array([0, 2048, 4095, 5000]), (0, 4095)).tolist()
    [0, 128, 255, 255]

    Raises: ValueError for values that are not finite.
    """
    low, high = limits
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    if not np.isfinite(scaled).all():
        raise ValueError(f"{name}: pixels must be finite numbers, got infinite ones or NaN")
    return np.clip(np.floor(scaled + 0.5), 0, 255).astype(np.uint8)


def find_limits(low: float, high: float, *, is_float: bool) -> Limits:
    """Return the range of the sensor whose images have values from `low` to `high`.

    Whole numbers: the least of 8, 10, 12, 14 and 16 bits that holds them. Floats: 0..1, else such a
    range where they use a quarter of it.

    >>> find_limits(12, 3890, is_float=False), find_limits(0, 0.8, is_float=True)
    ((0.0, 4095.0), (0.0, 1.0))

    Raises: ValueError where that leaves it open.
    """
    ranges = [(0.0, 1.0)] * is_float + [(0.0, 2.0**bits - 1) for bits in _DEPTHS]
    for limits in ranges:
        if 0 <= low <= high <= limits[1]:
            if is_float and limits[1] > 1 and high < _LEAST_OF_FLOATS * limits[1]:
                break
            return limits
    raise ValueError(f"no range is known for stored values of {low:g}..{high:g}, give --range")


def read_header(file: BinaryIO, name: str, reading: Reading) -> pixels.ImageHeader:
    """Return an image's size and kind as `reading` makes it, without decoding its pixels.

    Raises: ValueError that names the file.
    """
    with _open(file, name, reading) as image:
        if isinstance(image, Image.Image):
            return pixels.header_of(image, reading.orientation)
        height, width = image.shape[:2] if image.axes[0] == "Y" else image.shape[1:]
        bits = 8 if image.dtype == np.uint8 else 16
        stored = _tiff_orientation(image)
        is_sideways = (reading.orientation or stored) in pixels.SIDEWAYS
        return pixels.ImageHeader(
            width=height if is_sideways else width,
            height=width if is_sideways else height,
            mode=f"{image.samplesperpixel}x{image.dtype}",
            format="TIFF",
            bits=bits,
            orientation=stored,
            frames=len(image.parent.pages),
            has_deep_planes=bits > 8 and image.samplesperpixel > 1 and image.planarconfig == 2,
        )


def read_values(file: BinaryIO, name: str, reading: Reading) -> np.ndarray:
    """Return the stored numbers of an image: [H, W, B], uint8 or of more bits; `bands` alone.

    Raises: ValueError that names the file, also where it has no such band or page.
    """
    with _open(file, name, reading) as image:
        if isinstance(image, Image.Image):
            has_alpha, values = image.mode in ("LA", "RGBA"), _pillow_values(image, file, reading)
        else:
            values = image.asarray()
            values = values if image.axes[0] == "Y" else np.moveaxis(values, 0, -1)
            values = values.reshape(*values.shape[:2], -1)
            has_alpha = values.shape[2] in (2, 4)
            if not reading.bands and (len(image.extrasamples) > 1 or values.shape[2] > 4):
                raise ValueError(f"has {values.shape[2]} bands, --rgb-bands says which to take")
            if not reading.bands and image.extrasamples in ((_NO_ALPHA,), (_ASSOCIATED_ALPHA,)):
                values = values[..., :-1]  # the colours over black
            values = _turn(values, reading.orientation or _tiff_orientation(image))
        count = values.shape[2]
        if ALPHA in reading.bands and not has_alpha:
            raise ValueError(f"has no alpha, but {count} bands")
        if max(reading.bands, default=0) > count:
            raise ValueError(f"has no band {max(reading.bands)}, but {count}")
        if not reading.bands:
            return values
        return np.ascontiguousarray(values[..., [b - (b > 0) for b in reading.bands]])


@contextlib.contextmanager
def _open(file: BinaryIO, name: str, reading: Reading) -> Iterator[Any]:
    """Open a page: Pillow's image, or tifffile's page where Pillow does not give what is read.

    Raises: ValueError that names the file, for whatever is raised within.
    """
    page = reading.page
    if not _needs_tifffile(file, name, reading):
        with pixels.open_image(file, name) as image:
            _check_page(page, 1 if page == 1 else getattr(image, "n_frames", 1))
            if page > 1:
                image.seek(page - 1)
            yield image
        return
    need(f"{name}: TIFF of this kind", "tifffile")
    from tifffile import TiffFile  # noqa: PLC0415  # optional

    try:
        with TiffFile(file) as tiff:
            _check_page(page, len(tiff.pages))
            opened = tiff.pages[page - 1]
            pixels.check_area(opened.imagewidth, opened.imagelength)
            yield opened
    except Exception as error:  # damaged bytes raise struct.error, KeyError, ...
        raise ValueError(f"{name}: damaged or unusable image: {error}") from error


def _check_page(page: int, count: int) -> None:
    if page > count:
        raise ValueError(f"has no page {page}, but {count}")


def _needs_tifffile(file: BinaryIO, name: str, reading: Reading) -> bool:
    """Return whether Pillow would leave out or change what is read of a file, from its start.

    Pillow gives 8 bits of each colour, and `_pillow_values` the others where pixels lie together.
    It leaves out bands beyond the colours, and divides the colours by associated alpha, both of
    which is right where the colours over black are wanted.
    """
    file.seek(0)
    is_tiff, needs = file.read(4) in _TIFF_MARKS, False
    file.seek(0)
    if is_tiff:
        try:
            with pixels.open_image(file, name) as image:
                if 1 < reading.page <= getattr(image, "n_frames", 1):
                    image.seek(reading.page - 1)
                samples = image.tag_v2.get(pixels.SAMPLES_PER_PIXEL, 1)
                needs = image.mode != "P" and len(image.getbands()) < samples
                needs |= _ASSOCIATED_ALPHA in image.tag_v2.get(_EXTRA_SAMPLES, ())
                needs &= bool(reading.bands) or pixels.has_deep_samples(image)
                needs |= pixels.has_deep_planes(image)
        except ValueError:  # no kind that Pillow knows
            needs = True
        file.seek(0)
    return needs


def _pillow_values(image: Image.Image, file: BinaryIO, reading: Reading) -> np.ndarray:
    """Return the numbers of an opened image, [H, W, B]."""
    if pixels.raw_mode(image) == "LA;16B":  # as many bytes as RGBA has, in this order
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        found = np.asarray(pixels.turn(image, reading.orientation)).astype(np.uint16)
        return found[..., ::2] * 256 + found[..., 1::2]
    if not pixels.has_deep_colour(image):
        values = np.asarray(pixels.turn(_without_palette(image), reading.orientation))
        return values.reshape(*values.shape[:2], -1)
    tiles = [_with_lower_byte(tile) for tile in image.tile]
    upper = np.asarray(pixels.turn(image, reading.orientation)).astype(np.uint16)
    file.seek(0)
    with pixels.open_image(file) as again:
        again.seek(reading.page - 1)
        again.tile = tiles
        return upper * 256 + np.asarray(pixels.turn(again, reading.orientation))


def _without_palette(image: Image.Image) -> Image.Image:
    is_plain = image.mode in ("L", "LA", "RGB", "RGBA", "F") or image.mode.startswith("I")
    return image if is_plain else image.convert("RGB")


def _with_lower_byte(tile: Any) -> Any:
    """Return a piece of a 16-bit image whose lower bytes Pillow takes for the upper ones."""
    name, *others = tile.args if isinstance(tile.args, tuple) else [tile.args]
    name = name[:-1] + _LOWER_BYTE[name[-1]]
    return tile._replace(args=(name, *others) if isinstance(tile.args, tuple) else name)


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(pixels.ORIENTATION_TAG)
    return tag.value if tag is not None and 1 <= tag.value <= 8 else 1


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Return [H, W, B] as EXIF's orientation says."""
    if orientation in pixels.SIDEWAYS:
        values = values.swapaxes(0, 1)
    is_flipped_down, is_flipped_right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return values[:: -1 if is_flipped_down else 1, :: -1 if is_flipped_right else 1]
