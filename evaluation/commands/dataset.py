"""`evaluate.py dataset`: how many people, how consistent, how aligned, how varied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import CONTEXT, friendly_errors
from evaluation.commands import shared
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.studies import Attributes, Faces, Features


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What is described, and with what; all of it was opened before the first embedding.

    Attributes:
        sets: by name.
        real: real people, where they are given.
        faces: of the recogniser, where one is given.
        features: for D, where an extractor is given.
        attributes: of the sets that have them.
    """

    sets: "Mapping[str, SampleIndex]"
    real: "SampleIndex | None"
    faces: "Faces | None"
    features: "Features | None"
    attributes: "Mapping[str, Attributes | None]"

    @property
    def all_sets(self) -> "dict[str, SampleIndex]":
        """The sets and the real people."""
        return {**self.sets, **({"real": self.real} if self.real else {})}


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
        inputs = _read_inputs(tools, given)
        if dry_run:
            shared.print_plan({"data": shared.describe_sets(inputs.all_sets)})
            return
        _run(inputs, given)


def _read_inputs(tools: Tools, given: Mapping[str, Any]) -> _Inputs:
    from evaluation.studies import read_attributes  # noqa: PLC0415

    device = shared.resolve_device(given["device"])
    sets = shared.named_sets(given["data"])
    real = shared.open_sets({"real": given["real"]})
    faces = None
    if given["rec_model"] is not None:
        faces = shared.faces_of(tools, given["rec_model"], device, {**sets, **real})
    return _Inputs(
        sets=sets,
        real=real.get("real"),
        faces=faces,
        features=shared.diversity_features(given["extractor"], device),
        attributes={name: read_attributes(images) for name, images in sets.items()},
    )


def _run(inputs: _Inputs, given: Mapping[str, Any]) -> None:
    from evaluation.report.dataset_section import dataset_section  # noqa: PLC0415
    from evaluation.studies import choose_thresholds, study_dataset  # noqa: PLC0415

    device, seed, faces = shared.resolve_device(given["device"]), given["seed"], inputs.faces
    thresholds, source, gaps = {}, "none", []
    if faces is None:
        gaps.append(("measures of identity", "no --rec-model was given"))
    else:
        known = inputs.real or next(iter(inputs.sets.values()))
        thresholds, source = choose_thresholds(given["thresholds"], known, faces, device=device)
    scores = {}
    for name, images in inputs.sets.items():
        scores[name], found = study_dataset(
            images,
            faces,
            thresholds,
            name=name,
            real=inputs.real,
            features=inputs.features,
            attributes=inputs.attributes[name],
            seed=seed,
        )
        gaps += found
    section = dataset_section(scores, faces and faces.recogniser.name, source, gaps)
    shared.finish(
        "Data sets",
        ", ".join(inputs.sets),
        [section],
        shared.hashes_of(inputs.all_sets, [faces.recogniser] if faces else []),
        (given["outdir"], "dataset"),
        seed,
    )
