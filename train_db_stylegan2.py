"""Train the dual-branch StyleGAN2-ADA on paired RGB and NIR images.

Options in, one frozen configuration out, one call: the work is in training/.
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.conditions import DEFAULT_FEATURE_SCALE
from dnnlib import cli
from dnnlib.processes import is_first_process, restart_under_torchrun
from evaluation.names import Metric, parse_metrics

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.snapshot_metrics import SnapshotMetrics
    from training.launch import Plan
    from training.state import TrainingState
    from training.task import SnapshotEvaluator

EPILOG = """\b
Examples:
  python train_db_stylegan2.py --data=DATASETS/my_pairs --outdir=EXPERIMENTS/runs \\
      --cfg=auto --snap=20 --batch=12 --mirror=1 --NIR_loss_weight=0.1
  python train_db_stylegan2.py --data=DATASETS/example_dataset --outdir=EXPERIMENTS/runs \\
      --cbase=1024 --cmax=64 --w-dim=64 --z-dim=64 --map-depth=2 \\
      --batch=8 --gamma=0.1 --noise=0 --kimg=40

\b
The same command continues a run that was stopped or killed; --fresh starts another.
A run is known by its options without --kimg, --tick, --snap, --metrics, --workers, --cache and
--device.
Fetched snapshots are kept in ~/.cache/biface (BIFACE_CACHE_DIR); BIFACE_OFFLINE=1 fetches none."""

PRESETS = [
    "auto",
    "auto_512",
    "auto_128",
    "biface256",
    "stylegan2",
    "paper256",
    "paper512",
    "paper1024",
    "cifar",
]
AUGPIPES = [
    "blit",
    "geom",
    "color",
    "filter",
    "noise",
    "cutout",
    "bg",
    "bgc",
    "bgcf",
    "bgcfn",
    "bgcfnc",
]
COUNT = click.IntRange(min=1)
FLOAT = click.FloatRange(min=0)
RATE = click.FloatRange(min=0, min_open=True)
SHARE = click.FloatRange(min=0, max=1)
PATH = click.Path(path_type=Path)


class PresetName(click.Choice):
    """A preset; alias-free StyleGAN3 is another network and refused by name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the preset's name, or fail."""
        if str(value).startswith("stylegan3"):
            self.fail(f"{value!r} is an alias-free network; StyleGAN2's are trained here", param)
        return super().convert(value, param, ctx)


class FeatureScale(click.ParamType):
    """A length more than 0, or "raw"."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return the length, None for raw, or fail."""
        return None if value in (None, "raw") else RATE.convert(value, param, ctx)


