"""Options of the refinement jobs; no torch here, so that --help is fast."""

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from dnnlib.options import Options, group, option, seed_option
from torch_utils.options import TrainerOptions

PUBLISHED_REFINER_WARMUP = 1000


class PatchKind(Enum):
    """Published lists of the discriminator's layers: for eyes of 55x35 and hands of 224x224."""

    EYES = "eyes"
    HANDS = "hands"


class Measure(Enum):
    """What the regularisation compares: pixels, means over channels, or features of a network."""

    IMAGE = "image"
    MEAN = "mean"
    FEATURES = "features"


class Norm(Enum):
    """How differences are measured."""

    L1 = "l1"
    L2 = "l2"


def parse_region_weight(text: str) -> tuple[str, float]:
    """Return class and factor.

    >>> parse_region_weight("hair=5")
    ('hair', 5.0)
    """
    name, _, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        name = ""
    if not name or not 0 <= value < math.inf:
        raise ValueError(
            f"--region-weight must be CLASS=FACTOR with a factor of 0 or more, such as hair=5, got"
            f" {text!r}"
        )
    return name, value


@dataclass(frozen=True, kw_only=True)
class RefinerShape(Options):
    """Form of a refiner. Published: 4 blocks of 64 channels, 3x3, for eyes; 10, 7x7, for hands.

    With `starts_as_identity` the network adds a change to the image, and its last layer starts at
    zero: the untrained refiner returns its input bit by bit. The published form must learn that.
    """

    width: int = option(
        64, ge=1, metavar="CHANNELS", heading="Networks", help="Channels of the refiner."
    )
    blocks: int = option(4, ge=1, metavar="N", help="Residual blocks of the refiner.")
    kernel: int = option(
        3, ge=1, metavar="PIXELS", help="Side of the refiner's convolutions, an odd number."
    )
    starts_as_identity: bool = option(
        True, name="identity_start", help="Let it return its input at first; false is as published."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ValueError(f"--kernel must be odd, got {self.kernel}")


@dataclass(frozen=True, kw_only=True)
class RefinementConfig(RefinerShape):
    """How a refiner is trained.

    Source: Shrivastava et al. 2017 (arXiv:1612.07828), algorithm 1 and implementation details, for
    the warm-ups, K_g and K_d. Rates, batch and optimiser are ours (Adam), as is the default weight.
    """

    patches: PatchKind = option(
        PatchKind.EYES, help="Published discriminator layers; hands is for sides of 224 and more."
    )
    patch_width: float = option(
        1.0, gt=0, metavar="FACTOR", help="Factor of the discriminator's channels."
    )
    measure: Measure = option(
        Measure.IMAGE,
        heading="Loss",
        help="What the regularisation compares: the images, the mean of their channels (published),"
        " or features of a network.",
    )
    norm: Norm = option(Norm.L1, help="Norm of these differences.")
    weight: float = option(
        1.0, ge=0, help="Weight of the regularisation; more keeps images nearer to their originals."
    )
    region_weights: tuple[tuple[str, float], ...] = option(
        (),
        name="region_weight",
        metavar="CLASS=FACTOR",
        parse=parse_region_weight,
        is_repeated=True,
        help="Factor of --weight in the pixels of a class of the masks; may be repeated.",
    )
    cycle: float = option(
        0.0,
        ge=0,
        metavar="WEIGHT",
        help="Weight of the way back by a second refiner; 0 builds none.",
    )
    smoothing: float = option(
        0.0, ge=0, lt=0.5, metavar="SHARE", help="Smoothing of the discriminator's labels."
    )
    steps: int = option(
        10000, ge=1, metavar="N", heading="Training", help="Rounds after the warm-ups."
    )
    refiner_warmup: int = option(
        None,
        ge=0,
        metavar="STEPS",
        shown_default="1000 without --identity-start, else 0",
        help="Steps of the refiner alone, with the regularisation.",
    )
    discriminator_warmup: int = option(
        200, ge=0, metavar="STEPS", help="Steps of the discriminator alone."
    )
    refiner_updates: int = option(
        2, ge=1, metavar="N", help="Updates of the refiner per round (K_g)."
    )
    discriminator_updates: int = option(
        1, ge=1, metavar="N", help="Updates of the discriminator per round (K_d)."
    )
    batch: int = option(64, ge=2, metavar="IMAGES", help="Images per update, of either side.")
    history: int = option(
        1024, ge=0, metavar="IMAGES", help="Earlier images for the discriminator; 0 keeps none."
    )
    lr: float = option(2e-4, gt=0, metavar="RATE", help="Learning rate of the refiner.")
    discriminator_lr: float = option(
        2e-4, gt=0, metavar="RATE", help="Learning rate of the discriminator."
    )
    seed: int = seed_option(ge=0)
    beta1: float = 0.5  # of Adam
    beta2: float = 0.999

    def __post_init__(self) -> None:
        if self.refiner_warmup is None:  # one that starts as identity has no loss there
            steps = 0 if self.starts_as_identity else PUBLISHED_REFINER_WARMUP
            object.__setattr__(self, "refiner_warmup", steps)
        super().__post_init__()
        if any(not 0 <= factor < math.inf for _, factor in self.region_weights):
            raise ValueError("--region-weight: factors must be finite and at least 0")
        if self.region_weights and self.measure is Measure.FEATURES:
            raise ValueError(
                "--region-weight needs a regularisation in the image: --measure must be image or"
                " mean, got features"
            )


@dataclass(frozen=True, kw_only=True)
class RefinementOptions(Options):
    """Train a refiner of rendered images (SimGAN), or refine a data set with --refine."""

    data: Path | None = option(
        None, metavar="DIR|ZIP", heading="Data", help="Rendered pairs to train on."
    )
    real: Path | None = option(
        None, metavar="DIR|ZIP", help="Real pairs that refined ones should look like."
    )
    modalities: tuple[Literal["rgb", "nir"], ...] = option(
        ("rgb", "nir"), name="modality", help="Modalities to refine; given twice, both jointly."
    )
    features: Path | None = option(
        None, metavar="FILE", help="TorchScript network whose features --measure=features compares."
    )
    refine: Path | None = option(
        None, metavar="DIR|ZIP", help="Refine this data set instead of training."
    )
    refiner: Path | None = option(None, metavar="FILE", help="refiner.pt, for --refine.")
    keep: tuple[str, ...] = option(
        (),
        metavar="CLASS",
        help="With --refine: leave the pixels of this class of the masks as they are; may be given"
        " several times.",
    )
    trainer: TrainerOptions = group(TrainerOptions, heading="Output")
    snap: int = option(
        100,
        ge=1,
        metavar="STEPS",
        heading="Output",
        help="Steps between lines of stats.jsonl, with a checkpoint.",
    )
    training: RefinementConfig = group(RefinementConfig)
