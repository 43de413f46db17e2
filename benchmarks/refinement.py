"""Whether refined images are harder to tell from real ones, and whether their masks still hold.

For example faces: the automatic annotator, trained on shaded renders of other people with known
masks, reads rendered, refined and real images, and is compared with the masks beside them.
"""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import class_ious
from benchmarks.refinement_measures import (
    ClassifierOptions,
    edge_correlation,
    edge_shift,
    two_sample_test,
)
from data.dataset import PairDataset
from data.modalities import MODALITIES
from dnnlib import cli, files
from metrics.segmentation import confusion_matrix
from refinement.dataset_writer import find_parts
from refinement.images import JointImages, Masks
from renderer.auto_annotate import AnnotatorOptions, build_annotator

EPILOG = """\b
Examples:
  python -m benchmarks.refinement --rendered=DATASETS/plain --refined=DATASETS/refined \\
      --real=DATASETS/example_32/heldout --real=DATASETS/example_32/test --outdir=out
  python -m benchmarks.refinement --rendered=a --refined=b --real=c --outdir=out --seeds=1

\b
The images should be new to the refiner and its discriminator: other people than in training."""
PATH = click.Path(path_type=Path)


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--rendered", type=PATH, metavar="DIR", required=True, help="As they were.")
@click.option("--refined", type=PATH, metavar="DIR", required=True, help="The same, refined.")
@click.option("--real", type=PATH, metavar="DIR", required=True, multiple=True)
@click.option("--outdir", type=PATH, metavar="DIR", required=True, help="refinement.json.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Classifiers each.")
@click.option("--steps", type=click.IntRange(min=1), default=300, help="Of a classifier.")
@click.option("--threads", type=click.IntRange(min=1), default=1)
def main(rendered: Path, refined: Path, real: tuple[Path, ...], **given: Any) -> None:
    """Print a table; write it as JSON."""
    cli.start_logging()
    with cli.friendly_errors():
        torch.set_num_threads(given["threads"])
        sets = {
            "rendered": _load(_parts(rendered)),
            "refined": _load(_parts(refined)),
            "real": _load(list(real)),
        }
        result = {
            "options": {"seeds": given["seeds"], "steps": given["steps"]},
            "images": {name: len(images) for name, (images, _) in sets.items()},
            "two_sample_test": _two_sample_tests(sets, given["seeds"], given["steps"]),
            "masks": _masks(sets, given["outdir"]),
            "edges": _edges(sets["rendered"][0], sets["refined"][0]),
        }
        files.write_json(given["outdir"] / "refinement.json", result)
    _show(result)


def _parts(root: Path) -> list[Path]:
    return [root / folder for folder in find_parts(root)]


def _load(roots: list[Path]) -> tuple[Tensor, Tensor]:
    """Return images [N, 4, R, R] and masks [N, R, R], uint8, in the order of the people."""
    images, masks = [], []
    for root in roots:
        pairs = PairDataset.open(root)
        joint = JointImages(pairs, [modality.name for modality in MODALITIES])
        images.append(joint.batch(range(len(pairs))))
        masks.append(Masks(pairs).batch(range(len(pairs))))
    return torch.cat(images), torch.cat(masks)


def _two_sample_tests(sets: dict[str, Any], seeds: int, steps: int) -> dict[str, Any]:
    real = sets["real"][0]
    views = {"both": slice(0, 4), "rgb": slice(0, 3), "nir": slice(3, 4)}
    # Every second image against the others: what the classifier says where there is no difference.
    kinds = {
        "rendered": (sets["rendered"][0], real),
        "refined": (sets["refined"][0], real),
        "real": (real[::2], real[1::2]),
    }
    result: dict[str, Any] = {}
    for name, (a, b) in kinds.items():
        for view, channels in views.items():
            found = [
                two_sample_test(
                    a[:, channels], b[:, channels], ClassifierOptions(seed=seed, steps=steps)
                )
                for seed in range(seeds)
            ]
            result.setdefault(name, {})[view] = {
                "accuracy": [one.accuracy for one in found],
                "auc": [one.auc for one in found],
            }
    return result


def _masks(sets: dict[str, Any], outdir: Path) -> dict[str, Any]:
    options = AnnotatorOptions(resolution=sets["real"][0].shape[-1])
    annotator = build_annotator(options, outdir / "auto_annotator")
    result: dict[str, Any] = {"classes": list(annotator.classes.names)}
    for name, (images, masks) in sets.items():
        found = [annotator.annotate({"rgb": x[:3].numpy(), "nir": x[3:].numpy()}) for x in images]
        confusion = confusion_matrix(masks.numpy(), _stack(found), len(result["classes"]))
        iou = class_ious(confusion)
        known = [value for value in iou if value is not None]
        result[name] = {"iou": iou, "mean_iou": sum(known) / len(known)}
    return result


def _stack(arrays: list[Any]) -> Any:
    return np.stack(arrays)


def _edges(before: Tensor, after: Tensor) -> dict[str, Any]:
    result = {}
    for name, channels in (("rgb", slice(0, 3)), ("nir", slice(3, 4))):
        a, b = before[:, channels], after[:, channels]
        length = edge_shift(a, b).norm(dim=1)
        result[name] = {
            "change": float((a.double() - b.double()).abs().mean()),
            "correlation": float(edge_correlation(a, b).mean()),
            "shift_px": float(length.mean()),
            "shift_px_95": float(length.quantile(0.95)),
        }
    return result


def _show(result: dict[str, Any]) -> None:
    click.echo(f"{'accuracy against real':<22}{'both':>16}{'rgb':>16}{'nir':>16}")
    for name, views in result["two_sample_test"].items():
        cells = [_spread(views[view]["accuracy"]) for view in ("both", "rgb", "nir")]
        click.echo(f"{name:<22}" + "".join(f"{cell:>16}" for cell in cells))
    masks = result["masks"]
    click.echo(f"\n{'IoU with the masks':<22}{'rendered':>16}{'refined':>16}{'real':>16}")
    rows = [(name, [masks[k]["iou"][i] for k in _SETS]) for i, name in enumerate(masks["classes"])]
    for name, values in [*rows, ("mean", [masks[k]["mean_iou"] for k in _SETS])]:
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        click.echo(f"{name:<22}" + "".join(f"{cell:>16}" for cell in cells))
    for name, values in result["edges"].items():
        shown = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
        click.echo(f"\nedges of {name}: {shown}")


_SETS = ("rendered", "refined", "real")


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.1%} +-{max(abs(value - mean) for value in values):.1%}"


if __name__ == "__main__":
    main()
