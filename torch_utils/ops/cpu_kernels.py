"""The C++ kernels for the CPU: how they are built, and their functions on tensors."""

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_utils.ops.building import CSRC, Recipe, load
from torch_utils.ops.layout import BiasActSetting, Resampling, dense, is_channels_last, pointers

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "biface_convolve": (_INT, [_POINTER] * 3 + [_LONG] * 5 + [_INT] * 4),
    "biface_convolve_kernels": (_INT, [_POINTER] * 3 + [_LONG] * 5 + [_INT] * 3),
    "biface_bias_act": (None, [_POINTER] * 3 + [_LONG] * 3 + [_FLOAT] * 3 + [_INT]),
    "biface_bias_act_chunks": (_LONG, [_LONG] * 3),
    "biface_bias_act_grad": (None, [_POINTER] * 5 + [_LONG] * 3 + [_FLOAT] * 3 + [_INT]),
    "biface_finish": (None, [_POINTER] * 4 + [_LONG] * 4 + [_FLOAT] * 3 + [_INT]),
    "biface_upfirdn2d": (None, [_POINTER] * 3 + [_LONG] * 14 + [_INT]),
}

CHANNEL_MULTIPLE = 32  # of convolutions
_MIN_INNER = 8  # fewer channels are filtered as planes


def recipe() -> Recipe:
    """Return how the library is built for the processor at hand."""
    folder = CSRC / "cpu"
    flags = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp")
    return Recipe(
        name="biface_cpu",
        sources=tuple(sorted(folder.glob("*.cpp"))),
        headers=tuple(sorted(folder.glob("*.h"))),
        flags={"extra_cflags": flags, "extra_ldflags": ("-fopenmp",)},
        key=_processor(),
    )


