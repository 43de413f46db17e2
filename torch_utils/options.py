"""Options that trainings share; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from dnnlib.options import Device, Options, device_option, fresh_option, option, outdir_option


class OpBackend(StrEnum):
    """What the user may ask for.

    auto: kernels where they can be built, otherwise plain PyTorch, which is said once.
    plain: plain PyTorch.
    cpu, cuda: as auto, but kernels for that device must be there.
    """

    AUTO = "auto"
    PLAIN = "plain"
    CPU = "cpu"
    CUDA = "cuda"


PrecisionName = Literal["fp32", "tf32", "fp16", "bf16"]


def precision_option(**others: Any) -> Any:
    """Declare `precision: PrecisionName`."""
    text = (
        "Arithmetic of the network: tf32 and fp16 need a GPU, bf16 halves memory on either device."
    )
    return option("fp32", **{"help": text, **others})


def checkpoint_option() -> Any:
    """Declare `checkpoint_minutes: float`."""
    return option(
        5.0,
        ge=0,
        metavar="MINUTES",
        help="Minutes between checkpoints, from which the same command continues a killed training;"
        " 0 saves them only with each line of stats.jsonl.",
    )


@dataclass(frozen=True, kw_only=True)
class TrainerOptions(Options):
    """Where a network is trained; this does not change what it learns."""

    outdir: Path = outdir_option()
    fresh: bool = fresh_option()
    checkpoint_minutes: float = checkpoint_option()
    device: Device = device_option()
