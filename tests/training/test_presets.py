"""Presets and the options that change them, against tables of the published systems."""

import pytest

from dnnlib.config import from_dict, to_dict
from networks.config import Architecture
from networks.options import HalfPrecision
from tests.helpers.configs import resolve_options as resolve
from training.augmentation.config import AUGPIPES
from training.config import TrainingConfig
from training.options import AdaMode
from training.presets import PRESET_NAMES, auto_preset

# kimg, batch, mbstd, fmaps, learning rate, gamma, ema, ramp, mapping layers
PUBLISHED = {
    "stylegan2": (25000, 32, 4, 1, 0.002, 10, 10, None, 8),
    "paper256": (25000, 64, 8, 0.5, 0.0025, 1, 20, None, 8),
    "paper512": (25000, 64, 8, 1, 0.0025, 0.5, 20, None, 8),
    "paper1024": (25000, 32, 4, 1, 0.002, 2, 10, None, 8),
    "cifar": (100000, 64, 32, 1, 0.0025, 0.01, 500, 0.05, 2),
    "biface256": (25000, 12, 4, 0.5, 0.0025, 1, 20, None, 8),
}
# The dual-branch family's `auto` on one GPU; 10000 kimg and 8 mapping layers.
AUTO = {
    64: (10000, 32, 4, 0.5, 0.0025, 0.0256, 10, 0.05, 8),
    256: (10000, 16, 4, 0.5, 0.0025, 0.8192, 5, 0.05, 8),
    512: (10000, 8, 4, 1, 0.0025, 6.5536, 2.5, 0.05, 8),
    1024: (10000, 4, 4, 1, 0.002, 52.4288, 1.25, 0.05, 8),
}


def row(config, run):
    """Return a resolved run in the order of the tables."""
    assert config.g_lr == config.d_lr
    return (
        run.kimg,
        config.batch,
        config.discriminators["rgb"].mbstd_group_size,
        config.generator.channel_base / 32768,
        config.g_lr,
        pytest.approx(config.loss.gammas["rgb"]),
        config.ema_kimg,
        config.ema_rampup,
        config.generator.mapping.layers,
    )


