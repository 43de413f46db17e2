"""`evaluate.py report`: everything that can be said of samples, on one page."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli
from evaluation.commands import masks, privacy, shared
from evaluation.commands.report_inputs import ReportInputs, read_inputs
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.report.content import Section

_TITLES = {"samples": "Samples", "data": "Training data", "heldout": "Held-out people"}


@click.command(context_settings=cli.CONTEXT)
@click.option(
    "--samples", type=shared.PATH, required=True, metavar="DIR", help="Generated data set."
)
@click.option(
    "--data", type=shared.PATH, required=True, metavar="DIR", help="What its generator learnt from."
)
@privacy.heldout
@shared.rec_model
@privacy.audit_model
@click.option(
    "--network",
    type=shared.PATH,
    metavar="FILE",
    help="Snapshot: image quality is measured on what it draws instead of on --samples.",
)
@click.option(
    "--masks",
    type=shared.PATH,
    nargs=2,
    metavar="TRUE FOUND",
    help="Two folders of masks to compare.",
)
@click.option(
    "--extractor",
    metavar="NETWORK",
    help="For image quality, as in `evaluate.py images`: reference, standin, ...",
)
@click.option(
    "--metrics",
    "metric_names",
    metavar="LIST",
    help="Of image quality; by default FID, precision and recall, density and coverage and Vendi "
    "of each modality, on all samples.",
)
@shared.thresholds
@shared.outdir
@shared.seed
@shared.device
@shared.dry_run
@click.pass_obj
def report(tools: Tools, *, dry_run: bool, **given: Any) -> None:
    """Write report.html and report.json: all that can be computed of what is given.

    What cannot be computed is named on the page with the reason. The page holds its pictures and
    needs neither network nor scripts.

    \b
    Examples:
      python evaluate.py report --data=DATASETS/example_dataset --samples=samples_200 --outdir=out
      python evaluate.py report --data=DATASETS/example_dataset --samples=generated \\
          --heldout=DATASETS/example_dataset/heldout --rec-model=a.pth --audit-model=b.pth \\
          --extractor=standin --outdir=EXPERIMENTS/report
    """
    with cli.friendly_errors():
        inputs = read_inputs(tools, given)
        if dry_run:
            shared.print_plan(shared.describe_sets(inputs.sets))
            return
        hashes = shared.hashes_of(inputs.sets, [one.recogniser for one in inputs.faces])
        if given["network"] is not None:
            from dnnlib.files import sha256_file  # noqa: PLC0415

            hashes[f"network {given['network'].name}"] = sha256_file(given["network"])
        shared.finish(
            "Evaluation report",
            f"Samples: {inputs.sets['samples'].name}. Training data: {inputs.sets['data'].name}.",
            _sections(inputs),
            hashes,
            (given["outdir"], "report"),
            given["seed"],
        )


def _sections(inputs: ReportInputs) -> list["Section"]:
    return [
        _samples(inputs.sets),
        _or_gap("quality", "Image quality", lambda: _quality(inputs)),
        _or_gap("masks", "Masks", lambda: _masks(inputs)),
        _or_gap("verification", "Verification", lambda: _verification(inputs)),
        _or_gap("dataset", "People and pairs", lambda: _dataset(inputs)),
        _or_gap("privacy", "Privacy", lambda: _privacy(inputs)),
    ]


def _or_gap(key: str, title: str, build: Callable[[], "Section"]) -> "Section":
    """Return a section, or one that says what data it lacks; options were checked before."""
    from evaluation.report.content import Section  # noqa: PLC0415

    try:
        return build()
    except (ValueError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        return Section(key=key, title=title, lead="Not computed.", omitted=((title, reason),))


def _samples(sets: Mapping[str, "SampleIndex"]) -> "Section":
    from evaluation.report.content import Section  # noqa: PLC0415
    from evaluation.report.pictures import sample_panels  # noqa: PLC0415

    omitted = [
        (f"masks of {_TITLES[role].lower()}", "the data set holds none")
        for role in ("samples", "data")
        if not sets[role].num_masks
    ]
    return Section(
        key="samples",
        title="Samples",
        lead="The same place in each grid is the same sample: RGB, NIR and masks.",
        blocks=tuple(sample_panels(images, _TITLES[role]) for role, images in sets.items()),
        data={
            role: {"name": s.name, "samples": len(s), "people": s.num_identities}
            for role, s in sets.items()
        },
        omitted=tuple(omitted),
    )


def _quality(inputs: ReportInputs) -> "Section":
    from evaluation.report.quality_section import quality_section  # noqa: PLC0415

    study = inputs.quality
    if isinstance(study, str):
        raise ValueError(study)
    results = study.run(cli.progress_bar)
    return quality_section(results, study.fake.name, inputs.sets["data"].name)


def _masks(inputs: ReportInputs) -> "Section":
    if inputs.masks is None:
        raise ValueError("no --masks TRUE FOUND were given")
    return masks.build_section(inputs.masks, seed=inputs.seed)


def _verification(inputs: ReportInputs) -> "Section":
    from evaluation.report.verification_section import verification_section  # noqa: PLC0415
    from evaluation.studies import study_verification  # noqa: PLC0415

    faces, sets = inputs.first_faces, inputs.sets
    if faces is None:
        raise ValueError("no --rec-model was given")
    real = "heldout" if "heldout" in sets else "data"
    compared = {_TITLES[role]: sets[role] for role in ("samples", real)}
    scores, enrolments, gaps = study_verification(
        compared, faces, device=inputs.device, seed=inputs.seed
    )
    return verification_section(scores, enrolments, faces.recogniser.name, omitted=gaps)


def _dataset(inputs: ReportInputs) -> "Section":
    from evaluation.report.dataset_section import dataset_section  # noqa: PLC0415
    from evaluation.studies import choose_thresholds, study_dataset  # noqa: PLC0415

    faces, sets = inputs.first_faces, inputs.sets
    known = sets.get("heldout") or sets["data"]
    thresholds, source, gaps = {}, "none", []
    if faces is None:
        gaps.append(("measures of identity", "no --rec-model was given"))
    else:
        thresholds, source = choose_thresholds(
            inputs.thresholds, known, faces, device=inputs.device
        )
    scores = {}
    for role in ("samples", "data"):
        scores[_TITLES[role]], found = study_dataset(
            sets[role],
            faces,
            thresholds,
            name=_TITLES[role],
            real=known if known is not sets[role] else None,
            features=inputs.features,
            attributes=inputs.attributes[role],
            seed=inputs.seed,
        )
        gaps += found
    return dataset_section(scores, faces and faces.recogniser.name, source, [*dict.fromkeys(gaps)])


def _privacy(inputs: ReportInputs) -> "Section":
    if not inputs.faces:
        raise ValueError("no --rec-model was given")
    return privacy.build_section(inputs.sets, inputs.faces, inputs.thresholds, inputs.seed)
