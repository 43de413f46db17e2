"""Tiny random images and data sets of them, for tests."""

import json
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image
from scipy import ndimage


def random_pixels(seed, size=16, channels=3):
    """[H, W, 3] or [H, W] uint8, smooth enough to survive JPEG."""
    rng = np.random.default_rng(seed)
    shape = (4, 4, 3) if channels == 3 else (4, 4)
    coarse = rng.integers(0, 256, shape, dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.BILINEAR))


def texture(seed, size=48):
    """[size, size] float, with edges that can be registered."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5)
    return 127 + 100 * image / np.abs(image).max()


def moved(image, shift):
    """The image `shift` (down, right) pixels further, and round the border."""
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), shift)).real


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def encode_png_16(values):
    """A 16-bit PNG of [H, W, 2, 3 or 4] uint16, which Pillow does not write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_pairs(
    root, stems=("1_0", "1_1", "2_0", "2_1"), *, size=16, rgb="VIS", nir="NIR", suffix=".png"
):
    """Write pairs of random images; the seed of each is its place."""
    for i, stem in enumerate(stems):
        write_image(root / rgb / f"{stem}{suffix}", random_pixels(i, size))
        write_image(root / nir / f"{stem}{suffix}", random_pixels(1000 + i, size, channels=1))
    return root


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def truncate(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def zip_folder(folder, archive, top="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive
