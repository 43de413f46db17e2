"""`evaluate.py dataset`: how many people, how consistent, how aligned, how varied."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import CONTEXT, friendly_errors
from metrics.commands import shared
from metrics.commands.tools import Tools

if TYPE_CHECKING:
    from metrics.image_sets import ImageSet


@click.command(context_settings=CONTEXT)
@click.option(
    "--data",
    type=shared.PATH,
    required=True,
    multiple=True,
    metavar="DIR",
    help="Data set to describe; can be repeated.",
)
@click.option(
    "--real",
    type=shared.PATH,
    metavar="DIR",
    help="Real people: thresholds are measured on them. Without, on the first --data.",
)
@shared.rec_model
@click.option(
    "--extractor",
    metavar="NETWORK",
    help="For diversity D, as in `evaluate.py images`: reference, standin, ...; needs --real.",
)
@shared.thresholds
@shared.outdir
@shared.seed
@shared.device
@shared.dry_run
@click.pass_obj
def dataset(tools: Tools, *, dry_run: bool, **given: Any) -> None:
    """Describe the people and pairs of data sets.

    With a recogniser: uniqueness and consistency (U, C of DCFace), identity capacity, agreement of
    RGB and NIR. With --extractor and --real: diversity (D). Always: alignment of RGB and NIR, and
    the spread of attributes where there is an attributes.json. Writes dataset.html, dataset.json.

    \b
    Examples:
      python evaluate.py dataset --data=DATASETS/example_dataset --outdir=EXPERIMENTS/dataset
      python evaluate.py dataset --data=generated --real=DATASETS/example_dataset/heldout \\
          --rec-model=recogniser.pth --extractor=standin --outdir=EXPERIMENTS/dataset
    """
    with friendly_errors():
        sets = shared.named_sets(given["data"])
        real = shared.open_sets({"real": given["real"]}).get("real")
        if dry_run:
            everything = {**sets, **({"real": real} if real else {})}
            shared.print_plan({"data": shared.describe_sets(everything)})
            return
        _run(tools, sets, real, given)


def _run(
    tools: Tools, sets: dict[str, "ImageSet"], real: "ImageSet | None", given: Mapping[str, Any]
) -> None:
    from metrics.report.dataset_section import dataset_section  # noqa: PLC0415
    from metrics.studies import choose_thresholds, study_dataset  # noqa: PLC0415

    device, seed = shared.resolve_device(given["device"]), given["seed"]
    everything = {**sets, **({"real": real} if real else {})}
    faces, thresholds, source, gaps = None, {}, "none", []
    if given["rec_model"] is None:
        gaps.append(("measures of identity", "no --rec-model was given"))
    else:
        faces = shared.faces_of(tools, given["rec_model"], device, everything)
        known = real or next(iter(sets.values()))
        thresholds, source = choose_thresholds(given["threshold"], known, faces, device=device)
    features = shared.diversity_features(given["extractor"], device)
    scores = {}
    for name, images in sets.items():
        scores[name], found = study_dataset(
            images, faces, thresholds, name=name, real=real, features=features, seed=seed
        )
        gaps += found
    section = dataset_section(scores, faces and faces.recogniser.name, source, gaps)
    shared.finish(
        "Data sets",
        ", ".join(sets),
        [section],
        shared.hashes_of(everything, [faces.recogniser] if faces else []),
        (given["outdir"], "dataset"),
        seed,
    )
