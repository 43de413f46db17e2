"""Projection: how near real images come, and what their latents are worth beside direct networks.

Cells are runs of project_pairs.py, which know themselves whether they are done. Masks are measured
beside segmenters of the same classes, NIR images for RGB beside luma and a small regressor.
"""

import contextlib
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import project_pairs
from benchmarks import common
from benchmarks.pair_critic import load_pairs, predict, train_regressor
from data.modalities import NIR, RGB
from data.pixels import LUMA, decode_image
from data.sample_index import SampleIndex
from data.samples import open_masks, open_samples
from dnnlib import cli, files
from evaluation.extractors import Extractor, build_extractors
from evaluation.features import BLOCK, extract
from evaluation.names import Role
from metrics.distances import frechet_distance
from metrics.estimates import Estimate, clustered, weighted_mean
from metrics.segmentation import score_masks
from metrics.statistics import Moments, compute_moments
from networks.sampling import IndexedSampler, load_conditions
from networks.snapshot import load_generator
from projection.optimisation import LatentStatistics, Projector, projection_batch
from projection.options import LatentSpace, ProjectionConfig
from segmentation.classes import load_merge
from segmentation.model_files import load_segmenter

# As many steps as the published projector takes, and one w, but with our loss and exploration.
LONG_STEPS, LONG_IMAGES, TIMED_STEPS = 1000, 16, 8
Row = dict[str, Any]


