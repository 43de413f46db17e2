"""upfirdn2d: golden values, loops, derivatives, errors."""

from functools import cache

import numpy as np
import pytest
import torch

from tests.helpers import naive_ops
from tests.helpers.golden import assert_golden, read_shared, read_small
from tests.helpers.tensors import random64 as random
from torch_utils.ops import backends
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)

CASES = [case for case in read_small("ops")[0]["cases"] if case["key"].startswith("upfirdn")]
ARGUMENTS = ("up", "down", "padding", "flip_filter", "gain")

# up, down and padding as (x, y) and (x0, x1, y0, y1)
SETTINGS = [
    ((1, 1), (1, 1), (0, 0, 0, 0)),
    ((2, 2), (1, 1), (2, 1, 2, 1)),
    ((1, 1), (2, 2), (1, 1, 1, 1)),
    ((2, 3), (3, 2), (4, -2, -3, 5)),
    ((3, 1), (1, 4), (0, 3, 7, 2)),
    ((2, 2), (2, 2), (-1, -1, -2, -1)),
    ((1, 1), (1, 1), (-2, 5, 4, -1)),
]
FILTERS = {"one": (1,), "row": (5,), "long": (9,), "square": (4, 4), "wide": (2, 5), "tall": (3, 1)}


def taps(name):
    return random(*FILTERS[name], seed=len(name), dtype=torch.float32)


# Golden values


def run_case(case, arrays):
    # A 1-D filter of fewer than 8 taps means the outer product with itself; both forms are equal.
    f, x = torch.tensor(arrays[case["filter"]]), torch.tensor(arrays["x"])
    return upfirdn2d(x, f, **{name: case[name] for name in ARGUMENTS})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_golden_small(case):
    arrays = read_small("ops")[1]
    assert_golden(run_case(case, arrays), arrays[case["key"]])


@cache
def full():
    return read_shared("ops")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_golden_full(case):
    assert_golden(run_case(case, full()), full()[case["key"]])


# Loops


@pytest.mark.parametrize("flip_filter", [False, True])
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("up", "down", "padding"), SETTINGS)
def test_equals_loops(up, down, padding, name, flip_filter):
    x, f = random(2, 3, 10, 9), taps(name)
    settings = {"up": up, "down": down, "padding": padding, "flip_filter": flip_filter, "gain": 1.7}
    expected = naive_ops.upfirdn2d(x.numpy(), f.numpy().astype(float), **settings)
    np.testing.assert_allclose(upfirdn2d(x, f, **settings).numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_does_not_matter(layout):
    x = random(2, 3, 8, 6)
    expected = upfirdn2d(x, taps("square"), up=2, padding=3)
    result = upfirdn2d(x.contiguous(memory_format=layout), taps("square"), up=2, padding=3)
    torch.testing.assert_close(result, expected)


def test_short_forms_of_arguments():
    x, f = random(1, 1, 6, 7), taps("square")
    one = upfirdn2d(x, f, up=2, down=3, padding=4)
    assert torch.equal(one, upfirdn2d(x, f, up=[2, 2], down=(3, 3), padding=[4, 4]))
    assert torch.equal(one, upfirdn2d(x, f, up=2, down=3, padding=(4, 4, 4, 4)))
    uneven = upfirdn2d(x, f, padding=(3, 1))
    assert torch.equal(uneven, upfirdn2d(x, f, padding=(3, 3, 1, 1)))


def test_no_filter_inserts_pads_and_drops_only():
    x = random(1, 2, 4, 5)
    result = upfirdn2d(x, None, up=2, padding=(1, 0, 0, 0), gain=3)
    assert result.shape == (1, 2, 8, 11)
    assert torch.equal(result[:, :, ::2, 1::2], 3 * x)
    assert result.abs().sum() == pytest.approx(3 * x.abs().sum().item())


# The wrappers


@pytest.mark.parametrize("name", FILTERS)
def test_filter2d_keeps_the_size(name):
    x, f = random(1, 2, 9, 11), taps(name)
    assert filter2d(x, f).shape == x.shape
    assert filter2d(x, f, padding=(1, -2)).shape == (1, 2, 5, 13)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 2)])
def test_resampling_multiplies_and_divides_the_size(name, factor):
    height, width = 6 * factor[1], 6 * factor[0]
    f = taps(name)
    assert upsample2d(random(1, 2, 6, 6), f, up=factor).shape == (1, 2, height, width)
    assert downsample2d(random(1, 2, height, width), f, down=factor).shape == (1, 2, 6, 6)


@pytest.mark.parametrize("values", [[1, 3, 3, 1], [1, 2, 4, 6, 6, 4, 2, 1]])
def test_resampling_keeps_constant_areas(values):
    f, x = setup_filter(values), torch.ones(1, 1, 12, 12)
    for result in (upsample2d(x, f), downsample2d(x, f), filter2d(x, f)):
        inner = result[..., 5:-5, 5:-5] if result.shape[2] > 10 else result[..., 2:-2, 2:-2]
        torch.testing.assert_close(inner, torch.ones_like(inner))


def test_downsampling_is_the_adjoint_of_upsampling():
    f, small, large = setup_filter([1, 3, 3, 1]), random(1, 1, 5, 7), random(1, 1, 10, 14)
    inner = (upsample2d(small, f) * large).sum()
    assert inner == pytest.approx(4 * (small * downsample2d(large, f, flip_filter=True)).sum())


