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
from data.samples import modality_of, open_samples
from data.storage import Directory, map_in_threads
from projection.options import Source


def fitted_modalities(source: Source) -> tuple[str, ...]:
    """Return the modalities that a projection sees, in their order."""
    return tuple(m.name for m in MODALITIES if source in (Source.PAIR, m.name))


def open_targets(
    path: Path, source: Source, resolution: int, first: int | None = None
) -> SampleIndex:
    """Find the images to project, and whatever else belongs to them.

    Images whose folders and names tell no modality are of the one that is asked for.

    Args:
        path: data set, folder of images, or one image.
        source: which images are fitted.
        resolution: side that all images must have.
        first: how many samples, from the first one; None for all.
    Raises: FileNotFoundError; ValueError for images of another size, damaged ones, or a modality
        that is not there.
    """
    fitted = fitted_modalities(source)
    if path.is_file() and path.suffix.lower() in image_suffixes():
        if source is Source.PAIR:
            raise ValueError(f"--data {path}: one image is no pair, --from must be rgb or nir")
        folder = Directory(path.absolute().parent)
        told = modality_of(f"{_told_by_folder(folder.name)}{path.name}") or source
        samples = index_files(folder, folder, {told: {path.stem: path.name}}, [path.stem])
    else:
        samples = open_samples(path)
        if samples.modalities == (RGB.name,) and not samples.entries:
            samples = _by_names(samples, fitted[0])
    missing = [name for name in fitted if name not in samples.modalities]
    if missing:
        found = ", ".join(samples.modalities)
        raise ValueError(f"--data {path}: --from={source} needs {missing[0]} images, has {found}")
    if first is not None:
        samples = samples.select(range(min(first, len(samples))))
    images = [(name, i) for name in samples.modalities for i in range(len(samples))]
    headers = map_in_threads(lambda image: samples.verify(*image), images)
    sizes = {
        samples.describe(*image): (header.width, header.height)
        for image, header in zip(images, headers, strict=True)
    }
    check_sizes(sizes, f"--data {path}", resolution)
    return samples


def _by_names(samples: SampleIndex, otherwise: str) -> SampleIndex:
    """Return images that count as RGB as what their names tell, or as `otherwise`."""
    folder, files = _told_by_folder(samples.base.name), dict(samples.files)
    images = files.pop(RGB.name)
    told = {modality_of(f"{folder}{name}") or otherwise for name in images}
    kind = told.pop() if len(told) == 1 else RGB.name
    return dataclasses.replace(samples, files={kind: images, **files})


def _told_by_folder(name: str) -> str:
    """Return the start of file names in a folder; "images" is what anybody calls one."""
    return f"{name}/" if name in {m.folders[0] for m in MODALITIES} else ""


def load_batch(samples: SampleIndex, modality: str, indices: range) -> Tensor:
    """Return images of one modality: [n, C, R, R] uint8."""
    return torch.from_numpy(np.stack([samples.image(modality, i) for i in indices]))
