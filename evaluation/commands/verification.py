"""`evaluate.py verification`: can people be told apart, in each spectrum and across spectra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import CONTEXT, friendly_errors
from evaluation.commands import shared
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.folds import FoldScore
    from evaluation.pair_lists import Pair
    from evaluation.studies import Faces


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
        pairs = _read_lists(sets, given)
        device = shared.resolve_device(given["device"])
        faces = shared.faces_of(tools, given["rec_model"], device, sets)
        if dry_run:
            shared.print_plan({"data": shared.describe_sets(sets), "bins": given["bins"]})
            return
        folds = {
            str(path): _fold_score(tools, path, given["rec_model"], device)
            for path in given["bins"]
        }
        _run(sets, faces, pairs, folds, given)


def _read_lists(sets: Mapping[str, "SampleIndex"], given: Mapping[str, Any]) -> "list[Pair]":
    """Return the pairs of --pairs; read it and each --bin before any image is embedded."""
    from evaluation.folds import read_pair_archive  # noqa: PLC0415
    from evaluation.pair_lists import read_pair_list  # noqa: PLC0415

    for path in given["bins"]:
        read_pair_archive(path)  # and forgotten: several together may not fit into memory
    if given["pairs"] is None:
        return []
    pairs = read_pair_list(given["pairs"])
    _check_pairs(pairs, next(iter(sets.values())), given["pairs"])
    return pairs


def _check_pairs(pairs: "Sequence[Pair]", images: "SampleIndex", path: Path) -> None:
    """Check that a set has a list's images. Raises: ValueError; also for pairs of one kind only."""
    stems = set(images.stems)
    for number, pair in enumerate(pairs, start=1):
        for modality, stem in (pair.first, pair.second):
            if modality not in images.modalities or stem not in stems:
                raise ValueError(f"{path}, pair {number}: no {modality} image {stem!r}")
    if len({pair.is_same for pair in pairs}) < 2:
        raise ValueError(f"{path}: pairs must be of both kinds")


def _run(
    sets: Mapping[str, "SampleIndex"],
    faces: "Faces",
    pairs: "Sequence[Pair]",
    folds: "Mapping[str, FoldScore]",
    given: Mapping[str, Any],
) -> None:
    from evaluation.report.verification_section import verification_section  # noqa: PLC0415
    from evaluation.studies import study_verification  # noqa: PLC0415

    device, seed = shared.resolve_device(given["device"]), given["seed"]
    if pairs:
        found = _of_list(pairs, given["pairs"], next(iter(sets.values())), faces, seed)
    else:
        found = study_verification(sets, faces, device=device, seed=seed)
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
        seed,
    )


def _of_list(
    pairs: "Sequence[Pair]", path: Path, images: "SampleIndex", faces: "Faces", seed: int
) -> Any:
    from biometrics.verification import score_comparisons  # noqa: PLC0415
    from evaluation.pair_lists import compare_pairs  # noqa: PLC0415
    from metrics.estimates import wilson  # noqa: PLC0415

    used = {modality for pair in pairs for modality, _ in (pair.first, pair.second)}
    embedded = {name: faces.of(images, name) for name in images.modalities if name in used}
    score = score_comparisons(compare_pairs([*pairs], embedded, str(path)), seed=seed)
    shares = {
        f"{images.name}, {name.upper()}": wilson(len(e.failures), len(images))
        for name, e in embedded.items()
    }
    return {f"pairs of {path.name}": score}, shares, []


def _fold_score(tools: Tools, path: Path, rec_model: Path, device: str) -> "FoldScore":
    """Return the ten-fold score of a .bin: f(x) + f(mirrored x), as the protocol asks."""
    from evaluation.folds import (  # noqa: PLC0415
        embed_pairs,
        pair_distances,
        read_pair_archive,
        score_folds,
    )

    archive = read_pair_archive(path)
    embedder = tools.load_embedder(rec_model, device=device, flip=True)
    first, second = embed_pairs(archive, embedder, str(path))
    return score_folds(pair_distances(first, second), archive.is_same)
