"""A generator, a recogniser and training people for the tests of the filter, all tiny."""

import re

import numpy as np
import torch
from torch.nn import functional

from biometrics.backbones import BackboneConfig, build_backbone, state_of
from biometrics.embedding import load_embedder
from biometrics.extraction import extract_features
from biometrics.faces import FaceReason, FaceVerdict
from biometrics.features import IdentityFeatures, write_identity_features
from data.pairs import open_pairs
from data.pixels import to_float
from networks.snapshot import Snapshot, capture, save_snapshot
from tests.helpers.images import write_pairs
from tests.helpers.interpreters import small_generator

WIDTH = 6
SIDE = 16


class PixelEmbedder:
    """Means of a 4x4 grid, less the mean; like Embedder, but one can see what it does."""

    hash = "pixels"
    width = 16

    def embed(self, images):
        images = images if isinstance(images, torch.Tensor) else torch.stack(list(images))
        grey = to_float(images).mean(1, keepdim=True)
        means = functional.adaptive_avg_pool2d(grey, 4).flatten(1)
        means = means - means.mean(1, keepdim=True) + 1e-3
        return functional.normalize(means)


class DarkIsNoFace:
    """A face check that finds none in images darker than a mean."""

    def __init__(self, mean):
        self._mean = mean

    def __call__(self, images):
        dark = [float(image.float().mean()) < self._mean for image in images]
        return [FaceVerdict(reasons=(FaceReason.NO_FACE,) if d else ()) for d in dark]

    def describe(self):
        return {"kind": "dark"}


def varied_generator(seed=0, **changes):
    """A random network whose images differ: its mapping does not come from biases alone."""
    generator = small_generator(seed, c_dim=WIDTH, **changes)
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            if re.fullmatch(r"mapping\.fc\d+\.weight", name):
                tensor.mul_(100)
    return generator


def save_varied_snapshot(path, seed=0, options=None, **changes):
    network = capture(varied_generator(seed, **changes))
    save_snapshot(path, Snapshot(networks={"G_ema": network}, options=options or {}))
    return path


def save_recogniser(path, seed=0, width=WIDTH):
    torch.manual_seed(seed)
    config = BackboneConfig(
        kind="iresnet",
        blocks=(1, 1, 1, 1),
        channels=(8, 8, 8, 8, 8),
        embedding=width,
        size=SIDE,
        first_stride=1,
    )
    torch.save(state_of(build_backbone(config), config), path)
    return path


def write_people(root, model, people=6, images=3):
    """Write pairs of images and their features."""
    write_pairs(root, [f"{p}_{i}" for p in range(people) for i in range(images)], size=SIDE)
    return write_features(root, model)


def write_features(root, model, name="identity_features.json", modality="rgb"):
    source, embedder = open_pairs(root), load_embedder(model)
    found = extract_features(source, embedder, modality=modality)
    write_identity_features(root / name, found.features, found.file_names)
    return root / name


def clustered_features(people, images, width=32, spread=0.5, seed=0):
    """Unit vectors around a direction a person, as a recogniser would give them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal([people, 1, width]) / width**0.5
    rows = centres + spread * rng.standard_normal([people, images, width]) / width**0.5
    rows = rows.reshape(-1, width)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    stems = tuple(f"{p}_{i}" for p in range(people) for i in range(images))
    return IdentityFeatures(stems=stems, vectors=rows.astype(np.float32))
