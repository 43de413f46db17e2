"""Train a segmentation network on labelled images, generated or real, or measure a trained one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from data.class_list import ClassList
    from segmentation.classes import ClassMerge
    from segmentation.labelled_set import LabelledSet
    from segmentation.learning import Learning, LearningConfig
    from segmentation.model_files import Segmenter

EPILOG = """\b
Examples:
  python train_segmentation.py --config=EXPERIMENTS/segmentation_example/generated.json \\
      --data=out/models/samples_3200 --test=DATASETS/example_32/test --outdir=out/segmenter
  python train_segmentation.py --evaluate=out/segmenter/segmenter.pth \\
      --test=DATASETS/example_32/test --merge=face4 --outdir=out/measured

\b
A data set is what train_interpreter.py --generate-data writes, or a folder with VIS, NIR and masks.
Repeating a command continues it."""

EVALUATION_FILE = "evaluation.json"
SHEET_FILE = "predictions.png"
PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Run",
    click.option(
        "--data", type=PATH, multiple=True, metavar="DIR|ZIP", help="Learned from; may be repeated."
    ),
    click.option("--test", type=PATH, metavar="DIR|ZIP", help="Measured on, never chosen by."),
    click.option("--val", type=PATH, metavar="DIR|ZIP", help="The best weights here are kept too."),
    click.option("--outdir", type=PATH, required=True, metavar="DIR", help="Of the result."),
    click.option("--evaluate", type=PATH, metavar="PTH", help="Measure this model, train nothing."),
    click.option("--seed", default=0, help="Of everything random."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group(
    "Samples",
    click.option(
        "--modality",
        "modalities",
        type=click.Choice(["rgb", "nir"]),
        multiple=True,
        default=("rgb",),
        help="May be given twice: both are channels of one input.",
    ),
    click.option("--classes", type=PATH, metavar="JSON", help="Class list, if the data have none."),
    click.option(
        "--merge", metavar="face4|ocular4|JSON", help="Maps the masks' classes to others."
    ),
    click.option("--size", type=int, metavar="PIXELS", help="Square images are resized to this."),
    click.option("--subset", type=int, metavar="N", help="Learn from N random samples."),
    click.option(
        "--drop-uncertain", default=0.0, metavar="SHARE", help="Without the least certain, 0..1."
    ),
)
@cli.option_group(
    "Network",
    click.option(
        "--network",
        type=click.Choice(["unet", "deeplabv3-resnet50", "deeplabv3-mobilenet"]),
        default="unet",
    ),
    click.option("--width", default=16, help="Channels at full size, unet only."),
    click.option("--depth", default=3, help="How often unet halves the size."),
)
@cli.option_group(
    "Loss",
    click.option(
        "--class-weights",
        default="none",
        metavar="KIND|LIST",
        help="none, inverse, median (frequency), or numbers such as 1,2,2,5.",
    ),
    click.option(
        "--uncertainty",
        type=click.Choice(["none", "pixel", "sample"]),
        default="none",
        help="Uncertain pixels (by map) or samples (by score) count less.",
    ),
    click.option("--strength", default=5.0, help="k of the weight exp(-k uncertainty)."),
    click.option("--dice", default=0.0, help="Weight of the Dice loss."),
)
@cli.option_group(
    "Training",
    click.option("--steps", default=2000, help="Of the whole training."),
    click.option("--batch", default=16, help="Samples a step."),
    click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), default="adamw"),
    click.option("--lr", default=1e-3, help="Learning rate at the start."),
    click.option("--power", default=0.9, help="Of the share of steps left, which it falls with."),
    click.option("--weight-decay", default=1e-4, help="Of all weights."),
    click.option("--every", default=200, help="Steps between checkpoints and measurements."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "tf32", "fp16", "bf16"]),
        default="fp32",
        help="Of the network; tf32 and fp16 need a GPU.",
    ),
    cli.bool_option("--mirror", default=True, help="Half of the samples flipped."),
    click.option("--shift", default=0.0, help="Largest shift, as a share of the width."),
    click.option("--scale", default=0.0, help="Largest change of size, as a share."),
    click.option("--light", default=0.0, help="Largest change of contrast and brightness."),
)
def main(**given: Any) -> None:
    """Train a segmentation network, or measure one with --evaluate."""
    cli.start_logging()
    with cli.friendly_errors():
        if given["evaluate"] is None:
            _train(given)
        else:
            _evaluate(given)


def _train(given: dict[str, Any]) -> None:
    from data.class_list import class_list_as_json  # noqa: PLC0415  # torch is slow
    from dnnlib.config import to_dict  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from segmentation.learning import RECORD_FILE, learn  # noqa: PLC0415
    from segmentation.reports import report_sentence  # noqa: PLC0415

    if not given["data"]:
        raise ValueError("--data must name what is learned from (or --evaluate a trained model)")
    learning, judge = _learning(given)
    sets = {"data": learning.labelled, **judge.sets}
    identity = {
        **{name: labelled.fingerprint() for name, labelled in sets.items()},
        "modalities": [modality.name for modality in learning.labelled.modalities],
        "classes": class_list_as_json(learning.labelled.classes),
        "size": given["size"],
        "training": to_dict(learning.config),
    }
    output = find_output(given["outdir"], RECORD_FILE, identity, fresh=given["fresh"])
    if given["dry_run"]:
        counts = {f"{name}_samples": len(labelled) for name, labelled in sets.items()}
        click.echo(json.dumps({"outdir": str(output.path), **counts, **output.identity}, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the network is trained")
        return
    bar = cli.progress_bar(0, learning.config.steps, "step")
    report = learn(learning, output, bar).get("last")
    numbers = report_sentence(report) if report else "trained; --test measures"
    click.echo(f"{output.path}: {numbers}")


def _evaluate(given: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415

    from dnnlib import files  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from segmentation.labelled_files import open_source  # noqa: PLC0415  # torch is slow
    from segmentation.labelled_set import LabelledSet  # noqa: PLC0415
    from segmentation.model_files import load_segmenter, save_masks  # noqa: PLC0415
    from segmentation.reports import report_sentence  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    if given["data"] or given["val"] or given["test"] is None:
        raise ValueError("--evaluate needs --test, and neither --data nor --val")
    segmenter = load_segmenter(given["evaluate"], torch.device(resolve_device(given["device"])))
    source = open_source(given["test"], segmenter.modalities)
    labelled = LabelledSet([source], segmenter.classes, merge=_merge(given), side=segmenter.side)
    identity = {
        "model": files.sha256_file(given["evaluate"]),
        "test": labelled.fingerprint(),
    }
    output = find_output(given["outdir"], EVALUATION_FILE, identity, fresh=given["fresh"])
    if given["dry_run"]:
        content = {"outdir": str(output.path), "samples": len(labelled), **output.identity}
        click.echo(json.dumps(content, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the model is measured")
        return
    output.begin()
    report = _report(segmenter, labelled)
    _save_sheet(output.path, segmenter, labelled)
    save_masks(output.path / "masks", segmenter, labelled)
    output.finish(report)
    click.echo(f"{output.path}: {report_sentence(report)}")


def _learning(given: dict[str, Any]) -> tuple["Learning", "Judge"]:
    """Return the training and who watches it; every file is looked at."""
    import torch  # noqa: PLC0415

    from segmentation.classes import choose_classes  # noqa: PLC0415  # torch is slow
    from segmentation.labelled_files import drop_most_uncertain, wanted_modalities  # noqa: PLC0415
    from segmentation.labelled_set import LabelledSet, UncertaintyKind  # noqa: PLC0415
    from segmentation.learning import Learning  # noqa: PLC0415
    from segmentation.training_sources import open_training_sources  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    modalities = wanted_modalities(given["modalities"])
    judges = {name: given[name] for name in ("val", "test") if given[name] is not None}
    learned, measured = open_training_sources(given["data"], judges, modalities)
    sources = [drop_most_uncertain(source, given["drop_uncertain"]) for source in learned]
    merge = _merge(given)
    classes = choose_classes(_class_list(given), merge, [source.stated for source in sources])
    shared: dict[str, Any] = {"merge": merge, "side": given["size"]}
    labelled = LabelledSet(
        sources,
        classes,
        uncertainty=UncertaintyKind(given["uncertainty"]),
        subset=given["subset"],
        seed=given["seed"],
        **shared,
    )
    judge = Judge(
        {name: LabelledSet([source], classes, **shared) for name, source in measured.items()}
    )
    learning = Learning(
        labelled,
        _config(given, labelled),
        side=given["size"],
        device=torch.device(resolve_device(given["device"])),
        judge=judge,
        choose_by="val_mean_iou" if "val" in judge.sets else None,
    )
    return learning, judge


def _config(given: dict[str, Any], labelled: "LabelledSet") -> "LearningConfig":
    from segmentation import learning  # noqa: PLC0415  # torch is slow
    from segmentation.augmentation import MaskAugmentation  # noqa: PLC0415
    from segmentation.labelled_set import UncertaintyKind  # noqa: PLC0415
    from segmentation.networks import NetworkConfig, NetworkKind  # noqa: PLC0415

    names = ("steps", "batch", "lr", "power", "weight_decay", "every", "seed")
    return learning.LearningConfig(
        network=NetworkConfig(
            kind=NetworkKind(given["network"]),
            channels=labelled.channels,
            classes=len(labelled.classes),
            width=given["width"],
            depth=given["depth"],
        ),
        loss=learning.LossConfig(
            **_class_weights(given["class_weights"]),
            uncertainty=UncertaintyKind(given["uncertainty"]),
            strength=given["strength"],
            dice=given["dice"],
        ),
        augmentation=MaskAugmentation(
            **{name: given[name] for name in ("mirror", "shift", "scale", "light")}
        ),
        optimizer=learning.OptimizerKind(given["optimizer"]),
        precision=learning.Precision(given["precision"]),
        **{name: given[name] for name in names},
    )


def _class_weights(text: str) -> dict[str, Any]:
    from segmentation.losses import ClassWeighting  # noqa: PLC0415  # torch is slow

    if text in [kind.value for kind in ClassWeighting]:
        return {"weighting": ClassWeighting(text)}
    try:
        return {"factors": tuple(float(part) for part in text.split(","))}
    except ValueError as error:
        raise ValueError(
            f"--class-weights must be none, inverse, median or numbers such as 1,2,5, got {text!r}"
        ) from error


def _merge(given: dict[str, Any]) -> "ClassMerge | None":
    from segmentation.classes import load_merge  # noqa: PLC0415

    return None if given["merge"] is None else load_merge(given["merge"])


def _class_list(given: dict[str, Any]) -> "ClassList | None":
    from data.class_list import load_class_list  # noqa: PLC0415

    return None if given["classes"] is None else load_class_list(given["classes"])


@dataclass(frozen=True)
class Judge:
    """Measures networks on labelled sets by name, "val" and "test"; see `segmentation.learning`."""

    sets: dict[str, "LabelledSet"]

    def watch(self, segmenter: "Segmenter") -> dict[str, float]:
        """Return each set's IoU by class, their mean, and the pixel accuracy."""
        from segmentation.reports import flat_numbers  # noqa: PLC0415

        row: dict[str, float] = {}
        for name, labelled in self.sets.items():
            row |= flat_numbers(_counted(segmenter, labelled), name)
        return row

    def conclude(self, segmenter: "Segmenter", folder: Path) -> dict[str, Any]:
        """Measure the last weights, and the best where they were kept, on the test set."""
        from dnnlib import files  # noqa: PLC0415
        from segmentation.learning import BEST_FILE  # noqa: PLC0415  # torch is slow
        from segmentation.model_files import load_segmenter  # noqa: PLC0415

        labelled = self.sets.get("test", self.sets.get("val"))
        if labelled is None:
            return {}
        result = {"last": _report(segmenter, labelled)}
        if (folder / BEST_FILE).is_file():
            best = load_segmenter(folder / BEST_FILE, segmenter.device)
            result["best"] = _report(best, labelled)
        _save_sheet(folder, segmenter, labelled)
        files.write_json(folder / EVALUATION_FILE, result)
        return result


