"""Options of the filter and of generated identities; no torch here, so that --help is fast."""

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from dnnlib.options import (
    Device,
    Options,
    device_option,
    fresh_option,
    gpu_option,
    group,
    option,
    outdir_option,
    seed_option,
)
from identities.rules import Preset

CHANGES = (
    *("privacy", "same_identity", "too_similar"),
    *("check_nir", "min_agreement", "max_attempts"),
)
LIMITS = frozenset(CHANGES[:3])


class ExportKind(StrEnum):
    """A format of recognition training.

    NONE: no export. IMAGEFOLDER: a folder per identity. RECORDIO: train.rec, .idx, .lst of
    insightface. WEBDATASET: tar files with KEY.png and KEY.cls.
    """

    NONE = "none"
    IMAGEFOLDER = "imagefolder"
    RECORDIO = "recordio"
    WEBDATASET = "webdataset"


def cosine_option(help: str, **others: Any) -> Any:  # noqa: A002
    """Declare a limit of cosine similarities, None by default."""
    return option(None, ge=-1, le=1, metavar="COSINE", help=help, **others)


@dataclass(frozen=True, kw_only=True)
class FilterOptions(Options):
    """What a filter of samples that stand alone is made of."""

    rec_model: Path = option(
        metavar="FILE", heading="Training identities", help="Weights of the recogniser."
    )
    training_ids: Path = option(
        metavar="JSON", help="Features of the training identities, made with --rec-model."
    )
    training_ids_nir: Path | None = option(
        None,
        metavar="JSON",
        help="Identity features of their NIR images; NIR images are then compared with these, at a"
        " threshold of the same false match rate.",
    )
    rules: Preset = option(
        Preset.STRICT,
        heading="Filter",
        help="strict: every image of every training identity, every face, calibrated thresholds;"
        " samples of one identity must match at the privacy threshold. varied: the same, but they"
        " may differ as much as real images of one identity do. published: the first image,"
        " |cosine|, 0.622 and 0.853.",
    )
    thresholds: Path | None = option(
        None,
        metavar="JSON",
        help="Calibrated thresholds; by default thresholds.json beside --training-ids, and where"
        " there is none, strict rules calibrate.",
    )
    calibrate: float | None = option(
        None,
        gt=0,
        lt=1,
        alone=0.001,
        metavar="[FMR]",
        help="Calibrate at this false match rate (alone: 0.001); write thresholds and their plot.",
    )
    privacy: float | None = cosine_option(
        "Privacy threshold of samples and training identities, instead of the rules'."
    )
    face_check: Literal["none", "mtcnn"] = option(
        "none",
        help="mtcnn: one face must be detected, and the first one of an identity be frontal;"
        " drawings and eyes have none.",
    )
    check_nir: bool = option(False, help="Check the NIR image, too.")
    min_agreement: float | None = cosine_option(
        "Lowest cosine similarity of the RGB and the NIR image of a pair."
    )
    device: str = "cpu"

    def changes(self) -> dict[str, Any]:
        """Return the rules that replace those of the set."""
        values = {name: getattr(self, name, None) for name in CHANGES}
        return {name: value for name, value in values.items() if value is not None}

    def limits(self) -> frozenset[str]:
        """Return what samples are held against: the privacy alone where they are judged alone."""
        return LIMITS.intersection(field.name for field in fields(self))


@dataclass(frozen=True, kw_only=True)
class IdentityFilterOptions(FilterOptions):
    """What a filter of samples of new identities is made of."""

    same_identity: float | None = cosine_option(
        "Lowest cosine similarity within an identity, instead of the rules'."
    )
    too_similar: float | None = cosine_option(
        "Samples above this cosine similarity are too similar, instead of the rules'."
    )
    max_attempts: int | None = option(
        None,
        ge=1,
        metavar="SAMPLES",
        shown_default="20 per wanted sample; published rules 2500",
        help="Maximum number of candidates per identity.",
    )


