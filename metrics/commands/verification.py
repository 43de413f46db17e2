"""`evaluate.py verification`: can people be told apart, in each spectrum and across spectra."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import CONTEXT, friendly_errors
from metrics.commands import shared
from metrics.commands.tools import Tools

if TYPE_CHECKING:
    from metrics.folds import FoldScore
    from metrics.image_sets import ImageSet
    from metrics.studies import Faces


@click.command(context_settings=CONTEXT)
@click.option(
    "--data",
    type=shared.PATH,
    multiple=True,
    metavar="DIR",
    help="Data set whose images are compared with each other; can be repeated.",
)
@click.option(
    "--pairs",
    type=shared.PATH,
    metavar="FILE",
    help="Compare these of the first --data only: .csv with first, second, same; or LFW's "
    "pairs.txt.",
)
@click.option(
    "--bin",
    "bins",
    type=shared.PATH,
    multiple=True,
    metavar="FILE.bin",
    help="Pairs of the LFW kind, ten-fold; can be repeated.",
)
@shared.rec_model
@shared.outdir
@shared.seed
@shared.device
@shared.dry_run
@click.pass_obj
def verification(tools: Tools, *, dry_run: bool, **given: Any) -> None:
    """Measure verification: EER, FMR100, FMR1000, ZeroFMR, TAR at FAR, FDR, d', AUC, curves.

    All images of a set are compared with each other, within each modality and RGB galleries with
    NIR probes (never the two images of one pair). Intervals resample people. Writes
    verification.html and verification.json.

    \b
    Examples:
      python evaluate.py verification --data=DATASETS/example_dataset/heldout \\
          --rec-model=recogniser.pth --outdir=EXPERIMENTS/verification
      python evaluate.py verification --bin=lfw.bin --rec-model=recogniser.pth --outdir=out
    """
    with friendly_errors():
        if given["rec_model"] is None:
            raise ValueError("--rec-model must name the weights of a recogniser")
        if not given["data"] and not given["bins"]:
            raise ValueError("--data or --bin must say what to compare")
        if given["pairs"] is not None and not given["data"]:
            raise ValueError("--pairs needs --data, whose images it names")
        sets = shared.named_sets(given["data"])
        if dry_run:
            shared.print_plan({"data": shared.describe_sets(sets), "bins": given["bins"]})
            return
        _run(tools, sets, given)


def _run(tools: Tools, sets: dict[str, "ImageSet"], given: Mapping[str, Any]) -> None:
    from metrics.report.verification_section import verification_section  # noqa: PLC0415
    from metrics.studies import study_verification  # noqa: PLC0415

    device = shared.resolve_device(given["device"])
    folds = {
        str(path): _fold_score(tools, path, given["rec_model"], device) for path in given["bins"]
    }
    faces = shared.faces_of(tools, given["rec_model"], device, sets)
    if given["pairs"] is None:
        found = study_verification(sets, faces, device=device, seed=given["seed"])
    else:
        found = _of_list(given["pairs"], next(iter(sets.values())), faces, given["seed"])
    scores, enrolments, gaps = found
    if not scores and not folds:
        raise ValueError("; ".join(f"{what}: {why}" for what, why in gaps))
    section = verification_section(
        scores, enrolments, faces.recogniser.name, folds=folds, omitted=gaps
    )
    shared.finish(
        "Verification",
        ", ".join([*sets, *folds]),
        [section],
        shared.hashes_of(sets, [faces.recogniser]),
        (given["outdir"], "verification"),
        given["seed"],
    )


def _of_list(path: Path, images: "ImageSet", faces: "Faces", seed: int) -> Any:
    from metrics.estimates import wilson  # noqa: PLC0415
    from metrics.pair_lists import compare_pairs, read_pair_list  # noqa: PLC0415
    from metrics.verification import score_comparisons  # noqa: PLC0415

    pairs = read_pair_list(path)
    used = {modality for pair in pairs for modality, _ in (pair.first, pair.second)}
    embedded = {name: faces.of(images, name) for name in images.files if name in used}
    score = score_comparisons(compare_pairs(pairs, embedded, str(path)), seed=seed)
    shares = {
        f"{images.name}, {name.upper()}": wilson(len(e.failures), len(images))
        for name, e in embedded.items()
    }
    return {f"pairs of {path.name}": score}, shares, []


def _fold_score(tools: Tools, path: Path, rec_model: Path, device: str) -> "FoldScore":
    """Return the ten-fold score of a .bin: f(x) + f(mirrored x), as the protocol asks."""
    from metrics.folds import pair_distances, read_pair_archive, score_folds  # noqa: PLC0415
    from metrics.pair_images import embed_pairs  # noqa: PLC0415

    archive = read_pair_archive(path)
    embedder = tools.load_embedder(rec_model, device=device, flip=True)
    first, second = embed_pairs(archive, embedder.embed, str(path))
    return score_folds(pair_distances(first, second), archive.is_same)
