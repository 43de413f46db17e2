"""The CUDA extensions: they compile and link without a GPU, and equal the plain backend.

On a GPU as they are; everywhere else compiled for the host, see tests/helpers/cuda_on_host.py.
"""

import os
import shutil
from dataclasses import replace
from functools import partial
from itertools import zip_longest

import pytest
import torch

from tests.helpers import cuda_on_host
from tests.helpers.tensors import random64 as random
from torch_utils.ops import backends, cuda_kernels
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.building import BuildError, load
from torch_utils.ops.cuda_kernels import CudaKernels
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
# Every generation from Turing to Blackwell; the last also as PTX for what comes after.
ALL_ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@needs_nvcc
def test_both_compile_and_link():
    """Without optimisation, which takes half of the time and finds no mistake."""
    libraries = {}
    for name in cuda_kernels.NAMES:
        recipe = cuda_kernels.recipe(name, ("9.0+PTX",))
        plain = {"extra_cuda_cflags": ("-Xcicc", "-O0", "-Xptxas", "-O0")}
        libraries[name] = load(replace(recipe, flags={**recipe.flags, **plain}))
    kernels = CudaKernels(libraries)
    assert kernels._bias_act._describe(0) == b"no error"


@needs_nvcc
@pytest.mark.skipif(
    "BIFACE_ALL_ARCHITECTURES" not in os.environ,
    reason="minutes long; set BIFACE_ALL_ARCHITECTURES=1",
)
@pytest.mark.parametrize("name", cuda_kernels.NAMES)
def test_every_architecture_compiles(name, tmp_path):
    load(cuda_kernels.recipe(name, ALL_ARCHITECTURES), tmp_path)


def test_kernels_include_no_torch_headers():
    for path in (cuda_kernels.CSRC).rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "torch/" not in text, path.name
        assert "ATen" not in text, path.name


# On a GPU, or on the host as on a GPU


@pytest.fixture(scope="module")
def on_host(tmp_path_factory):
    try:
        return cuda_on_host.build_on_host(tmp_path_factory.mktemp("sources"))
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.cuda)])
def place(request, monkeypatch):
    """Return a device and how to choose the form there: "cuda" for the kernels, or "plain"."""
    if request.param == "cuda":
        return "cuda", backends.using
    kernels = request.getfixturevalue("on_host")
    return "cpu", partial(cuda_on_host.using, kernels=kernels, monkeypatch=monkeypatch)


def derivatives(function, *inputs):
    """Return the result, first derivatives and second derivatives of a function."""
    y = function(*inputs)
    wrt = [tensor for tensor in inputs if tensor.requires_grad]
    seed = random(*y.shape, seed=8).to(y)
    first = torch.autograd.grad(y, wrt, seed, create_graph=True)
    total = sum((grad.double() ** 2).sum() for grad in first)
    second = torch.autograd.grad(total, wrt, allow_unused=True) if total.requires_grad else ()
    return [y, *first, *(grad for grad in second if grad is not None)]


