"""A training run so small that an iteration takes milliseconds."""

from pathlib import Path

from dnnlib.options import build
from tests.helpers.networks import small_discriminator_config, small_generator_config
from training.ada import AdaConfig
from training.augmentation.config import AugmentConfig
from training.config import DataConfig, LossConfig, TrainingConfig, resolve
from training.options import AdaMode, TrainingOptions

DATA = DataConfig(name="pairs", fingerprint="0" * 64, cond=False, mirror=False, subset=None)


def small_loss_config(**changes):
    options = {
        "weights": {"rgb": 1.0, "nir": 1.0},
        "gammas": {"rgb": 1.0, "nir": 1.0},
        "pl_weight": 2.0,
        "style_mixing": 0.9,
        "g_reg_interval": 4,
        "d_reg_interval": 16,
    }
    return LossConfig(**{**options, **changes})


def small_training_config(**changes):
    options = {
        "data": DATA,
        "generator": small_generator_config(),
        "discriminators": {
            "rgb": small_discriminator_config(),
            "nir": small_discriminator_config(channels=1),
        },
        "loss": small_loss_config(),
        "augment": AugmentConfig(),
        "ada": AdaConfig(mode=AdaMode.NONE),
        "batch": 4,
        "g_lr": 0.002,
        "d_lr": 0.002,
        "ema_kimg": 0.1,
        "ema_rampup": None,
        "resume": None,
        "freezed": 0,
        "nhwc": False,
        "allow_tf32": False,
        "seed": 0,
    }
    return TrainingConfig(**{**options, **changes})


def training_options(**values):
    """Return options from flat values, as a file or a command line gives them."""
    return build(TrainingOptions, values)


def resolve_options(resolution=256, *, c_dim=0, device="cuda:0", **options):
    """Apply presets to options for a data set of that resolution."""
    return resolve(
        training_options(data=Path("pairs"), outdir=Path("runs"), **options),
        data=DATA,
        resolution=resolution,
        c_dim=c_dim,
        device=device,
        resume_hash="f" * 64 if options.get("resume") else None,
    )
