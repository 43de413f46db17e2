"""Train a face recogniser on images with known people."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from recognition.learning import Learning, LearningConfig

EPILOG = """\b
Examples:
  python train_recognition.py --config=EXPERIMENTS/example/recognition.json \\
      --data=DATASETS/example_32 --outdir=EXPERIMENTS/runs/recogniser
  python train_recognition.py --data=DATASETS/faces --modality=rgb --modality=nir --outdir=out

\b
The person of an image is its folder, or what stands before the last "_" of its name.
The result is recogniser.pth, with insightface's parameter names.
Repeating a command continues it."""

PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Run",
    click.option("--data", type=PATH, required=True, metavar="DIR|ZIP", help="Pairs of images."),
    click.option("--outdir", type=PATH, required=True, metavar="DIR", help="Of the result."),
    click.option(
        "--modality",
        "modalities",
        type=click.Choice(["rgb", "nir"]),
        multiple=True,
        default=("rgb",),
        show_default=True,
        help="May be given twice: both are images of the person.",
    ),
    click.option("--seed", default=0, help="Of everything random."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group(
    "Network",
    click.option("--backbone", default="r50", help="r18, r34, r50, r100, r200, mobilefacenet."),
    click.option("--width", default=1.0, help="Factor of the backbone's channels."),
    click.option("--embedding", default=512, help="Width of the embeddings."),
    click.option("--size", default=112, help="Images are resized to this; a multiple of 16."),
    click.option("--dropout", default=0.0, help="Before the last layer."),
)
@cli.option_group(
    "Loss",
    click.option("--head", type=click.Choice(["arcface", "cosface", "softmax"]), default="arcface"),
    click.option("--margin", type=float, help="0.5 for arcface, 0.35 for cosface."),
    click.option("--scale", default=64.0, help="Of the logits; fewer people want less."),
)
@cli.option_group(
    "Training",
    click.option("--epochs", default=20, help="Passes over the data."),
    click.option("--batch", default=128, help="Images a step."),
    click.option("--lr", default=0.1, help="Largest learning rate."),
    click.option("--weight-decay", default=5e-4, help="Of all weights."),
    click.option("--warmup", default=0.05, help="Share of the steps in which the rate rises."),
    cli.bool_option("--mirror", default=True, help="Half of the images flipped."),
    click.option("--shift", default=0.0, help="Largest shift, as a share of the width."),
    click.option("--light", default=0.0, help="Largest change of contrast and brightness."),
)
def main(**given: Any) -> None:
    """Train a recogniser with a margin loss."""
    cli.start_logging()
    with cli.friendly_errors():
        _run(given)


def _run(given: dict[str, Any]) -> None:
    from dnnlib.config import to_dict  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from recognition.learning import RECORD_FILE, learn  # noqa: PLC0415  # torch is slow

    config = _config(given)
    learning, fingerprint = _learning(given, config)
    identity = {
        "data": fingerprint,
        "modalities": list(given["modalities"]),
        "training": to_dict(config),
    }
    output = find_output(given["outdir"], RECORD_FILE, identity, fresh=given["fresh"])
    if given["dry_run"]:
        content = {
            "outdir": str(output.path),
            "people": len(learning.faces.people),
            "images": len(learning.faces),
            "steps": learning.steps,
            **output.identity,
        }
        click.echo(json.dumps(content, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the recogniser is trained")
        return
    row = learn(learning, output, cli.progress_bar(0, learning.steps, "step"))
    click.echo(f"{output.path}: {', '.join(f'{name} {value:.4g}' for name, value in row.items())}")


def _config(given: dict[str, Any]) -> "LearningConfig":
    from recognition.augmentation import FaceAugmentation  # noqa: PLC0415  # torch is slow
    from recognition.heads import PUBLISHED_MARGINS, HeadConfig, MarginKind  # noqa: PLC0415
    from recognition.learning import LearningConfig  # noqa: PLC0415

    kind = MarginKind(given["head"])
    margin = PUBLISHED_MARGINS[kind] if given["margin"] is None else given["margin"]
    names = ("backbone", "width", "embedding", "size", "dropout", "epochs", "batch", "lr", "seed")
    return LearningConfig(
        **{name: given[name] for name in (*names, "weight_decay", "warmup")},
        head=HeadConfig(kind=kind, margin=margin, scale=given["scale"]),
        augmentation=FaceAugmentation(
            mirror=given["mirror"], shift=given["shift"], light=given["light"]
        ),
    )


def _learning(given: dict[str, Any], config: "LearningConfig") -> tuple["Learning", str]:
    """Return the training, and a hash of its data."""
    import torch  # noqa: PLC0415

    from data.dataset import PairDataset  # noqa: PLC0415  # torch is slow
    from recognition.face_sets import FaceSet  # noqa: PLC0415
    from recognition.learning import Learning  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    pairs = PairDataset(given["data"])
    faces = FaceSet(pairs, given["modalities"])
    device = torch.device(resolve_device(given["device"]))
    return Learning(faces, config, device), pairs.fingerprint()


if __name__ == "__main__":
    main()
