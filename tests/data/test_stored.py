import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from data import pixels
from data.stored import (
    ALPHA,
    AS_STORED,
    FULL_16_BIT,
    Reading,
    find_limits,
    load_image,
    read_header,
    read_values,
    to_8_bit,
)
from tests.helpers.images import encode_png_16, random_pixels


def deep(seed, channels, size=(7, 5)):
    return np.random.default_rng(seed).integers(0, 65536, (*size, channels), dtype=np.uint16)


def encode_tiff(values, **options):
    stream = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(stream, values, **options)
    return stream.getvalue()


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def header_of(content, reading=AS_STORED):
    return read_header(io.BytesIO(content), "x", reading)


def values_of(content, reading=AS_STORED):
    return read_values(io.BytesIO(content), "x", reading)


def loaded(content, channels, reading):
    return np.asarray(load_image(content, channels, "x", reading))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_both_bytes_of_deep_numbers_are_read_from_png(channels):
    values = deep(0, channels)
    content = encode_png_16(values)
    assert np.array_equal(values_of(content), values)
    header = read_header(io.BytesIO(content), "x", AS_STORED)
    assert (header.width, header.height, header.bits) == (5, 7, 16)


@pytest.mark.parametrize(
    "options",
    [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"planarconfig": "separate"}],
)
def test_deep_colours_are_read_from_tiff(options):
    values = deep(1, 3)
    stored = np.moveaxis(values, -1, 0) if "planarconfig" in options else values
    content = encode_tiff(stored, photometric="rgb", **options)
    assert np.array_equal(values_of(content), values)
    assert read_header(io.BytesIO(content), "x", AS_STORED).bits == 16


