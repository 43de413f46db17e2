"""Options of the training of recognisers; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from dnnlib.options import Options, group, option, seed_option, share_option
from torch_utils.options import PrecisionName, TrainerOptions, precision_option


class MarginKind(StrEnum):
    """How the right identity's logit is made harder."""

    ARCFACE = "arcface"
    COSFACE = "cosface"
    SOFTMAX = "softmax"


class LabelKind(StrEnum):
    """Whom an image of a data set of new identities is an image of.

    PEOPLE: of the new identity. PARENTS: of the two training identities whose features were mixed,
    in the proportion of the mixture (generate_recognition_data.py --identity-source=interpolate).
    """

    PEOPLE = "people"
    PARENTS = "parents"


PUBLISHED_MARGINS = {MarginKind.ARCFACE: 0.5, MarginKind.COSFACE: 0.35, MarginKind.SOFTMAX: 0.0}


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Options):
    """A margin loss."""

    kind: MarginKind = option(
        MarginKind.ARCFACE,
        name="head",
        help="arcface adds the margin to the angle, cosface takes it from the cosine, softmax has"
        " none.",
    )
    margin: float = option(
        None,
        ge=0,
        lt=1,
        shown_default="0.5 for arcface, 0.35 for cosface",
        help="Margin between identities, in radians for arcface.",
    )
    scale: float = option(
        64.0, gt=0, metavar="FACTOR", help="Factor of the logits; fewer identities want less."
    )

    def __post_init__(self) -> None:
        if self.margin is None:
            object.__setattr__(self, "margin", PUBLISHED_MARGINS[self.kind])
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Options):
    """Random changes to training images.

    Blur and illumination are the first remedy that SynFace tries against too even images of a
    generator.
    Source: Qiu et al. 2021 (SynFace, arXiv:2108.07960) name both; their form is ours.
    """

    mirror: bool = option(True, help="Flip half of the images left to right.")
    shift: float = share_option(
        0.0, "Largest shift in each direction, of the width; edges are repeated."
    )
    light: float = share_option(
        0.0,
        "Largest change of contrast (factor 1 +- SHARE) and brightness (SHARE of half the range).",
    )
    blur: float = share_option(
        0.0, "Largest standard deviation of a Gaussian blur, as a share of the width."
    )
    illumination: float = option(
        0.0,
        ge=0,
        lt=1,
        metavar="STRENGTH",
        help="Strength of a light from one side (edges are up to 1 +- STRENGTH times as bright) and"
        " of a gamma of up to exp(+- STRENGTH).",
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Options):
    """How a recogniser is trained."""

    backbone: str = option(
        "r50", heading="Network", metavar="NAME", help="r18, r34, r50, r100, r200 or mobilefacenet."
    )
    width: float = option(1.0, gt=0, metavar="FACTOR", help="Factor of the backbone's channels.")
    embedding: int = option(512, ge=1, metavar="N", help="Embedding dimension.")
    size: int = option(
        112, ge=16, metavar="PIXELS", help="Resize images to this size, a multiple of 16."
    )
    dropout: float = share_option(0.0, "Dropout before the last layer.")
    head: HeadConfig = group(HeadConfig, heading="Loss")
    sample_rate: float = option(
        1.0,
        gt=0,
        le=1,
        metavar="SHARE",
        help="Share of the identities that the images of a step are compared with; below 1, the"
        " centres of the others rest.",
    )
    epochs: int = option(
        20, ge=1, metavar="N", heading="Training", help="Passes over the training images."
    )
    batch: int = option(
        128, ge=1, metavar="IMAGES", help="Images per step, of all processes together."
    )
    lr: float = option(
        0.1, gt=0, metavar="RATE", help="Highest rate; it falls with the square of what is left."
    )
    weight_decay: float = option(5e-4, ge=0, metavar="FACTOR", help="Weight decay of all weights.")
    warmup: float = share_option(0.05, "Share of the steps in which the rate rises.")
    precision: PrecisionName = precision_option()
    seed: int = seed_option(ge=0)
    augmentation: AugmentationConfig = group(AugmentationConfig, heading="Augmentation")
    momentum: float = 0.9  # of SGD


@dataclass(frozen=True, kw_only=True)
class MixupOptions(Options):
    """What is mixed into the images and their labels."""

    mix_data: Path | None = option(
        None, metavar="DIR|FILE", help="Real images to mix into the training images."
    )
    mix_identities: int | None = option(
        None,
        ge=1,
        aliases=("mix_people",),
        needs="mix_data",
        shown_default="all",
        help="Identities of --mix-data.",
    )
    mix_samples: int | None = option(
        None, ge=1, needs="mix_data", shown_default="all", help="Images per identity of --mix-data."
    )
    mix_share: float = share_option(
        1.0, "Share of the training images that a real one is mixed into.", le=1, needs="mix_data"
    )
    identity_mix: Path | None = option(
        None, metavar="PKL", help="Conditional snapshot that generates images of mixed identities."
    )
    identity_share: float = share_option(
        1.0, "Share of the training images that generated ones replace.", le=1, needs="identity_mix"
    )
    identity_images: int | None = option(
        None,
        ge=1,
        metavar="N",
        needs="identity_mix",
        shown_default="new ones in each step",
        help="Generate only N images, and keep them in memory.",
    )
    conditions: Path | None = option(
        None,
        metavar="JSON|DIR",
        needs="identity_mix",
        shown_default="--data's manifest",
        help="Identity features of --data.",
    )
    parents: Path | None = option(
        None,
        metavar="JSON",
        needs="identity_mix",
        help="Identity features that the new identities of --data were mixed of.",
    )
    feature_scale: float | None = option(
        None,
        gt=0,
        metavar="LENGTH",
        needs="identity_mix",
        shown_default="of --data's manifest or of the network's training, else 4",
        help="Length of the conditions.",
    )
    truncation: float = option(
        0.7, metavar="PSI", needs="identity_mix", help="Truncation of generated images; 1 is none."
    )


@dataclass(frozen=True, kw_only=True)
class RecognitionOptions(Options):
    """Train a face recogniser with a margin loss.

    Writes recogniser.pth, whose embeddings filter, condition and evaluate generated faces.
    """

    data: tuple[Path, ...] = option(
        metavar="DIR|FILE",
        heading="Data",
        help="Training images of known identities; may be given several times, for sets of"
        " different identities.",
    )
    modalities: tuple[Literal["rgb", "nir"], ...] = option(
        ("rgb",), name="modality", help="Modality; given twice, both are images of the identity."
    )
    joint: bool = option(False, help="Take RGB and NIR as one image of 4 channels.")
    identities: int | None = option(
        None, ge=1, aliases=("people",), shown_default="all", help="Identities of each --data."
    )
    samples: int | None = option(None, ge=1, shown_default="all", help="Images per identity.")
    labels: LabelKind = option(
        LabelKind.PEOPLE, help="Count mixed identities as themselves, or as their parents in part."
    )
    heldout: Path | None = option(
        None,
        metavar="DIR|FILE",
        help="Images of other identities, on which verification is measured after each epoch.",
    )
    workers: int = option(4, ge=0, metavar="N", help="Processes that decode images.")
    memory_gib: float = option(
        2.0, ge=0, metavar="GIB", help="Keep decoded images in memory where they fit into this."
    )
    trainer: TrainerOptions = group(TrainerOptions, heading="Output")
    mixups: MixupOptions = group(MixupOptions, heading="Mixups")
    training: TrainingConfig = group(TrainingConfig)
