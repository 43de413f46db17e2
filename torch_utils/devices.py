"""The choice of a device by its name on the command line, and arithmetic that repeats on it."""

import torch
from torch import Tensor

DEVICE_NAMES = ("auto", "cpu", "cuda")


def resolve_device(device: str, number: int | None = None) -> str:
    """Return the name of the device that "auto", "cpu" or "cuda" means here.

    Args:
        device: "auto" is a GPU where there is one, otherwise the CPU.
        number: which GPU; None is the first visible one.
    Returns: "cpu" or "cuda:N".
    Raises: ValueError where there is no such device.
    """
    if device not in DEVICE_NAMES:
        raise ValueError(f"--device must be one of {', '.join(DEVICE_NAMES)}, got {device!r}")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError("--device=cuda: PyTorch finds no CUDA device; use --device=cpu")
    index, count = number or 0, torch.cuda.device_count()
    if not 0 <= index < count:
        raise ValueError(f"GPU number must be from 0 to {count - 1}, got {index}")
    return f"cuda:{index}"


def resolve_repeatable(device: str, number: int | None = None) -> str:
    """Return what `resolve_device` does; what is computed there is the same every time."""
    name = resolve_device(device, number)
    if name != "cpu":
        use_repeatable_arithmetic()
    return name


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, without waiting for what a GPU was given before.

    The GPU reads pinned memory by itself; other memory has the host wait for its turn.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def use_repeatable_arithmetic() -> None:
    """Make CUDA compute the same numbers every time, in full float32."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    accumulate_in_float32()


def accumulate_in_float32() -> None:
    """Let no product of 16-bit numbers be summed in 16 bits, as PyTorch allows by default."""
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
