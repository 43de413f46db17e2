"""Pixels: the only rule between uint8 and float, and the only rule from image files to arrays.

What is scored, filtered, shown and saved is always the uint8 array that these functions make.
"""

import contextlib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from torch import Tensor

ImageFile = str | Path | bytes | BinaryIO

# EPS would start an outside interpreter on the file's content; the others have no decoder.
_REFUSED_FORMATS = frozenset({"EPS", "BUFR", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
_MODES = {1: "L", 3: "RGB"}
_PNG_TEXT = frozenset({b"iTXt", b"tEXt", b"zTXt"})
_EXIF_IN_TEXT = (b"Raw profile type ", b"XML:com.adobe.xmp\0")  # first bytes of such a text
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
ORIENTATION_TAG = 0x0112
SAMPLES_PER_PIXEL = 277  # tag of TIFF, as these
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284
SIDEWAYS = (5, 6, 7, 8)
_DEEP_COLOUR = re.compile("(?:LA|RGBA?);16[BLN]")
_MAX_16_BIT = 65535

IGNORED = 255  # of a class mask: counts neither in training nor in evaluation
MAX_UNCERTAINTY = _MAX_16_BIT  # of a map on disk: ln(classes)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a file says about its image before any pixel is decoded."""

    width: int  # pixels, after the orientation stored in EXIF
    height: int
    mode: str  # Pillow's name of the stored pixels, such as "RGB", "P" or "I;16"
    format: str  # Pillow's name of the file format, such as "PNG"
    bits: int = 8  # of a stored number: 8, or 16 and 32 where there are more than 8
    orientation: int = 1  # as EXIF numbers them; 1 is upright
    frames: int = 1  # or pages
    has_deep_planes: bool = False  # each 16-bit colour stored apart: `load_image` refuses that

    @property
    def is_sideways(self) -> bool:
        """Whether the stated orientation exchanges width and height."""
        return self.orientation in SIDEWAYS


def to_float(images: "Tensor") -> "Tensor":
    """Return uint8 0..255 pixels of any shape as float32 in -1..1.

    Raises: TypeError for another dtype.
    """
    if str(images.dtype) != "torch.uint8":
        raise TypeError(f"to_float: images must be torch.uint8, got {images.dtype}")
    return images.float() / 127.5 - 1


def to_uint8(images: "Tensor") -> "Tensor":
    """Return float -1..1 pixels of any shape as uint8 0..255; what lies outside is clamped.

    The inverse of `to_float` for all 256 values. Half precision is widened first.

    Raises: TypeError where `images` is not floating point.
    """
    if not images.is_floating_point():
        raise TypeError(f"to_uint8: images must be floating point, got {images.dtype}")
    return (images.float() * 127.5 + 128).floor().clamp(0, 255).byte()


def decode_image(file: ImageFile, channels: int, name: str | None = None) -> np.ndarray:
    """Decode an image file by the rule of `load_image`.

    Args:
        file: path, bytes or binary file.
        channels: 3 (red, green, blue) or 1 (grey).
        name: shown in messages instead of `file`.
    Returns: [C, H, W] uint8 0..255.
    Raises: ValueError that names the file where it is no image, or a damaged one.
    """
    pixels = np.asarray(load_image(file, channels, name))
    return pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1).copy()


def load_image(
    file: ImageFile, channels: int, name: str | None = None, orientation: int | None = None
) -> Image.Image:
    """Decode an image file into 8 bits a channel.

    The one rule for all kinds of files, in this order:

    1. The first frame is taken and turned as EXIF says.
    2. 16-bit grey is divided by 257 and rounded, so that 65535 becomes 255. (Of 16-bit colour
       Pillow keeps the upper byte, and of TIFF that stores each colour apart neither: refused.)
       Floating-point files have no stated range and are refused.
    3. A palette is replaced by its colours; CMYK, YCbCr and others are converted to RGB.
    4. Transparency is composited over black: where nothing was drawn there is no light, the same
       in all modalities.
    5. Three channels of a grey image are three copies of it. One channel of a colour image is
       its luma 0.299 R + 0.587 G + 0.114 B, which for equal channels is exactly each of them.

    Args:
        file: path, bytes or binary file.
        channels: 3 (red, green, blue) or 1 (grey).
        name: shown in messages instead of `file`.
        orientation: as EXIF numbers them, instead of that in the file; None takes the file's.
    Returns: an image of mode "RGB" or "L".
    Raises: ValueError that names the file where it is no image, or a damaged one.
    Source: luma of ITU-R BT.601, in Pillow's 16-bit fixed point.
    """
    if channels not in _MODES:
        raise ValueError(f"channels must be one of 1, 3, got {channels!r}")
    with open_image(file, name) as image:
        if has_deep_planes(image):
            raise ValueError(
                "each 16-bit colour is stored apart; `prepare_dataset.py import` reads that"
            )
        return convert(turn(image, orientation), channels)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Return a decoded image in mode "RGB" (3 channels) or "L" (1), by `load_image`'s rule."""
    return _to_8_bit(image).convert(_MODES[channels])


def turn(image: Image.Image, orientation: int | None = None) -> Image.Image:
    """Return an opened image as EXIF says, or as another `orientation` says."""
    if orientation is not None:
        if image.format == "TIFF":  # turned by Pillow itself as soon as it is decoded
            image.tag_v2[ORIENTATION_TAG] = orientation
        image.getexif()[ORIENTATION_TAG] = orientation
    return ImageOps.exif_transpose(image)


@contextlib.contextmanager
def open_image(file: ImageFile, name: str | None = None, kind: str = "") -> Iterator[Image.Image]:
    """Open an image lazily.

    Args:
        file: path, bytes or binary file.
        name: shown in messages instead of `file`.
        kind: Pillow's name of the only format that is taken; "" takes all.
    Raises: ValueError that names the file, for whatever its bytes make Pillow raise, or the block.
    """
    name = name or (str(file) if isinstance(file, str | Path) else "image")
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    if isinstance(stream, str | Path) and not Path(stream).is_file():
        raise FileNotFoundError(f"{name}: no such file")
    try:
        # The usual formats are tried first; some of the others have no mark that rules them out.
        others = sorted(set(_known_formats().values()) - _LAST_BYTES.keys())
        with Image.open(stream, formats=[kind] if kind else [*_LAST_BYTES, *others]) as image:
            check_area(image.width, image.height)
            yield image
    except UnidentifiedImageError as error:
        what = f"a {kind} image" if kind else "an image in a format that Pillow reads"
        raise ValueError(f"{name}: not {what}") from error
    except Exception as error:  # damaged bytes raise OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{name}: damaged or unusable image: {error}") from error


def check_area(width: int, height: int) -> None:
    """Raise ValueError for an image whose decoding could exhaust the memory."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ValueError(f"at most {limit} pixels are read, got a size of {(width, height)}")


def read_header(file: ImageFile, name: str | None = None) -> ImageHeader:
    """Return an image's size and kind without decoding its pixels.

    Raises: ValueError that names the file where it is no image.
    """
    with open_image(file, name) as image:
        return header_of(image)


def verify_image(file: ImageFile, name: str | None = None) -> ImageHeader:
    """Return an image's header after a look at whether the file is whole.

    JPEG and PNG are recognised as whole by their last bytes; what has other last bytes, and all
    other formats, is decoded.

    Raises: ValueError that names the file where it is no image, or a truncated one.
    """
    with open_image(file, name) as image:
        header = header_of(image)
        if not _has_last_bytes(image):
            image.load()
        return header


def read_mask(file: BinaryIO, name: str) -> np.ndarray:
    """Return the numbers of an indexed or grey PNG, which are the classes: [H, W] uint8.

    Raises: ValueError that names the file.
    """
    with open_image(file, name, "PNG") as image:
        if image.mode not in ("P", "L", "1"):
            raise ValueError(f"a mask must be an indexed or grey PNG, got mode {image.mode}")
        return np.asarray(image).astype(np.uint8)


def encode_uncertainty(divergence: np.ndarray, classes: int) -> np.ndarray:
    """Return what is kept on disk of nats >= 0: uint16, where MAX_UNCERTAINTY is ln(classes)."""
    values = divergence.clip(0) * (MAX_UNCERTAINTY / math.log(max(2, classes)))
    return np.rint(values).clip(max=MAX_UNCERTAINTY).astype(np.uint16)


def read_uncertainty(file: BinaryIO, name: str) -> np.ndarray:
    """Return a map of uncertainty, [H, W] uint16; `MAX_UNCERTAINTY` is ln(classes).

    Raises: ValueError that names a file that is no 16-bit grey PNG.
    """
    with open_image(file, name, "PNG") as image:
        if not image.mode.startswith("I"):
            raise ValueError(f"a map of uncertainty must be a 16-bit PNG, got mode {image.mode}")
        return np.asarray(image).astype(np.uint16)


def image_suffixes() -> frozenset[str]:
    """Return the lower-case file name endings that count as images, such as ".png"."""
    return frozenset(_known_formats())


def _known_formats() -> dict[str, str]:
    suffixes = Image.registered_extensions()  # loads Pillow's plugins
    known = Image.OPEN.keys() - _REFUSED_FORMATS
    return {suffix: kind for suffix, kind in suffixes.items() if kind in known}


def header_of(image: Image.Image, orientation: int | None = None) -> ImageHeader:
    """Return the header of an opened image; `orientation` takes the place of the stored one."""
    width, height = image.size
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;") or has_deep_colour(image)
    frames = _count_frames(image)
    # PNG's own getexif() decodes a file without EXIF, which is needed where it may be at the end.
    is_at_end = image.format == "PNG" and _has_exif_behind_pixels(image)
    exif = image.getexif() if is_at_end else Image.Image.getexif(image)
    stored = exif.get(ORIENTATION_TAG)
    stored = stored if stored in range(1, 9) else 1
    turned = stored if orientation is None else orientation
    is_size_turned = image.format == "TIFF" and image.tag_v2.get(ORIENTATION_TAG) in SIDEWAYS
    if (turned in SIDEWAYS) != is_size_turned:
        width, height = height, width
    return ImageHeader(
        width=width,
        height=height,
        mode=image.mode,
        format=image.format or "?",
        bits=16 if is_deep else 8,
        orientation=stored,
        frames=frames,
        has_deep_planes=has_deep_planes(image),
    )


def _has_exif_behind_pixels(image: Image.Image) -> bool:
    """Return whether a PNG file has EXIF, or a text that holds some or XMP, behind its pixels."""
    stream, is_behind, is_found = image.fp, False, False
    if stream is None:
        return False
    position = stream.tell()
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and not is_found:
        kind, end = head[4:], stream.tell() + int.from_bytes(head[:4], "big") + 4
        is_behind |= kind == b"IDAT"
        if is_behind and kind in _PNG_TEXT:
            is_found = stream.read(max(map(len, _EXIF_IN_TEXT))).startswith(_EXIF_IN_TEXT)
        is_found |= is_behind and kind == b"eXIf"
        stream.seek(end)
    stream.seek(position)
    return is_found


def has_deep_colour(image: Image.Image) -> bool:
    """Return whether an image has 16-bit colours or alpha: Pillow decodes the upper byte."""
    return _DEEP_COLOUR.fullmatch(raw_mode(image)) is not None


def has_deep_samples(image: Image.Image) -> bool:
    """Return whether an opened TIFF stores more than 8 bits a number."""
    return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8


def has_deep_planes(image: Image.Image) -> bool:
    """Return whether an opened image is a TIFF of 16-bit colours, each stored apart.

    Pillow takes their bytes for pixels of 8 bits.
    """
    if image.format != "TIFF":
        return False
    is_planar = image.tag_v2.get(_PLANAR_CONFIGURATION, 1) == 2
    is_planar &= image.tag_v2.get(SAMPLES_PER_PIXEL, 1) > 1
    return is_planar and has_deep_samples(image)


def raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the pixels as they are stored, "" where it is not known."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _count_frames(image: Image.Image) -> int:
    if image.format == "MPO":  # a photograph with its previews
        return 1
    with contextlib.suppress(Exception):  # later frames may be damaged: they are not read
        return getattr(image, "n_frames", 1)
    return 1


def _has_last_bytes(image: Image.Image) -> bool:
    expected = _LAST_BYTES.get("JPEG" if image.format == "MPO" else image.format or "")
    stream = image.fp
    if expected is None or stream is None:
        return False
    position = stream.tell()
    stream.seek(0, io.SEEK_END)
    stream.seek(max(stream.tell() - len(expected), 0))
    found = stream.read(len(expected))
    stream.seek(position)
    return found == expected


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Return an image of mode "L" or "RGB"."""
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no stated range; `prepare_dataset.py import` finds it"
        )
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() <= _MAX_16_BIT:
            raise ValueError(f"integer pixels must be in 0..{_MAX_16_BIT}, got {values.max()}")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA")).astype(np.uint16)
        over_black = (values[..., :3] * values[..., 3:] + 127) // 255
        return Image.fromarray(over_black.astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
