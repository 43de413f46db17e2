"""The CUDA kernels: how they are built, and their functions on tensors."""

import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.ops.building import CSRC, BuildError, Recipe, load
from torch_utils.ops.layout import (
    BiasActSetting,
    Resampling,
    add_along,
    dense,
    is_channels_last,
    pointers,
    sum_by_channel,
)

_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_FLOAT, _DOUBLE = ctypes.c_float, ctypes.c_double
_BIAS_ACT = [_INT] * 3 + [_POINTER] * 4 + [_LONG] * 3 + [_DOUBLE] * 3 + [_POINTER]
_UPFIRDN2D = [_INT] + [_POINTER] * 3 + [_LONG] * 6 + [_INT] * 9 + [_FLOAT, _POINTER]

# In the order of `Scalar` in scalars.h.
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
NAMES = ("bias_act", "upfirdn2d")


def find_toolkit() -> Path:
    """Return the folder that holds bin/nvcc and the libraries of CUDA; CUDA_HOME goes first.

    nvcc itself tells, since the one on the path may be a link or a wrapper script.

    Raises: BuildError where there is none.
    """
    homes = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [str(Path(home) / "bin") for home in homes if home]
    folders += [os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(folders))
    if nvcc is None:
        raise BuildError(
            "no CUDA toolkit was found: install one with nvcc, of the CUDA version of PyTorch"
            f" ({torch.version.cuda}), and set CUDA_HOME to its folder"
        )
    words = _run([nvcc, "--dryrun", "-x", "cu", os.devnull, "-c", "-o", os.devnull])
    found = re.search(r"^#\$ TOP=(.+)$", words, re.MULTILINE)
    return Path(found[1].strip()).resolve() if found else Path(nvcc).resolve().parents[1]


def header_folders(toolkit: Path) -> tuple[str, ...]:
    """Return folders of CUDA headers: the toolkit's, or pip's wheels' for one that has none."""
    if (toolkit / "include" / "cuda_fp16.h").is_file():
        return (str(toolkit / "include"),)
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    return tuple(str(path.parent) for path in sorted(site.glob("*/include/cuda_fp16.h")))


def recipe(name: str, archs: tuple[str, ...]) -> Recipe:
    """Return how one of NAMES is built for compute capabilities such as ("9.0", "12.0+PTX").

    Raises: BuildError where there is no CUDA toolkit.
    """
    toolkit = find_toolkit()
    folder = CSRC / "cuda"
    return Recipe(
        name=f"biface_cuda_{name}",
        sources=(folder / f"{name}.cu",),
        headers=tuple(sorted(folder.glob("*.h"))),
        flags={
            "extra_cuda_cflags": ("-O3",),
            "extra_include_paths": header_folders(toolkit),
        },
        environment={"CUDA_HOME": str(toolkit), "TORCH_CUDA_ARCH_LIST": ";".join(archs)},
        key=_run([str(toolkit / "bin" / "nvcc"), "--version"]),
    )


