"""Augmentation as a whole: golden values, independence of samples, derivatives, configuration."""

import math
from functools import cache

import pytest
import torch

from dnnlib.config import from_dict, to_dict
from tests.helpers.augmentation import augment, noise_images, seeded
from tests.helpers.golden import assert_golden, read_shared, read_small
from training.augmentation.config import AUGPIPES, AugmentConfig
from training.augmentation.draws import Draw, Draws
from training.augmentation.pipe import AugmentPipe

CASES = [tuple(case) for case in read_small("augment")[0]["cases"]]
ALL_ON = AUGPIPES["bgcfnc"]


# Golden values


@cache
def golden_small():
    return read_small("augment")


@pytest.mark.parametrize(("name", "q", "kind"), CASES)
def test_golden_small(name, q, kind):
    description, arrays = golden_small()
    place = [case for case in CASES if case[2] == kind].index((name, q, kind))
    result = augment(torch.tensor(arrays[f"x_{kind}"]), q, **description["pipes"][name])
    assert_golden(result[0, :, ::5, ::5], arrays[f"y_{kind}"][place])


@cache
def golden_full():
    return read_shared("augment")


@pytest.mark.parametrize(("name", "q", "kind"), CASES)
def test_golden_full(name, q, kind):
    arrays = golden_full()
    pipe = golden_small()[0]["pipes"][name]
    assert_golden(
        augment(torch.tensor(arrays[f"x_{kind}"]), q, **pipe), arrays[f"{name}_{q}_{kind}"]
    )


# The pipe as a whole


def test_p_zero_returns_its_input_and_draws_nothing():
    images, generator = noise_images(2, 3, 8, 8), seeded()
    before = generator.get_state()
    assert AugmentPipe(ALL_ON)(images, 0.0, generator) is images
    assert torch.equal(generator.get_state(), before)


def test_all_multipliers_zero_returns_the_input():
    images = noise_images(2, 3, 8, 8)
    assert augment(images) is images


