"""conv2d_resample: golden values, loops, derivatives, errors."""

from functools import cache

import numpy as np
import pytest
import torch

from tests.helpers import naive_ops
from tests.helpers.golden import assert_golden, read_shared, read_small
from tests.helpers.tensors import random64 as random
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter

CASES = [case for case in read_small("ops")[0]["cases"] if case["key"].startswith("conv")]
FILTER = setup_filter([1, 3, 3, 1])


def run_case(case, arrays):
    x, weight, f = (torch.tensor(arrays[name]) for name in ("conv_x", "conv_w", "conv_f"))
    options = {name: case[name] for name in ("up", "down", "padding", "flip_weight")}
    return conv2d_resample(x, weight, f, **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_golden_small(case):
    arrays = read_small("ops")[1]
    assert_golden(run_case(case, arrays)[:1, :1], arrays[case["key"]])


@cache
def full():
    return read_shared("ops")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_golden_full(case):
    assert_golden(run_case(case, full()), full()[case["key"]])


def by_loops(x, weight, f, up, down, padding, flip_weight):
    """Enlarge with zeros, filter, convolve, drop: one step after the other, padded once."""
    taps = f.shape[-1]
    x0 = x1 = padding
    if up > 1:
        x0, x1 = x0 + (taps + up - 1) // 2, x1 + (taps - up) // 2
    if down > 1:
        x0, x1 = x0 + (taps - down + 1) // 2, x1 + (taps - down) // 2
    if up > 1 or down > 1:
        x = naive_ops.upfirdn2d(x, f, (up, up), (1, 1), (x0, x1, x0, x1), gain=up**2)
        padding = 0
    return naive_ops.conv2d(x, weight, padding, flip_weight)[:, :, ::down, ::down]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, -2, 3, 4, 5, 1)])
def test_equals_loops(kernel, flip_weight, up, down, taps):
    x, weight, f = random(2, 3, 6, 9), random(4, 3, kernel, kernel, seed=1), setup_filter(taps)
    result = conv2d_resample(x, weight, f, up, down, kernel // 2, flip_weight)
    expected = by_loops(
        x.numpy(), weight.numpy(), f.numpy().astype(float), up, down, kernel // 2, flip_weight
    )
    assert result.shape == (2, 4, 6 * up // down, 9 * up // down)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_first_and_second_derivative(kernel, flip_weight, up, down):
    x = random(1, 2, 4, 4).requires_grad_()
    weight = random(2, 2, kernel, kernel, seed=1).requires_grad_()

    def run(x, weight):
        return conv2d_resample(x, weight, FILTER, up, down, kernel // 2, flip_weight)

    assert torch.autograd.gradcheck(run, (x, weight))
    assert torch.autograd.gradgradcheck(run, (x, weight))


def test_weights_follow_the_dtype_of_the_images():
    x, weight = torch.zeros(1, 2, 4, 4, dtype=torch.bfloat16), torch.zeros(3, 2, 3, 3)
    assert conv2d_resample(x, weight, FILTER, up=2, padding=1).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"up": 2, "down": 2, "f": FILTER}, "only one of up, down may exceed 1, got 2 and 2"),
        ({"up": 2}, "resampling needs a filter"),
        ({"down": 2}, "resampling needs a filter"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        conv2d_resample(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 3, 3), **options)
