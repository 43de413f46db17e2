"""Tiny random images and data sets of them, for tests."""

import json
import zipfile

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
