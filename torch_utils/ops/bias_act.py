"""Add a bias, apply an activation, scale and clamp."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor


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
    if act not in ACTIVATIONS:
        raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must be at least 0, got {clamp}")
    activation = ACTIVATIONS[act]
    if bias is not None:
        x = x + _along(bias, x, dim)
    x = activation.function(x, activation.alpha if alpha is None else alpha)
    gain = activation.gain if gain is None else gain
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def _along(bias: Tensor, x: Tensor, dim: int) -> Tensor:
    if bias.ndim != 1 or bias.shape[0] != x.shape[dim]:
        raise ValueError(f"bias must be [{x.shape[dim]}], got {list(bias.shape)}")
    shape = [1] * x.ndim
    shape[dim] = -1
    return bias.to(x.dtype).reshape(shape)
