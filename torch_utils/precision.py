"""Arithmetic of a network in training: float32, or half the bits by autocast."""

from enum import StrEnum

import torch

from torch_utils.devices import accumulate_in_float32


class Precision(StrEnum):
    """Arithmetic of the network; losses, weights and their changes are float32 always.

    FP32: float32. TF32: float32 whose products GPUs round to 10 bits behind the point, and are
    faster. FP16: half precision with a loss scale, on a GPU only. BF16: bfloat16.
    """

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"

    def use_on(self, device: torch.device) -> None:
        """Set the process-wide switches, which PyTorch has partly on.

        Raises: ValueError where the device does not compute so.
        """
        if self in (Precision.FP16, Precision.TF32) and device.type == "cpu":
            raise ValueError(f"--precision={self} needs a GPU; the CPU takes fp32 and bf16")
        torch.backends.cudnn.allow_tf32 = self is Precision.TF32
        torch.backends.cuda.matmul.allow_tf32 = self is Precision.TF32
        accumulate_in_float32()

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which the network runs."""
        dtype = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}.get(self)
        return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return the loss scale, which does nothing but for FP16."""
        return torch.amp.GradScaler(device.type, enabled=self is Precision.FP16)