@dataclass(frozen=True, kw_only=True)
class AuditOptions(Options):
    """The second recogniser, which measures the result."""

    audit_model: Path | None = option(
        None, metavar="FILE", help="Weights of a second recogniser that measures the result."
    )
    audit_features: Path | None = option(
        None,
        metavar="JSON",
        needs="audit_model",
        help="Training identities' features by the second recogniser; by default it embeds the"
        " images beside --training-ids.",
    )


@dataclass(frozen=True, kw_only=True)
class FolderFilterOptions(Options):
    """Compare images with all training identities, and keep those that show none of them.

    Also writes filter_scores.jsonl, rejected.jsonl, kept.txt and filter_summary.json.
    """

    data: Path = option(metavar="DIR", heading="Images", help="Any folder of images.")
    outdir: Path = outdir_option("Output directory for the view.")
    list_only: bool = option(False, help="Write lists and scores, but no links.")
    strict: bool = option(False, help="Stop at the first unreadable image.")
    fresh: bool = fresh_option()
    filter: FilterOptions = group(heading="Filter")
    audit: AuditOptions = group(AuditOptions, heading="Filter")
    device: Device = device_option(heading="Performance")
    gpu_device_number: int | None = gpu_option()


@dataclass(frozen=True, kw_only=True)
class AmountOptions(Options):
    """How many samples of new identities are written."""

    identities: int = option(
        100, name="ids", ge=1, metavar="IDENTITIES", help="Number of new identities."
    )
    samples: int = option(
        32, name="samples-per-id", ge=1, metavar="SAMPLES", help="Samples per identity."
    )
    most: int | None = option(
        None,
        name="max-candidates",
        ge=1,
        metavar="SAMPLES",
        help="Maximum number of candidates of all identities together.",
    )


@dataclass(frozen=True, kw_only=True)
class IdentityDataOptions(Options):
    """Generate identities that resemble no training identity, in RGB and NIR.

    Keeps those samples that pass for one identity and for no other. Writes id_N/VIS and id_N/NIR,
    manifest.jsonl, rejected.jsonl, summary.json and grids.
    """

    gen_model: Path | None = option(
        None,
        metavar="PKL",
        heading="Network",
        help="Conditional snapshot; only --calibrate alone goes without.",
    )
    outdir: Path | None = outdir_option(
        "Output directory for the data set.", default=None, heading="Output"
    )
    amount: AmountOptions = group(AmountOptions, heading="Output")
    seed: int = seed_option()
    export: ExportKind = option(
        ExportKind.NONE, help="Also write a format of recognition training, a folder per modality."
    )
    fresh: bool = fresh_option()
    strict: bool = option(False, help="Fail where an identity lacks samples in the end.")
    identity_source: str = option(
        "random",
        metavar="random|interpolate|repelled|FILE",
        heading="New identities",
        help="Random directions; mixtures of two training identities; directions distributed as"
        " theirs, but far from them and from the first vectors of the identities before; or vectors"
        " of a .npy or .json file.",
    )
    feature_scale: float | None = option(
        None,
        gt=0,
        metavar="LENGTH",
        help="Length of the vectors; by default what the network was trained with, else 4.",
    )
    truncation: float = option(
        0.7, metavar="PSI", help="Truncation: 1 leaves w as it is, 0 gives the mean image."
    )
    shared_variation: bool = option(
        False, help="Candidate j of all identities has one latent: pose and light run down columns."
    )
    mix_layers: str | None = option(
        None, metavar="LIST", help="Share the latent of these layers only, such as 0-3."
    )
    null_control: bool = option(
        False,
        help="Give each candidate another vector, so that no identity is shown: a control for the"
        " error rates of real runs, not a data set to train on.",
    )
    filter: IdentityFilterOptions = group()
    audit: AuditOptions = group(AuditOptions, heading="Filter")
    device: Device = device_option(heading="Performance")
    gpu_device_number: int | None = gpu_option()
    micro_batch: int | None = option(
        None,
        ge=1,
        metavar="IMAGES",
        shown_default="by device and size",
        help="Images computed together, which decides the last bits.",
    )
