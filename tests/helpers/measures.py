"""Extractors, samplers and image folders that cost nothing, for tests of the metrics."""

import hashlib

import numpy as np
import torch

from evaluation.names import Role
from tests.helpers.images import write_image


class Pixels:
    """Features are pixels, averaged to 2x2 in each channel; the number of images is kept."""

    is_reference = False

    def __init__(self, name="pixels", is_reference=False, noise=0.0):
        self.name, self.is_reference, self.noise = name, is_reference, noise
        self.hash = hashlib.sha256(name.encode()).hexdigest()
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        size = images.shape[-1] // 2
        x = torch.nn.functional.avg_pool2d(images.double(), size)
        return (x.flatten(1) / 50 + self.noise).float()


class Numbers:
    """Draws images that are functions of their number; w is z, and images are linear in w."""

    name = "numbers"
    modalities = ("rgb", "nir")
    z_dim = 4

    def __init__(self, offset=0):
        self.offset = offset

    def sample(self, indices):
        streams = [np.random.default_rng(1000 + self.offset + i) for i in indices]
        rgb = np.stack([s.integers(self.offset, 256, (3, 4, 4), dtype=np.uint8) for s in streams])
        more = np.stack([s.integers(0, 100, (1, 4, 4), dtype=np.uint8) for s in streams])
        return {"rgb": torch.from_numpy(rgb), "nir": torch.from_numpy(rgb[:, :1] // 2 + more)}

    def conditions(self, indices):
        return None

    def map(self, z, c):
        return z

    def synthesize(self, w, indices):
        images = w[:, :1, None, None].expand(-1, 1, 4, 4)
        return {"rgb": images.expand(-1, 3, -1, -1), "nir": images}


def no_progress(_done, _total):
    """A bar that shows nothing."""
    return lambda _count: None


def pixel_extractors(**arguments):
    """One network for all roles."""
    network = Pixels(**arguments)
    return dict.fromkeys(Role, network)


def write_people(root, people=12, samples=3, size=4, seed=0):
    """Pairs of noise called 03_1.png, some people brighter than others."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        low = rng.integers(0, 128)
        for sample in range(samples):
            name = f"{person:02d}_{sample}.png"
            rgb = rng.integers(low, 256, (size, size, 3), dtype=np.uint8)
            write_image(root / "VIS" / name, rgb)
            write_image(root / "NIR" / name, rgb[..., 0] // 2)
    return root