def test_deep_planes_are_never_taken_for_pixels():
    values = deep(1, 3)
    content = encode_tiff(np.moveaxis(values, -1, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(loaded(content, 3, Reading(limits=FULL_16_BIT)), (values + 128.0) // 257)
    with pytest.raises(ValueError, match="x: .*16-bit colour is stored apart"):
        pixels.load_image(content, 3, "x")
    headers = pixels.read_header(io.BytesIO(content)), header_of(content)
    assert [header.has_deep_planes for header in headers] == [True, True]
    assert not header_of(encode_tiff(values, photometric="rgb")).has_deep_planes


@pytest.mark.parametrize(
    ("extra", "planar"), [([], "separate"), (["unspecified"], "contig"), (["assocalpha"], "contig")]
)
def test_eight_bits_that_pillow_decodes_need_no_tifffile(monkeypatch, extra, planar):
    picture = random_pixels(0)
    bands = np.dstack([picture, *[np.full_like(picture[..., 0], 255) for _ in extra]])
    bands = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
    content = encode_tiff(bands, photometric="rgb", planarconfig=planar, extrasamples=extra)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert header_of(content).bits == 8
    assert np.array_equal(loaded(content, 3, AS_STORED), picture)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_associated_alpha_leaves_bands_as_they_are(planar, dtype):
    """Pillow divides the colours by alpha, which may be NIR."""
    bands = deep(4, 4).astype(dtype)
    page = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
    options = {"photometric": "rgb", "planarconfig": planar}
    content = encode_tiff(page, extrasamples=["assocalpha"], **options)
    for chosen, expected in (((1, 2, 3), bands[..., :3]), ((ALPHA,), bands[..., 3:])):
        reading = Reading(bands=chosen)
        assert np.array_equal(values_of(content, reading), expected)
        assert header_of(content, reading).bits == 8 * dtype().itemsize


@pytest.mark.parametrize("extra", ["unspecified", "assocalpha"])
def test_colours_are_not_composited_over_black_again(extra):
    bands = deep(6, 4) >> 4
    content = encode_tiff(bands, photometric="rgb", extrasamples=[extra])
    image = loaded(content, 3, Reading(limits=(0, 4095)))
    assert np.array_equal(image, to_8_bit(bands[..., :3], (0, 4095)))


def test_the_page_that_is_taken_decides_on_the_reader():
    first, second = random_pixels(0), deep(2, 3)
    stream = io.BytesIO()
    with pytest.importorskip("tifffile").TiffWriter(stream) as tiff:
        tiff.write(first, photometric="rgb")
        tiff.write(np.moveaxis(second, -1, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(values_of(stream.getvalue()), first)
    assert np.array_equal(values_of(stream.getvalue(), Reading(page=2)), second)


def test_deep_grey_and_floats_are_read():
    grey = deep(2, 1)[..., 0]
    assert np.array_equal(values_of(encode(Image.fromarray(grey)))[..., 0], grey)
    floats = (grey / 65535).astype(np.float32)
    content = encode(Image.fromarray(floats), "TIFF")
    assert np.array_equal(values_of(content)[..., 0], floats)
    expected = np.floor(floats.astype(np.float64) * 255 + 0.5)
    assert np.array_equal(loaded(content, 1, Reading(limits=(0, 1))), expected)
    with pytest.raises(ValueError, match="no stated range"):
        load_image(content, 1, "x", AS_STORED)


def test_twelve_bits_become_eight():
    grey = (deep(3, 1)[..., 0] >> 4).astype(np.uint16)
    image = loaded(encode(Image.fromarray(grey)), 1, Reading(limits=(0, 4095)))
    assert np.array_equal(image, np.floor(grey * (255 / 4095) + 0.5))
    colours = deep(3, 3) >> 4
    image = loaded(encode_png_16(colours), 3, Reading(limits=(0, 4095)))
    assert np.array_equal(image, np.floor(colours * (255 / 4095) + 0.5))


@pytest.mark.parametrize("opaque", [4095, 65535])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_has_a_range_of_its_own(channels, opaque):
    values = deep(3, channels) >> 4
    values[..., -1] = opaque
    values[0, 0, -1] = opaque // 2
    image = loaded(encode_png_16(values), channels - 1, Reading(limits=(0, 4095)))
    expected = to_8_bit(values[..., :-1], (0, 4095)).reshape(image.shape)
    assert np.array_equal(image[1:], expected[1:])
    assert np.abs(image[0, 0].astype(float) - expected[0, 0] / 2).max() <= 1
    if channels == 2:
        assert np.array_equal(
            values_of(encode_png_16(values), Reading(bands=(ALPHA,))), values[..., 1:]
        )


def test_limits_leave_images_of_eight_bits_alone():
    picture = Image.fromarray(random_pixels(0))
    for content in (encode(picture), encode(picture, "JPEG")):
        expected = np.asarray(pixels.load_image(content, 3))
        assert np.array_equal(loaded(content, 3, Reading(limits=(0, 4095))), expected)


@pytest.mark.parametrize(
    ("low", "high", "is_float", "limits"),
    [
        (3, 200, False, (0, 255)),
        (0, 256, False, (0, 1023)),
        (816, 4080, False, (0, 4095)),
        (0, 4096, False, (0, 16383)),
        (0, 20000, False, (0, 65535)),
        (0.2, 1.0, True, (0, 1)),
        (0, 250.5, True, (0, 255)),
        (0, 3000.0, True, (0, 4095)),
    ],
)
def test_ranges_of_sensors(low, high, is_float, limits):
    assert find_limits(low, high, is_float=is_float) == limits


@pytest.mark.parametrize(
    ("low", "high", "is_float"),
    [(-1, 5, False), (0, 70000, False), (0, 1.3, True), (-0.1, 0.5, True), (np.nan, 1, True)],
)
def test_open_ranges_are_refused(low, high, is_float):
    with pytest.raises(ValueError, match=r"no range is known .* give --range"):
        find_limits(low, high, is_float=is_float)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"a.tif: .*finite"):
        to_8_bit(np.array([0.5, np.nan]), (0, 1), "a.tif")


def test_bands_of_png_and_tiff():
    rgba = np.dstack([random_pixels(0), random_pixels(1, channels=1)])
    for content in (encode(Image.fromarray(rgba)), encode(Image.fromarray(rgba), "TIFF")):
        assert np.array_equal(loaded(content, 3, Reading(bands=(1, 2, 3))), rgba[..., :3])
        assert np.array_equal(loaded(content, 1, Reading(bands=(ALPHA,))), rgba[..., 3])
        assert np.array_equal(loaded(content, 1, Reading(bands=(4,))), rgba[..., 3])
    with pytest.raises(ValueError, match="has no band 5, but 4"):
        load_image(content, 1, "x", Reading(bands=(5,)))
    with pytest.raises(ValueError, match="has no alpha, but 3 bands"):
        load_image(encode(Image.fromarray(rgba[..., :3])), 1, "x", Reading(bands=(ALPHA,)))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_six_bands_of_a_tiff(planar):
    bands = deep(5, 6) >> 4
    stored = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
    content = encode_tiff(stored, photometric="minisblack", planarconfig=planar)
    reading = Reading(bands=(3, 2, 1), limits=(0, 4095))
    header = read_header(io.BytesIO(content), "x", reading)
    assert (header.width, header.height, header.bits) == (5, 7, 16)
    assert np.array_equal(values_of(content, reading), bands[..., [2, 1, 0]])
    assert np.array_equal(loaded(content, 3, reading), to_8_bit(bands[..., [2, 1, 0]], (0, 4095)))
    with pytest.raises(ValueError, match="damaged or unusable"):
        load_image(content[:-100], 3, "x", reading)
    with pytest.raises(ValueError, match="has 6 bands, --rgb-bands says which"):
        load_image(content, 3, "x", Reading(limits=(0, 4095)))


def test_four_bands_without_alpha_are_no_colours():
    content = encode_tiff(deep(5, 4), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ValueError, match="has 4 bands, --rgb-bands says which"):
        load_image(content, 3, "x", Reading(limits=FULL_16_BIT))


def test_huge_tiffs_are_refused(monkeypatch):
    content = encode_tiff(deep(5, 6), photometric="minisblack", planarconfig="contig")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 34)
    with pytest.raises(ValueError, match="at most 34 pixels are read"):
        read_header(io.BytesIO(content), "x", AS_STORED)


def test_a_fourth_band_that_is_no_alpha():
    bands = random_pixels(7)[:7, :5]
    bands = np.dstack([bands, 255 - bands[..., 1]])
    content = encode_tiff(bands, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(loaded(content, 1, Reading(bands=(4,))), bands[..., 3])


def test_pages_of_a_tiff():
    first, second = random_pixels(0), random_pixels(1, channels=1)
    pages = [Image.fromarray(second)]
    content = encode(Image.fromarray(first), "TIFF", save_all=True, append_images=pages)
    assert np.array_equal(loaded(content, 3, AS_STORED), first)
    assert np.array_equal(loaded(content, 1, Reading(page=2)), second)
    assert read_header(io.BytesIO(content), "x", AS_STORED).frames == 2
    with pytest.raises(ValueError, match="has no page 3, but 2"):
        load_image(content, 1, "x", Reading(page=3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_can_be_replaced(orientation):
    picture = random_pixels(5)[:8]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.Exif()
    turned[0x0112] = orientation
    expected = np.asarray(pixels.load_image(encode(Image.fromarray(picture), exif=turned), 3))
    reading = Reading(orientation=orientation)
    for kind in ("PNG", "TIFF"):
        content = encode(Image.fromarray(picture), kind, exif=exif)
        assert np.array_equal(loaded(content, 3, reading), expected)
        header = read_header(io.BytesIO(content), "x", reading)
        assert (header.height, header.width) == expected.shape[:2]
        assert header.orientation == 6
    # The same turns where tifffile reads the file.
    content = encode_tiff(
        np.moveaxis(picture.astype(np.uint16), -1, 0),
        photometric="rgb",
        planarconfig="separate",
        extratags=[(274, 3, 1, orientation, True)],
    )
    assert np.array_equal(values_of(content), expected)


def encode_turned(kind, value):
    """An image of 8 x 16 pixels that states an orientation elsewhere than in its usual place."""
    image = Image.fromarray(random_pixels(5)[:8])
    if kind == "PNG, behind its pixels":
        content = encode_turned("PNG", value)
        start, pixels_at, end = (content.index(name) - 4 for name in (b"tEXt", b"IDAT", b"IEND"))
        return content[:start] + content[pixels_at:end] + content[start:pixels_at] + content[end:]
    if kind == "PNG":  # as ImageMagick writes it
        exif = Image.Exif()
        exif[0x0112] = value
        text = PngInfo()
        hexadecimal = exif.tobytes().hex()
        text.add_text("Raw profile type exif", f"\nexif\n{len(hexadecimal) // 2:8}\n{hexadecimal}")
        return encode(image, pnginfo=text)
    xmp = f'<rdf:Description tiff:Orientation="{value}"/>'.encode()
    if kind == "TIFF":
        return encode(image, "TIFF", tiffinfo={700: xmp})
    return encode(image, kind, xmp=xmp, lossless=True)


def test_a_date_behind_the_pixels_of_a_png_decodes_nothing(monkeypatch):
    content = encode(Image.fromarray(random_pixels(5)))
    text = b"tEXtdate:create\0002024-01-01"  # as ImageMagick writes it
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    at = content.index(b"IEND") - 4
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _image: pytest.fail("was decoded"))
    assert header_of(content[:at] + chunk + content[at:]).orientation == 1


@pytest.mark.parametrize("kind", ["PNG", "PNG, behind its pixels", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("value", [0, 1, 3, 6, 9])
def test_headers_state_the_orientation_that_is_applied(kind, value):
    content = encode_turned(kind, value)
    header = header_of(content)
    assert header.orientation == (value if 1 <= value <= 8 else 1)
    assert (header.width, header.height) == pixels.load_image(content, 3).size
    upright = Reading(orientation=1)
    header = header_of(content, upright)
    assert (header.width, header.height) == load_image(content, 3, "x", upright).size == (16, 8)


def test_an_orientation_of_zero_is_none():
    exif = Image.Exif()
    exif[0x0112] = 0
    assert header_of(encode(Image.fromarray(random_pixels(0)), exif=exif)).orientation == 1
