"""Options of project_pairs.py; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dnnlib.options import (
    Device,
    Options,
    device_option,
    fresh_option,
    group,
    option,
    outdir_option,
    seed_option,
)


class LatentSpace(StrEnum):
    """What is looked for: one w for all layers, or one a layer (w+)."""

    W = "w"
    W_PLUS = "w+"


class Source(StrEnum):
    """Which images the projection sees: both of a pair, or those of one modality."""

    PAIR = "pair"
    RGB = "rgb"
    NIR = "nir"


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig(Options):
    """How latents are found."""

    space: LatentSpace = option(
        LatentSpace.W_PLUS,
        heading="Projection",
        help="w: one latent for all layers, which stays in the generator's domain; w+: one a layer,"
        " which comes nearer to the image.",
    )
    steps: int = option(
        300,
        aliases=("num_steps",),
        ge=0,
        metavar="N",
        help="Optimisation steps; published: 1000. 0 takes the start as it is.",
    )
    lr: float = option(
        0.05, gt=0, metavar="RATE", help="Learning rate, in standard deviations of w."
    )
    edge: float = option(
        1.0, ge=0, metavar="WEIGHT", help="Weight of differences between neighbouring pixels."
    )
    feature: float = option(
        1.0,
        name="feature_weight",
        ge=0,
        metavar="WEIGHT",
        needs="features",
        help="Weight of the features of --features.",
    )
    prior: float = option(
        0.001,
        ge=0,
        metavar="WEIGHT",
        help="Weight of the distance from the mean w, near which images are likeliest.",
    )
    seed: int = seed_option(help="Random seed of the exploration.")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Options):
    """How an encoder is trained."""

    encoder_steps: int = option(
        2000,
        ge=1,
        metavar="N",
        needs="encoder",
        help="Training steps of a new encoder, of 16 samples each.",
    )
    batch: int = 16
    width: int = 32  # channels at full size; they double with each halving
    most: int = 256  # channels
    rate: float = 1e-3  # learning rate at the start
    latent_weight: float = 1.0  # of the loss in latents, beside that in images
    edge_weight: float = 1.0
    encoder_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ProjectionOptions(Options):
    """Find the latents of real pairs, or of images of one modality.

    Writes projected_w.npz (key w, as published), the reconstructed images, a contact sheet of
    originals, reconstructions and differences, and the errors of each image.
    """

    network: Path = option(
        metavar="FILE", heading="Images", help="Snapshot, ours or a published pickle."
    )
    data: Path = option(
        aliases=("target",),
        metavar="DIR|ZIP|IMAGE",
        help="Data set, folder of images, or one image; of the network's size.",
    )
    source: Source = option(
        Source.PAIR,
        name="from",
        help="Images that are fitted: both of a pair, or one; the other one follows.",
    )
    first: int | None = option(None, ge=1, metavar="N", help="Only the first N samples.")
    labels: Path | None = option(
        None,
        metavar="FILE",
        help="Conditions of a conditional network, over which w has its mean: .npy, or"
        " identity_features.json.",
    )
    use_raw_g: bool = option(
        False, off=("--use-ema",), help="Use the generator G instead of its average G_ema."
    )
    config: ProjectionConfig = group(ProjectionConfig)
    features: Path | None = option(
        None,
        metavar="FILE",
        help="TorchScript network whose features are compared besides pixels; it takes"
        " [N, 3, R, R] in -1..1, NIR as grey.",
    )
    encoder: Path | None = option(
        None,
        metavar="DIR",
        heading="Start",
        help="Start from the answer of an encoder instead of the mean w. It is trained into this"
        " folder on samples of the generator, once, and taken from there later.",
    )
    encoder_config: EncoderConfig = group(EncoderConfig, heading="Start")
    interpreter: Path | None = option(
        None,
        metavar="DIR",
        heading="What follows",
        help="Label the images by these models of train_interpreter.py: masks and uncertainty.",
    )
    residual: bool = option(
        False,
        help="Give the modality that follows the detail of the photograph that its reconstruction"
        " lacks; with --from=rgb or nir.",
    )
    annotate: bool = option(
        False,
        help="Also write the images and their latents as make_training_data.py does, to be painted"
        " and to train an interpreter with.",
    )
    outdir: Path = outdir_option(heading="Output")
    video: Path | None = option(
        None,
        metavar="FILE",
        help="Also write a video of the first samples' optimisation: .mp4, .gif, .webp or .apng.",
    )
    fresh: bool = fresh_option()
    device: Device = device_option(heading="Performance")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.residual and self.source is Source.PAIR:
            raise ValueError("--residual goes with --from=rgb or --from=nir")
        if self.video is not None and not self.config.steps:
            raise ValueError("--video shows the optimisation: --steps must be 1 or more")
