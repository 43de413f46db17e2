"""Arithmetic of a network in training: float32, or half the bits by autocast."""

from enum import StrEnum

import torch


class Precision(StrEnum):
    """Arithmetic of the network; losses, weights and their changes are float32 always.

    FP32: float32. FP16: half precision with a loss scale, on a GPU only. BF16: bfloat16.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    def check(self, device: torch.device) -> None:
        """Refuse what the device does not compute.

        Raises: ValueError.
        """
        if self is Precision.FP16 and device.type == "cpu":
            raise ValueError("--precision=fp16 needs a GPU; the CPU takes fp32 and bf16")

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which the network runs."""
        dtype = torch.float16 if self is Precision.FP16 else torch.bfloat16
        return torch.autocast(device.type, dtype=dtype, enabled=self is not Precision.FP32)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return the loss scale, which does nothing but for FP16."""
        return torch.amp.GradScaler(device.type, enabled=self is Precision.FP16)