class MetricNames(click.ParamType):
    """Published names of metrics, with commas between, or none."""

    name = "metrics"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Metric, ...]:
        """Return the metrics, or fail."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_metrics(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DATA = cli.option_group(
    "Data",
    click.option(
        "--data",
        type=PATH,
        required=True,
        metavar="DIR|ZIP",
        help="Pairs with equal names: VIS + NIR under one folder, or images + a sibling NIR.",
    ),
    cli.bool_option(
        "--cond",
        help="Condition on the labels; by default when the data has identity_features.json.",
    ),
    cli.bool_option(
        "--nir-cond",
        help="The NIR discriminator sees the labels; by default as the generator does. 0 is the"
        " published behaviour.",
    ),
    click.option(
        "--feature-scale",
        type=FeatureScale(),
        default=DEFAULT_FEATURE_SCALE,
        metavar="LENGTH|raw",
        help="Length of identity features as conditions; raw: as in their file, as published.",
    ),
    click.option("--subset", type=COUNT, help="Use this many pairs, drawn with --seed."),
    cli.bool_option("--mirror", default=False, help="Add all pairs flipped, both images alike."),
)
OUTPUT = cli.option_group(
    "Output",
    click.option(
        "--outdir", type=PATH, required=True, metavar="DIR", help="Holds one folder a run."
    ),
    click.option("--desc", help="Text for the run folder's name."),
    click.option("--tick", type=RATE, default=4.0, metavar="KIMG", help="Between status lines."),
    click.option(
        "--snap",
        type=click.IntRange(min=0),
        default=50,
        metavar="TICKS",
        help="Between snapshots; 0 only at the end.",
    ),
    click.option(
        "--checkpoint-minutes",
        type=FLOAT,
        default=10.0,
        help="Between checkpoints, which a killed run continues from; 0 only with snapshots.",
    ),
    click.option(
        "--metrics",
        type=MetricNames(),
        default="none",
        metavar="LIST|none",
        help="Measured of each snapshot, such as fid2k_full,fid2k_full_NIR.",
    ),
    click.option(
        "--extractor",
        default="reference",
        metavar="NETWORK",
        help="Of the metrics: reference, torch-fidelity, standin, torchscript:FILE or"
        " recogniser:FILE; see docs/metrics.md.",
    ),
    click.option("--fresh", is_flag=True, help="Start another run instead of continuing."),
    click.option("-n", "--dry-run", is_flag=True, help="Check, print the configuration, stop."),
    cli.config_option(),
)
BASE = cli.option_group(
    "Base configuration",
    click.option("--cfg", type=PresetName(PRESETS), default="auto", help="Preset."),
    click.option("--kimg", type=COUNT, help="Thousands of images to show."),
    click.option("--batch", type=COUNT, help="Images an iteration."),
    click.option(
        "--batch-gpu", type=COUNT, help="Images at once on a device; gradients are accumulated."
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Of everything random."),
)
LOSS = cli.option_group(
    "Losses",
    click.option("--gamma", type=FLOAT, help="R1 weight of the RGB discriminator."),
    click.option("--gamma-nir", type=FLOAT, help="R1 weight of the NIR one; default --gamma."),
    cli.bool_option(
        "--nir-r1",
        default=True,
        help="Regularise the NIR discriminator; 0 reproduces the published code.",
    ),
    click.option(
        "--nir-loss-weight",
        "--NIR_loss_weight",
        type=FLOAT,
        default=1.0,
        help="Weight of the NIR term in the generator's loss.",
    ),
    click.option("--pl-weight", type=FLOAT, help="Path length regularisation; 0 for none."),
    click.option("--style-mixing", type=SHARE, help="Probability of mixing two latents."),
    click.option("--ema-kimg", type=FLOAT, help="Half-life of the generator's average."),
    click.option("--g-reg-interval", type=COUNT, default=4, help="Iterations between steps."),
    click.option("--d-reg-interval", type=COUNT, default=16, help="Iterations between steps."),
    click.option("--glr", type=RATE, help="Learning rate of the generator."),
    click.option("--dlr", type=RATE, help="Learning rate of the discriminators."),
)
AUGMENTATION = cli.option_group(
    "Augmentation",
    click.option("--aug", type=click.Choice(["ada", "noaug", "fixed"]), default="ada"),
    click.option("--p", type=SHARE, help="Strength for --aug=fixed."),
    click.option("--target", type=SHARE, help="ADA target.  [default: 0.6]"),
    click.option("--augpipe", type=click.Choice(AUGPIPES), default="bgc", help="Operations."),
)
TRANSFER = cli.option_group(
    "Transfer",
    click.option(
        "--resume",
        metavar="FILE|URL|NAME",
        help="Begin a new run from a snapshot, ours or a published one: a file, an address, or"
        " ffhq256, ffhq512, ffhq1024, celebahq256, lsundog256.",
    ),
    click.option(
        "--nir-init",
        type=click.Choice(["luma", "random"]),
        default="luma",
        help="How the NIR branch begins where the snapshot has none: as the luma of RGB.",
    ),
    click.option(
        "--freezed",
        type=click.IntRange(min=0),
        default=0,
        help="Layers of the discriminators that stay as they are (Freeze-D).",
    ),
)
SIZES = cli.option_group(
    "Network sizes",
    click.option("--cbase", type=COUNT, help="Channels of a block: cbase / resolution ..."),
    click.option("--cmax", type=COUNT, help="... but at most this many."),
    click.option("--w-dim", type=COUNT, default=512, help="Width of w."),
    click.option("--z-dim", type=COUNT, default=512, help="Width of z."),
    click.option("--map-depth", type=COUNT, help="Mapping layers."),
    cli.bool_option(
        "--noise",
        default=True,
        help="Add noise to each layer of the generator. Short trainings of small networks look"
        " cleaner without.",
    ),
    click.option("--mbstd-group", type=COUNT, help="Minibatch standard deviation group."),
)
PERFORMANCE = cli.option_group(
    "Performance",
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--gpu-device-number",
        "--gpu_device_number",
        "--GPU_DEVICE_NUMBER",
        type=click.IntRange(min=0),
        help="Which GPU.",
    ),
    click.option(
        "--gpus", type=COUNT, help="Processes, one a GPU; torchrun brings its own number."
    ),
    cli.bool_option("--fp32", default=False, help="No 16-bit blocks on CUDA."),
    click.option(
        "--half",
        type=click.Choice(["float16", "bfloat16"]),
        default="float16",
        help="Type of the 16-bit blocks.",
    ),
    cli.bool_option("--nhwc", help="Channels innermost in memory; by default on the CPU."),
    cli.bool_option("--allow-tf32", default=False, help="TF32 products on CUDA."),
    cli.bool_option("--nobench", default=False, help="No search for cuDNN's best algorithm."),
    click.option(
        "--ops",
        type=click.Choice(["auto", "plain", "cpu", "cuda"]),
        default="auto",
        help="Our kernels where they can be built (auto), never, or stop without them.",
    ),
    click.option(
        "--workers", type=click.IntRange(min=0), default=3, help="Data loading processes."
    ),
    click.option(
        "--cache",
        type=FLOAT,
        default=1.0,
        metavar="GIB",
        help="Keep decoded images in memory when all fit into this; 0 for never.",
    ),
)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@DATA
@OUTPUT
@BASE
@LOSS
@AUGMENTATION
@TRANSFER
@SIZES
@PERFORMANCE
def main(
    fresh: bool, dry_run: bool, metrics: tuple[Metric, ...], extractor: str, **options: Any
) -> None:
    """Train the dual-branch StyleGAN2-ADA: one generator that draws aligned RGB and NIR images.

    The run folder NNNNN-name holds network-snapshot-*.pkl, fakes*.png (pairs side by side),
    stats.jsonl, log.txt, training_options.json and the checkpoint that a killed run continues from.
    """
    from evaluation.extractors import may_download  # noqa: PLC0415  # torch is slow
    from torch_utils.distributed import is_launched  # noqa: PLC0415
    from training.launch import make_plan, plan_as_json, train  # noqa: PLC0415
    from training.options import TrainingOptions  # noqa: PLC0415

    if options["resume"] == "noresume":
        options["resume"] = None
    cli.start_logging()
    if not is_first_process():
        logging.disable(logging.INFO)
    with cli.friendly_errors():
        fetching = partial(cli.progress_bar, unit="B")
        plan = make_plan(TrainingOptions(**options), may_fetch=not dry_run, fetching=fetching)
        if dry_run:
            if metrics and not may_download(extractor):
                _evaluations(metrics, extractor, plan, options["data"])
            click.echo(plan_as_json(plan))
            return
        if plan.gpus > 1 and not is_launched():
            restart_under_torchrun(plan.gpus)
        evaluations = _evaluations(metrics, extractor, plan, options["data"]) if metrics else []
        train(
            plan,
            options["outdir"],
            fresh=fresh,
            log_to=cli.start_logging,
            progress=cli.progress_bar,
            evaluations=evaluations,
        )


def _evaluations(
    metrics: tuple[Metric, ...], extractor: str, plan: "Plan", data: Path
) -> list["SnapshotEvaluator"]:
    from evaluation.snapshot_metrics import prepare_snapshot_metrics  # noqa: PLC0415
    from networks.sampling import evaluation_seed  # noqa: PLC0415

    seed = evaluation_seed(plan.config.seed)
    prepared = prepare_snapshot_metrics(
        metrics,
        extractor,
        data,
        seed=seed,
        device=plan.run.device,
    )
    labels = plan.dataset.labels
    return [partial(_measure, prepared, labels, seed)]


def _measure(
    prepared: "SnapshotMetrics", labels: "Tensor", seed: int, path: Path, state: "TrainingState"
) -> Mapping[str, float]:
    from networks.sampling import snapshot_sampler  # noqa: PLC0415  # torch is slow

    sampler = snapshot_sampler(state.ema, labels, name=path.name, seed=seed)
    return prepared.measure(path, sampler, state.nimg, state.world)


if __name__ == "__main__":
    main()
