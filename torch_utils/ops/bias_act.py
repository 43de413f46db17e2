"""Add a bias, apply an activation, scale and clamp.

`bias_act_plain` is the specification. The kernels keep one tensor for the derivatives, where plain
PyTorch keeps one a step.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import backends
from torch_utils.ops.backends import Kernels
from torch_utils.ops.cpu_kernels import CpuKernels
from torch_utils.ops.cuda_kernels import CudaKernels
from torch_utils.ops.layout import BiasActSetting, add_along, is_channels_last, sum_by_channel


@dataclass(frozen=True)
class Activation:
    """An activation with the gain that roughly keeps unit variance.

    Attributes:
        function: (x, alpha) -> y.
        gain: default factor of the result.
        alpha: default slope parameter; only lrelu reads it.
    """

    function: Callable[[Tensor, float], Tensor]
    gain: float
    alpha: float = 0.0


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "linear": Activation(lambda x, _: x, 1.0),
        "relu": Activation(lambda x, _: F.relu(x), math.sqrt(2)),
        "lrelu": Activation(F.leaky_relu, math.sqrt(2), 0.2),
        "tanh": Activation(lambda x, _: torch.tanh(x), 1.0),
        "sigmoid": Activation(lambda x, _: torch.sigmoid(x), 1.0),
        "elu": Activation(lambda x, _: F.elu(x), 1.0),
        "selu": Activation(lambda x, _: F.selu(x), 1.0),
        "softplus": Activation(lambda x, _: F.softplus(x), 1.0),
        "swish": Activation(lambda x, _: torch.sigmoid(x) * x, math.sqrt(2)),
    }
)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Return clamp(gain * act(x + bias)).

    Args:
        x: any shape, floating point.
        bias: [x.shape[dim]], or None for no bias.
        dim: axis that the bias runs along.
        act: a key of ACTIVATIONS.
        alpha: slope of lrelu below zero; None is the activation's default (0.2).
        gain: factor; None is the activation's default (√2 for relu, lrelu and swish, else 1).
        clamp: limit of the absolute value; None for no limit.
    Returns: shape and dtype of `x`.
    Raises: ValueError for an unknown activation, a bias of another length or a negative clamp.
    """
    setting = checked_setting(x, bias, dim, act, alpha, gain, clamp)
    kernels = _fast_kernels(x, setting)
    if kernels is not None:
        return _BiasAct.apply(x, None if bias is None else bias.to(x.dtype), setting, kernels)
    return bias_act_plain(x, bias, setting)


def scale_noise_bias_act(
    x: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    act: str,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """Return bias_act(x * scale + noise, bias), what follows a modulated convolution.

    Args:
        x: [N, C, H, W] floating point, handed over: without gradients it may become the result.
        scale: [N, C].
        noise: [N or 1, 1, H, W], or None.
        bias: [C].
        act, gain, clamp: as in `bias_act`.
    Returns: [N, C, H, W], dtype of `x`.
    Raises: ValueError as `bias_act` does.
    """
    if not torch.is_grad_enabled() and x.device.type == "cpu" and is_channels_last(x):
        setting = checked_setting(x, bias, 1, act, None, gain, clamp)
        kernels = _fast_kernels(x, setting)
        if isinstance(kernels, CpuKernels):
            kernels.finish(x, scale, noise, bias, setting)
            return x
    scale = scale.to(x.dtype)[:, :, None, None]
    x = x * scale if noise is None else torch.addcmul(noise.to(x.dtype), x, scale)
    return bias_act(x, bias, act=act, gain=gain, clamp=clamp)


def checked_setting(
    x: Tensor,
    bias: Tensor | None,
    dim: int,
    act: str,
    alpha: float | None,
    gain: float | None,
    clamp: float | None,
) -> BiasActSetting:
    """Return the arguments of `bias_act`, with defaults. Raises: ValueError, see there."""
    if act not in ACTIVATIONS:
        raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must be at least 0, got {clamp}")
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != x.shape[dim]):
        raise ValueError(f"bias must be [{x.shape[dim]}], got {list(bias.shape)}")
    activation = ACTIVATIONS[act]
    return BiasActSetting(
        act=act,
        act_index=list(ACTIVATIONS).index(act),
        dim=dim % x.ndim if x.ndim else 0,
        alpha=activation.alpha if alpha is None else alpha,
        gain=activation.gain if gain is None else gain,
        clamp=-1.0 if clamp is None else clamp,
    )