class CpuKernels:
    """The functions of the library; float32 tensors on the CPU.

    Args:
        library: from `load(recipe())`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    @classmethod
    def built(cls) -> "CpuKernels":
        """Return the kernels, compiled if need be. Raises: BuildError."""
        return cls(load(recipe()))

    def convolve(self, x: Tensor, weight: Tensor, stride: int, *, is_adjoint: bool) -> Tensor:
        """Correlate images with 3x3 kernels, or do the adjoint.

        Args:
            x: [N, I, H, W]: for stride 1 any size, whose border is padded by a pixel of zeros; for
                stride 2 an odd size, without padding. The adjoint takes what this returns.
            weight: [O, I, 3, 3]; O and I are multiples of CHANNEL_MULTIPLE.
            stride: 1 or 2.
            is_adjoint: go from O to I channels, as the derivative by the images does.
        Returns: [N, O, H', W'] with H' = H, or (H - 1) / 2 for stride 2; or the other way.
        """
        weight, is_swapped = _kernels_in_memory(weight)
        x = _channels_last(x)
        n, inputs, *size = x.shape
        small = [(side - 1) // 2 if stride == 2 and not is_adjoint else side for side in size]
        result = [2 * side + 1 for side in small] if stride == 2 and is_adjoint else small
        outputs = weight.shape[1] if is_adjoint else weight.shape[0]
        y = _empty(n, outputs, *result)
        code = self._library.biface_convolve(
            *pointers(x, weight, y),
            *(n, *small, inputs, outputs, stride, is_adjoint, is_swapped != is_adjoint),
            torch.get_num_threads(),
        )
        _check_memory(code)
        return y

    def convolve_kernels(
        self, large: Tensor, small: Tensor, stride: int, *, is_swapped: bool
    ) -> Tensor:
        """Return the derivative of sum(convolve(large, weight) * small) by the weight.

        Args:
            large: [N, I, H, W], as `convolve` takes it.
            small: [N, O, H', W'], as it returns it.
            stride: 1 or 2.
            is_swapped: how the result lies in memory, see `is_swapped_in_memory`.
        Returns: [O, I, 3, 3].
        """
        large, small = _channels_last(large), _channels_last(small)
        n, outputs, height, width = small.shape
        inputs = large.shape[1]
        shape = (inputs, outputs) if is_swapped else (outputs, inputs)
        weight = _empty(*shape, 3, 3)
        code = self._library.biface_convolve_kernels(
            *pointers(large, small, weight),
            *(n, height, width, inputs, outputs, stride, is_swapped, torch.get_num_threads()),
        )
        _check_memory(code)
        return weight.transpose(0, 1) if is_swapped else weight

    def bias_act(self, x: Tensor, bias: Tensor | None, setting: BiasActSetting) -> Tensor:
        """Return clamp(gain * act(x + bias)) of a piecewise linear activation."""
        x, sizes = dense(x, setting.dim)
        y = torch.empty_like(x)
        bias = None if bias is None else bias.contiguous()
        self._library.biface_bias_act(*pointers(x, bias, y), *sizes, *_numbers(setting))
        return y

    def finish(
        self,
        x: Tensor,
        scale: Tensor,
        noise: Tensor | None,
        bias: Tensor,
        setting: BiasActSetting,
    ) -> None:
        """Replace x, channels innermost, by clamp(gain * act(x * scale + noise + bias)).

        Args:
            x: [N, C, H, W].
            scale: [N, C].
            noise: [N or 1, 1, H, W] or None.
            bias: [C].
            setting: piecewise linear.
        """
        n, channels, height, width = x.shape
        scale, bias = scale.contiguous(), bias.contiguous()
        noise = None if noise is None else noise.contiguous()
        noise_n = 1 if noise is None else noise.shape[0]
        self._library.biface_finish(
            *pointers(x, scale, noise, bias),
            *(n, noise_n, height * width, channels),
            *_numbers(setting),
        )

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
        """Return what `CudaKernels.bias_act_slopes` does; `known` is the result, without `bias`."""
        y, sizes = dense(known, setting.dim)
        if grad.stride() != y.stride():
            grad = torch.empty_like(y).copy_(grad)
        shift = None if shift is None else shift.contiguous()
        out, sums = torch.empty_like(y), None
        if has_sums:
            sums = torch.empty([self._library.biface_bias_act_chunks(*sizes), sizes[1]])
        self._library.biface_bias_act_grad(
            *pointers(grad, shift, y, out, sums), *sizes, *_numbers(setting)
        )
        return out, None if sums is None else sums.sum(dim=0)

    def upfirdn2d(self, x: Tensor, f: Tensor, setting: Resampling) -> Tensor:
        """Insert zeros, pad, filter and drop pixels.

        Args:
            x: [N, C, H, W].
            f: [T, U] float32.
            setting: see there.
        Returns: [N, C, H', W'], with channels innermost where `x` has them so.
        """
        n, channels, height, width = x.shape
        taps_y, taps_x = f.shape
        if taps_y == 1 and taps_x > 1 and channels < _MIN_INNER:
            # A row of pixels is filtered fastest as a column, with its neighbours side by side.
            turned = x.transpose(2, 3).contiguous()
            return self.upfirdn2d(turned, f.t(), setting.transposed()).transpose(2, 3)
        up, down, before, (out_w, out_h) = (
            setting.up, setting.down, setting.before, setting.size(x, f)
        )  # fmt: skip
        is_inner = channels >= _MIN_INNER and is_channels_last(x)
        x = x if is_inner else x.contiguous()
        layout = torch.channels_last if is_inner else torch.contiguous_format
        y = torch.empty([n, channels, out_h, out_w], memory_format=layout)
        planes, inner = (n, channels) if is_inner else (n * channels, 1)
        if not is_inner and (taps_x, up[0], down[0], before[0]) == (1, 1, 1, 0):
            inner, width, out_w = width, 1, 1
        f = (f if setting.flip_filter else f.flip([0, 1])) * setting.gain
        self._library.biface_upfirdn2d(
            *pointers(x, f, y),
            *(planes, inner, height, width, out_h, out_w, taps_y, taps_x),
            *(up[1], up[0], down[1], down[0], before[1], before[0]),
            torch.get_num_threads(),
        )
        return y


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def is_swapped_in_memory(weight: Tensor) -> bool:
    """Tell whether kernels [O, I, 3, 3] lie in memory as [I, 3, 3, O] and not [O, 3, 3, I]."""
    return not is_channels_last(weight) and is_channels_last(weight.transpose(0, 1))


def _kernels_in_memory(weight: Tensor) -> tuple[Tensor, bool]:
    """Return kernels that lie in one of the two ways, and in which."""
    if is_swapped_in_memory(weight):
        return weight, True
    return _channels_last(weight), False


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, memory_format=torch.channels_last)


def _numbers(setting: BiasActSetting) -> tuple[float, float, float, int]:
    return setting.slope, setting.gain, setting.clamp, torch.get_num_threads()


def _check_memory(code: int) -> None:
    if code:
        raise MemoryError("not enough memory for the convolution's scratch space")


def _processor() -> str:
    """Return what -march=native depends on: the processor's instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{sys.platform} {platform.machine()} {platform.processor()}"
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
