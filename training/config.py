"""The resolved configuration of a training run, from options and presets.

TrainingConfig identifies a run, RunConfig does not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from data.modalities import JOINT, MODALITIES, NIR, RGB
from networks.config import Architecture, DiscriminatorConfig, GeneratorConfig, MappingConfig
from training.ada import AdaConfig
from training.augmentation.config import AUGPIPES, AugmentConfig
from training.options import PairCritic, RunOptions, TrainingOptions
from training.presets import Preset, find_preset

T = TypeVar("T")

RESUME_ADA_KIMG = 100.0
FULL_CHANNEL_BASE = 32768
HALF_RESOLUTIONS = 4
CONV_CLAMP = 256.0
MISMATCH = "mismatch"
# Weights of the identity loss, by modality.
IDENTITY: Mapping[str, str] = MappingProxyType({m.name: f"identity_{m.name}" for m in MODALITIES})


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
    """Weights of the losses, a value a discriminator where it says so.

    Attributes:
        weights: discriminator -> weight of its term in the generator's loss; MISMATCH -> weight of
            mismatched pairs in the joint discriminator's; IDENTITY[modality] -> weight of its
            identity loss in the generator's. What has no weight is left out.
        gammas: discriminator -> R1 weight; 0 is no R1.
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
        generator, discriminators: the networks, discriminators by modality or JOINT.
        loss: weights.
        augment: what augmentation does; its strength comes from `ada`.
        ada: control of the strength, one controller a discriminator.
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
        seed: random seed.
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
class RunConfig(RunOptions):
    """How long and where a run computes; changing these continues the same run.

    Attributes:
        kimg: thousands of images in all.
        batch_gpu: images at once on a device; gradients are accumulated over the rest.
        device: "cpu" or "cuda:N".
    """

    kimg: int
    batch_gpu: int
    device: str


def resolve(
    options: TrainingOptions,
    *,
    data: DataConfig,
    resolution: int,
    c_dim: int,
    device: str,
    resume_hash: str | None,
) -> tuple[TrainingConfig, RunConfig]:
    """Apply a preset and the options that go before it.

    Args:
        options: as the user gave them.
        data, resolution, c_dim: of the data set.
        device: resolved name, "cpu" or "cuda:N".
        resume_hash: SHA-256 of the snapshot to start from, or its address while it is not here.
    Returns: what is computed, and how long and where.
    Raises: ValueError naming the option, the rule and the value.
    """
    preset = find_preset(options.cfg, resolution, options.gpus or 1)
    batch = _or(options.batch, preset.batch)
    batch_gpu = _per_device(options, batch)
    generator, discriminators = _networks(options, preset, resolution, c_dim, batch_gpu)
    config = TrainingConfig(
        data=data,
        generator=generator,
        discriminators=discriminators,
        loss=_loss(options, preset, discriminators),
        augment=AUGPIPES[options.augpipe],
        ada=AdaConfig(
            mode=options.aug,
            p=_or(options.p, 0.0),
            target=_or(options.target, AdaConfig.target),
            kimg=RESUME_ADA_KIMG if options.resume else AdaConfig.kimg,
        ),
        batch=batch,
        g_lr=_or(options.glr, preset.lrate),
        d_lr=_or(options.dlr, preset.lrate),
        ema_kimg=_or(options.ema_kimg, preset.ema),
        ema_rampup=None if options.resume else preset.ramp,
        resume=resume_hash,
        nir_init=options.nir_init if options.resume else None,
        freezed=options.freezed,
        nhwc=_or(options.nhwc, device == "cpu"),
        allow_tf32=options.allow_tf32,
        seed=options.seed,
    )
    run = RunConfig(
        **vars(options.run),
        kimg=_or(options.kimg, preset.kimg),
        batch_gpu=batch_gpu,
        device=device,
    )
    return config, run


def _per_device(options: TrainingOptions, batch: int) -> int:
    """Return how many images a device computes at once."""
    gpus = options.gpus or 1
    if batch % gpus:
        raise ValueError(f"--batch must be divisible by --gpus ({gpus}), got {batch}")
    share = batch // gpus
    batch_gpu = _or(options.batch_gpu, share)
    if share % batch_gpu:
        raise ValueError(
            f"--batch-gpu must divide the batch of a process ({share}), got {batch_gpu}"
        )
    return batch_gpu