def bias_act_plain(x: Tensor, bias: Tensor | None, setting: BiasActSetting) -> Tensor:
    """Compute `bias_act` with PyTorch's own operations."""
    x = ACTIVATIONS[setting.act].function(add_along(x, bias, setting.dim), setting.alpha)
    if setting.gain != 1:
        x = x * setting.gain
    return x if setting.clamp < 0 else x.clamp(-setting.clamp, setting.clamp)


def _fast_kernels(x: Tensor, setting: BiasActSetting) -> Kernels | None:
    """Return the kernels that compute a setting, or None for plain PyTorch."""
    is_sum = setting.act == "linear" and setting.gain == 1 and setting.clamp < 0
    if is_sum or x.ndim == 0 or x.numel() == 0:
        return None
    kernels = backends.kernels_for(x)
    # On the CPU the derivative is read off the result, whose sign must then be that of the input.
    has_sign = setting.is_piecewise_linear and setting.gain > 0 and setting.slope >= 0
    return None if isinstance(kernels, CpuKernels) and not has_sign else kernels


class _BiasAct(torch.autograd.Function):
    """The whole operation; what is kept is the result where its sign tells the derivative."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, setting: BiasActSetting, kernels: Kernels
    ) -> Tensor:
        y = kernels.bias_act(x, bias, setting)
        ctx.setting, ctx.kernels = setting, kernels
        if setting.is_piecewise_linear:
            ctx.save_for_backward(y, None)
        else:
            ctx.save_for_backward(x, bias)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        known, bias = ctx.saved_tensors
        has_sums = ctx.needs_input_grad[1] and backends.has_weight_gradients()
        grad_x, sums = _Slopes.apply(grad, None, known, bias, ctx.setting, ctx.kernels, has_sums)
        return grad_x, sums, None, None


class _Slopes(torch.autograd.Function):
    """(grad + shift) times the slope, and its sums by channel.

    It is linear in grad and shift, and so its own derivative by them. By the input it has a
    derivative only where the activation has a curvature.
    """

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        shift: Tensor | None,
        known: Tensor,
        bias: Tensor | None,
        setting: BiasActSetting,
        kernels: Kernels,
        has_sums: bool,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        is_bent = not setting.is_piecewise_linear
        ctx.save_for_backward(known, bias, *((grad, shift) if is_bent else (None, None)))
        ctx.setting, ctx.kernels = setting, kernels
        return kernels.bias_act_slopes(grad, shift, known, bias, setting, has_sums=has_sums)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_sums: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        known, bias, first, shift = ctx.saved_tensors
        if grad is None and grad_sums is None:
            return (None,) * 7
        setting, kernels = ctx.setting, ctx.kernels
        grad = torch.zeros_like(known) if grad is None else grad
        back, sums = _Slopes.apply(
            grad, grad_sums, known, bias, setting, kernels, ctx.needs_input_grad[1]
        )
        if setting.is_piecewise_linear:
            return back, sums, None, None, None, None, None
        dim = setting.dim
        factor = add_along(first, shift, dim) * add_along(grad, grad_sums, dim)
        bend = _Curvature.apply(factor, known, bias, setting, kernels)
        bend_sums = None if bias is None else sum_by_channel(bend, dim)
        return back, sums, bend, bend_sums, None, None, None


class _Curvature(torch.autograd.Function):
    """A factor times the second derivative; it ends the chain, as no loss needs a third."""

    @staticmethod
    def forward(
        ctx: Any,
        factor: Tensor,
        x: Tensor,
        bias: Tensor | None,
        setting: BiasActSetting,
        kernels: CudaKernels,
    ) -> Tensor:
        return kernels.bias_act_curvature(factor, x, bias, setting)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError("bias_act has no third derivative; --ops=plain has")
