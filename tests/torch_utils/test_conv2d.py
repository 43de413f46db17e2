"""conv2d and its adjoint: the fast form against PyTorch's in float64, in all derivatives."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.tensors import random
from torch_utils.ops import backends
from torch_utils.ops.conv2d import _Convolution, _NativeMaps, conv2d, conv_transpose2d

FIRST_TO_SECOND = [  # name, our function, PyTorch's, images, kernels
    ("same", lambda x, w: conv2d(x, w, padding=1), lambda x, w: F.conv2d(x, w, padding=1)),
    ("half", lambda x, w: conv2d(x, w, stride=2), lambda x, w: F.conv2d(x, w, stride=2)),
    (
        "double",
        lambda x, w: conv_transpose2d(x, w.transpose(0, 1), 2),
        lambda x, w: F.conv_transpose2d(x, w.transpose(0, 1), stride=2),
    ),
]
LAYOUTS = (torch.contiguous_format, torch.channels_last)

pytestmark = pytest.mark.skipif(
    backends.kernels_for(torch.zeros(1)) is None, reason="no C++ compiler"
)


def derivatives(function, x, weight):
    """Return the result, its derivatives, and the derivatives of a function of those."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = function(x, weight)
    first = torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)
    second = torch.autograd.grad(sum(grad.square().sum() for grad in first), (x, weight))
    return [y, *first, *second]


def assert_close(actual, expected):
    worst = (actual - expected).abs().max() / expected.abs().max()
    assert worst < 2e-5, f"off by {worst:.1e} of the largest value"


@pytest.fixture
def used(monkeypatch):
    """Count the calls of the kernels."""
    calls = []
    kernels = backends.kernels_for(torch.zeros(1))
    for name in ("convolve", "convolve_kernels"):
        method = getattr(kernels, name)

        def count(*args, method=method, name=name, **kwargs):
            calls.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(kernels, name, count)
    return calls


# Sizes that fill tiles of 4x4 and sizes that do not, from one tile a sample on.
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("n", "height", "width"), [(16, 3, 3), (4, 9, 7), (2, 17, 21), (1, 33, 15)]
)
@pytest.mark.parametrize("case", FIRST_TO_SECOND, ids=lambda case: case[0])
def test_equals_pytorch_in_all_derivatives(case, n, height, width, layout, used):
    name, ours, plain = case
    if name == "half":
        height, width = 2 * height + 1, 2 * width + 1
    x = random(n, 32, height, width).contiguous(memory_format=layout)
    weight = random(64, 32, 3, 3, seed=1).contiguous(memory_format=layout)
    actual = derivatives(ours, x, weight)
    assert used.count("convolve") >= 5
    assert used.count("convolve_kernels") >= 3
    for value, expected in zip(
        actual, derivatives(plain, x.double(), weight.double()), strict=True
    ):
        assert_close(value, expected)


def test_many_tiles_and_channels_go_in_groups():
    x, weight = random(2, 128, 64, 64), random(128, 128, 3, 3, seed=1)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    assert_close(conv2d(x, weight, padding=1), expected)


# With few tiles all threads share each step, with many each has its own run of tiles.
@pytest.mark.parametrize("size", [(4, 32, 17, 19), (5, 32, 65, 63)])
@pytest.mark.parametrize("case", FIRST_TO_SECOND, ids=lambda case: case[0])
def test_threads_change_no_bit(case, size):
    x, weight = random(*size), random(32, 32, 3, 3, seed=1)
    one = derivatives(case[1], x, weight)
    try:
        torch.set_num_threads(3)
        two = derivatives(case[1], x, weight)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_sample_does_not_depend_on_its_neighbours():
    x, weight = random(6, 32, 16, 16), random(32, 32, 3, 3, seed=1)
    assert torch.equal(conv2d(x, weight, padding=1)[2:4], conv2d(x[2:4], weight, padding=1))


