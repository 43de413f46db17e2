"""Draws the images that people annotate, and proposes which of them are most worth it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.modalities import MODALITIES
from data.number_files import save_array
from dnnlib import files
from dnnlib.runs import OutputFolder
from interpreter.native import NativeInterpreter
from networks.generator import Generator
from networks.sampling import IndexedSampler, Truncation
from torch_utils.checkpoints import state_sha256

RECORD = "training_data.json"
IMAGE_FOLDER = "images_to_annotate"
LATENT_FILE = "latent_stylegan.npy"
MEAN_FILE = "avg_latent_stylegan.npy"
LABEL_FILE = "labels.npy"
SHEET_FILE = "contact_sheet.jpg"
SELECTION_FILE = "selection.json"
SELECTION_SHEET = "selection.jpg"
_STREAM = "annotation"
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationRequest:
    """What to draw for annotation.

    Attributes:
        generator: of the images.
        truncation: of the images.
        count: number of samples.
        seed: of the latents.
        conditions: [n, c_dim] float32 to draw from, for a conditional network; else None.
        network_name: "G_ema" or "G", for the record.
    """

    generator: Generator
    truncation: Truncation
    count: int
    seed: int
    conditions: np.ndarray | None = None
    network_name: str = "G_ema"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--num_sample must be at least 1, got {self.count}")
        self.sampler()

    def identity(self) -> dict[str, Any]:
        """Return what decides the images, as plain JSON values."""
        known = None
        if self.conditions is not None:
            known = hashlib.sha256(np.ascontiguousarray(self.conditions)).hexdigest()
        return {
            "network_sha256": state_sha256(self.generator.state_dict()),
            "network": self.network_name,
            "truncation_psi": self.truncation.psi,
            "truncation_cutoff": self.truncation.cutoff,
            "noise_mode": "const",
            "num_sample": self.count,
            "seed": self.seed,
            "conditions": known,
        }

    def sampler(self) -> IndexedSampler:
        """Return the samples. Raises: ValueError for conditions that the network does not take."""
        return IndexedSampler(
            self.generator,
            None if self.conditions is None else torch.from_numpy(self.conditions).float(),
            name="--labels",
            stream=_STREAM,
            truncation=self.truncation,
            seed=self.seed,
        )


def write_annotation_images(
    request: AnnotationRequest, output: OutputFolder, mean_w: Tensor, progress: Progress
) -> None:
    """Write image pairs, latents, mean latent, contact sheet and, last, the record.

    Args:
        request: what to draw.
        output: folder that is not finished.
        mean_w: [w_dim] float32, the w that truncation draws towards.
        progress: called with the number of further samples.
    """
    output.begin()
    folder = output.path
    sampler, indices, sheet = request.sampler(), range(request.count), None
    for index, sample in enumerate(sampler.features(sampler.ws(indices))):
        for modality in MODALITIES:
            if modality.name in sample.images:
                path = folder / IMAGE_FOLDER / f"image_{index}{modality.suffix}.jpg"
                sheets.save_image(path, sample.images[modality.name])
        pair = sheets.side_by_side(sample.images.values())
        sheet = sheet or sheets.ContactSheet(request.count, *pair.shape[1:])
        sheet.add(str(index), pair)
        progress(1)
    save_array(folder / LATENT_FILE, sampler.latents(indices).double().numpy())
    if (c := sampler.conditions(indices)) is not None:
        save_array(folder / LABEL_FILE, c.numpy())
    save_array(folder / MEAN_FILE, mean_w.cpu().expand(request.generator.num_ws, -1).numpy())
    assert sheet is not None, "at least one image is drawn"
    sheets.save_image(folder / SHEET_FILE, sheet.pixels())
    output.finish()


def propose_images(
    request: AnnotationRequest,
    folder: Path,
    count: int,
    interpreter: NativeInterpreter | None,
    progress: Progress,
) -> list[int]:
    """Choose images to annotate and write selection.json and selection.jpg.

    With an interpreter, the images it is least certain of; without, images that are spread most
    widely in feature space.

    Args:
        request: what was drawn.
        folder: where the files go.
        count: how many images; at most as many as were drawn.
        interpreter: trained before, or None.
        progress: called with the number of further samples.
    Returns: image numbers, most useful first.
    Raises: ValueError for another count.
    """
    if not 1 <= count <= request.count:
        raise ValueError(f"--select: 1 to {request.count} images can be proposed, got {count}")
    sampler = request.sampler()
    ws = sampler.ws(range(request.count))
    rows = []
    for sample in sampler.features(ws):
        if interpreter is None:
            rows.append(describe_maps(sample.maps))
        else:
            score = interpreter.label(sample.maps).score
            rows.append(torch.tensor([score], dtype=torch.float64))
        progress(1)
    values = torch.stack(rows)
    if interpreter is None:
        numbers, rule = spread_most(values, count), "spread in feature space"
    else:
        order = values[:, 0].argsort(descending=True, stable=True)
        numbers, rule = order[:count].tolist(), "uncertainty of the interpreter"
    files.write_json(folder / SELECTION_FILE, {"rule": rule, "images": numbers})
    samples = zip(numbers, sampler.features(ws[numbers]), strict=True)
    chosen = [
        (str(number), sheets.side_by_side(sample.images.values())) for number, sample in samples
    ]
    sheets.save_image(folder / SELECTION_SHEET, sheets.contact_sheet(chosen))
    return numbers


def describe_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return mean and deviation of each feature channel over the image: [2 * channels] float32."""
    parts = [torch.cat([m.mean(dim=(1, 2)), m.std(dim=(1, 2), correction=0)]) for m in maps]
    return torch.cat(parts).cpu()


def spread_most(rows: Tensor, count: int) -> list[int]:
    """Return rows that cover all others well: the most central one, then always the farthest.

    Args:
        rows: [N, D] float32; every column is scaled to unit variance first.
        count: how many, at most N.
    Source: farthest-first traversal, Gonzalez 1985, "Clustering to minimize the maximum
        intercluster distance".
    """
    scaled = (rows - rows.mean(dim=0)) / rows.std(dim=0, correction=0).clamp_min(1e-12)
    chosen = [int(scaled.square().sum(dim=1).argmin())]
    nearest = (scaled - scaled[chosen[0]]).square().sum(dim=1)
    while len(chosen) < count:
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((scaled - scaled[chosen[-1]]).square().sum(dim=1))
    return chosen
