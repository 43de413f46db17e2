"""The images that are projected: pairs, or images of one modality, opened and checked."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.check import check_sizes
from data.modalities import MODALITIES, RGB
from data.pixels import image_suffixes
from data.sample_index import SampleIndex, index_files
from data.samples import open_samples
from data.storage import Directory, map_in_threads
from projection.options import Source


def fitted_modalities(source: Source) -> tuple[str, ...]:
    """Return the modalities that a projection sees, in their order."""
    return tuple(m.name for m in MODALITIES if source in (Source.PAIR, m.name))


def open_targets(path: Path, source: Source, resolution: int) -> SampleIndex:
    """Find the images to project, and whatever else belongs to them.

    Images whose names tell no modality are of the one that is asked for.

    Args:
        path: data set, folder of images, or one image.
        source: which images are fitted.
        resolution: side that all images must have.
    Raises: FileNotFoundError; ValueError for images of another size, damaged ones, or a modality
        that is not there.
    """
    fitted = fitted_modalities(source)
    if path.is_file() and path.suffix.lower() in image_suffixes():
        if source is Source.PAIR:
            raise ValueError(f"--data {path}: one image is no pair, --from must be rgb or nir")
        folder = Directory(path.absolute().parent)
        samples = index_files(folder, folder, {source: {path.stem: path.name}}, [path.stem])
    else:
        samples = open_samples(path)
        if fitted[0] not in samples.files and samples.modalities == (RGB.name,):
            files = dict(samples.files)
            samples = dataclasses.replace(samples, files={fitted[0]: files.pop(RGB.name), **files})
    missing = [name for name in fitted if name not in samples.modalities]
    if missing:
        found = ", ".join(samples.modalities)
        raise ValueError(f"--data {path}: --from={source} needs {missing[0]} images, has {found}")
    images = [(name, i) for name in samples.modalities for i in range(len(samples))]
    headers = map_in_threads(lambda image: samples.verify(*image), images)
    sizes = {
        samples.describe(*image): (header.width, header.height)
        for image, header in zip(images, headers, strict=True)
    }
    check_sizes(sizes, f"--data {path}", resolution)
    return samples


def load_batch(samples: SampleIndex, modality: str, indices: range) -> Tensor:
    """Return images of one modality: [n, C, R, R] uint8."""
    return torch.from_numpy(np.stack([samples.image(modality, i) for i in indices]))