def test_box_filter_doubles_pixels_and_averages_blocks():
    f, x = setup_filter([1, 1]), random(1, 2, 4, 6)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(upsample2d(x, f), doubled)
    torch.testing.assert_close(downsample2d(doubled, f), x)


# The filter


def test_filters_sum_to_one():
    short, long = setup_filter([1, 3, 3, 1]), setup_filter([1.0] * 8)
    assert short.dtype == long.dtype == torch.float32
    torch.testing.assert_close(short, torch.outer(*[torch.tensor([1.0, 3, 3, 1]) / 8] * 2))
    torch.testing.assert_close(long, torch.full([8], 1 / 8))


def test_separable_can_be_asked_for():
    assert setup_filter([1, 2, 1], separable=True).shape == (3,)
    assert setup_filter([1.0] * 8, separable=False).shape == (8, 8)
    assert setup_filter([[1, 2, 1]]).shape == (1, 3)


@pytest.mark.parametrize("name", ["row", "long"])
def test_separable_equals_the_outer_product(name):
    x, f = random(2, 1, 10, 9), taps(name)
    settings = {"up": 2, "down": 3, "padding": (5, 4, 6, 3), "gain": 2.0}
    full_filter = upfirdn2d(x, torch.outer(f, f), **settings)
    torch.testing.assert_close(upfirdn2d(x, f, **settings), full_filter, rtol=0, atol=1e-5)


# Kernels against the plain backend, in float32


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 8, 35])
@pytest.mark.parametrize("name", [*FILTERS, "twelve"])
@pytest.mark.parametrize(("up", "down", "padding"), SETTINGS)
def test_forms_agree(up, down, padding, name, channels, layout):
    x = random(2, channels, 12, 15, dtype=torch.float32).contiguous(memory_format=layout)
    f = random(12, seed=5, dtype=torch.float32) if name == "twelve" else taps(name)
    f = f / f.norm()  # the gradients stay near 1, where the tolerance is meant
    x.requires_grad_()

    def run():
        y = upfirdn2d(x, f, up, down, padding, False, 1.3)
        (grad,) = torch.autograd.grad(y.square().sum(), x)
        return y, grad

    with backends.using("plain"):
        expected = run()
    for value, plain in zip(run(), expected, strict=True):
        torch.testing.assert_close(value, plain, rtol=1e-4, atol=1e-4)


# Derivatives


@pytest.mark.parametrize(("name", "flip_filter"), [("row", False), ("wide", True)])
@pytest.mark.parametrize(("up", "down", "padding"), SETTINGS)
def test_first_and_second_derivative(up, down, padding, name, flip_filter):
    x = random(1, 1, 5, 6).requires_grad_()

    def run(x):
        return upfirdn2d(x, taps(name), up, down, padding, flip_filter, 1.3).square()

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


@pytest.mark.parametrize("kind", ["small", "full"])
def test_golden_derivatives_of_a_chain(kind):
    arrays = read_small("ops")[1] if kind == "small" else full()
    x = torch.tensor(arrays["conv_x"]).requires_grad_()
    bias = torch.tensor(np.random.RandomState(27).standard_normal(3)).float()
    y = bias_act(upsample2d(x, torch.tensor(arrays["conv_f"])), bias, act="lrelu")
    (grad1,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (grad2,) = torch.autograd.grad(grad1.pow(3).sum(), x)
    assert_golden(grad1.detach(), arrays["grad1"])
    assert_golden(grad2, arrays["grad2"])


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, f: upfirdn2d(x[0], f), r"x must be \[N, C, H, W\], got \[2, 6, 6\]"),
        (lambda x, f: upfirdn2d(x, f[None]), r"filter must be \[T\] or \[H, W\], got \[1, 4, 4\]"),
        (lambda x, f: upfirdn2d(x, f, up=0), "up must be one or two integers of at least 1, got 0"),
        (lambda x, f: upfirdn2d(x, f, down=(1, 2, 3)), "down must be one or two integers"),
        (lambda x, f: upfirdn2d(x, f, up=(1.5, 1)), "up must be"),
        (lambda x, f: upfirdn2d(x, f, padding=(1, 2, 3)), "padding must be one, two or four"),
        (lambda x, f: upfirdn2d(x, f, padding=(0.5, 1)), "padding must be"),
        (lambda x, f: upfirdn2d(x, f, padding=-3), "nothing is left of a 6x6 image"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(1, 2, 6, 6), torch.ones(4, 4))


@pytest.mark.parametrize(
    ("values", "separable", "message"),
    [
        ([[[1.0]]], None, r"got \[1, 1, 1\]"),
        ([], None, "not empty"),
        ([[1.0, 2.0]], True, "two-dimensional filter cannot be separable"),
    ],
)
def test_wrong_taps_are_refused(values, separable, message):
    with pytest.raises(ValueError, match=message):
        setup_filter(values, separable=separable)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", FILTERS)
def test_gpu_equals_cpu(name):
    x = random(2, 3, 9, 8)
    settings = {"up": (2, 3), "down": (3, 2), "padding": (4, -1, 3, 5)}
    result = upfirdn2d(x.cuda(), taps(name), **settings)
    torch.testing.assert_close(result.cpu(), upfirdn2d(x, taps(name), **settings))