def test_same_seed_same_result_other_seed_other_result():
    images = noise_images(4, 3, 16, 16)
    first, again, other = (AugmentPipe(ALL_ON)(images, 0.7, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert (first - other).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_its_halves(channels):
    images, pipe = noise_images(8, channels, 16, 16), AugmentPipe(ALL_ON)
    whole, generator = pipe(images, 0.6, seeded()), seeded()
    parts = torch.cat([pipe(part, 0.6, generator) for part in images.split([3, 5])])
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5)


def test_a_sample_does_not_depend_on_its_neighbours():
    images, pipe = noise_images(6, 3, 16, 16), AugmentPipe(ALL_ON)
    changed = torch.cat([images[:2], noise_images(1, 3, 16, 16, seed=9), images[3:]])
    first, second = pipe(images, 0.9, seeded()), pipe(changed, 0.9, seeded())
    differs = (first != second).flatten(1).any(1)
    assert differs.tolist() == [False, False, True, False, False, False]


def test_samples_are_drawn_apart():
    images = noise_images(1, 3, 16, 16).repeat(8, 1, 1, 1)
    results = AugmentPipe(ALL_ON)(images, 1.0, seeded())
    assert all((results[0] - results[i]).abs().max() > 0.01 for i in range(1, 8))


def test_switching_an_operation_off_leaves_the_draws_of_others():
    images = noise_images(4, 3, 16, 16)
    color_only = augment(images, brightness=1.0)
    both = augment(images, brightness=1.0, cutout=1.0)
    kept = both != 0
    assert torch.equal(both[kept], color_only[kept])


@pytest.mark.parametrize("name", AUGPIPES)
@pytest.mark.parametrize("shape", [(2, 3, 12, 20), (2, 1, 16, 16), (1, 1, 2, 3)])
def test_presets_keep_shape_dtype_and_device(name, shape):
    images = noise_images(*shape)
    result = AugmentPipe(AUGPIPES[name])(images, 0.8, seeded())
    assert (result.shape, result.dtype, result.device) == (
        images.shape,
        images.dtype,
        images.device,
    )
    assert torch.isfinite(result).all()


def test_an_empty_batch_stays_empty():
    assert AugmentPipe(ALL_ON)(torch.zeros(0, 3, 8, 8), 0.5, seeded()).shape == (0, 3, 8, 8)


def test_nothing_is_saved():
    assert AugmentPipe(ALL_ON).state_dict() == {}


@pytest.mark.parametrize("name", ["bg", "color", "filter", "noise", "cutout", "bgcfnc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivative(name, channels):
    pipe = AugmentPipe(AUGPIPES[name]).double()
    images = noise_images(2, channels, 3, 4, dtype=torch.float64).requires_grad_()

    # A square makes the second derivative differ from zero: the pipe itself is linear in images.
    def run(x):
        return pipe(x, 0.7, seeded(5)).square().sum((1, 2, 3))

    assert torch.autograd.gradcheck(run, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, images, fast_mode=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("channels", [1, 3])
def test_gpu_equals_cpu(channels):
    config = from_dict(AugmentConfig, {**to_dict(ALL_ON), "noise": 0.0})
    images = noise_images(8, channels, 32, 48)
    result = AugmentPipe(config).cuda()(images.cuda(), 0.7, seeded())
    assert result.device.type == "cuda"
    expected = AugmentPipe(config)(images, 0.7, seeded())
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "p", "message"),
    [
        (torch.zeros(3, 8, 8), 0.5, r"images must be \[N, C, H, W\].*got \[3, 8, 8\]"),
        (torch.zeros(1, 2, 8, 8), 0.5, r"1 or 3 channels.*got \[1, 2, 8, 8\]"),
        (torch.zeros(1, 3, 8, 1), 0.5, r"at least 2 pixels.*got \[1, 3, 8, 1\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0.5, "floating point, got torch.uint8"),
        (torch.zeros(1, 3, 8, 8), 1.01, "p must be 0..1, got 1.01"),
        (torch.zeros(1, 3, 8, 8), float("nan"), "p must be 0..1, got nan"),
    ],
)
def test_wrong_arguments_are_refused(images, p, message):
    with pytest.raises(ValueError, match=message):
        AugmentPipe(ALL_ON)(images, p, seeded())


# Configuration


def test_presets_are_the_published_sets():
    on = {
        name: {key for key, value in to_dict(config).items() if value and "_" not in key}
        for name, config in AUGPIPES.items()
    }
    blit, geom = {"xflip", "rotate90", "xint"}, {"scale", "rotate", "aniso", "xfrac"}
    color = {"brightness", "contrast", "lumaflip", "hue", "saturation"}
    assert on == {
        "blit": blit,
        "geom": geom,
        "color": color,
        "filter": {"imgfilter"},
        "noise": {"noise"},
        "cutout": {"cutout"},
        "bg": blit | geom,
        "bgc": blit | geom | color,
        "bgcf": blit | geom | color | {"imgfilter"},
        "bgcfn": blit | geom | color | {"imgfilter", "noise"},
        "bgcfnc": blit | geom | color | {"imgfilter", "noise", "cutout"},
    }


def test_config_survives_plain_containers():
    config = AugmentConfig(xflip=1, imgfilter=0.5, imgfilter_bands=(1, 0, 0, 1))
    assert from_dict(AugmentConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xflip": -1.0}, "xflip must be finite and at least 0, got -1.0"),
        ({"scale_std": float("inf")}, "scale_std must be finite"),
        ({"imgfilter_bands": (1.0, 1.0)}, r"imgfilter_bands must have 4 values, got \(1.0, 1.0\)"),
        ({"imgfilter_bands": (1.0, 1.0, -2.0, 1.0)}, "imgfilter_bands must be finite"),
    ],
)
def test_wrong_config_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)


# Draws


def test_distributions_have_their_moments():
    draws = Draws(40_000, seeded())
    tolerance = 0.02  # four standard errors of a mean of 40,000
    assert draws.is_on(Draw.SCALE, 0.3).double().mean() == pytest.approx(0.3, abs=tolerance / 2)
    normal, half = draws.normal(Draw.SCALE), draws.half_normal(Draw.NOISE)
    assert normal.mean() == pytest.approx(0, abs=tolerance)
    assert normal.std() == pytest.approx(1, abs=tolerance)
    assert half.mean() == pytest.approx(math.sqrt(2 / math.pi), abs=tolerance)
    assert half.min() >= 0
    assert draws.signed(Draw.HUE).mean() == pytest.approx(0, abs=tolerance)
    assert draws.integer(Draw.ROTATE90, 4).unique().tolist() == [0, 1, 2, 3]


def test_columns_are_independent():
    draws = Draws(40_000, seeded())
    columns = torch.stack([draws.uniform(draw) for draw in Draw])
    correlation = torch.corrcoef(columns) - torch.eye(len(columns))
    assert correlation.abs().max() < 0.03
