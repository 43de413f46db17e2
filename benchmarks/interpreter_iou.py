"""Per-class IoU of an interpreter's labels against the automatic annotator, on fresh samples.

For generators of example faces, whose images have no ground truth: the annotator, trained on
renders with known masks, stands in for it. Its own accuracy on held-out renders is printed too.
"""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import class_ious
from data import sheets
from data.sheets import save_image
from dnnlib import cli, files
from interpreter.ensemble import load_models
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from metrics.segmentation import confusion_matrix
from networks.sampling import IndexedSampler, Truncation
from networks.snapshot import load_generator
from renderer.auto_annotate import AnnotatorOptions, build_annotator

EPILOG = """\b
Examples:
  python benchmarks/interpreter_iou.py --network=net.pkl --models=out/models --outdir=out/iou
  python benchmarks/interpreter_iou.py --network=net.pkl --models=out/models --outdir=out/iou \\
      --samples=50 --truncation=1"""
PATH = click.Path(path_type=Path)
_SHOWN = 8


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--network", type=PATH, metavar="FILE", required=True, help="Snapshot.")
@click.option("--models", type=PATH, metavar="DIR", required=True, help="Trained interpreter.")
@click.option("--outdir", type=PATH, metavar="DIR", required=True, help="iou.json, samples.png.")
@click.option("--samples", type=click.IntRange(min=1), default=200, help="Fresh samples.")
@click.option("--truncation", type=float, default=0.7)
@click.option("--seed", type=int, default=0)
@click.option("--threads", type=click.IntRange(min=1), default=1)
def main(network: Path, models: Path, outdir: Path, threads: int, **given: Any) -> None:
    """Print a table of IoU by class; write it, and a picture of some samples."""
    cli.start_logging()
    with cli.friendly_errors():
        torch.set_num_threads(threads)
        result, picture = _measure(network, models, outdir, given)
        files.write_json(outdir / "iou.json", {"options": given, **result})
        save_image(outdir / "samples.png", picture)
    click.echo(f"{'class':<20}{'interpreter':>12}{'annotator on renders':>22}")
    rows = zip(result["names"], result["iou"], result["annotator"]["iou"], strict=True)
    for name, iou, own in rows:
        click.echo(f"{name:<20}{_text(iou):>12}{_text(own):>22}")
    own = result["annotator"]["accuracy"]
    click.echo(f"{'pixel accuracy':<20}{result['accuracy']:>12.4f}{own:>22.4f}")


def _measure(
    network: Path, models: Path, outdir: Path, given: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """Return accuracy and IoU, and rows of RGB, NIR, labels, annotator's mask, uncertainty."""
    generator, _ = load_generator(network)
    layout = feature_layout(generator.config)
    interpreter = NativeInterpreter(load_models(models).ensemble, layout)
    options = AnnotatorOptions(resolution=generator.config.resolution, classes=interpreter.classes)
    annotator = build_annotator(options, outdir / "auto_annotator")
    palette = annotator.classes.palette()
    truncation = Truncation(psi=given["truncation"], cutoff=8)
    sampler = IndexedSampler(
        generator, name=str(network), stream="iou", truncation=truncation, seed=given["seed"]
    )
    found, truth, rows = [], [], []
    for sample in sampler.features(sampler.ws(range(given["samples"]))):
        labelling = interpreter.label(sample.maps)
        found.append(labelling.labels.numpy())
        truth.append(annotator.annotate(sample.images))
        if len(rows) < _SHOWN:
            share = labelling.divergence.numpy()[None].clip(0) / np.log(2)
            masks = [sheets.colour_mask(mask, palette) for mask in (found[-1], truth[-1])]
            pictures = [*sample.images.values(), *masks, (share * 255).astype(np.uint8)]
            rows.append(sheets.strip(pictures))
    labels, masks = np.stack(found), np.stack(truth)
    result = {
        "accuracy": float((labels == masks).mean()),
        "iou": class_ious(confusion_matrix(masks, labels, interpreter.classes)),
        "names": [entry.name for entry in annotator.classes.classes],
        "annotator": {
            "accuracy": annotator.report["accuracy"],
            "iou": class_ious(annotator.report["confusion"]),
        },
    }
    return result, sheets.image_grid(rows, 1)


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
