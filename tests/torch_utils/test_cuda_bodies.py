"""The CUDA kernels' bodies, compiled for the host and run thread by thread."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.helpers import naive_ops
from tests.helpers.tensors import random64 as random
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act_plain, checked_setting
from torch_utils.ops.building import CSRC

SOURCE = Path(__file__).parent / "csrc" / "kernels_on_host.cpp"
DOUBLES, LONG, INT, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    library = tmp_path_factory.mktemp("host") / "kernels_on_host.so"
    # Undefined behaviour, such as an index outside a tile's fixed arrays, ends the process.
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover", "-D_GLIBCXX_ASSERTIONS"]
    command = ["g++", *flags, *checks, f"-I{CSRC / 'cuda'}", str(SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.host_bias_act.argtypes = [INT] * 2 + [DOUBLES] * 4 + [LONG] * 3 + [DOUBLE] * 3
    loaded.host_upfirdn2d.argtypes = [DOUBLES] * 3 + [LONG] * 6 + [INT] * 9 + [ctypes.c_float, INT]
    loaded.host_upfirdn2d.restype = LONG
    return loaded


# bias_act


def run_bias_act(host, act, order, x, bias, factor, alpha, gain, clamp, layout):
    x = x.contiguous(memory_format=layout)
    factor = torch.empty_like(x).copy_(factor)
    out = torch.empty_like(x)
    inner = 1 if layout == torch.channels_last else x[0, 0].numel()
    host.host_bias_act(
        list(ACTIVATIONS).index(act),
        order,
        *(tensor.data_ptr() for tensor in (x, bias, factor, out)),
        *(x.numel(), x.shape[1], inner, alpha, gain, -1.0 if clamp is None else clamp),
    )
    return out


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_and_its_derivatives_equal_autograd_of_the_plain_form(host, act, clamp, layout):
    x, bias, first, second = (random(2, 5, 3, 4, seed=k) * 2 for k in range(4))
    bias, alpha, gain = bias[0, :, 0, 0].contiguous(), 0.3, 1.7
    x.requires_grad_()
    y = bias_act_plain(x, bias, checked_setting(x, bias, 1, act, alpha, gain, clamp))
    (slope,) = torch.autograd.grad(y, x, first, create_graph=True)
    (bend,) = torch.autograd.grad(slope, x, second) if slope.requires_grad else (x * 0,)
    x = x.detach()
    zeros = torch.zeros(5, dtype=torch.float64)
    is_known_by_result = act in ("linear", "relu", "lrelu")
    known, shift = (y.detach(), zeros) if is_known_by_result else (x, bias)

    def run(order, x, bias, factor):
        return run_bias_act(host, act, order, x, bias, factor, alpha, gain, clamp, layout)

    torch.testing.assert_close(run(0, x, bias, first), y.detach())
    torch.testing.assert_close(run(1, known, shift, first), slope.detach())
    torch.testing.assert_close(run(2, x, bias, first * second), bend)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_large_values_stay_finite(host, act):
    x = torch.tensor([-1e4, -100.0, 100.0, 1e4], dtype=torch.float64).reshape(1, 4, 1, 1)
    zeros, ones = torch.zeros(4, dtype=torch.float64), torch.ones_like(x)
    for order in range(3):
        settings = (0.2, 1.0, 256.0, torch.contiguous_format)
        assert torch.isfinite(run_bias_act(host, act, order, x, zeros, ones, *settings)).all()


# upfirdn2d

# up, down and padding as (x, y) and (x0, x1, y0, y1); taps as (y, x)
SETTINGS = [
    ((1, 1), (1, 1), (2, 1, 2, 1), (4, 4)),
    ((2, 2), (1, 1), (2, 1, 2, 1), (4, 4)),
    ((2, 2), (1, 1), (1, 2, 3, 0), (4, 4)),
    ((1, 1), (2, 2), (1, 1, 1, 1), (4, 4)),
    ((1, 1), (2, 2), (-1, 2, 0, -3), (3, 2)),
    ((2, 2), (1, 1), (-3, 5, -2, 1), (2, 3)),
    ((2, 1), (1, 1), (6, 5, 0, 0), (1, 12)),
    ((1, 2), (1, 1), (0, 0, 7, 4), (12, 1)),
    ((1, 1), (2, 1), (-1, 3, 0, 0), (1, 12)),
    ((1, 1), (1, 2), (0, 0, 5, 5), (12, 1)),
    ((1, 1), (1, 1), (40, 50, 60, 70), (4, 4)),
]
OTHERS = [
    ((2, 3), (3, 2), (4, -2, -3, 5), (4, 5)),
    ((3, 1), (1, 4), (0, 3, 7, 2), (2, 9)),
    ((2, 2), (2, 2), (-1, -1, -2, -1), (3, 3)),
    ((5, 4), (3, 3), (9, 8, 7, 11), (7, 6)),
]


def run_upfirdn2d(host, x, f, up, down, padding, layout, *, is_turned, is_tiled):
    n, c, h, w = x.shape
    taps_y, taps_x = f.shape
    out_w = (w * up[0] + padding[0] + padding[1] - taps_x) // down[0] + 1
    out_h = (h * up[1] + padding[2] + padding[3] - taps_y) // down[1] + 1
    x = x.contiguous(memory_format=layout)
    y = torch.full([n, c, out_h, out_w], torch.nan).contiguous(memory_format=layout)
    planes, inner = (n, c) if layout == torch.channels_last else (n * c, 1)
    tiles = host.host_upfirdn2d(
        *(tensor.data_ptr() for tensor in (x, f, y)),
        *(planes, inner, h, w, out_h, out_w, taps_y, taps_x),
        *(up[1], up[0], down[1], down[0], padding[2], padding[0], is_turned, 1.7, is_tiled),
    )
    return y, tiles


def check_upfirdn2d(host, setting, layout, shape, *, is_turned, is_tiled):
    up, down, padding, taps = setting
    x = random(*shape, dtype=torch.float32)
    f = random(*taps, seed=1, dtype=torch.float32)
    y, tiles = run_upfirdn2d(
        host, x, f, up, down, padding, layout, is_turned=is_turned, is_tiled=is_tiled
    )
    expected = naive_ops.upfirdn2d(
        x.double().numpy(),
        f.double().numpy(),
        up=up,
        down=down,
        padding=padding,
        flip_filter=not is_turned,
        gain=1.7,
    )
    torch.testing.assert_close(y.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    return tiles


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_tiles_of_planes_equal_loops(host, setting, is_turned):
    shape = (1, 2, 41, 37)
    layout = torch.contiguous_format
    tiles = check_upfirdn2d(host, setting, layout, shape, is_turned=is_turned, is_tiled=True)
    assert tiles >= 2


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[3] != (1, 12) and s[3] != (12, 1)])
def test_tiles_of_channels_equal_loops(host, setting):
    shape = (2, 37, 11, 18)
    tiles = check_upfirdn2d(
        host, setting, torch.channels_last, shape, is_turned=True, is_tiled=True
    )
    assert tiles >= 4


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("setting", [*SETTINGS, *OTHERS], ids=str)
def test_one_thread_a_result_equals_loops(host, setting, layout):
    shape = (2, 3, 10, 9)
    assert not check_upfirdn2d(host, setting, layout, shape, is_turned=True, is_tiled=False)


@pytest.mark.parametrize("setting", OTHERS, ids=str)
def test_other_settings_take_no_tiles(host, setting):
    layout = torch.contiguous_format
    assert not check_upfirdn2d(host, setting, layout, (1, 1, 9, 8), is_turned=True, is_tiled=True)