def test_names():
    assert set(PRESET_NAMES) == {*PUBLISHED, "auto", "auto_512", "auto_128"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_table(name):
    assert row(*resolve(256, cfg=name)) == PUBLISHED[name]


@pytest.mark.parametrize("resolution", AUTO)
def test_auto_follows_the_resolution(resolution):
    assert row(*resolve(resolution)) == AUTO[resolution]


@pytest.mark.parametrize(
    ("resolution", "gpus", "batch", "mbstd"),
    [(256, 2, 32, 4), (256, 8, 64, 4), (1024, 8, 32, 4), (32, 128, 128, 1), (1024, 32, 64, 2)],
)
def test_auto_follows_the_number_of_processes(resolution, gpus, batch, mbstd):
    preset = auto_preset(resolution, gpus, 1.0)
    assert (preset.batch, preset.mbstd) == (batch, mbstd)
    assert preset.gamma == pytest.approx(0.0002 * resolution**2 / batch)
    assert preset.ema == batch * 10 / 32


@pytest.mark.parametrize(("name", "batch"), [("auto_512", 8), ("auto", 16), ("auto_128", 32)])
def test_auto_with_another_batch(name, batch):
    config, _ = resolve(256, cfg=name)
    assert config.batch == batch
    assert config.loss.gammas["rgb"] == pytest.approx(0.0002 * 256**2 / batch)


def test_common_numbers():
    config, run = resolve()
    for network in (config.generator, *config.discriminators.values()):
        assert (network.channel_max, network.num_fp16_res, network.conv_clamp) == (512, 4, 256)
        assert network.half_dtype is HalfPrecision.FLOAT16
    assert (config.generator.z_dim, config.generator.w_dim) == (512, 512)
    assert (config.loss.pl_weight, config.loss.pl_batch_shrink, config.loss.pl_decay) == (
        2,
        2,
        0.01,
    )
    assert (config.loss.style_mixing, config.loss.g_reg_interval) == (0.9, 4)
    assert config.loss.d_reg_interval == 16
    assert (config.ada.mode, config.ada.target, config.ada.kimg) == (AdaMode.ADAPTIVE, 0.6, 500)
    assert config.augment == AUGPIPES["bgc"]
    assert (run.tick, run.snap) == (4, 50)


def test_discriminators_differ_in_channels_only():
    config, _ = resolve(c_dim=5)
    rgb, nir = (to_dict(config.discriminators[name]) for name in ("rgb", "nir"))
    assert {key for key in rgb if rgb[key] != nir[key]} == {"channels"}
    assert (rgb["channels"], nir["channels"]) == (3, 1)
    assert rgb["c_dim"] == config.generator.c_dim == 5


def test_cifar_is_plain():
    config, _ = resolve(32, cfg="cifar")
    assert (config.loss.pl_weight, config.loss.style_mixing) == (0, 0)
    architectures = {net.architecture for net in config.discriminators.values()}
    assert architectures == {Architecture.ORIG}
    assert config.generator.architecture is Architecture.SKIP
    changed, _ = resolve(32, cfg="cifar", pl_weight=1.0, style_mixing=0.5)
    assert (changed.loss.pl_weight, changed.loss.style_mixing) == (1, 0.5)


# Options


def test_batch_changes_the_batch_only():
    plain, (changed, run) = resolve()[0], resolve(batch=8)
    assert changed.batch == run.batch_gpu == 8
    assert changed.loss == plain.loss
    assert changed.ema_kimg == plain.ema_kimg
    assert changed.discriminators == plain.discriminators


@pytest.mark.parametrize(
    ("options", "group"),
    [
        ({"batch": 12}, 4),
        ({"batch": 6}, 3),
        ({"batch": 5}, 1),
        ({"batch": 2}, 2),
        ({"batch": 64, "batch_gpu": 2}, 2),
        ({"batch": 12, "mbstd_group": 6}, 6),
        ({"cfg": "paper256", "batch": 12}, 6),
    ],
)
def test_minibatch_groups_divide_what_a_device_sees(options, group):
    assert resolve(**options)[0].discriminators["nir"].mbstd_group_size == group


@pytest.mark.parametrize(
    ("options", "gammas"),
    [
        ({}, (0.8192, 0.8192)),
        ({"gamma": 3.0}, (3.0, 3.0)),
        ({"gamma_nir": 5.0}, (0.8192, 5.0)),
        ({"gamma": 0.0}, (0.0, 0.0)),
        ({"gamma": 3.0, "nir_r1": False}, (3.0, 0.0)),
        ({"gamma_nir": 5.0, "nir_r1": False}, (0.8192, 0.0)),
    ],
)
def test_gammas(options, gammas):
    loss = resolve(**options)[0].loss
    assert loss.gammas == {"rgb": pytest.approx(gammas[0]), "nir": pytest.approx(gammas[1])}


def test_nir_loss_weight():
    assert resolve()[0].loss.weights == {"rgb": 1, "nir": 1}
    assert resolve(nir_loss_weight=0.1)[0].loss.weights == {"rgb": 1, "nir": 0.1}


def test_options_go_before_the_preset():
    config, run = resolve(
        cfg="paper256", kimg=7, glr=0.1, dlr=0.2, ema_kimg=0.0, cbase=1024, cmax=64, w_dim=32,
        z_dim=16, map_depth=2, batch=8, batch_gpu=4, seed=5, freezed=3, pl_weight=0.0,
        style_mixing=0.0, half="bfloat16", snap=0, tick=0.5, workers=0, d_reg_interval=3,
    )  # fmt: skip
    assert (run.kimg, run.snap, run.tick, run.workers) == (7, 0, 0.5, 0)
    assert (config.g_lr, config.d_lr, config.ema_kimg) == (0.1, 0.2, 0)
    assert (config.generator.channel_base, config.generator.channel_max) == (1024, 64)
    assert (config.generator.w_dim, config.generator.z_dim) == (32, 16)
    assert config.generator.mapping.layers == 2
    assert (config.batch, run.batch_gpu, config.seed, config.freezed) == (8, 4, 5, 3)
    assert (config.loss.pl_weight, config.loss.style_mixing) == (0, 0)
    assert config.loss.d_reg_interval == 3
    assert config.discriminators["nir"].half_dtype is HalfPrecision.BFLOAT16


def test_fp32_has_neither_half_blocks_nor_clamps():
    config, _ = resolve(fp32=True)
    for network in (config.generator, *config.discriminators.values()):
        assert (network.num_fp16_res, network.conv_clamp) == (0, None)


@pytest.mark.parametrize(
    ("device", "asked", "nhwc"),
    [("cpu", None, True), ("cuda:0", None, False), ("cpu", False, False), ("cuda:0", True, True)],
)
def test_memory_layout(device, asked, nhwc):
    assert resolve(device=device, nhwc=asked)[0].nhwc is nhwc


def test_resume_adapts_faster_and_has_no_rampup():
    config, _ = resolve(resume="snapshot.pkl")
    assert config.ada.kimg == 100
    assert config.ema_rampup is None
    assert config.resume == "f" * 64
    plain, _ = resolve()
    assert (plain.ada.kimg, plain.ema_rampup, plain.resume) == (500, 0.05, None)


@pytest.mark.parametrize(
    ("options", "mode", "p"),
    [
        ({"aug": "noaug"}, AdaMode.NONE, 0),
        ({"aug": "fixed", "p": 0.3}, AdaMode.FIXED, 0.3),
        ({"aug": "fixed", "p": 0.0}, AdaMode.FIXED, 0),
        ({"aug": "ada", "target": 0.7}, AdaMode.ADAPTIVE, 0),
    ],
)
def test_augmentation(options, mode, p):
    ada = resolve(**options)[0].ada
    assert (ada.mode, ada.p, ada.target) == (mode, p, options.get("target", 0.6))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_configuration_survives_json(name):
    config, _ = resolve(32, cfg=name, batch=64)
    assert from_dict(TrainingConfig, to_dict(config)) == config


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 9, "gpus": 2}, r"--batch must be divisible by --gpus \(2\), got 9"),
        ({"batch": 8, "batch_gpu": 3}, r"--batch-gpu must divide the batch .* \(8\), got 3"),
        ({"batch": 8, "batch_gpu": 16}, r"--batch-gpu must divide .* \(8\), got 16"),
        ({"batch": 8, "gpus": 2, "batch_gpu": 8}, r"--batch-gpu must divide .* \(4\), got 8"),
        ({"batch": 8, "mbstd_group": 3}, r"--mbstd-group must divide .* \(8\), got 3"),
        ({"aug": "ada", "p": 0.5}, "--p goes with --aug=fixed only, got --aug=ada"),
        ({"aug": "fixed"}, "--aug=fixed needs --p"),
        ({"aug": "fixed", "p": 0.1, "target": 0.5}, "--target goes with --aug=ada only"),
        ({"aug": "noaug", "target": 0.5}, "--target goes with --aug=ada only, got --aug=noaug"),
        ({"cbase": 64}, r"channel_base must be at least the resolution \(256\).* got 64"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        resolve(**options)