class CudaKernels:
    """The functions of both libraries; dense tensors of one of DTYPES on one GPU.

    Args:
        libraries: by name, from `load(recipe(name, ...))`.
    """

    def __init__(self, libraries: dict[str, ctypes.CDLL]) -> None:
        self._bias_act = _Function(libraries["bias_act"], "biface_cuda_bias_act", _BIAS_ACT)
        self._upfirdn2d = _Function(libraries["upfirdn2d"], "biface_cuda_upfirdn2d", _UPFIRDN2D)

    @classmethod
    def built(cls) -> "CudaKernels":
        """Return the kernels for the GPUs at hand, compiled if need be. Raises: BuildError."""
        devices = range(torch.cuda.device_count())
        if not devices:
            raise BuildError("PyTorch finds no CUDA device")
        capabilities = {torch.cuda.get_device_capability(device) for device in devices}
        archs = tuple(f"{major}.{minor}" for major, minor in sorted(capabilities))
        with ThreadPoolExecutor() as pool:  # each is compiled by a process of its own
            libraries = pool.map(lambda name: load(recipe(name, archs)), NAMES)
            return cls(dict(zip(NAMES, libraries, strict=True)))

    def bias_act(self, x: Tensor, bias: Tensor | None, setting: BiasActSetting) -> Tensor:
        """Return clamp(gain * act(x + bias)); see `bias_act.bias_act`."""
        return self._run_bias_act(0, x, bias, None, setting)

    def bias_act_slopes(
        self,
        grad: Tensor,
        shift: Tensor | None,
        known: Tensor,
        bias: Tensor | None,
        setting: BiasActSetting,
        *,
        has_sums: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (grad + shift) times the slope, and its sums by channel.

        Args:
            grad: shaped as the result.
            shift: [channels] or None.
            known: the result where `setting.is_piecewise_linear`, else the input.
            bias: of the forward pass, where `known` is the input.
            setting: of the forward pass.
            has_sums: whether the sums are wanted.
        """
        grad = add_along(grad, shift, setting.dim)
        out = self._run_bias_act(1, known, bias, grad, setting)
        return out, sum_by_channel(out, setting.dim) if has_sums else None

    def bias_act_curvature(
        self, factor: Tensor, x: Tensor, bias: Tensor | None, setting: BiasActSetting
    ) -> Tensor:
        """Return `factor` times the second derivative at x + bias."""
        return self._run_bias_act(2, x, bias, factor, setting)

    def _run_bias_act(
        self,
        order: int,
        x: Tensor,
        bias: Tensor | None,
        factor: Tensor | None,
        setting: BiasActSetting,
    ) -> Tensor:
        x, (outer, channels, inner) = dense(x, setting.dim)
        if factor is not None and factor.stride() != x.stride():
            factor = torch.empty_like(x).copy_(factor)
        bias = None if bias is None else bias.contiguous()
        out = torch.empty_like(x)
        self._bias_act(
            x.device,
            *(DTYPES.index(x.dtype), setting.act_index, order),
            *pointers(x, bias, factor, out),
            *(outer * channels * inner, channels, inner),
            *(setting.alpha, setting.gain, _stored(setting.clamp, x.dtype)),
        )
        return out

    def upfirdn2d(self, x: Tensor, f: Tensor, setting: Resampling) -> Tensor:
        """Insert zeros, pad, filter and drop pixels; see `CpuKernels.upfirdn2d`."""
        n, channels, height, width = x.shape
        (up_x, up_y), (down_x, down_y), (x0, y0) = setting.up, setting.down, setting.before
        out_w, out_h = setting.size(x, f)
        is_inner = channels > 1 and is_channels_last(x)
        layout = torch.channels_last if is_inner else torch.contiguous_format
        x, f = x.contiguous(memory_format=layout), f.contiguous()
        shape = (n, channels, out_h, out_w)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        planes, inner = (n, channels) if is_inner else (n * channels, 1)
        self._upfirdn2d(
            x.device,
            DTYPES.index(x.dtype),
            *pointers(x, f, y),
            *(planes, inner, height, width, out_h, out_w, *f.shape),
            *(up_y, up_x, down_y, down_x, y0, x0, not setting.flip_filter, setting.gain),
        )
        return y


class _Function:
    """One function of a library, called on a device's current stream; errors are raised."""

    def __init__(self, library: ctypes.CDLL, name: str, arguments: list[Any]) -> None:
        self._call, self._describe = getattr(library, name), library.biface_cuda_error
        self._call.restype, self._call.argtypes = _INT, arguments
        self._describe.restype, self._describe.argtypes = ctypes.c_char_p, [_INT]
        self._name = name

    def __call__(self, device: torch.device, *arguments: Any) -> None:
        with torch.cuda.device(device):
            stream = torch.cuda.current_stream(device).cuda_stream
            code = self._call(*arguments, stream)
        if code:
            raise RuntimeError(f"{self._name}: {self._describe(code).decode()}")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@cache
def _stored(limit: float, dtype: torch.dtype) -> float:
    """Return a clamp as results of a dtype hold it; the derivative compares them with it."""
    return torch.tensor(limit, dtype=torch.float64, device="cpu").to(dtype).item()
