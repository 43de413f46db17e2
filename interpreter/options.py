"""Options of the interpreter's scripts; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from dnnlib.options import (
    Device,
    Options,
    device_option,
    fresh_option,
    group,
    option,
    outdir_option,
    seed_option,
    share_option,
)
from networks.options import Truncation
from torch_utils.options import checkpoint_option


class Archive(StrEnum):
    """What a data set is packed into, beside its folder.

    ZIP: the folder's names. WEBDATASET: tar files with INDEX.rgb.png, INDEX.label.png, INDEX.json.
    """

    NONE = "none"
    ZIP = "zip"
    WEBDATASET = "webdataset"


def parse_share(text: str) -> float:
    """Return a share of 0..1.

    >>> parse_share("10%"), parse_share("0.1")
    (0.1, 0.1)
    """
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError as error:
        raise ValueError(f"expected a share such as 10% or 0.1, got {text!r}") from error


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions(Options):
    """Where an experiment's images come from."""

    exp: Path = option(metavar="JSON", heading="Experiment", help="Experiment file.")
    network: Path | None = option(
        None, metavar="FILE", help="Snapshot, instead of the experiment's stylegan_checkpoint."
    )
    labels: Path | None = option(
        None,
        metavar="FILE",
        help="Conditions of a conditional network, of which each sample gets one: a .npy file of"
        " [n, c_dim] numbers or identity_features.json.",
    )
    device: Device = device_option()
    fresh: bool = fresh_option()


@dataclass(frozen=True, kw_only=True)
class AnnotationImageOptions(ExperimentOptions):
    """Generate image pairs for annotation; repeating the command continues or proposes again."""

    num_sample: int = option(
        100, ge=1, metavar="PAIRS", heading="Images", help="Number of image pairs."
    )
    seed: int = seed_option(1111, "Random seed of the latents.")
    select: int | None = option(
        None, metavar="IMAGES", heading="Proposals", help="Propose this many images to annotate."
    )
    interpreter: Path | None = option(
        None,
        metavar="DIR",
        needs="select",
        help="Trained models: propose the images that they are least certain of.",
    )
    sv_path: Path = outdir_option(heading="Output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.select is not None and not 1 <= self.select <= self.num_sample:
            raise ValueError(
                f"--select: 1 to {self.num_sample} images can be proposed, got {self.select}"
            )


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions(Options):
    """Turn painted annotations into class masks with their images and latents.

    Writes image_maskK.npy, image_K.jpg, image_K_NIR.jpg, latents and a check sheet. K counts the
    annotated images in numeric order.
    """

    annotations: Path | None = option(
        None, metavar="DIR", heading="Sources", help="Folder of painted files."
    )
    drawn: Path | None = option(
        None, metavar="DIR", help="Output directory of make_training_data.py."
    )
    images: Path | None = option(
        None, metavar="DIR", help="Folder of the images, where they are not in --drawn."
    )
    latents: Path | None = option(
        None, metavar="FILE.npy", help="Latents, where they are not in --drawn."
    )
    latent_rows: Literal["number", "order"] = option(
        "number",
        help="number: row N belongs to image N. order: row k belongs to the k-th annotation, as in"
        " a published latent_stylegan.npy.",
    )
    labels: Path | None = option(
        None, metavar="FILE.npy", help="Conditions, where they are not in --drawn."
    )
    classes: Path | None = option(
        None,
        metavar="JSON",
        heading="Classes",
        help="List of name, color, aliases; by default black background, blue iris, red pupil,"
        " green sclera.",
    )
    max_distance: float = option(
        30.0, ge=0, metavar="RGB", help="Other colours are the nearest class up to this distance."
    )
    auto: Literal["example", "example4"] | None = option(
        None,
        help="Annotate automatically, by a network trained on rendered faces, in 10 classes"
        " (example) or in 4 (example4).",
    )
    select: str | None = option(
        None,
        metavar="LIST",
        needs="auto",
        help="Numbers of the images to annotate, such as 0,3,5-9, or all; by default those in"
        " selection.json.",
    )
    outdir: Path = outdir_option(heading="Output")
    fresh: bool = fresh_option()
    seed: int = seed_option(help="Random seed of --auto's network.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.annotations is None) == (self.auto is None):
            raise ValueError("one of --annotations and --auto must say where masks come from")
        if self.auto is not None and self.drawn is None:
            raise ValueError("--auto needs --drawn, the folder that make_training_data.py wrote")
        if self.auto is not None and self.classes is not None:
            raise ValueError("--classes: --auto has the example renderer's classes, leave it out")


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Options):
    """What of a labelled data set is written.

    Seed and truncation are the experiment's: that of the annotated images.
    """

    count: int = option(
        1000, name="num-sample", ge=1, metavar="N", heading="Data set", help="Number of samples."
    )
    start: int = option(0, name="start-step", ge=0, metavar="INDEX", help="First sample's index.")
    save_vis: bool = option(False, help="Also write colour overlays.")
    save_uncertainty: bool = option(
        False, help="Also write uncertainty maps, 16-bit PNG, where 65535 is ln(classes)."
    )
    drop_uncertain: float = share_option(
        0.0, "Share of the samples to remove, such as 10%: the most uncertain.", parse=parse_share
    )
    archive: Archive = option(Archive.NONE, help="Also pack the samples into shards.")
    shard_size: int = option(1000, ge=1, metavar="SAMPLES", help="Samples per shard.")
    seed: int = 0
    truncation: Truncation = Truncation(psi=0.5, cutoff=8)


@dataclass(frozen=True, kw_only=True)
class InterpreterOptions(ExperimentOptions):
    """Train the ensemble of pixel classifiers, or label new samples with it."""

    exp_dir: str | None = option(
        None, metavar="DIR", help="Folder of relative paths, instead of the file's exp_dir."
    )
    outdir: Path | None = option(
        None,
        metavar="DIR",
        help="Output directory; by default EXP_DIR/models, of a data set RESUME/samples_N.",
    )
    seed: int | None = seed_option(None, "Random seed, instead of the experiment's.")
    checkpoint_minutes: float = checkpoint_option()
    generate_data: bool = option(
        False, heading="Data set", help="Write a labelled data set instead of training."
    )
    resume: Path | None = option(
        None, metavar="DIR", help="Folder of the trained models that label the data set."
    )
    dataset: DatasetOptions = group(DatasetOptions)
    filter_identities: Path | None = option(
        None,
        metavar="JSON",
        heading="Filter",
        needs="generate_data",
        help="Drop samples too near an identity of these identity features.",
    )
    rec_model: Path | None = option(
        None, metavar="PTH", needs="generate_data", help="Recogniser of these features."
    )
    thresholds: Path | None = option(
        None,
        metavar="JSON",
        needs="generate_data",
        help="Thresholds of the filter; by default thresholds.json beside the features, or"
        " calibrated.",
    )
    face_check: Literal["none", "mtcnn"] = option(
        "none", help="mtcnn: drop samples without one detected face, with --generate-data."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.face_check != "none" and not self.generate_data:
            raise ValueError(f"--face-check={self.face_check} goes with --generate-data")
        has_filter = self.thresholds is not None or self.face_check != "none"
        known = (self.filter_identities, self.rec_model)
        if (has_filter or any(known)) and not all(known):
            raise ValueError("a filter needs both --filter-identities and --rec-model")
        if self.generate_data and self.resume is None:
            raise ValueError("--generate-data needs --resume, the folder of trained models")
        if self.resume is not None and not self.generate_data:
            raise ValueError(
                "--resume names models for --generate-data; training continues by itself"
            )
