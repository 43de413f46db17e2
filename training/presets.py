"""Presets of StyleGAN2-ADA and the dual-branch systems, and how options change them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from data.modalities import MODALITIES, NIR
from networks.config import (
    Architecture,
    DiscriminatorConfig,
    GeneratorConfig,
    HalfPrecision,
    MappingConfig,
)
from training.ada import AdaConfig, AdaMode
from training.augmentation import AUGPIPES
from training.config import DataConfig, LossConfig, RunConfig, TrainingConfig
from training.options import TrainingOptions

T = TypeVar("T")

DEFAULT_PL_WEIGHT = 2.0
DEFAULT_STYLE_MIXING = 0.9
DEFAULT_ADA_TARGET = 0.6
RESUME_ADA_KIMG = 100.0
FULL_CHANNEL_BASE = 32768
HALF_RESOLUTIONS = 4
CONV_CLAMP = 256.0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Numbers of one published configuration.

    Attributes:
        kimg: duration.
        batch: images an iteration.
        mbstd: minibatch standard deviation group.
        fmaps: share of the full channel base.
        lrate: learning rate of all networks.
        gamma: R1 weight.
        ema: half-life of the average in kimg.
        ramp: EMA ramp-up; None for none.
        map_depth: mapping layers.
        is_cifar: path length and style mixing off, plain discriminator.
    """

    kimg: int
    batch: int
    mbstd: int
    fmaps: float
    lrate: float
    gamma: float
    ema: float
    ramp: float | None
    map_depth: int
    is_cifar: bool = False


def _published(
    kimg: int, batch: int, mbstd: int, fmaps: float, lrate: float, gamma: float, ema: float
) -> Preset:
    return Preset(
        kimg=kimg,
        batch=batch,
        mbstd=mbstd,
        fmaps=fmaps,
        lrate=lrate,
        gamma=gamma,
        ema=ema,
        ramp=None,
        map_depth=8,
    )


# `auto*` are heuristics of resolution and processes, with this factor on the batch.
AUTO_BATCH_FACTORS: Mapping[str, float] = MappingProxyType(
    {"auto": 1.0, "auto_512": 0.5, "auto_128": 2.0}
)
PUBLISHED: Mapping[str, Preset] = MappingProxyType(
    {  #                         kimg batch mbstd fmaps lrate gamma ema
        "biface256": _published(25000, 12, 4, 0.5, 0.0025, 1, 20),
        "stylegan2": _published(25000, 32, 4, 1.0, 0.002, 10, 10),
        "paper256": _published(25000, 64, 8, 0.5, 0.0025, 1, 20),
        "paper512": _published(25000, 64, 8, 1.0, 0.0025, 0.5, 20),
        "paper1024": _published(25000, 32, 4, 1.0, 0.002, 2, 10),
        "cifar": replace(
            _published(100000, 64, 32, 1.0, 0.0025, 0.01, 500),
            ramp=0.05,
            map_depth=2,
            is_cifar=True,
        ),
    }
)
PRESET_NAMES = (*AUTO_BATCH_FACTORS, *PUBLISHED)


def auto_preset(resolution: int, gpus: int, batch_factor: float) -> Preset:
    """Return the dual-branch family's heuristic preset (8 mapping layers, 10000 kimg).

    Source: StyleGAN2-ADA's `auto` (gamma = 0.0002 * resolution² / batch and so on).
    """
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    batch = max(int(batch * batch_factor), gpus)
    return Preset(
        kimg=10000,
        batch=batch,
        mbstd=min(batch // gpus, 4),
        fmaps=1.0 if resolution >= 512 else 0.5,
        lrate=0.002 if resolution >= 1024 else 0.0025,
        gamma=0.0002 * resolution**2 / batch,
        ema=batch * 10 / 32,
        ramp=0.05,
        map_depth=8,
    )


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
        data: the data set.
        resolution: of its images.
        c_dim: width of its labels; 0 without.
        device: resolved name, "cpu" or "cuda:N".
        resume_hash: SHA-256 of the snapshot to start from, or its address while it is not here.
    Returns: what is computed, and how long and where.
    Raises: ValueError naming the option, the rule and the value.
    """
    preset = _preset(options, resolution)
    batch = _or(options.batch, preset.batch)
    batch_gpu = _per_device(options, batch)
    generator, discriminators = _networks(options, preset, resolution, c_dim, batch_gpu)
    config = TrainingConfig(
        data=data,
        generator=generator,
        discriminators=discriminators,
        loss=_loss(options, preset),
        augment=AUGPIPES[options.augpipe],
        ada=_ada(options),
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
        kimg=_or(options.kimg, preset.kimg),
        batch_gpu=batch_gpu,
        tick=options.tick,
        snap=options.snap,
        checkpoint_minutes=options.checkpoint_minutes,
        workers=options.workers,
        cache=options.cache,
        device=device,
        nobench=options.nobench,
    )
    return config, run


def _preset(options: TrainingOptions, resolution: int) -> Preset:
    factor = AUTO_BATCH_FACTORS.get(options.cfg)
    if factor is not None:
        return auto_preset(resolution, options.gpus or 1, factor)
    return PUBLISHED[options.cfg]


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
        "channel_max": _or(options.cmax, 512),
        "num_fp16_res": 0 if options.fp32 else HALF_RESOLUTIONS,
        "half_dtype": HalfPrecision(options.half),
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
    widths = {m.name: c_dim for m in MODALITIES} | {NIR.name: c_dim if is_nir_conditional else 0}
    discriminators = {
        modality.name: DiscriminatorConfig(
            **{**common, "c_dim": widths[modality.name]},
            channels=modality.channels,
            architecture=Architecture.ORIG if preset.is_cifar else Architecture.RESNET,
            mbstd_group_size=_mbstd_group(options, preset, batch_gpu),
        )
        for modality in MODALITIES
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


def _loss(options: TrainingOptions, preset: Preset) -> LossConfig:
    gamma = _or(options.gamma, preset.gamma)
    gamma_nir = _or(options.gamma_nir, gamma) if options.nir_r1 else 0.0
    pl_weight = 0.0 if preset.is_cifar else DEFAULT_PL_WEIGHT
    style_mixing = 0.0 if preset.is_cifar else DEFAULT_STYLE_MIXING
    return LossConfig(
        weights={m.name: 1.0 for m in MODALITIES} | {NIR.name: options.nir_loss_weight},
        gammas={m.name: gamma for m in MODALITIES} | {NIR.name: gamma_nir},
        pl_weight=_or(options.pl_weight, pl_weight),
        style_mixing=_or(options.style_mixing, style_mixing),
        g_reg_interval=options.g_reg_interval,
        d_reg_interval=options.d_reg_interval,
    )


def _ada(options: TrainingOptions) -> AdaConfig:
    mode = AdaMode(options.aug)
    if options.p is not None and mode is not AdaMode.FIXED:
        raise ValueError(f"--p goes with --aug=fixed only, got --aug={options.aug}")
    if options.p is None and mode is AdaMode.FIXED:
        raise ValueError("--aug=fixed needs --p, the strength")
    if options.target is not None and mode is not AdaMode.ADAPTIVE:
        raise ValueError(f"--target goes with --aug=ada only, got --aug={options.aug}")
    settings: dict[str, Any] = {"mode": mode, "p": _or(options.p, 0.0)}
    settings["target"] = _or(options.target, DEFAULT_ADA_TARGET)
    if options.resume:
        settings["kimg"] = RESUME_ADA_KIMG
    return AdaConfig(**settings)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
