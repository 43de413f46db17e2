"""`evaluate.py images`: quality and coverage of generated images against a data set."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli
from dnnlib.processes import is_first_process, restart_under_torchrun
from evaluation.commands import shared

if TYPE_CHECKING:
    from evaluation.generator_metrics import MetricResult
    from evaluation.quality import QualityOptions, QualityStudy

_METRICS = (
    "Published names with any count of generated images, with commas between: fid50k_full,"
    " kid50k_full, pr50k3_full, dc50k5_full, is50k, vendi50k, ppl2_wend; with _NIR or _joint"
    " behind, that modality or both."
)


@click.command(context_settings=cli.CONTEXT)
@click.option("--network", type=shared.PATH, metavar="FILE", help="Snapshot that draws.")
@click.option("--images", type=shared.PATH, metavar="DIR", help="Or images that are there.")
@click.option(
    "--data", type=shared.PATH, metavar="DIR", help="Real images; labels of conditional networks."
)
@click.option("--metrics", required=True, metavar="LIST", help=_METRICS)
@click.option(
    "--extractor",
    default="reference",
    metavar="NETWORK",
    help="reference[:DIR], torch-fidelity[:FILE], standin, torchscript:FILE or recogniser:FILE.",
)
@click.option(
    "--truncation", type=float, default=1.0, metavar="PSI", help="1 is none, as published."
)
@click.option("--use-raw-g/--use-ema", default=False, help="Draw from G, not from its average.")
@click.option(
    "--intervals",
    "replicates",
    type=click.IntRange(min=0),
    default=20,
    metavar="COUNT",
    help="Random half-samples behind each interval; 0 for no intervals.",
)
@click.option(
    "--cache/--no-cache",
    "use_cache",
    default=True,
    help="Keep features of --data in BIFACE_CACHE_DIR/metrics.",
)
@shared.outdir
@shared.seed
@shared.device
@click.option(
    "--gpus", type=click.IntRange(min=1), help="Processes, one a GPU; torchrun brings its own."
)
@shared.dry_run
def images(outdir: Path, gpus: int | None, dry_run: bool, **given: Any) -> None:
    """Measure quality and coverage of generated images against a data set.

    Numbers are called FID and KID only with the published Inception network; with another one they
    are FD(network) and KD(network). Writes images.html and images.json.

    \b
    Examples:
      python evaluate.py images --network=network-snapshot-000060.pkl \\
          --data=DATASETS/example_dataset --metrics=fid2k_full,fid2k_full_NIR,pr2k3_full \\
          --extractor=standin --outdir=EXPERIMENTS/quality
      python evaluate.py images --images=samples_200 --data=DATASETS/faces \\
          --metrics=kid200_full,vendi200 --outdir=EXPERIMENTS/quality
    """
    cli.start_logging()
    if not is_first_process():
        logging.disable(logging.INFO)
    with cli.friendly_errors():
        from evaluation.quality import prepare_quality  # noqa: PLC0415  # torch is slow
        from torch_utils.distributed import is_launched  # noqa: PLC0415

        study = prepare_quality(
            _options(given),
            progress=cli.progress_bar,
        )
        if dry_run:
            shared.print_plan(_describe(study))
            return
        if gpus is not None and gpus > 1 and not is_launched():
            restart_under_torchrun(gpus)
        _measure(study, outdir)


def _options(given: dict[str, Any]) -> "QualityOptions":
    from evaluation.names import parse_metrics  # noqa: PLC0415
    from evaluation.quality import QualityOptions  # noqa: PLC0415
    from torch_utils.distributed import local_rank  # noqa: PLC0415

    device = shared.resolve_device(given["device"], local_rank())
    return QualityOptions(**{**given, "device": device, "metrics": parse_metrics(given["metrics"])})


def _describe(study: "QualityStudy") -> dict[str, Any]:
    real = study.plan.real
    return {
        "metrics": [metric.name for metric in study.plan.metrics],
        "networks": {role: network.name for role, network in study.plan.extractors.items()},
        "generated": {"name": study.fake.name, "images": len(study.fake)},
        "real": None if real is None else {"name": real.name, "images": len(real)},
    }


def _measure(study: "QualityStudy", outdir: Path) -> None:
    import torch  # noqa: PLC0415

    from torch_utils.distributed import join_world  # noqa: PLC0415

    with join_world(torch.device(study.options.device)) as world:
        results = study.run(cli.progress_bar if world.is_first else None, world)
        if world.is_first:
            _report(study, results, outdir)


def _report(study: "QualityStudy", results: "list[MetricResult]", outdir: Path) -> None:
    from dnnlib import files  # noqa: PLC0415
    from evaluation.features import FolderImages  # noqa: PLC0415
    from evaluation.report.quality_section import quality_section  # noqa: PLC0415

    real, options = study.plan.real, study.options
    against = None if real is None else real.name
    section = quality_section(results, study.fake.name, against)
    inputs = {f"network {one.extractor.name}": one.extractor.hash for one in results}
    if options.network is not None:
        inputs[f"snapshot {options.network.name}"] = files.sha256_file(options.network)
    for source in (study.fake, real):
        if isinstance(source, FolderImages):
            inputs[f"images {source.name}"] = source.images.content_hash()
    subtitle = study.fake.name + (f" against {against}" if against else "")
    shared.finish("Image quality", subtitle, [section], inputs, (outdir, "images"), options.seed)
