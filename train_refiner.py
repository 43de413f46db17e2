"""Train a network that makes rendered images more like real ones, or refine a data set with it."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from refinement.options import RefinementConfig
    from refinement.task import RefinementTask

EPILOG = """\b
Examples:
  python train_refiner.py --config=EXPERIMENTS/refinement_example/train.json \\
      --data=DATASETS/plain_32 --real=DATASETS/example_32 --outdir=EXPERIMENTS/runs/refiner
  python train_refiner.py --refine=DATASETS/plain_32 \\
      --refiner=EXPERIMENTS/runs/refiner/refiner.pt --outdir=DATASETS/refined_32

\b
The first trains on two data sets of pairs of one size; they need nothing else in common. The
second writes a data set with the source's names, masks and attributes.
Repeating a command continues it."""

PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Run",
    click.option("--data", type=PATH, metavar="DIR|ZIP", help="Rendered pairs, to train on."),
    click.option("--real", type=PATH, metavar="DIR|ZIP", help="Real pairs, to be like."),
    click.option("--refine", type=PATH, metavar="DIR|ZIP", help="Refine this data set instead."),
    click.option("--refiner", type=PATH, metavar="FILE", help="refiner.pt, for --refine."),
    click.option(
        "--keep",
        multiple=True,
        metavar="CLASS",
        help="With --refine: these parts of the masks stay as they are; may be repeated.",
    ),
    click.option("--outdir", type=PATH, required=True, metavar="DIR", help="Of the result."),
    click.option("--seed", default=0, help="Of everything random."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    click.option("--snap", type=click.IntRange(min=1), default=100, help="Steps a checkpoint."),
    cli.config_option(),
)
@cli.option_group(
    "Networks",
    click.option(
        "--modality",
        "modalities",
        type=click.Choice(["rgb", "nir"]),
        multiple=True,
        default=("rgb", "nir"),
        show_default=True,
        help="May be given twice: both are refined jointly.",
    ),
    click.option("--width", default=64, help="Channels of the refiner."),
    click.option("--blocks", default=4, help="Residual blocks of the refiner."),
    click.option("--kernel", default=3, help="Side of the refiner's convolutions."),
    cli.bool_option(
        "--identity-start",
        default=True,
        help="The untrained refiner returns its input; false is the published form.",
    ),
    click.option(
        "--patches",
        type=click.Choice(["eyes", "hands"]),
        default="eyes",
        help="Published layers of the discriminator; hands is for sides of 224 and more.",
    ),
    click.option("--patch-width", default=1.0, help="Factor of the discriminator's channels."),
)
@cli.option_group(
    "Loss",
    click.option(
        "--measure",
        type=click.Choice(["image", "mean", "features"]),
        default="image",
        help="Compare channels, their mean (published), or features.",
    ),
    click.option("--norm", type=click.Choice(["l1", "l2"]), default="l1", help="Of differences."),
    click.option("--weight", default=1.0, help="Of the regularisation."),
    click.option(
        "--features", type=PATH, metavar="FILE", help="TorchScript network of --measure=features."
    ),
    click.option(
        "--region-weight",
        "region_weights",
        multiple=True,
        metavar="CLASS=FACTOR",
        help="Factor of --weight in a class of the masks; may be repeated.",
    ),
    click.option("--cycle", default=0.0, help="Weight of the way back; 0 for none."),
    click.option("--smoothing", default=0.0, help="Of the discriminator's labels."),
)
@cli.option_group(
    "Training",
    click.option("--steps", default=10000, help="Rounds after the warm-ups."),
    click.option("--refiner-warmup", type=int, help="1000 without --identity-start, else 0."),
    click.option("--discriminator-warmup", default=200, help="Its steps alone."),
    click.option("--refiner-updates", default=2, help="Of the refiner a round (K_g)."),
    click.option("--discriminator-updates", default=1, help="Of the discriminator (K_d)."),
    click.option("--batch", default=64, help="Images an update."),
    click.option("--history", default=1024, help="Earlier refined images that are kept."),
    click.option("--lr", default=2e-4, help="Learning rate of the refiner."),
    click.option("--discriminator-lr", default=2e-4, help="Learning rate of the discriminator."),
)
def main(**given: Any) -> None:
    """Train a refiner of rendered images (SimGAN), or refine a data set."""
    cli.start_logging()
    with cli.friendly_errors():
        if given["refine"] is None:
            _train(given)
        else:
            _refine(given)


def _train(given: dict[str, Any]) -> None:
    from dnnlib.config import to_dict  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from refinement.task import RECORD_FILE  # noqa: PLC0415  # torch is slow
    from torch_utils.trainer import Cadence, describe_result, train  # noqa: PLC0415

    _require(given, "data", "real", reason="to train (or --refine, to refine a data set)")
    if given["refiner"] is not None:
        raise ValueError(f"--refiner {given['refiner']}: is for --refine; training starts anew")
    if given["keep"]:
        raise ValueError("--keep: is for --refine; --region-weight is for training")
    config = _config(given)
    task, sources = _task(given, config)
    identity = {
        **sources,
        "modalities": [modality.name for modality in task.rendered.modalities],
        "training": to_dict(config),
    }
    output = find_output(given["outdir"], RECORD_FILE, identity, fresh=given["fresh"])
    if given["dry_run"]:
        content = {
            "outdir": str(output.path),
            "rendered": len(task.rendered),
            "real": len(task.real),
            "steps": task.steps,
            **output.identity,
        }
        click.echo(json.dumps(content, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the refiner is trained")
        return
    cadence = Cadence(row_steps=given["snap"])
    record = train(task, output, cadence, progress=partial(cli.progress_bar, unit="step"))
    if record is not None:
        click.echo(f"{output.path}: {describe_result(record['result'])}")


def _config(given: dict[str, Any]) -> "RefinementConfig":
    from refinement.losses import Norm  # noqa: PLC0415  # torch is slow
    from refinement.networks import PatchKind  # noqa: PLC0415
    from refinement.options import (  # noqa: PLC0415
        PUBLISHED_REFINER_WARMUP,
        Measure,
        RefinementConfig,
    )

    warmup = given["refiner_warmup"]
    if warmup is None:
        warmup = 0 if given["identity_start"] else PUBLISHED_REFINER_WARMUP
    names = ("width", "blocks", "kernel", "patch_width", "weight", "cycle", "smoothing", "steps")
    counts = ("refiner_updates", "discriminator_updates", "batch", "history", "seed")
    rates = ("discriminator_warmup", "lr", "discriminator_lr")
    return RefinementConfig(
        **{name: given[name] for name in (*names, *counts, *rates)},
        refiner_warmup=warmup,
        starts_as_identity=given["identity_start"],
        patches=PatchKind(given["patches"]),
        measure=Measure(given["measure"]),
        norm=Norm(given["norm"]),
        region_weights=tuple(_region_weight(text) for text in given["region_weights"]),
    )


def _region_weight(text: str) -> tuple[str, float]:
    name, sign, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        sign = ""
    if not sign or not name:
        raise ValueError(f"--region-weight must be CLASS=FACTOR, such as hair=5, got {text!r}")
    return name, value


def _task(
    given: dict[str, Any], config: "RefinementConfig"
) -> tuple["RefinementTask", dict[str, str | None]]:
    """Return the training, and hashes of what it reads."""
    import torch  # noqa: PLC0415

    from data.dataset import PairDataset  # noqa: PLC0415  # torch is slow
    from dnnlib.files import sha256_file  # noqa: PLC0415
    from refinement.feature_network import load_feature_network  # noqa: PLC0415
    from refinement.images import JointImages, Masks, class_names, weight_table  # noqa: PLC0415
    from refinement.task import RefinementTask  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    device = torch.device(resolve_device(given["device"]))
    sides = [JointImages(PairDataset(given[key]), given["modalities"]) for key in ("data", "real")]
    rendered, real = sides
    masks, table, network = None, None, None
    if config.region_weights:
        table = weight_table(dict(config.region_weights), class_names(given["data"]))
        masks = Masks(given["data"], rendered.pairs.stems, rendered.pairs.resolution)
    if given["features"] is not None:
        side = rendered.pairs.resolution
        network = load_feature_network(given["features"], sum(rendered.channels), side, device)
    task = RefinementTask(
        rendered, real, config, device, masks=masks, class_weights=table, feature_network=network
    )
    sources = {
        "data": rendered.pairs.fingerprint(),
        "real": real.pairs.fingerprint(),
        "masks": None if masks is None else masks.fingerprint(),
        "features": None if network is None else sha256_file(given["features"]),
    }
    return task, sources


def _refine(given: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415

    from dnnlib.outputs import find_output  # noqa: PLC0415
    from refinement.dataset_writer import RECORD, RefinedDataset  # noqa: PLC0415  # torch is slow
    from refinement.model_files import load_refiner  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    _require(given, "refiner", reason="with --refine")
    if given["data"] is not None or given["real"] is not None:
        raise ValueError("--refine writes a data set; --data and --real are for training")
    device = torch.device(resolve_device(given["device"]))
    refiner = load_refiner(given["refiner"], device)
    dataset = RefinedDataset(given["refine"], refiner, given["keep"])
    output = find_output(given["outdir"], RECORD, dataset.identity(), fresh=given["fresh"])
    if given["dry_run"]:
        content = {"outdir": str(output.path), "pairs": len(dataset), **output.identity}
        click.echo(json.dumps(content, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: the data set is refined")
        return
    dataset.write(output, cli.progress_bar(0, len(dataset), "pair"))
    click.echo(f"{output.path}: {len(dataset)} pairs refined")


def _require(given: dict[str, Any], *names: str, reason: str) -> None:
    missing = [f"--{name}" for name in names if given[name] is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)}: needed {reason}")


if __name__ == "__main__":
    main()
