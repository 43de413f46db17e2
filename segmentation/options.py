"""Options of the segmentation jobs; no torch here, so that --help is fast."""

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from dnnlib.options import Options, group, option, seed_option, share_option
from torch_utils.options import PrecisionName, TrainerOptions, precision_option

_CHANNELS = (1, 3, 4)


class NetworkKind(Enum):
    """A family of networks."""

    UNET = "unet"
    DEEPLABV3_RESNET50 = "deeplabv3-resnet50"
    DEEPLABV3_MOBILENET = "deeplabv3-mobilenet"


class ClassWeighting(Enum):
    """How much the pixels of a class count.

    NONE: all alike. INVERSE: 1 / share of all pixels. MEDIAN: median of the frequencies /
    frequency, which is the share of the pixels in those images that have the class.
    Source: Eigen & Fergus 2015 (arXiv:1411.4734), section 6.3.2, for MEDIAN.
    """

    NONE = "none"
    INVERSE = "inverse"
    MEDIAN = "median"


class UncertaintyKind(Enum):
    """Where the uncertainty of a pixel comes from: nowhere, its place in a map, its sample."""

    NONE = "none"
    PIXEL = "pixel"
    SAMPLE = "sample"


class OptimizerKind(Enum):
    """How weights are changed: AdamW, or SGD with momentum 0.9."""

    ADAMW = "adamw"
    SGD = "sgd"


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Options):
    """A network's shape."""

    kind: NetworkKind = option(
        NetworkKind.UNET, name="network", help="U-Net, or DeepLabV3 with one of two backbones."
    )
    channels: int = 3  # of the input: 1 (NIR), 3 (RGB) or 4 (both)
    classes: int = 2  # of the output
    width: int = option(16, ge=1, metavar="CHANNELS", help="Channels at full size, unet only.")
    depth: int = option(3, ge=1, le=6, metavar="N", help="How often unet halves the size.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in _CHANNELS:
            raise ValueError(f"channels must be 1, 3 or 4, got {self.channels}")
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")


@dataclass(frozen=True, kw_only=True)
class LossConfig(Options):
    """What is minimised."""

    class_weights: str = option(
        "none",
        metavar="KIND|LIST",
        help="Weights of the classes: none, inverse or median (of their frequency in the training"
        " masks), or numbers such as 1,2,2,5.",
    )
    uncertainty: UncertaintyKind = option(
        UncertaintyKind.NONE, help="Let uncertain pixels (a map) or samples (a score) count less."
    )
    strength: float = option(
        5.0, ge=0, metavar="K", help="K in the weight exp(-K * uncertainty), uncertainty in 0..1."
    )
    dice: float = option(
        0.0, ge=0, metavar="WEIGHT", help="Weight of the Dice loss beside the cross-entropy."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        factors = self.weighting
        if isinstance(factors, tuple):
            if not all(math.isfinite(factor) and factor >= 0 for factor in factors):
                raise ValueError(f"--class-weights must be at least 0, got {self.class_weights}")
            if not any(factors):
                raise ValueError("--class-weights: at least one must be more than 0")

    @property
    def weighting(self) -> ClassWeighting | tuple[float, ...]:
        """The rule of the weights, or the weights themselves."""
        if self.class_weights in {kind.value for kind in ClassWeighting}:
            return ClassWeighting(self.class_weights)
        try:
            return tuple(float(part) for part in self.class_weights.split(","))
        except ValueError as error:
            raise ValueError(
                "--class-weights must be none, inverse, median or numbers such as 1,2,5, got "
                f"{self.class_weights!r}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Options):
    """Random changes to images and masks alike, drawn for each sample; edges are repeated."""

    mirror: bool = option(True, help="Flip half of the samples; classes become their mirrors.")
    shift: float = share_option(0.0, "Largest shift in each direction, of the width.", le=1)
    scale: float = share_option(
        0.0, "Largest change of size: a factor from 1 / (1 + SHARE) to 1 + SHARE.", le=1
    )
    light: float = share_option(
        0.0, "Largest change of contrast (factor) and brightness (share of half the range).", le=1
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Options):
    """How a segmentation network is trained."""

    network: NetworkConfig = group(NetworkConfig, heading="Network")
    loss: LossConfig = group(LossConfig, heading="Loss")
    steps: int = option(
        2000, ge=1, metavar="N", heading="Training", help="Steps of the whole training."
    )
    # DeepLabV3 normalises over the batch
    batch: int = option(16, ge=2, metavar="SAMPLES", help="Samples per step.")
    optimizer: OptimizerKind = option(OptimizerKind.ADAMW, help="AdamW, or SGD with momentum 0.9.")
    lr: float = option(1e-3, gt=0, metavar="RATE", help="Learning rate at the start.")
    power: float = option(
        0.9, ge=0, metavar="P", help="The learning rate falls to 0 as (share of steps left) ** P."
    )
    weight_decay: float = option(1e-4, ge=0, metavar="FACTOR", help="Weight decay of all weights.")
    every: int = option(
        200, ge=1, metavar="STEPS", help="Steps between measurements on --val and --test."
    )
    precision: PrecisionName = precision_option()
    seed: int = seed_option(ge=0)
    augmentation: AugmentationConfig = group(AugmentationConfig, heading="Augmentation")


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(Options):
    """Train a segmentation network, or measure one with --evaluate."""

    data: tuple[Path, ...] = option(
        (), metavar="DIR|ZIP", heading="Data", help="Labelled training images; may be repeated."
    )
    test: Path | None = option(
        None, metavar="DIR|ZIP", help="Labelled test images; nothing is chosen by them."
    )
    val: Path | None = option(
        None,
        metavar="DIR|ZIP",
        help="Labelled validation images; their best weights are kept, too.",
    )
    evaluate: Path | None = option(
        None, metavar="PTH", help="Measure this model on --test instead of training one."
    )
    trainer: TrainerOptions = group(TrainerOptions, heading="Output")
    modalities: tuple[Literal["rgb", "nir"], ...] = option(
        ("rgb",),
        name="modality",
        heading="Samples",
        help="Images to segment; given twice, both are channels of one input.",
    )
    classes: Path | None = option(
        None, metavar="JSON", help="Class list, where the data do not have one."
    )
    merge: str | None = option(
        None,
        metavar="face4|ocular4|JSON",
        help="Map the masks' classes to others: built-in, or a file.",
    )
    size: int | None = option(
        None, ge=1, metavar="PIXELS", help="Resize the images, which must be square, to this size."
    )
    subset: int | None = option(None, ge=1, metavar="N", help="Learn from N random samples.")
    drop_uncertain: float = share_option(0.0, "Leave out this share of samples, the least certain.")
    training: TrainingConfig = group(TrainingConfig)
