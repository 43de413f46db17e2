"""The resolved configuration of a training run; what identifies it and what does not."""

from dataclasses import dataclass

from networks.config import DiscriminatorConfig, GeneratorConfig
from training.ada import AdaConfig
from training.augmentation import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The pairs of a run.

    Attributes:
        name: of the data set.
        fingerprint: 64 hex digits of names, sizes and labels.
        cond: labels are used as conditions.
        mirror: flipped pairs are added.
        subset: number of pairs used; None is all.
        feature_scale: length of identity features as conditions; None where they are as they are
            in their file, or where labels are no identity features.
    """

    name: str
    fingerprint: str
    cond: bool
    mirror: bool
    subset: int | None
    feature_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses, a value a modality where it says so.

    Attributes:
        weights: modality -> weight of its term in the generator's loss.
        gammas: modality -> R1 weight; 0 is no R1.
        pl_weight: of path length regularisation; 0 is none.
        pl_batch_shrink: the batch is divided by this for path lengths.
        pl_decay: of the running mean of path lengths.
        style_mixing: probability of mixing two latents.
        g_reg_interval, d_reg_interval: iterations between regularisation steps.
    """

    weights: dict[str, float]
    gammas: dict[str, float]
    pl_weight: float
    pl_batch_shrink: int = 2
    pl_decay: float = 0.01
    style_mixing: float
    g_reg_interval: int
    d_reg_interval: int


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All that decides which numbers a run computes.

    Attributes:
        data: the pairs.
        generator, discriminators: the networks, discriminators by modality.
        loss: weights.
        augment: what augmentation does; its strength comes from `ada`.
        ada: control of the strength, one controller a modality.
        batch: images an iteration over all processes.
        g_lr, d_lr: learning rates.
        ema_kimg: half-life of the generator's average, thousands of images.
        ema_rampup: share of the images so far that limits the half-life; None for no limit.
        resume: SHA-256 of the snapshot that the run starts from; None from scratch.
        nir_init: how a NIR branch begins that the snapshot lacks, "luma" or "random"; None from
            scratch.
        freezed: layers of the discriminators that do not train.
        nhwc: channels innermost in memory.
        allow_tf32: TF32 products on CUDA.
        max_bad_steps: steps in a row with non-finite gradients that stop the run when exceeded.
        seed: of everything random.
    """

    data: DataConfig
    generator: GeneratorConfig
    discriminators: dict[str, DiscriminatorConfig]
    loss: LossConfig
    augment: AugmentConfig
    ada: AdaConfig
    batch: int
    g_lr: float
    d_lr: float
    ema_kimg: float
    ema_rampup: float | None
    resume: str | None
    nir_init: str | None = None
    freezed: int
    nhwc: bool
    allow_tf32: bool
    max_bad_steps: int = 16
    seed: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long and where a run computes; changing these continues the same run.

    Attributes:
        kimg: thousands of images in all.
        batch_gpu: images at once on a device; gradients are accumulated over the rest.
        tick: kimg between status lines.
        snap: ticks between snapshots; 0 only at the end.
        checkpoint_minutes: minutes between checkpoints; 0 only with snapshots.
        workers: data loading processes.
        cache: GiB of memory that decoded images may take; more are decoded when needed.
        device: "cpu" or "cuda:N".
        nobench: no search for the fastest cuDNN algorithm.
    """

    kimg: int
    batch_gpu: int
    tick: float
    snap: int
    checkpoint_minutes: float
    workers: int
    cache: float
    device: str
    nobench: bool
