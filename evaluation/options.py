"""Options of evaluate.py's commands; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnnlib.options import (
    Device,
    Options,
    device_option,
    fresh_option,
    option,
    outdir_option,
    seed_option,
)
from evaluation.names import Metric, parse_metrics

_METRICS = (
    "Published names with any number of generated images, separated by commas: fid50k_full,"
    " kid50k_full, pr50k3_full, dc50k5_full, is50k, vendi50k, ppl2_wend; with the suffix _NIR or"
    " _joint for that modality or both."
)
_NETWORKS = "reference[:DIR], torch-fidelity[:FILE], standin, torchscript:FILE or recogniser:FILE."


def parse_threshold(text: str) -> tuple[float, float]:
    """Return FMR and cosine of a text such as "0.001:0.42". Raises: ValueError."""
    level, colon, cosine = text.partition(":")
    try:
        fmr, value = float(level), float(cosine)
    except ValueError:
        fmr, value = -1.0, 2.0
    if not colon or not 0 < fmr < 1 or not -1 <= value <= 1:
        raise ValueError(f"--threshold must be FMR:COSINE, such as 0.001:0.42, got {text!r}")
    return fmr, value


def _recogniser(*default: None) -> Path:
    text = "Recogniser: weights of an ArcFace backbone (.pth, .safetensors), .onnx or TorchScript."
    return option(*default, metavar="FILE", help=text)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options):
    """What all commands have."""

    outdir: Path = outdir_option("Output directory for the report and its JSON.")
    seed: int = seed_option(ge=0, help="Random seed of resampling for intervals.")


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions(Options):
    """Thresholds of a recogniser; without any they are measured on real identities."""

    threshold: tuple[tuple[float, float], ...] = option(
        (),
        metavar="FMR:COSINE",
        parse=parse_threshold,
        is_repeated=True,
        help="Threshold of the recogniser at a false match rate, such as 0.001:0.42; can be "
        "repeated. By default measured on real identities: held-out, else training ones.",
    )
    thresholds: Path | None = option(
        None,
        metavar="FILE.json",
        help="Thresholds that --calibrate of the privacy filter wrote for the same recogniser.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold and self.thresholds is not None:
            raise ValueError("--threshold and --thresholds exclude each other")


@dataclass(frozen=True, kw_only=True)
class QualityOptions(EvaluationOptions):
    """Measure quality and coverage of generated images against a data set.

    Numbers are called FID and KID only with the published Inception network; with another one they
    are FD(network) and KD(network). Writes images.html and images.json.
    """

    network: Path | None = option(
        None, metavar="FILE", help="Snapshot whose samples are measured.", heading="Input"
    )
    images: Path | None = option(None, metavar="DIR", help="Or a folder of generated images.")
    data: Path | None = option(
        None, metavar="DIR", help="Real images; labels of conditional networks."
    )
    heldout: Path | None = option(
        None,
        metavar="DIR",
        help="Real images of other identities, whose numbers stand beside: the best possible ones.",
    )
    metrics: tuple[Metric, ...] = option(
        metavar="LIST", parse=parse_metrics, help=_METRICS, heading="Measurement"
    )
    extractor: str = option("reference", metavar="NETWORK", help=_NETWORKS)
    truncation: float = option(1.0, metavar="PSI", help="1 is none, as published.")
    use_raw_g: bool = option(
        False, off=("use-ema",), help="Sample from G, not from its moving average."
    )
    replicates: int = option(
        20,
        name="intervals",
        ge=0,
        metavar="COUNT",
        help="Random half-samples behind each interval; 0 for no intervals.",
    )
    cache: bool = option(True, help="Keep features of --data in BIFACE_CACHE_DIR/metrics.")
    device: Device = device_option(heading="Speed")
    gpus: int | None = option(None, ge=1, help="Processes, one per GPU; torchrun brings its own.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.network is None) == (self.images is None):
            raise ValueError("one of --network and --images must say what is measured")
        if not self.metrics:
            raise ValueError("--metrics must name at least one metric, got none")
        if self.replicates == 1:
            raise ValueError("--intervals must be 0, or at least 2 to have a spread, got 1")


@dataclass(frozen=True, kw_only=True)
class MaskOptions(EvaluationOptions):
    """Compare class masks: IoU, pixel accuracy, boundary F1, confusion matrix.

    Masks are indexed or grey PNG files whose values are the classes, in a folder, in its folder
    "masks", or named as ours (image_3_label.png). Both folders hold the same samples. Names of
    classes come from dataset_info.json where there is one. Writes masks.html and masks.json.
    """

    truth: Path = option(name="true", metavar="DIR", help="True masks.", heading="Input")
    found: Path = option(metavar="DIR", help="Masks to compare with them.")
    tolerance: float = option(
        0.0075,
        ge=0,
        le=0.1,
        metavar="SHARE",
        help="Tolerance of boundaries, as a share of the image's diagonal; at least one pixel.",
        heading="Measurement",
    )


@dataclass(frozen=True, kw_only=True)
class VerificationOptions(EvaluationOptions):
    """Measure verification: EER, FMR100, FMR1000, ZeroFMR, TAR at FAR, FDR, d', AUC, curves.

    All images of a set are compared with each other, within each modality, and RGB galleries with
    NIR probes (never the two images of one pair). Intervals resample identities. Writes
    verification.html and verification.json.
    """

    data: tuple[Path, ...] = option(
        (),
        metavar="DIR",
        help="Data set whose images are compared with each other; can be repeated.",
        heading="Input",
    )
    pairs: Path | None = option(
        None,
        metavar="FILE",
        needs="data",
        help="Compare these of the first --data only: .csv with first, second, same; or LFW's "
        "pairs.txt.",
    )
    bins: tuple[Path, ...] = option(
        (), name="bin", metavar="FILE.bin", help="Pairs of the LFW kind, ten-fold; can be repeated."
    )
    rec_model: Path = _recogniser()
    device: Device = device_option(heading="Speed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data and not self.bins:
            raise ValueError("--data or --bin must say what to compare")


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(ThresholdOptions):
    """Compare two images, or the images of two folders, with a recogniser.

    Prints their cosine, or how cosines are distributed and the highest ones, and how many reach
    each threshold that is given. A folder with itself is compared without an image's own self.
    """

    first: Path = option(
        metavar="A", is_argument=True, help="An image, or a folder or archive of images (RGB)."
    )
    second: Path = option(metavar="B", is_argument=True, help="What it is compared with.")
    rec_model: Path = _recogniser()
    align: Literal["none", "mtcnn"] = option(
        "none", help="mtcnn: find the face and align it; none: images are aligned already."
    )
    flip: bool = option(False, help="Add the embedding of the mirrored image.")
    device: Device = device_option(heading="Speed")


@dataclass(frozen=True, kw_only=True)
class PairArchiveOptions(Options):
    """Make an LFW-style .bin of pairs of a data set's images, and the list of the pairs.

    Ten folds without an identity in common, each with as many mated as non-mated pairs. Read by
    `evaluate.py verification --bin` and by recognition code of others; the list FILE.csv beside it
    by `evaluate.py verification --pairs`.
    """

    data: Path = option(metavar="DIR", heading="Images", help="Data set of identities.")
    out: Path = option(metavar="FILE.bin", help="File to write.")
    modality: Literal["rgb", "nir"] = option("rgb", help="Images to take.")
    pairs: int = option(
        6000, ge=20, metavar="COUNT", help="Number of pairs; fewer where the data set has not many."
    )
    align: Literal["none", "mtcnn"] = option(
        "none",
        help="mtcnn: find each face and align it to ArcFace's template; images without a face are"
        " left out. none: the images are aligned already.",
    )
    size: int = option(112, ge=16, metavar="PIXELS", help="Width and height of the images.")
    seed: int = seed_option(ge=0, help="Random seed of the choice of pairs.")
    device: Device = device_option(help="Device of the face detector.")
    fresh: bool = fresh_option("Replace a .bin and a list that are there.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out.suffix != ".bin":
            raise ValueError(f"--out must end in .bin, got {self.out}")


@dataclass(frozen=True, kw_only=True)
class IdentityOptions(ThresholdOptions, EvaluationOptions):
    """Describe the identities and pairs of data sets.

    With a recogniser: uniqueness and consistency (U, C of DCFace), identity capacity, agreement of
    RGB and NIR. With --extractor and --real: diversity (D). Always: alignment of RGB and NIR, and
    the spread of attributes where there is an attributes.json. Writes dataset.html, dataset.json.
    """

    data: tuple[Path, ...] = option(
        metavar="DIR", help="Data set to describe; can be repeated.", heading="Input"
    )
    real: Path | None = option(
        None,
        metavar="DIR",
        help="Real identities: thresholds are measured on them. Without, on the first --data.",
    )
    rec_model: Path | None = _recogniser(None)
    extractor: str | None = option(
        None, metavar="NETWORK", help="For diversity D, needs --real: " + _NETWORKS
    )
    device: Device = device_option(heading="Speed")


@dataclass(frozen=True, kw_only=True)
class SampleOptions(ThresholdOptions, EvaluationOptions):
    """Generated samples beside the data that their generator was trained on."""

    samples: Path = option(metavar="DIR", help="Generated data set.", heading="Input")
    data: Path = option(
        metavar="DIR", help="Data set that its generator was trained on, all of it."
    )
    heldout: Path | None = option(
        None, metavar="DIR", help="Real identities that no network was trained on: the baseline."
    )
    rec_model: Path | None = _recogniser(None)
    audit_model: Path | None = option(
        None,
        metavar="FILE",
        needs="rec_model",
        help="A second recogniser, other than the one that filtered the samples.",
    )
    fail_on: Literal["nothing", "copies"] = option(
        "nothing",
        help="copies: exit with code 1, after the page is written, where samples are copies of"
        " training images.",
    )
    device: Device = device_option(heading="Speed")


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions(SampleOptions):
    """Measure whether samples show training identities, beside held-out identities as the baseline.

    Nearest training image of each sample, the excess over held-out identities, shares above the
    recogniser's thresholds, the memorisation test C_T, AuthPct, membership inference AUC; by one
    recogniser or two. Writes privacy.html and privacy.json.
    """

    rec_model: Path = _recogniser()


@dataclass(frozen=True, kw_only=True)
class ReconstructionOptions(EvaluationOptions):
    """Measure whether a generator reconstructs its training images better than held-out ones.

    Compares errors of project_pairs.py: their distributions, and the AUC of an attack that takes
    images with small errors for training images. Writes reconstruction.html, reconstruction.json.
    """

    training: tuple[Path, ...] = option(
        metavar="DIR",
        heading="Input",
        help="Output directory of project_pairs.py for training images; can be repeated.",
    )
    heldout: tuple[Path, ...] = option(
        metavar="DIR",
        help="The same for images of identities that the network was not trained on, with the"
        " same options; can be repeated.",
    )


@dataclass(frozen=True, kw_only=True)
class ReportOptions(SampleOptions):
    """Write report.html and report.json: all that can be measured with what is given.

    What cannot be measured is named on the page with the reason. The page holds its pictures and
    needs neither network connection nor scripts.
    """

    network: Path | None = option(
        None,
        metavar="FILE",
        help="Snapshot: image quality is measured on its samples instead of on --samples.",
        heading="Measurement",
    )
    masks: tuple[Path, ...] | None = option(
        None, nargs=2, metavar="TRUE FOUND", help="Two folders of masks to compare."
    )
    projected: tuple[Path, ...] | None = option(
        None,
        nargs=2,
        metavar="TRAINING HELDOUT",
        help="Two output directories of project_pairs.py, of training and of held-out images.",
    )
    extractor: str | None = option(None, metavar="NETWORK", help="For image quality: " + _NETWORKS)
    metrics: tuple[Metric, ...] | None = option(
        None,
        metavar="LIST",
        parse=parse_metrics,
        help="Of image quality, as in `evaluate.py images`.",
        shown_default="FID, precision and recall, density and coverage, Vendi of each modality",
    )


@dataclass(frozen=True, kw_only=True)
class CurveOptions(Options):
    """Plot the curves of training runs, several in one chart.

    Reads stats.jsonl and metric-*.jsonl of run folders of any training; writes one SVG a chart,
    training.html with all of them and training.json.
    """

    runs: tuple[Path, ...] = option(metavar="RUN...", is_argument=True, help="Run folders.")
    outdir: Path = outdir_option("Output directory for the report and its JSON.")
