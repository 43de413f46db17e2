import io

import numpy as np
import pytest
import torch
from PIL import Image

from data import pixels
from tests.helpers.images import random_pixels, write_image


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_all_values_survive_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    floats = pixels.to_float(values)
    assert floats.dtype == torch.float32
    assert floats[0] == -1
    assert floats[255] == 1
    assert torch.equal(pixels.to_uint8(floats), values)
    assert torch.equal(pixels.to_uint8(floats.double()), values)


def test_to_uint8_rounds_to_the_nearest_and_clamps():
    floats = torch.linspace(-1.5, 1.5, 4001)
    exact = ((floats.double() + 1) * 127.5).clamp(0, 255)
    assert (pixels.to_uint8(floats) - exact).abs().max() < 0.5 + 1e-4


@pytest.mark.parametrize(
    ("function", "images"),
    [(pixels.to_float, torch.zeros(2)), (pixels.to_uint8, torch.zeros(2, dtype=torch.uint8))],
)
def test_conversions_refuse_the_other_kind(function, images):
    with pytest.raises(TypeError, match=r"images must be .*, got torch\."):
        function(images)


def test_rgb_file_is_read_as_it_is(tmp_path):
    expected = random_pixels(0)
    decoded = pixels.decode_image(write_image(tmp_path / "a.png", expected), 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags["C_CONTIGUOUS"]
    assert decoded.flags["WRITEABLE"]
    assert np.array_equal(decoded, expected.transpose(2, 0, 1))


def test_grey_file_as_one_and_three_channels():
    expected = random_pixels(0, channels=1)
    content = encode(Image.fromarray(expected))
    assert np.array_equal(pixels.decode_image(content, 1)[0], expected)
    assert np.array_equal(pixels.decode_image(content, 3), np.stack([expected] * 3))


def test_one_channel_of_equal_channels_is_exactly_that_channel():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    content = encode(Image.fromarray(np.stack([ramp] * 3, axis=-1)))
    assert np.array_equal(pixels.decode_image(content, 1)[0], ramp)


def test_one_channel_of_colours_is_luma():
    colours = random_pixels(3)
    decoded = pixels.decode_image(encode(Image.fromarray(colours)), 1)[0]
    luma = colours.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(decoded - luma).max() <= 0.51


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_rounded(kind):
    wide = np.array([[0, 128, 129, 257], [32768, 65278, 65406, 65535]], dtype=np.uint16)
    decoded = pixels.decode_image(encode(Image.fromarray(wide), kind), 1)[0]
    assert np.array_equal(decoded, np.round(wide / 257).astype(np.uint8))


def test_16_bit_colour_is_as_close():
    wide = np.array([[[0, 257, 65535], [32768, 1000, 40000]]], dtype=np.uint16)
    header = b"P6 2 1 65535\n" + wide.astype(">u2").tobytes()
    decoded = pixels.decode_image(header, 3).transpose(1, 2, 0)
    assert np.abs(decoded - wide / 257).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_composited_over_black(mode):
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[..., :3] = 200
    rgba[..., 3] = [[255, 0], [255, 0]]
    image = Image.fromarray(rgba)
    content = encode(image.quantize() if mode == "P" else image.convert(mode))
    assert np.array_equal(pixels.decode_image(content, 1)[0], [[200, 0], [200, 0]])
    assert np.array_equal(pixels.decode_image(content, 3)[2], [[200, 0], [200, 0]])


def test_half_transparent_pixels_are_rounded():
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    decoded = pixels.decode_image(encode(Image.fromarray(rgba)), 3).transpose(1, 2, 0)
    exact = rgba[..., :3].astype(np.float64) * rgba[..., 3:] / 255
    assert np.abs(decoded - exact).max() <= 0.5


def test_palette_becomes_its_colours():
    flat = np.repeat(np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8), 4, axis=0)
    image = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE)
    decoded = pixels.decode_image(encode(image), 3)
    assert np.array_equal(decoded, flat.transpose(2, 0, 1))


def test_bilevel_and_cmyk():
    bilevel = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert np.array_equal(pixels.decode_image(encode(bilevel), 1), [[[0, 255]]])
    cmyk = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert np.array_equal(pixels.decode_image(encode(cmyk, "TIFF"), 3)[:, 0, 0], [255, 0, 0])


def test_orientation_of_exif_is_honoured():
    upright = random_pixels(5, 16)[:8]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    stored = Image.fromarray(np.rot90(upright, 1).copy())
    for kind in ("PNG", "TIFF", "WEBP"):
        content = encode(stored, kind, exif=exif, lossless=True)
        assert np.array_equal(pixels.decode_image(content, 3), upright.transpose(2, 0, 1))
        header = pixels.read_header(content)
        assert (header.width, header.height) == (16, 8)


def test_header_of_a_plain_file():
    header = pixels.read_header(encode(Image.new("LA", (5, 3))))
    assert header == pixels.ImageHeader(width=5, height=3, mode="LA", format="PNG")


def test_floating_point_is_refused():
    content = encode(Image.new("F", (2, 2)), "TIFF")
    with pytest.raises(ValueError, match="x.tif: .*floating-point pixels have no stated range"):
        pixels.decode_image(content, 1, "x.tif")


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match="channels must be one of 1, 3, got 4"):
        pixels.decode_image(b"", 4)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for function in (pixels.read_header, pixels.verify_image, lambda p: pixels.load_image(p, 3)):
        with pytest.raises(ValueError, match="a.png: (not an image|damaged)"):
            function(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png: no such file"):
        pixels.read_header(tmp_path / "gone.png")


def test_size_that_exhausts_the_memory_is_refused():
    huge = b"P5 100000 100000 255\n"
    with pytest.raises(ValueError, match="big.pgm: .*(pixels|bomb)"):
        pixels.read_header(huge, "big.pgm")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF"])
def test_cut_files_are_found(kind):
    rng = np.random.default_rng(0)
    content = encode(Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)), kind)
    assert pixels.verify_image(content).width == 32
    cut = content[: len(content) // 2]
    with pytest.raises(ValueError, match="cut.img: (not an image|damaged)"):
        pixels.verify_image(cut, "cut.img")
    with pytest.raises(ValueError, match="cut.img: (not an image|damaged)"):
        pixels.decode_image(cut, 3, "cut.img")


def test_bytes_after_the_end_do_not_make_a_file_cut():
    content = encode(Image.fromarray(random_pixels(0)), "JPEG") + b"made by a camera"
    assert pixels.verify_image(content).format == "JPEG"
    assert pixels.decode_image(content, 3).shape == (3, 16, 16)


def test_suffixes_are_those_of_images():
    suffixes = pixels.image_suffixes()
    assert {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".webp", ".pgm"} <= suffixes
    assert not {".eps", ".ps", ".json", ".txt", ".h5", ".mpg", ".npy", ""} & suffixes
