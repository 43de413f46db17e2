"""Train the dual-branch StyleGAN2-ADA on paired RGB and NIR images."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dnnlib.command import command, lazy
from dnnlib.options import option
from evaluation.names import Kind, Metric, parse_metrics
from training.options import TrainingOptions

if TYPE_CHECKING:
    from training.jobs import TrainingRun

EXAMPLES = r"""
  python train_db_stylegan2.py --data=DATASETS/my_pairs --outdir=EXPERIMENTS/runs \
      --cfg=auto --snap=20 --batch=12 --mirror=1 --NIR_loss_weight=0.1
  python train_db_stylegan2.py --data=DATASETS/example_dataset --outdir=EXPERIMENTS/runs \
      --cbase=1024 --cmax=64 --w-dim=64 --z-dim=64 --map-depth=2 \
      --batch=8 --gamma=0.1 --noise=0 --kimg=40
"""
EPILOG = """
The same command continues a run that was stopped or killed; --fresh starts another.
A run is known by its options without --kimg, --tick, --snap, --keep, --metrics, --workers, --cache
and --device.
Fetched snapshots are kept in ~/.cache/biface (BIFACE_CACHE_DIR); BIFACE_OFFLINE=1 fetches none.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingAndMetricsOptions(TrainingOptions):
    """Train the dual-branch StyleGAN2-ADA: one generator of aligned RGB and NIR images.

    The run folder NNNNN-name holds network-snapshot-*.pkl, fakes*.png (pairs side by side),
    stats.jsonl, log.txt, training_options.json and the checkpoint that a killed run continues from.
    """

    metrics: tuple[Metric, ...] = option(
        (),
        parse=parse_metrics,
        shown_default="none",
        metavar="LIST|none",
        heading="Output",
        help="Measured of each snapshot, such as fid2k_full,fid2k_full_NIR.",
    )
    extractor: str = option(
        "reference",
        metavar="NETWORK",
        help="Network of the metrics: reference, torch-fidelity, standin, torchscript:FILE or"
        " recogniser:FILE; see docs/metrics.md.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        distances = (Kind.FID, Kind.KID, Kind.PPL)
        if self.run.keep == "best" and not (self.metrics and self.metrics[0].kind in distances):
            given = self.metrics[0].name if self.metrics else "none"
            raise ValueError(
                "--keep=best: the first of --metrics must be one of which less is better, fid, kid"
                f" or ppl, got {given}"
            )


def prepare(options: TrainingAndMetricsOptions) -> "TrainingRun":
    """Join training with the metrics of its snapshots."""
    metrics = partial(
        lazy("evaluation.snapshot_metrics:prepare_snapshot_metrics"),
        options.metrics,
        options.extractor,
        options.data,
    )
    return lazy("training.jobs:prepare")(options, metrics if options.metrics else None)


main = command(TrainingAndMetricsOptions, prepare, examples=EXAMPLES, epilog=EPILOG)

if __name__ == "__main__":
    main()
