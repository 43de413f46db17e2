"""Options of the filter that several scripts have."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from identities.audit import Auditor
    from identities.filter_loading import FilterOptions, LoadedFilter

PATH = click.Path(path_type=Path)
COSINE = click.FloatRange(min=-1, max=1)

WHO = (
    click.option(
        "--rec-model", "--rec_model", type=PATH, metavar="PTH", required=True, help="Recogniser."
    ),
    click.option(
        "--training-ids",
        "--training_ids",
        type=PATH,
        metavar="JSON",
        required=True,
        help="identity_features.json of the training people, made with --rec-model.",
    ),
    click.option(
        "--training-ids-nir",
        type=PATH,
        metavar="JSON",
        help="Features of their NIR images; NIR images are then compared with these.",
    ),
)
RULES = (
    click.option(
        "--rules",
        type=click.Choice(["strict", "published"]),
        default="strict",
        help="strict: every image of every training person, every face, calibrated thresholds."
        " published: the first image, |cosine|, 0.622 and 0.853.",
    ),
    click.option(
        "--thresholds",
        type=PATH,
        metavar="JSON",
        help="Calibrated thresholds; by default thresholds.json beside --training-ids, and where"
        " there is none, strict rules calibrate.",
    ),
    click.option(
        "--calibrate",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        is_flag=False,
        flag_value=0.001,
        metavar="FMR",
        help="Calibrate at this false match rate (alone: 0.001), write thresholds and their plot.",
    ),
    click.option("--privacy", type=COSINE, help="Instead of the rules' threshold."),
    click.option(
        "--face-check",
        type=click.Choice(["none", "mtcnn"]),
        default="none",
        help="mtcnn: one face, the person's first one frontal. Drawings and eyes have none.",
    ),
    cli.bool_option("--check-nir", default=False, help="The NIR image must pass, too."),
    click.option(
        "--min-agreement", type=COSINE, help="Lowest cosine between RGB and NIR of a pair."
    ),
)
AUDIT = (
    click.option(
        "--audit-model",
        type=PATH,
        metavar="PTH",
        help="Second recogniser that looks at the result.",
    ),
    click.option(
        "--audit-features",
        type=PATH,
        metavar="JSON",
        help="Training people's features by it; by default it embeds the images beside"
        " --training-ids.",
    ),
)


def read_filter_options(given: dict[str, Any], device: str) -> "FilterOptions":
    """Return the filter that options of the command line ask for."""
    from identities.filter_loading import LIMITS, FilterOptions  # noqa: PLC0415
    from identities.rules import Preset  # noqa: PLC0415  # torch is slow

    names = ("privacy", "same_identity", "too_similar", "check_nir", "min_agreement")
    changes = {name: given.get(name) for name in (*names, "max_attempts")}
    return FilterOptions(
        rec_model=given["rec_model"],
        training_ids=given["training_ids"],
        training_ids_nir=given["training_ids_nir"],
        rules=Preset(given["rules"]),
        thresholds=given["thresholds"],
        calibrate=given["calibrate"],
        changes=changes,
        limits=LIMITS.intersection(given),
        face_check=given["face_check"],
        device=device,
    )


def load_auditor(given: dict[str, Any], loaded: "LoadedFilter", device: str) -> "Auditor | None":
    """Return the second recogniser of AUDIT's options; None where there is none."""
    from identities.audit import find_auditor  # noqa: PLC0415  # torch is slow

    return find_auditor(
        given["audit_model"],
        given["audit_features"],
        given["training_ids"],
        device=device,
        other_than=loaded.scorer.embedder.hash,
    )
