"""`evaluate.py report`: everything that can be said of samples, on one page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli
from metrics.commands import privacy, shared
from metrics.commands.tools import Tools

if TYPE_CHECKING:
    from metrics.image_sets import ImageSet
    from metrics.report.content import Section
    from metrics.studies import Faces

_DRAWN = 2000
_TITLES = {"samples": "Samples", "data": "Training data", "heldout": "Held-out people"}
_EXTRACTOR_ADVICE = "no --extractor was given; --extractor=standin needs no file"


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
        sets = shared.open_sets({role: given[role] for role in ("samples", "data", "heldout")})
        if given["audit_model"] is not None and given["rec_model"] is None:
            raise ValueError("--audit-model needs --rec-model, which it is compared with")
        if dry_run:
            shared.print_plan(shared.describe_sets(sets))
            return
        faces = privacy.all_faces(tools, given, sets)
        inputs = shared.hashes_of(sets, [one.recogniser for one in faces])
        if given["network"] is not None:
            from dnnlib.files import sha256_file  # noqa: PLC0415

            inputs[f"network {given['network'].name}"] = sha256_file(given["network"])
        shared.finish(
            "Evaluation report",
            f"Samples: {sets['samples'].name}. Training data: {sets['data'].name}.",
            _sections(tools, sets, faces, given),
            inputs,
            (given["outdir"], "report"),
            given["seed"],
        )


def _sections(
    tools: Tools, sets: Mapping[str, "ImageSet"], faces: Sequence["Faces"], given: Mapping[str, Any]
) -> list["Section"]:
    first = faces[0] if faces else None
    return [
        _samples(sets),
        _or_gap("quality", "Image quality", lambda: _quality(tools, sets, given)),
        _or_gap("masks", "Masks", lambda: _masks(given["masks"], given["seed"])),
        _or_gap("verification", "Verification", lambda: _verification(sets, first, given)),
        _or_gap("dataset", "People and pairs", lambda: _dataset(sets, first, given)),
        _or_gap("privacy", "Privacy", lambda: _privacy(sets, faces, given)),
    ]


def _or_gap(key: str, title: str, build: Callable[[], "Section"]) -> "Section":
    """Return a section, or one that says why it could not be made."""
    from metrics.report.content import Section  # noqa: PLC0415

    try:
        return build()
    except (ValueError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        return Section(key=key, title=title, lead="Not computed.", omitted=((title, reason),))


def _samples(sets: Mapping[str, "ImageSet"]) -> "Section":
    from metrics.report.content import Section  # noqa: PLC0415
    from metrics.report.pictures import sample_panels  # noqa: PLC0415

    omitted = [
        (f"masks of {_TITLES[role].lower()}", "the data set holds none")
        for role in ("samples", "data")
        if not sets[role].masks
    ]
    return Section(
        key="samples",
        title="Samples",
        lead="The same place in each grid is the same sample: RGB, NIR and masks.",
        blocks=tuple(sample_panels(images, _TITLES[role]) for role, images in sets.items()),
        data={
            role: {"name": s.name, "samples": len(s), "people": s.num_people}
            for role, s in sets.items()
        },
        omitted=tuple(omitted),
    )


def _quality(tools: Tools, sets: Mapping[str, "ImageSet"], given: Mapping[str, Any]) -> "Section":
    from metrics.names import parse_metrics  # noqa: PLC0415
    from metrics.quality import QualityOptions, prepare_quality  # noqa: PLC0415
    from metrics.report.quality_section import quality_section  # noqa: PLC0415

    if given["extractor"] is None:
        raise ValueError(_EXTRACTOR_ADVICE)
    network: Path | None = given["network"]
    count = len(sets["samples"]) if network is None else _DRAWN
    names = given["metric_names"] or _default_metrics(count, list(sets["samples"].files))
    study = prepare_quality(
        QualityOptions(
            metrics=parse_metrics(names),
            network=network,
            images=given["samples"] if network is None else None,
            data=given["data"],
            extractor=given["extractor"],
            seed=given["seed"],
            device=shared.resolve_device(given["device"]),
        ),
        load_sampler=tools.load_sampler,
        load_embedder=tools.load_embedder,
        progress=cli.progress_bar,
    )
    results = study.run(cli.progress_bar)
    return quality_section(results, study.fake.name, sets["data"].name)


def _default_metrics(count: int, modalities: Sequence[str]) -> str:
    from data.modalities import MODALITIES  # noqa: PLC0415

    kinds = (f"fid{count}_full", f"pr{count}3_full", f"dc{count}5_full", f"vendi{count}")
    endings = {modality.name: modality.suffix for modality in MODALITIES}
    return ",".join(f"{kind}{endings[name]}" for kind in kinds for name in modalities)


def _masks(folders: tuple[Path, Path] | None, seed: int) -> "Section":
    from metrics.commands.masks import build_section  # noqa: PLC0415

    if not folders:
        raise ValueError("no --masks TRUE FOUND were given")
    return build_section(*folders, seed=seed)


def _verification(
    sets: Mapping[str, "ImageSet"], faces: "Faces | None", given: Mapping[str, Any]
) -> "Section":
    from metrics.report.verification_section import verification_section  # noqa: PLC0415
    from metrics.studies import study_verification  # noqa: PLC0415

    if faces is None:
        raise ValueError("no --rec-model was given")
    real = "heldout" if "heldout" in sets else "data"
    compared = {_TITLES[role]: sets[role] for role in ("samples", real)}
    scores, enrolments, gaps = study_verification(
        compared, faces, device=shared.resolve_device(given["device"]), seed=given["seed"]
    )
    return verification_section(scores, enrolments, faces.recogniser.name, omitted=gaps)


def _dataset(
    sets: Mapping[str, "ImageSet"], faces: "Faces | None", given: Mapping[str, Any]
) -> "Section":
    from metrics.report.dataset_section import dataset_section  # noqa: PLC0415
    from metrics.studies import choose_thresholds, study_dataset  # noqa: PLC0415

    device = shared.resolve_device(given["device"])
    known = sets.get("heldout") or sets["data"]
    thresholds, source, gaps = {}, "none", []
    if faces is None:
        gaps.append(("measures of identity", "no --rec-model was given"))
    else:
        thresholds, source = choose_thresholds(given["threshold"], known, faces, device=device)
    features = shared.diversity_features(given["extractor"], device)
    scores = {}
    for role in ("samples", "data"):
        scores[_TITLES[role]], found = study_dataset(
            sets[role],
            faces,
            thresholds,
            name=_TITLES[role],
            real=known if known is not sets[role] else None,
            features=features,
            seed=given["seed"],
        )
        gaps += found
    return dataset_section(scores, faces and faces.recogniser.name, source, [*dict.fromkeys(gaps)])


def _privacy(
    sets: Mapping[str, "ImageSet"], faces: Sequence["Faces"], given: Mapping[str, Any]
) -> "Section":
    if not faces:
        raise ValueError("no --rec-model was given")
    return privacy.build_section(sets, faces, given["threshold"], given["seed"])