@pytest.mark.parametrize(
    ("x", "weight", "options"),
    [
        ((4, 32, 8, 8), (32, 32, 3, 3), {"padding": 1, "stride": 2}),
        ((4, 32, 8, 8), (32, 32, 3, 3), {"padding": 0}),
        ((4, 32, 8, 8), (32, 32, 3, 3), {"stride": 2}),  # an even size leaves a row over
        ((4, 32, 8, 8), (32, 32, 5, 5), {"padding": 2}),
        ((4, 33, 8, 8), (32, 33, 3, 3), {"padding": 1}),
        ((4, 32, 8, 8), (3, 32, 3, 3), {"padding": 1}),
        ((1, 32, 4, 4), (32, 32, 3, 3), {"padding": 1}),  # too small to pay
        ((4, 3, 8, 8), (32, 3, 1, 1), {}),
    ],
)
def test_other_convolutions_are_pytorchs(x, weight, options, used):
    x, weight = random(*x), random(*weight, seed=1)
    result = conv2d(x, weight, **options)
    torch.testing.assert_close(result, F.conv2d(x, weight, **options), rtol=1e-4, atol=1e-4)
    assert used == []


def test_double_precision_is_pytorchs(used):
    x, weight = random(4, 32, 8, 8).double(), random(32, 32, 3, 3, seed=1).double()
    assert torch.equal(conv2d(x, weight, padding=1), F.conv2d(x, weight, padding=1))
    assert used == []


def test_the_plain_form_can_be_chosen(used):
    x, weight = random(4, 32, 8, 8), random(32, 32, 3, 3, seed=1)
    with backends.using("plain"):
        assert torch.equal(conv2d(x, weight, padding=1), F.conv2d(x, weight, padding=1))
    assert used == []


# What CUDA takes for gradient penalties; the sizes leave rows over where strides do not divide.
@pytest.mark.parametrize("is_adjoint", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "groups"),
    [
        (3, 1, 1, (5, 4), 1),
        (1, 1, 0, (4, 3), 1),
        (3, 2, 0, (7, 6), 1),
        (5, 3, 2, (8, 9), 1),
        (3, 1, 1, (4, 3), 2),
        (2, 2, 0, (5, 4), 2),
    ],
)
def test_native_maps_are_derivatives_of_one_another(
    kernel, stride, padding, size, groups, is_adjoint
):
    large = random(2, 3 * groups, *size).double()
    weight = random(4, 3, kernel, kernel, seed=1).double()
    maps = _NativeMaps(padding, size, tuple(weight.shape), groups)
    small = F.conv2d(large, weight, stride=stride, padding=padding, groups=groups)

    def ours(x, weight):
        return _Convolution.apply(x, weight, stride, is_adjoint, maps)

    def plain(x, weight):
        if not is_adjoint:
            return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        return torch.nn.grad.conv2d_input(large.shape, weight, x, stride, padding, groups=groups)

    x = small if is_adjoint else large
    for value, expected in zip(
        derivatives(ours, x, weight), derivatives(plain, x, weight), strict=True
    ):
        assert_close(value, expected)
    inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
    assert torch.autograd.gradcheck(ours, inputs)
    assert torch.autograd.gradgradcheck(ours, inputs)


def test_a_penalty_s_first_pass_takes_no_derivative_by_kernels(used):
    x = random(4, 32, 8, 8).requires_grad_()
    weight = random(32, 32, 3, 3, seed=1).requires_grad_()

    def penalty():
        y = conv2d(x, weight, padding=1).square().sum()
        return torch.autograd.grad(y, x, create_graph=True)[0].square().sum()

    (expected,) = torch.autograd.grad(penalty(), weight)
    used.clear()
    with backends.no_weight_gradients():
        value = penalty()
    assert used == ["convolve", "convolve"]
    assert torch.equal(torch.autograd.grad(value, weight)[0], expected)
