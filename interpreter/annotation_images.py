"""Generates the images that people annotate, and proposes which of them are most worth it."""

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
from data.numbers import load_conditions, save_array
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from interpreter.ensemble import load_models
from interpreter.experiment import load_experiment
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import AnnotationImageOptions
from networks.generator import Generator
from networks.sampling import IndexedSampler, Truncation
from networks.snapshot import load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable

RECORD = "training_data.json"
IMAGE_FOLDER = "images_to_annotate"
LATENT_FILE = "latent_stylegan.npy"
MEAN_FILE = "avg_latent_stylegan.npy"
LABEL_FILE = "labels.npy"
SHEET_FILE = "contact_sheet.jpg"
SELECTION_FILE = "selection.json"
SELECTION_SHEET = "selection.jpg"
_STREAM = "annotation"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationRequest:
    """What to generate for annotation.

    Attributes:
        generator: of the images.
        truncation: of the images.
        count: number of samples.
        seed: of the latents.
        conditions: [n, c_dim] float32 of which each sample takes one; None for an unconditional
            network.
        network_name: "G_ema" or "G", for the record.
    """

    generator: Generator
    truncation: Truncation
    count: int
    seed: int
    conditions: np.ndarray | None = None
    network_name: str = "G_ema"

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationImagesJob(FolderJob):
    """Images to be generated for annotation, and proposals which of them to annotate.

    Attributes:
        request: what to generate.
        select: number of proposals; None for none.
        interpreter: makes the proposals; None takes images that are spread widely.
    """

    request: AnnotationRequest
    select: int | None
    interpreter: NativeInterpreter | None

    def work(self, progress: Progress) -> str:
        """Write the images and what belongs to them."""
        count, path = self.request.count, self.output.path
        with self.output.at_work():
            write_annotation_images(self.request, path, progress(0, count))
            self.output.finish()
        return f"{path}: wrote {count} image pairs"

    def run(self, progress: Progress) -> str | None:
        """Write what is missing, and propose."""
        told = super().run(progress)
        if self.select is None:
            return told
        bar = progress(0, self.request.count)
        numbers = propose_images(self.request, self.output.path, self.select, self.interpreter, bar)
        return f"{told}\nannotate: {', '.join(str(number) for number in numbers)}"


def prepare(options: AnnotationImageOptions) -> AnnotationImagesJob:
    """Read experiment, snapshot, conditions and models.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    experiment = load_experiment(options.exp)
    device = resolve_repeatable(options.device)
    generator, snapshot = load_generator(
        options.network or experiment.path("stylegan_checkpoint"),
        device,
        use_raw_g=experiment.use_raw_g,
    )
    conditions = None
    if options.labels is not None:
        conditions = load_conditions(options.labels, "--labels", snapshot.feature_scale)
    request = AnnotationRequest(
        generator=generator,
        truncation=experiment.truncation,
        count=options.num_sample,
        seed=options.seed,
        conditions=conditions,
        network_name=experiment.network_name,
    )
    interpreter = None
    if options.interpreter is not None:
        ensemble = load_models(options.interpreter).ensemble.to(generator.mapping.w_avg.device)
        interpreter = NativeInterpreter(ensemble, feature_layout(generator.config))
    output = find_output(
        options.sv_path, RECORD, request.identity(), fresh=options.fresh, option="--sv-path"
    )
    return AnnotationImagesJob(
        output=output, request=request, select=options.select, interpreter=interpreter
    )


def write_annotation_images(
    request: AnnotationRequest, folder: Path, progress: Callable[[int], None]
) -> None:
    """Write image pairs, latents, mean latent and contact sheet.

    Args:
        request: what to generate.
        folder: where to.
        progress: called with the number of further samples.
    """
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
    mean_w = request.generator.mapping.w_avg.cpu()
    save_array(folder / MEAN_FILE, mean_w.expand(request.generator.num_ws, -1).numpy())
    assert sheet is not None, "at least one image is generated"
    sheets.save_image(folder / SHEET_FILE, sheet.pixels())


def propose_images(
    request: AnnotationRequest,
    folder: Path,
    count: int,
    interpreter: NativeInterpreter | None,
    progress: Callable[[int], None],
) -> list[int]:
    """Choose images to annotate and write selection.json and selection.jpg.

    With an interpreter, the images it is least certain of; without, images that are spread most
    widely in feature space.

    Args:
        request: what was generated.
        folder: where the files go.
        count: how many images; at most as many as were generated.
        interpreter: trained before, or None.
        progress: called with the number of further samples.
    Returns: image numbers, most useful first.
    """
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
