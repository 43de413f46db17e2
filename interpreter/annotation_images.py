"""Generates the images that people annotate, and proposes which of them are most worth it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data import sheets
from data.mask_files import IMAGE_FOLDER, SELECTION_FILE
from data.modalities import MODALITIES
from data.numbers import save_array
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from interpreter.ensemble import load_models
from interpreter.experiment import conditions_sha256, load_experiment, load_sampler, origin_of
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import AnnotationImageOptions
from networks.sampling import IndexedSampler

RECORD = "training_data.json"
LATENT_FILE = "latent_stylegan.npy"
MEAN_FILE = "avg_latent_stylegan.npy"
LABEL_FILE = "labels.npy"
SHEET_FILE = "contact_sheet.jpg"
SELECTION_SHEET = "selection.jpg"
_STREAM = "annotation"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationImagesJob(FolderJob):
    """Images to be generated for annotation, and proposals which of them to annotate."""

    sampler: IndexedSampler  # of the images
    count: int  # number of samples
    select: int | None = None  # number of proposals; None for none
    # Makes the proposals; None takes images that are spread widely.
    interpreter: NativeInterpreter | None = None

    def work(self, progress: Progress) -> str:
        """Write the images and what belongs to them."""
        with self.output.at_work():
            self._write_images(progress(0, self.count))
            self.output.finish()
        return f"{self.output.path}: wrote {self.count} image pairs"

    def run(self, progress: Progress) -> str | None:
        """Write what is missing, and propose."""
        told = super().run(progress)
        if self.select is None:
            return told
        numbers = self.propose(self.select, progress(0, self.count))
        return f"{told}\nannotate: {', '.join(str(number) for number in numbers)}"

    def propose(self, select: int, progress: Callable[[int], None]) -> list[int]:
        """Choose images to annotate and write selection.json and selection.jpg.

        With an interpreter, the images it is least certain of; without, images that are spread most
        widely in feature space.

        Returns: image numbers, most useful first.
        """
        folder, ws, rows = self.output.path, self.sampler.ws(range(self.count)), []
        for sample in self.sampler.features(ws):
            if self.interpreter is None:
                rows.append(describe_maps(sample.maps))
            else:
                score = self.interpreter.label(sample.maps).score
                rows.append(torch.tensor([score], dtype=torch.float64))
            progress(1)
        values = torch.stack(rows)
        if self.interpreter is None:
            numbers, rule = spread_most(values, select), "spread in feature space"
        else:
            order = values[:, 0].argsort(descending=True, stable=True)
            numbers, rule = order[:select].tolist(), "uncertainty of the interpreter"
        files.write_json(folder / SELECTION_FILE, {"rule": rule, "images": numbers})
        samples = zip(numbers, self.sampler.features(ws[numbers]), strict=True)
        chosen = [
            (str(number), sheets.side_by_side(sample.images.values())) for number, sample in samples
        ]
        sheets.save_image(folder / SELECTION_SHEET, sheets.contact_sheet(chosen))
        return numbers

    def _write_images(self, progress: Callable[[int], None]) -> None:
        """Write image pairs, latents, mean latent and contact sheet."""
        folder, sampler, indices, sheet = self.output.path, self.sampler, range(self.count), None
        for index, sample in enumerate(sampler.features(sampler.ws(indices))):
            for modality in MODALITIES:
                if modality.name in sample.images:
                    path = folder / IMAGE_FOLDER / f"image_{index}{modality.suffix}.jpg"
                    sheets.save_image(path, sample.images[modality.name])
            pair = sheets.side_by_side(sample.images.values())
            sheet = sheet or sheets.ContactSheet(self.count, *pair.shape[1:])
            sheet.add(str(index), pair)
            progress(1)
        save_array(folder / LATENT_FILE, sampler.latents(indices).double().numpy())
        if (c := sampler.conditions(indices)) is not None:
            save_array(folder / LABEL_FILE, c.numpy())
        generator = sampler.generator
        mean_w = generator.mapping.w_avg.cpu().expand(generator.num_ws, -1)
        save_array(folder / MEAN_FILE, mean_w.numpy())
        assert sheet is not None, "at least one image is generated"
        sheets.save_image(folder / SHEET_FILE, sheet.pixels())


def prepare(options: AnnotationImageOptions) -> AnnotationImagesJob:
    """Read experiment, snapshot, conditions and models.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    experiment = load_experiment(options.exp)
    sampler, _ = load_sampler(options, experiment, stream=_STREAM, seed=options.seed)
    interpreter = None
    if options.interpreter is not None:
        ensemble = load_models(options.interpreter).ensemble.to(sampler.device)
        interpreter = NativeInterpreter(ensemble, feature_layout(sampler.generator.config))
    identity = {
        **origin_of(sampler.generator, experiment),
        "noise_mode": "const",
        "num_sample": options.num_sample,
        "seed": options.seed,
        "conditions": conditions_sha256(sampler.labels),
    }
    return AnnotationImagesJob(
        output=find_output(
            options.sv_path, RECORD, identity, fresh=options.fresh, option="--sv-path"
        ),
        sampler=sampler,
        count=options.num_sample,
        select=options.select,
        interpreter=interpreter,
    )


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
