"""What a user may ask of a training run; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from data.numbers import DEFAULT_FEATURE_SCALE
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
from networks.options import HalfPrecision
from torch_utils.options import OpBackend
from training.augmentation.config import AUGPIPES
from training.presets import PRESET_NAMES


class AdaMode(Enum):
    """Who sets the strength of the augmentation."""

    NONE = "noaug"
    ADAPTIVE = "ada"
    FIXED = "fixed"


class PairCritic(Enum):
    """Which discriminators see what: each modality alone, both at once, or either way."""

    NONE = "none"
    BESIDE = "beside"
    ALONE = "alone"


def parse_preset(text: str) -> str:
    """Return a preset's name. Raises: ValueError for another, such as a StyleGAN3 one."""
    if text.startswith("stylegan3"):
        raise ValueError(f"{text!r} is an alias-free network; StyleGAN2's are trained here")
    if text not in PRESET_NAMES:
        raise ValueError(f"{text!r} is not one of {', '.join(PRESET_NAMES)}")
    return text


def parse_feature_scale(text: str) -> float | None:
    """Return a length, None for raw.

    >>> parse_feature_scale("raw"), parse_feature_scale("4")
    (None, 4.0)
    """
    return None if text == "raw" else float(text)


def parse_keep(text: str) -> str:
    """Return which snapshots stay. Raises: ValueError for none of all, last, best and a number."""
    if text not in ("all", "last", "best") and not (text.isdecimal() and int(text) >= 1):
        raise ValueError(f"expected all, last, best or a number of at least 1, got {text!r}")
    return text


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """How often a run writes and how it computes; changing these continues the same run."""

    tick: float = option(4.0, gt=0, metavar="KIMG", help="Thousands of images per status line.")
    snap: int = option(
        50, ge=0, metavar="TICKS", help="Ticks between snapshots; 0 writes one only at the end."
    )
    keep: str = option(
        "all",
        parse=parse_keep,
        metavar="all|last|best|N",
        help="Snapshots that stay: all, the last ones, or the last and the one of the lowest first"
        " metric.",
    )
    checkpoint_minutes: float = option(
        10.0,
        ge=0,
        metavar="MINUTES",
        help="Minutes between checkpoints, from which a killed run continues; 0 saves them only"
        " with snapshots.",
    )
    workers: int = option(
        3, ge=0, heading="Performance", metavar="PROCESSES", help="Data loading processes."
    )
    cache: float = option(
        1.0,
        ge=0,
        metavar="GIB",
        help="Keep decoded images in memory when all of them fit into this; 0 for never.",
    )
    nobench: bool = option(False, help="Do not search for cuDNN's fastest algorithm.")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """A training run as the user asks for it; None leaves a choice to the preset."""

    data: Path = option(
        metavar="DIR|ZIP",
        heading="Data",
        help="Pairs with equal names: VIS and NIR in one folder, or images and a sibling NIR.",
    )
    cond: bool | None = option(
        None,
        help="Condition on the labels; by default where the data has identity_features.json.",
    )
    nir_cond: bool | None = option(
        None,
        help="Condition the NIR discriminator, too; by default as the generator is. false is the"
        " published behaviour.",
    )
    feature_scale: float | None = option(
        DEFAULT_FEATURE_SCALE,
        gt=0,
        parse=parse_feature_scale,
        metavar="LENGTH|raw",
        help="Length of identity features as conditions; raw: as in their file, as published.",
    )
    subset: int | None = option(
        None, ge=1, metavar="PAIRS", help="Use this many pairs, chosen with --seed."
    )
    mirror: bool = option(False, help="Add all pairs flipped, both images alike.")
    outdir: Path = outdir_option(
        "Directory that holds one numbered folder per run.", heading="Output"
    )
    desc: str | None = option(None, metavar="TEXT", help="Text for the run folder's name.")
    run: RunOptions = group(RunOptions, heading="Output")
    fresh: bool = fresh_option("Start another run instead of continuing.")
    cfg: str = option(
        "auto",
        parse=parse_preset,
        metavar="PRESET",
        heading="Base configuration",
        help=f"Preset of the options whose default it decides: {', '.join(PRESET_NAMES)}.",
    )
    kimg: int | None = option(
        None, ge=1, metavar="KIMG", help="Thousands of images to train on, in all."
    )
    batch: int | None = option(None, ge=1, metavar="IMAGES", help="Images per iteration.")
    batch_gpu: int | None = option(
        None,
        ge=1,
        metavar="IMAGES",
        help="Images at once on a device; gradients are accumulated over the rest.",
    )
    seed: int = seed_option(ge=0)
    gamma: float | None = option(
        None, ge=0, heading="Losses", help="R1 weight of the RGB discriminator."
    )
    gamma_nir: float | None = option(
        None, ge=0, help="R1 weight of the NIR discriminator; by default --gamma."
    )
    nir_r1: bool = option(
        True, help="Regularise the NIR discriminator; false reproduces the published code."
    )
    nir_loss_weight: float = option(
        1.0, ge=0, help="Weight of the NIR term in the generator's loss."
    )
    pair_critic: PairCritic = option(
        PairCritic.NONE,
        help="A discriminator of both images at once: none, as published; beside those of one"
        " modality each; or alone, in their place.",
    )
    pair_weight: float = option(
        1.0, gt=0, help="Weight of the joint discriminator's term in the generator's loss."
    )
    pair_width: float = option(
        1.0, gt=0, le=4, metavar="FACTOR", help="Factor on --cbase in the joint discriminator."
    )
    pair_mismatch: float = option(
        0.0,
        ge=0,
        help="Weight of mismatched pairs, a real RGB with the real NIR of another sample, which"
        " the joint discriminator learns to take for fake.",
    )
    identity_weight: float = option(
        0.0,
        ge=0,
        help="Weight of the identity loss in the generator's: 1 - cosine of the RGB image's"
        " embedding by --rec-model and its condition; 0 for none, as published.",
    )
    identity_weight_nir: float = option(
        0.0, ge=0, help="The same of the NIR image, for a recogniser that knows both spectra."
    )
    rec_model: Path | None = option(
        None,
        metavar="FILE",
        help="Recogniser that made identity_features.json, for the identity loss; never the one"
        " that measures the result.",
    )
    pl_weight: float | None = option(
        None, ge=0, help="Weight of path length regularisation; 0 for none."
    )
    style_mixing: float | None = option(
        None, ge=0, le=1, help="Probability of mixing the styles of two latents."
    )
    ema_kimg: float | None = option(
        None, ge=0, metavar="KIMG", help="Half-life of the generator's average."
    )
    g_reg_interval: int = option(
        4, ge=1, help="Iterations between regularisation steps of the generator."
    )
    d_reg_interval: int = option(
        16, ge=1, help="Iterations between regularisation steps of the discriminators."
    )
    glr: float | None = option(None, gt=0, help="Learning rate of the generator.")
    dlr: float | None = option(None, gt=0, help="Learning rate of the discriminators.")
    aug: AdaMode = option(
        AdaMode.ADAPTIVE,
        heading="Augmentation",
        help="Adaptive strength (ada), the strength --p, or no augmentation.",
    )
    p: float | None = option(None, ge=0, le=1, help="Strength of --aug=fixed.")
    target: float | None = option(
        None,
        ge=-1,
        le=1,
        shown_default="0.6",
        help="Target of --aug=ada: mean sign of the logits of real images, -1..1.",
    )
    augpipe: str = option(
        "bgc", choices=tuple(AUGPIPES), help="Augmentation operations, as in StyleGAN2-ADA."
    )
    resume: str | None = option(
        None,
        metavar="FILE|URL|NAME",
        heading="Transfer",
        parse=lambda text: None if text == "noresume" else text,
        help="Begin a new run from a snapshot, ours or a published one: a file, an address, or"
        " ffhq256, ffhq512, ffhq1024, celebahq256, lsundog256.",
    )
    nir_init: Literal["luma", "random"] = option(
        "luma",
        help="How the NIR branch begins where the snapshot has none: as the luma of RGB, or"
        " random.",
    )
    freezed: int = option(
        0, ge=0, metavar="LAYERS", help="Layers of the discriminators that do not train (Freeze-D)."
    )
    cbase: int | None = option(
        None,
        ge=1,
        heading="Network sizes",
        help="Channels of a block are this divided by its resolution ...",
    )
    cmax: int = option(512, ge=1, help="... but at most this many.")
    w_dim: int = option(512, ge=1, help="Width of the intermediate latent w.")
    z_dim: int = option(512, ge=1, help="Width of the latent z.")
    map_depth: int | None = option(None, ge=1, metavar="LAYERS", help="Layers of the mapping.")
    noise: bool = option(
        True,
        help="Add noise to each layer of the generator. Short trainings of small networks look"
        " cleaner without.",
    )
    mbstd_group: int | None = option(
        None, ge=1, metavar="IMAGES", help="Group size of the minibatch standard deviation."
    )
    device: Device = device_option(heading="Performance")
    gpu_device_number: int | None = gpu_option()
    gpus: int | None = option(
        None, ge=1, help="Number of processes, one per GPU; torchrun brings its own number."
    )
    fp32: bool = option(False, help="Compute in 32 bits throughout, on CUDA too.")
    half: HalfPrecision = option(HalfPrecision.FLOAT16, help="Type of the 16-bit blocks on CUDA.")
    nhwc: bool | None = option(
        None, help="Channels-last memory format; by default on the CPU only."
    )
    allow_tf32: bool = option(False, help="TF32 matrix products and convolutions on CUDA.")
    ops: OpBackend = option(
        OpBackend.AUTO,
        help="auto: our kernels where they can be built. plain: never. cpu, cuda: stop where they"
        " cannot be built.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.p is not None and self.aug is not AdaMode.FIXED:
            raise ValueError(f"--p goes with --aug=fixed only, got --aug={self.aug.value}")
        if self.p is None and self.aug is AdaMode.FIXED:
            raise ValueError("--aug=fixed needs --p, the strength")
        if self.target is not None and self.aug is not AdaMode.ADAPTIVE:
            raise ValueError(f"--target goes with --aug=ada only, got --aug={self.aug.value}")
        has_identity_loss = max(self.identity_weight, self.identity_weight_nir) > 0
        if has_identity_loss and self.rec_model is None:
            raise ValueError("--identity-weight needs --rec-model, the features' recogniser")
        if self.rec_model is not None and not has_identity_loss:
            raise ValueError("--rec-model needs --identity-weight above 0, got 0")
        changed = [
            "--" + name.replace("_", "-")
            for name in ("pair_weight", "pair_width", "pair_mismatch")
            if getattr(self, name) != getattr(TrainingOptions, name)
        ]
        if changed and self.pair_critic is PairCritic.NONE:
            raise ValueError(f"{changed[0]} needs --pair-critic=beside or --pair-critic=alone")