def _networks(
    options: TrainingOptions, preset: Preset, resolution: int, c_dim: int, batch_gpu: int
) -> tuple[GeneratorConfig, dict[str, DiscriminatorConfig]]:
    common: dict[str, Any] = {
        "resolution": resolution,
        "c_dim": c_dim,
        "channel_base": _or(options.cbase, int(preset.fmaps * FULL_CHANNEL_BASE)),
        "channel_max": options.cmax,
        "num_fp16_res": 0 if options.fp32 else HALF_RESOLUTIONS,
        "half_dtype": options.half,
        "conv_clamp": None if options.fp32 else CONV_CLAMP,
    }
    generator = GeneratorConfig(
        **common,
        z_dim=options.z_dim,
        w_dim=options.w_dim,
        mapping=MappingConfig(layers=_or(options.map_depth, preset.map_depth)),
        use_noise=options.noise,
    )
    if options.nir_cond and c_dim == 0:
        raise ValueError("--nir-cond=1 needs labels, which --cond=1 takes from the data")
    is_nir_conditional = options.nir_cond is not False
    own: dict[str, dict[str, Any]] = {m.name: {"channels": m.channels} for m in MODALITIES}
    own[NIR.name]["c_dim"] = c_dim if is_nir_conditional else 0
    if options.pair_critic is PairCritic.ALONE:
        own.clear()
    if options.pair_critic is not PairCritic.NONE:
        channel_base = int(common["channel_base"] * options.pair_width)
        if channel_base < resolution:
            raise ValueError(
                f"--pair-width must leave each block a channel, --cbase times it at least the"
                f" resolution ({resolution}), got {options.pair_width}"
            )
        if options.pair_mismatch > 0 and batch_gpu == 1:
            raise ValueError("--pair-mismatch needs two images at once on a device, got one")
        channels = sum(modality.channels for modality in MODALITIES)
        own[JOINT] = {"channels": channels, "channel_base": channel_base}
    discriminators = {
        name: DiscriminatorConfig(
            **{**common, **values},
            architecture=Architecture(preset.discriminator),
            mbstd_group_size=_mbstd_group(options, preset, batch_gpu),
        )
        for name, values in own.items()
    }
    return generator, discriminators


def _mbstd_group(options: TrainingOptions, preset: Preset, batch_gpu: int) -> int:
    """Return the group asked for, or the largest up to the preset's that divides the batch."""
    if options.mbstd_group is None:
        sizes = range(min(preset.mbstd, batch_gpu), 0, -1)
        return next(size for size in sizes if batch_gpu % size == 0)
    if batch_gpu % options.mbstd_group:
        raise ValueError(
            f"--mbstd-group must divide the images of a device at once ({batch_gpu}),"
            f" got {options.mbstd_group}"
        )
    return options.mbstd_group


def _loss(options: TrainingOptions, preset: Preset, discriminators: Iterable[str]) -> LossConfig:
    gamma = _or(options.gamma, preset.gamma)
    gamma_nir = _or(options.gamma_nir, gamma) if options.nir_r1 else 0.0
    weights = {NIR.name: options.nir_loss_weight, JOINT: options.pair_weight}
    gammas = {NIR.name: gamma_nir}
    others = {
        MISMATCH: options.pair_mismatch,
        IDENTITY[RGB.name]: options.identity_weight,
        IDENTITY[NIR.name]: options.identity_weight_nir,
    }
    return LossConfig(
        weights={name: weights.get(name, 1.0) for name in discriminators}
        | {name: weight for name, weight in others.items() if weight > 0},
        gammas={name: gammas.get(name, gamma) for name in discriminators},
        pl_weight=_or(options.pl_weight, preset.pl_weight),
        style_mixing=_or(options.style_mixing, preset.style_mixing),
        g_reg_interval=options.g_reg_interval,
        d_reg_interval=options.d_reg_interval,
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
