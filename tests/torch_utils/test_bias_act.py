"""bias_act: golden values, closed forms of the activations, derivatives, errors."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from tests.helpers.golden import assert_golden, read_shared, read_small
from tests.helpers.tensors import random64 as random
from torch_utils.ops import backends
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act, scale_noise_bias_act

CASES = [case for case in read_small("ops")[0]["cases"] if case["key"].startswith("bias_act")]
ROOT2 = math.sqrt(2)

# Formula of x and alpha, default gain, default alpha; written from the activations' definitions.
CLOSED_FORMS = {
    "linear": (lambda x, _: x, 1, 0),
    "relu": (lambda x, _: np.where(x > 0, x, 0), ROOT2, 0),
    "lrelu": (lambda x, alpha: np.where(x > 0, x, alpha * x), ROOT2, 0.2),
    "tanh": (lambda x, _: 1 - 2 / (np.exp(2 * x) + 1), 1, 0),
    "sigmoid": (lambda x, _: 1 / (1 + np.exp(-x)), 1, 0),
    "elu": (lambda x, _: np.where(x > 0, x, np.exp(x) - 1), 1, 0),
    "selu": (
        lambda x, _: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
        1,
        0,
    ),
    "softplus": (lambda x, _: np.log(1 + np.exp(x)), 1, 0),
    "swish": (lambda x, _: x / (1 + np.exp(-x)), ROOT2, 0),
}


def run_case(case, x):
    bias = torch.tensor(np.random.RandomState(case["bias_seed"]).standard_normal(3)).float()
    options = {name: case.get(name) for name in ("alpha", "gain", "clamp")}
    return bias_act(x, bias, act=case["act"], **options)


@pytest.mark.parametrize("place", range(len(CASES)), ids=lambda place: CASES[place]["key"])
def test_golden_small(place):
    arrays = read_small("ops")[1]
    result = run_case(CASES[place], torch.tensor(arrays["act_x"])[None])
    assert_golden(result[0], arrays["act_y"][place])


@cache
def full():
    return read_shared("ops")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_golden_full(case):
    assert_golden(run_case(case, torch.tensor(full()["x"])), full()[case["key"]])


def test_the_nine_activations_are_there():
    assert list(ACTIVATIONS) == list(CLOSED_FORMS)


@pytest.mark.parametrize("act", CLOSED_FORMS)
@pytest.mark.parametrize(
    ("alpha", "gain", "clamp"),
    [(None, None, None), (0.35, None, None), (None, 0.6, None), (None, None, 0.4), (0.1, 3.0, 1.5)],
)
def test_closed_forms(act, alpha, gain, clamp):
    x, bias = random(2, 3, 4, 5) * 3, random(3, seed=1)
    function, default_gain, default_alpha = CLOSED_FORMS[act]
    shifted = x.numpy() + bias.numpy()[:, None, None]
    expected = function(shifted, default_alpha if alpha is None else alpha)
    expected = expected * (default_gain if gain is None else gain)
    if clamp is not None:
        expected = np.clip(expected, -clamp, clamp)
    result = bias_act(x, bias, act=act, alpha=alpha, gain=gain, clamp=clamp)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("act", CLOSED_FORMS)
def test_large_values_stay_finite(act):
    x = torch.tensor([[-1e4, -100.0, 100.0, 1e4]], requires_grad=True)
    y = bias_act(x, act=act, clamp=256)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(y).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 3), 1), ((3, 4), 0), ((2, 4, 3), 2), ((2, 4, 3), -1)]
)
def test_the_bias_runs_along_its_axis(shape, dim):
    x, bias = random(*shape), random(3, seed=1)
    expected = np.moveaxis(np.moveaxis(x.numpy(), dim, -1) + bias.numpy(), -1, dim)
    np.testing.assert_allclose(bias_act(x, bias, dim=dim).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_images(dtype):
    result = bias_act(random(2, 3, 4, 4).to(dtype), torch.ones(3), act="lrelu", clamp=256)
    assert result.dtype == dtype


def test_the_input_is_left_alone():
    x = random(2, 3)
    before = x.clone()
    bias_act(x, torch.ones(3), act="relu", gain=2, clamp=1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("act", CLOSED_FORMS)
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_first_and_second_derivative(act, clamp):
    x, bias = random(2, 3, 2, 2).requires_grad_(), random(3, seed=1).requires_grad_()

    def run(x, bias):
        return bias_act(x, bias, act=act, clamp=clamp).square()

    assert torch.autograd.gradcheck(run, (x, bias))
    assert torch.autograd.gradgradcheck(run, (x, bias))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "gelu"}, "act must be one of linear, relu, .*, got 'gelu'"),
        ({"bias": torch.zeros(4)}, r"bias must be \[3\], got \[4\]"),
        ({"bias": torch.zeros(3, 1)}, r"bias must be \[3\], got \[3, 1\]"),
        ({"clamp": -1}, "clamp must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bias_act(torch.zeros(2, 3, 4, 4), **options)


# Kernels against the plain backend, in float32, where both exist


def all_derivatives(function, *tensors):
    tensors = [tensor.float().detach().requires_grad_() for tensor in tensors]
    y = function(*tensors)
    first = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum(grad.pow(3).sum() for grad in first), tensors)
    return [y, *first, *second]


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", CLOSED_FORMS)
@pytest.mark.parametrize(
    "options", [{}, {"clamp": 1.5}, {"gain": -0.7}, {"gain": 0.0}, {"alpha": 0.0}, {"alpha": -0.3}]
)
def test_forms_agree(act, options, layout):
    x, bias = random(2, 19, 5, 7).contiguous(memory_format=layout), random(19, seed=1)

    def run(x, bias):
        return bias_act(x, bias, act=act, **options)

    with backends.using("plain"):
        expected = all_derivatives(run, x, bias)
    for value, plain in zip(all_derivatives(run, x, bias), expected, strict=True):
        torch.testing.assert_close(value, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "dim"), [((4, 3), 1), ((2, 3, 5), 2), ((2, 1 << 15, 3), 1)])
def test_forms_agree_on_other_shapes(shape, dim):
    x, bias = random(*shape), random(shape[dim], seed=1)

    def run(x, bias):
        return bias_act(x, bias, dim=dim, act="lrelu")

    with backends.using("plain"):
        expected = all_derivatives(run, x, bias)
    for value, plain in zip(all_derivatives(run, x, bias), expected, strict=True):
        torch.testing.assert_close(value, plain, rtol=1e-4, atol=1e-4)


def test_gradients_may_lie_in_memory_as_they_like():
    x = random(2, 8, 4, 6).float().requires_grad_()
    y = bias_act(x, act="lrelu")
    grad = random(2, 8, 6, 4, seed=1).float().transpose(2, 3)
    (actual,) = torch.autograd.grad(y, x, grad)
    expected = grad * torch.where(x > 0, ROOT2, 0.2 * ROOT2)
    torch.testing.assert_close(actual, expected)


def test_sums_by_channel_do_not_depend_on_threads():
    x, bias = random(8, 32, 64, 64).float(), torch.zeros(32, requires_grad=True)
    x = x.contiguous(memory_format=torch.channels_last)

    def run(threads):
        torch.set_num_threads(threads)
        try:
            return torch.autograd.grad(bias_act(x, bias, act="lrelu").sum(), bias)[0]
        finally:
            torch.set_num_threads(1)

    assert torch.equal(run(1), run(3))


# scale_noise_bias_act


@pytest.mark.parametrize("noise_shape", [None, (1, 1, 5, 7), (3, 1, 5, 7)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ["lrelu", "linear", "swish"])
def test_scale_noise_bias_act(act, layout, noise_shape):
    x = (random(3, 19, 5, 7).float() * 2).contiguous(memory_format=layout)
    scale, bias = random(3, 19, seed=1).float(), random(19, seed=2).float()
    noise = None if noise_shape is None else random(*noise_shape, seed=3).float()
    summed = x * scale[:, :, None, None] + (0 if noise is None else noise)
    expected = bias_act(summed, bias, act=act, gain=1.2, clamp=1.5)
    for is_grad_on in (True, False):
        with torch.set_grad_enabled(is_grad_on):
            result = scale_noise_bias_act(
                x.clone(), scale, noise, bias, act=act, gain=1.2, clamp=1.5
            )
        torch.testing.assert_close(result, expected)


def test_scale_noise_bias_act_refuses_as_bias_act_does():
    x = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"bias must be \[3\], got \[4\]"), torch.no_grad():
        scale_noise_bias_act(x, torch.ones(2, 3), None, torch.zeros(4), act="lrelu")