def cells_of(options: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return name -> words of project_pairs.py."""
    test, steps = f"--data={options['test']}", f"--steps={options['steps']}"
    first, masks = f"--first={options['first']}", f"--interpreter={options['interpreter']}"
    encoder = [f"--encoder={options['outdir'] / 'encoder'}"]
    encoder.append(f"--encoder-steps={options['encoder_steps']}")
    few = min(options["first"], LONG_IMAGES)
    return {
        "test": [test, first, masks, steps],
        "train": [f"--data={options['training']}", first, steps],
        "foreign": [f"--data={options['foreign']}", first, steps],
        "test_rgb": [test, first, masks, steps, "--from=rgb", "--residual"],
        "test_enc0": [test, first, masks, *encoder, "--steps=0"],
        "test_enc": [test, first, masks, *encoder, f"--steps={options['short']}"],
        "test_w_long": [
            *(test, f"--first={few}", masks, f"--steps={LONG_STEPS}", "--space=w"),
        ],
    }


def check_sets(options: Mapping[str, Any]) -> None:
    """Raise ValueError where what was learned from shares identities with --test."""
    test = set(open_samples(options["test"]).identities)
    for name in ("training", "pairs"):
        shared = test & set(open_samples(options[name]).identities)
        if shared:
            raise ValueError(
                f"--{name} {options[name]}: must hold other identities than --test,"
                f" {min(shared)!r} is in both"
            )


def project(options: Mapping[str, Any]) -> None:
    """Run all cells that are not done."""
    common_words = [f"--network={options['network']}", f"--device={options['device']}"]
    if options["labels"] is not None:
        common_words.append(f"--labels={options['labels']}")
    for name, words in cells_of(options).items():
        click.echo(f"{name}: {' '.join(words)}", err=True)
        line = [*common_words, *words, f"--outdir={options['outdir'] / name}"]
        with contextlib.redirect_stdout(io.StringIO()):
            project_pairs.main.main(line, standalone_mode=False)


# Measures


def error_row(name: str, folder: Path) -> Row:
    """Return the mean errors of a cell, with intervals over identities."""
    images = files.read_json(folder / "errors.json")["images"]
    groups = [entry["identity"] for entry in images]
    row: Row = {"images of": name, "n": len(images)}
    for modality in images[0]["mae"]:
        values = np.array([entry["mae"][modality] for entry in images])
        row[f"error {modality}"] = _shown(clustered(values, groups, weighted_mean), 1)
    row["distance"] = round(float(np.mean([entry["distance"] for entry in images])), 2)
    return row


def mask_rows(options: Mapping[str, Any], samples: SampleIndex) -> list[Row]:
    """Return the agreement of masks with the true ones, of cells and of segmenters."""
    merge = load_merge(options["merge"])
    table, names = np.array(merge.numbers), merge.classes.names
    truth = [table[samples.mask(index)] for index in range(len(samples))]
    found: dict[str, Sequence[np.ndarray]] = {}
    for name in ("test", "test_rgb", "test_enc0", "test_enc", "test_w_long"):
        masks = open_masks(options["outdir"] / name / "pairs")
        found[f"projection: {name}"] = [masks.mask(index) for index in range(len(masks))]
    images = torch.from_numpy(
        np.stack([samples.image(RGB.name, index) for index in range(len(samples))])
    )
    for entry in options["segmenter"]:
        name, _, path = entry.partition("=")
        predicted = load_segmenter(Path(path), torch.device("cpu")).predict(images)
        found[f"segmenter: {name}"] = list(predicted.numpy())
    rows = []
    for name, masks in found.items():
        pairs = zip(truth[: len(masks)], masks, strict=True)
        score = score_masks(pairs, names, groups=samples.identities[: len(masks)])
        classes = {entry.name: round(entry.iou.value, 3) for entry in score.classes if entry.iou}
        row = {"masks of": name, "n": len(masks), "mean IoU": _shown(score.mean_iou, 3)}
        rows.append({**row, **classes})
    return rows


def nir_rows(options: Mapping[str, Any], samples: SampleIndex) -> list[Row]:
    """Return the errors of NIR images made from RGB images, and their distance from real ones."""
    rgb, true = (
        torch.from_numpy(np.stack([samples.image(m.name, i) for i in range(len(samples))]))
        for m in (RGB, NIR)
    )
    pairs, _ = load_pairs(options["pairs"])
    folder = options["outdir"] / "test_rgb"
    found = {
        "luma": torch.tensordot(rgb.float(), torch.tensor(LUMA), ([1], [0]))[:, None],
        "regressor": predict(train_regressor(pairs), rgb),
        "projection": _read_nir(folder / "reconstructed", samples),
        "projection, residual": _read_nir(folder / "pairs", samples),
        "the measured images": true.float(),
    }
    (extractor,) = build_extractors("standin", {Role.FEATURES}).values()
    real = _moments(extractor, pairs[NIR.name])
    rows = []
    for name, images in found.items():
        errors = (images - true).abs().mean(dim=(1, 2, 3)).double().numpy()
        error = clustered(errors, samples.identities, weighted_mean)
        distance = frechet_distance(real, _moments(extractor, images.round().byte()))
        rows.append(
            {"NIR by": name, "error": _shown(error, 1), "FD(standin), no interval": distance}
        )
    return rows


def cost_rows(options: Mapping[str, Any]) -> list[Row]:
    """Return the processor's seconds an image, of all threads, by the time of some steps."""
    generator, snapshot = load_generator(options["network"], torch.device("cpu"), fp32=True)
    labels = load_conditions(options["labels"], "--labels", snapshot.feature_scale)
    sampler = IndexedSampler(generator, labels, name="--labels")
    statistics, size = LatentStatistics.of(sampler), projection_batch(sampler)
    images = {
        name: torch.zeros([size, channels, sampler.resolution, sampler.resolution])
        for name, channels in generator.config.heads.items()
    }
    long = f"mean w, one w, {LONG_STEPS:,} steps"
    steps = {"mean w": options["steps"], "encoder": options["short"], long: LONG_STEPS}
    names = [str(index) for index in range(size)]
    rows = []
    for name, count in steps.items():
        space = LatentSpace.W if name == long else LatentSpace.W_PLUS
        config = ProjectionConfig(space=space, steps=TIMED_STEPS)
        projector = Projector(generator, statistics, config, size)
        projector.project(images, names)
        began = time.process_time()
        projector.project(images, names)
        seconds = (time.process_time() - began) / TIMED_STEPS / size * count
        once = f"{options['encoder_steps']} steps of training" if name == "encoder" else ""
        rows.append(
            {"start": name, "steps": count, "CPU seconds an image": seconds, "not counted": once}
        )
    return rows


def _read_nir(folder: Path, samples: SampleIndex) -> Tensor:
    paths = [folder / NIR.folders[0] / f"{stem}.png" for stem in samples.stems]
    return torch.from_numpy(np.stack([decode_image(path, 1) for path in paths])).float()


def _moments(extractor: Extractor, images: Tensor) -> Moments:
    return compute_moments(np.concatenate([extract(extractor, p) for p in images.split(BLOCK)]))


def _shown(estimate: Estimate, digits: int) -> str:
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


@click.command(context_settings=cli.CONTEXT)
@click.option("--network", type=click.Path(path_type=Path), required=True, help="Snapshot.")
@click.option("--labels", type=click.Path(path_type=Path), help="Its conditions.")
@click.option("--interpreter", type=click.Path(path_type=Path), required=True, help="Models.")
@click.option("--test", type=click.Path(path_type=Path), required=True, help="Masked pairs.")
@click.option("--training", type=click.Path(path_type=Path), required=True, help="Seen pairs.")
@click.option("--foreign", type=click.Path(path_type=Path), required=True, help="Other pairs.")
@click.option("--pairs", type=click.Path(path_type=Path), required=True, help="Of the regressor.")
@click.option("--segmenter", multiple=True, metavar="NAME=PTH", help="Trained on RGB.")
@click.option("--merge", default="face4", help="From the classes of --test to the models'.")
@click.option("--first", default=32, help="Images of each set.")
@click.option("--steps", default=100, help="Steps from the mean w.")
@click.option("--short", default=30, help="Steps from the encoder's answer.")
@click.option("--encoder-steps", default=300, help="Training steps of the encoder.")
@click.option("--device", default="auto", help="Of the cells.")
@click.option("--outdir", type=click.Path(path_type=Path), required=True, help="Of the cells.")
def main(**options: Any) -> None:
    """Project training, test and foreign images, and measure what follows."""
    with cli.friendly_errors():
        check_sets(options)
        project(options)
        samples = open_samples(options["test"])
        samples = samples.select(range(min(options["first"], len(samples))))
        tables = {
            "errors": [error_row(name, options["outdir"] / name) for name in cells_of(options)],
            "masks": mask_rows(options, samples),
            "nir": nir_rows(options, samples),
            "cost": cost_rows(options),
        }
        content = {"machine": common.describe_machine(torch.device("cpu")), **tables}
        files.write_json(options["outdir"] / "projection_benchmark.json", content)
    for rows in tables.values():
        click.echo(common.format_table(rows) + "\n")


if __name__ == "__main__":
    main()
