"""Train a segmentation network on labelled images, generated or real, or measure a trained one."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from data.class_list import ClassList
    from segmentation.classes import ClassMerge
    from segmentation.labelled_set import LabelledSet
    from segmentation.task import SegmentationTask, TrainingConfig

EPILOG = """\b
Examples:
  python train_segmentation.py --config=EXPERIMENTS/segmentation_example/generated.json \\
      --data=out/models/samples_3200 --test=DATASETS/example_32/test --outdir=out/segmenter
  python train_segmentation.py --evaluate=out/segmenter/segmenter.pth \\
      --test=DATASETS/example_32/test --merge=face4 --outdir=out/measured

\b
A data set is what train_interpreter.py --generate-data writes, or a folder with VIS, NIR and masks.
Repeating a command continues it."""

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
    from segmentation.evaluation import report_sentence  # noqa: PLC0415
    from segmentation.task import RECORD_FILE  # noqa: PLC0415
    from torch_utils.trainer import Cadence, train  # noqa: PLC0415

    if not given["data"]:
        raise ValueError("--data must name what is learned from (or --evaluate a trained model)")
    task = _task(given)
    sets = {"data": task.labelled, **task.measured}
    identity = {
        **{name: labelled.fingerprint() for name, labelled in sets.items()},
        "modalities": [modality.name for modality in task.labelled.modalities],
        "classes": class_list_as_json(task.labelled.classes),
        "size": given["size"],
        "training": to_dict(task.config),
    }
    output = find_output(given["outdir"], RECORD_FILE, identity, fresh=given["fresh"])
    if given["dry_run"]:
        counts = {f"{name}_samples": len(labelled) for name, labelled in sets.items()}
        click.echo(json.dumps({"outdir": str(output.path), **counts, **output.identity}, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the network is trained")
        return
    cadence = Cadence(row_steps=task.config.every)
    record = train(task, output, cadence, progress=partial(cli.progress_bar, unit="step"))
    if record is None:
        return
    report = record["test"].get("last")
    numbers = report_sentence(report) if report else "trained; --test measures"
    click.echo(f"{output.path}: {numbers}")


def _evaluate(given: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415

    from data.sheets import save_image  # noqa: PLC0415
    from dnnlib import files  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from segmentation.evaluation import evaluate_masks, report_sentence  # noqa: PLC0415
    from segmentation.labelled_files import open_source  # noqa: PLC0415  # torch is slow
    from segmentation.labelled_set import LabelledSet  # noqa: PLC0415
    from segmentation.model_files import (  # noqa: PLC0415
        load_segmenter,
        prediction_sheet,
        save_masks,
    )
    from segmentation.task import EVALUATION_FILE, SHEET_FILE  # noqa: PLC0415
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
    report = evaluate_masks(segmenter, labelled)
    save_image(output.path / SHEET_FILE, prediction_sheet(segmenter, labelled))
    save_masks(output.path / "masks", segmenter, labelled)
    output.finish(report)
    click.echo(f"{output.path}: {report_sentence(report)}")


def _task(given: dict[str, Any]) -> "SegmentationTask":
    """Return the training; every file is looked at."""
    import torch  # noqa: PLC0415

    from segmentation.classes import choose_classes  # noqa: PLC0415  # torch is slow
    from segmentation.labelled_files import drop_most_uncertain, wanted_modalities  # noqa: PLC0415
    from segmentation.labelled_set import LabelledSet, UncertaintyKind  # noqa: PLC0415
    from segmentation.task import SegmentationTask  # noqa: PLC0415
    from segmentation.training_sources import open_training_sources  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    modalities = wanted_modalities(given["modalities"])
    tests = {name: given[name] for name in ("val", "test") if given[name] is not None}
    learned, measured = open_training_sources(given["data"], tests, modalities)
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
    return SegmentationTask(
        labelled,
        _config(given, labelled),
        device=torch.device(resolve_device(given["device"])),
        side=given["size"],
        measured={
            name: LabelledSet([source], classes, **shared) for name, source in measured.items()
        },
    )


def _config(given: dict[str, Any], labelled: "LabelledSet") -> "TrainingConfig":
    from segmentation import task  # noqa: PLC0415  # torch is slow
    from segmentation.augmentation import MaskAugmentation  # noqa: PLC0415
    from segmentation.labelled_set import UncertaintyKind  # noqa: PLC0415
    from segmentation.networks import NetworkConfig, NetworkKind  # noqa: PLC0415

    names = ("steps", "batch", "lr", "power", "weight_decay", "every", "seed")
    return task.TrainingConfig(
        network=NetworkConfig(
            kind=NetworkKind(given["network"]),
            channels=labelled.channels,
            classes=len(labelled.classes),
            width=given["width"],
            depth=given["depth"],
        ),
        loss=task.LossConfig(
            **_class_weights(given["class_weights"]),
            uncertainty=UncertaintyKind(given["uncertainty"]),
            strength=given["strength"],
            dice=given["dice"],
        ),
        augmentation=MaskAugmentation(
            **{name: given[name] for name in ("mirror", "shift", "scale", "light")}
        ),
        optimizer=task.OptimizerKind(given["optimizer"]),
        precision=task.Precision(given["precision"]),
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


if __name__ == "__main__":
    main()