def compare(function, tensors, dtype, layout, place, assert_near):
    """Compare kernels in a dtype with the plain backend in float64."""
    device, using = place

    def run(form, dtype):
        inputs = [tensor.to(device, dtype, copy=True) for tensor in tensors]
        inputs[0] = inputs[0].contiguous(memory_format=layout)
        with using(form):
            return derivatives(function, *(tensor.requires_grad_() for tensor in inputs))

    # What the kernels get is rounded first, so that only their own rounding counts.
    tensors = [tensor.to(dtype).double() for tensor in tensors]
    actual, expected = run("cuda", dtype), run("plain", torch.float64)
    for ours, plain in zip_longest(actual, expected):
        if ours is None or plain is None:  # one of the forms knows that a derivative is zero
            assert not (plain if ours is None else ours).any()
            continue
        scale = plain.abs().max().clamp_min(1)
        assert_near(ours.double() / scale, plain / scale, dtype=dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clamp", [None, 1.5])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_equals_the_plain_form(act, clamp, dtype, layout, place, assert_near):
    x, bias = random(3, 8, 5, 7, seed=0) * 2, random(8, seed=1)

    def run(x, bias, clamp=clamp):
        return bias_act(x, bias, act=act, gain=1.3, clamp=clamp)

    if clamp is not None:
        # A result that 16 bits round to the limit itself is on the other side of its kink.
        is_near = (run(x, bias, clamp=None).abs() - clamp).abs() < 0.05
        x = torch.where(is_near, 0.25 - bias[:, None, None], x)
    compare(run, [x, bias], dtype, layout, place, assert_near)


@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 8), 1), ((3, 5, 2), 2), ((6,), 0), ((2, 3, 1, 1), 1)]
)
def test_bias_act_of_other_shapes(shape, dim, place, assert_near):
    x, bias = random(*shape, seed=0), random(shape[dim], seed=1)

    def run(x, bias):
        return bias_act(x, bias, dim=dim, act="lrelu")

    compare(run, [x, bias], torch.float32, torch.preserve_format, place, assert_near)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clamped_results_give_no_gradient(dtype, place):
    device, using = place
    x = torch.tensor([[-300.0, 0.5, 300.0]], device=device, dtype=dtype, requires_grad=True)
    with using("cuda"):
        y = bias_act(x, act="linear", gain=2.0, clamp=256 * 0.5**0.5)  # float16 knows 181.0 only
        (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.tolist() == [[0.0, 2.0, 0.0]]


FIR = setup_filter([1, 3, 3, 1])
WAVELET = setup_filter([0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.5, -0.2, 0.1, 0.3, 0.1, 0.05])
RESAMPLINGS = [
    (FIR, {"padding": (2, 1, 2, 1)}),
    (FIR, {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0}),
    (FIR, {"down": 2, "padding": 1, "flip_filter": True}),
    (FIR, {"up": (2, 3), "down": (3, 2), "padding": (4, -1, 3, 5)}),
    (FIR[:3, :2], {"up": 2, "padding": (-1, 3, 0, 2)}),
    (WAVELET, {"up": 2, "padding": (6, 5, 6, 5)}),
    (WAVELET, {"down": 2, "padding": (-3, 5, 4, 0), "flip_filter": True}),
    (WAVELET, {"padding": 6}),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", range(len(RESAMPLINGS)))
def test_upfirdn2d_equals_the_plain_form(index, dtype, layout, place, assert_near):
    f, settings = RESAMPLINGS[index]

    def run(x):
        return upfirdn2d(x, f, **settings).square()

    compare(run, [random(2, 35, 19, 37, seed=0)], dtype, layout, place, assert_near)


@pytest.mark.cuda
def test_results_of_more_than_32_bits_of_elements():
    if torch.cuda.mem_get_info()[0] < 14 << 30:
        pytest.skip("needs 14 GB of GPU memory")
    x = torch.zeros([1, 2, 1 << 15, (1 << 15) + 1], dtype=torch.float16, device="cuda")
    x[..., -3:] = -2.0
    with backends.using("cuda"):
        y = bias_act(x, torch.ones(2, device="cuda"), act="lrelu", gain=1)
        assert y[0, 1, -1, -1].item() == pytest.approx(-0.2, abs=1e-3)
        assert y[0, 0, 0, 0].item() == 1
        del y
        y = upfirdn2d(x, torch.ones(2, 2), padding=(0, 1, 0, 1))
        assert y[0, 1, -1, -1].item() == -2
        assert y[0, 1, -2, -2].item() == -8


@pytest.mark.cuda
def test_kernels_run_on_the_current_stream():
    x, stream = torch.zeros([1, 1 << 20], device="cuda"), torch.cuda.Stream()
    with backends.using("cuda"):
        bias_act(x, act="linear", gain=2.0)  # loads it
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10**8)  # on another stream the kernel would still see zeros
            y = bias_act(x.fill_(1), act="linear", gain=2.0)
    stream.synchronize()
    assert y.min().item() == y.max().item() == 2.0
