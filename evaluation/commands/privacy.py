"""`evaluate.py privacy`: do samples show training people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib.cli import CONTEXT, friendly_errors
from evaluation.commands import shared
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.report.content import Section
    from evaluation.studies import Faces

audit_model = click.option(
    "--audit-model",
    type=shared.PATH,
    metavar="FILE",
    help="A second recogniser, other than the one that filtered the samples.",
)
heldout = click.option(
    "--heldout",
    type=shared.PATH,
    metavar="DIR",
    help="Real people that no network was trained on: the baseline.",
)


@click.command(context_settings=CONTEXT)
@click.option("--samples", type=shared.PATH, required=True, metavar="DIR", help="To be judged.")
@click.option(
    "--data", type=shared.PATH, required=True, metavar="DIR", help="Training people, all images."
)
@heldout
@shared.rec_model
@audit_model
@shared.thresholds
@shared.outdir
@shared.seed
@shared.device
@shared.dry_run
@click.pass_obj
def privacy(tools: Tools, *, dry_run: bool, **given: Any) -> None:
    """Measure whether samples show training people, beside held-out people as the baseline.

    Nearest training image of each sample, the excess over held-out people, shares above the
    recogniser's thresholds, the memorisation test C_T, AuthPct, membership inference AUC; by one
    recogniser or two. Writes privacy.html and privacy.json.

    \b
    Examples:
      python evaluate.py privacy --samples=generated --data=DATASETS/example_dataset \\
          --heldout=DATASETS/example_dataset/heldout --rec-model=recogniser.pth --outdir=out
      python evaluate.py privacy --samples=samples_200 --data=DATASETS/example_dataset \\
          --rec-model=a.pth --audit-model=b.pth --threshold=0.001:0.42 --outdir=out
    """
    from metrics.privacy import check_strangers  # noqa: PLC0415  # NumPy is slow

    with friendly_errors():
        if given["rec_model"] is None:
            raise ValueError("--rec-model must name the weights of a recogniser")
        roles = {role: given[role] for role in ("samples", "data", "heldout")}
        sets = shared.open_sets(roles)
        if "heldout" in sets:
            check_strangers(sets["heldout"].identities, sets["data"].identities)
        faces = all_faces(tools, given, sets)
        if dry_run:
            shared.print_plan(shared.describe_sets(sets))
            return
        section = build_section(sets, faces, given["thresholds"], given["seed"])
        shared.finish(
            "Privacy",
            f"{sets['samples'].name} against {sets['data'].name}",
            [section],
            shared.hashes_of(sets, [one.recogniser for one in faces]),
            (given["outdir"], "privacy"),
            given["seed"],
        )


def all_faces(
    tools: Tools, given: Mapping[str, Any], sets: Mapping[str, "SampleIndex"]
) -> list["Faces"]:
    """Return the recogniser and the auditing one, as far as they are given.

    Raises: ValueError where both are the same.
    """
    paths: list[Path] = [given[n] for n in ("rec_model", "audit_model") if given[n] is not None]
    device = shared.resolve_device(given["device"])
    faces = [shared.faces_of(tools, path, device, sets, among=paths) for path in paths]
    hashes = [one.recogniser.hash for one in faces]
    if len(set(hashes)) < len(hashes):
        raise ValueError("--audit-model must be another recogniser than --rec-model")
    return faces


def build_section(
    sets: Mapping[str, "SampleIndex"],
    faces: Sequence["Faces"],
    thresholds: Mapping[float, float],
    seed: int,
) -> "Section":
    """Return the section on privacy.

    Args:
        sets: "samples", "data" and perhaps "heldout".
        faces: of one recogniser or two.
        thresholds: FMR -> cosine of --threshold, for the first recogniser.
    """
    from data.modalities import MODALITIES  # noqa: PLC0415
    from evaluation.report.pictures import neighbour_panels  # noqa: PLC0415
    from evaluation.report.privacy_section import privacy_section  # noqa: PLC0415
    from evaluation.studies import closest_pairs, privacy_thresholds, study_privacy  # noqa: PLC0415

    heldout, samples, training = sets.get("heldout"), sets["samples"], sets["data"]
    known = heldout or training
    source = f"measured on {known.num_identities} people of {known.name}"
    shared_modalities = [
        m for m in samples.modalities if all(m in s.modalities for s in sets.values())
    ]
    scores, panels = {}, []
    for number, one in enumerate(faces):
        for modality in shared_modalities:
            levels = privacy_thresholds(thresholds if number == 0 else {}, known, one, modality)
            score = study_privacy(
                samples, training, heldout, one, levels, modality=modality, seed=seed
            )
            scores[f"{one.recogniser.name}, {modality.upper()}"] = score
            if modality == MODALITIES[0].name:
                pairs = closest_pairs(score, samples, training, one)
                panels.append(neighbour_panels(samples, training, pairs, one.recogniser.name))
    gaps = []
    if heldout is None:
        gaps.append(
            (
                "baseline of held-out people",
                "no --heldout was given; nothing below is a leak by itself, as strangers have "
                "near neighbours too",
            )
        )
    return privacy_section(
        scores,
        panels,
        f"as given for {faces[0].recogniser.name}, else {source}" if thresholds else source,
        is_audited=len(faces) > 1,
        omitted=gaps,
    )