def _report(segmenter: "Segmenter", labelled: "LabelledSet") -> dict[str, Any]:
    """Return a set's numbers, with intervals unless some pixels are ignored."""
    from data.identities import identity_of  # noqa: PLC0415
    from metrics.segmentation import score_masks  # noqa: PLC0415  # SciPy is slow
    from segmentation.model_files import predicted_masks  # noqa: PLC0415
    from segmentation.reports import report_of_score  # noqa: PLC0415

    if labelled.has_ignored:
        return _counted(segmenter, labelled)
    masks = predicted_masks(segmenter, labelled)
    people = [identity_of(stem) for stem in labelled.stems]
    return report_of_score(score_masks(masks, labelled.classes.names, groups=people))


def _counted(segmenter: "Segmenter", labelled: "LabelledSet") -> dict[str, Any]:
    """Return a set's numbers from its confusion matrix alone."""
    from metrics.segmentation import confusion_matrix, intersection_over_union  # noqa: PLC0415
    from segmentation.model_files import scored_pixels  # noqa: PLC0415  # torch is slow
    from segmentation.reports import report_of_counts  # noqa: PLC0415

    names = labelled.classes.names
    matrices = [confusion_matrix(*pair, len(names)) for pair in scored_pixels(segmenter, labelled)]
    confusion = sum(matrices)
    return report_of_counts(confusion, intersection_over_union(confusion), names, len(labelled))


def _save_sheet(folder: Path, segmenter: "Segmenter", labelled: "LabelledSet") -> None:
    from data.sheets import save_image  # noqa: PLC0415
    from segmentation.model_files import prediction_sheet  # noqa: PLC0415  # torch is slow

    save_image(folder / SHEET_FILE, prediction_sheet(segmenter, labelled))


if __name__ == "__main__":
    main()
