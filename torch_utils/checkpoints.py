"""Full states on disk: written whole or not at all, read without executing anything."""

import os
from pathlib import Path
from typing import Any

import torch

from dnnlib import files


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write tensors and plain containers atomically; equal states give equal bytes."""
    # Through an open file, torch gives the archive a constant inner name.
    with files.atomic_write(path) as file:
        torch.save(state, file)


def load_checkpoint(path: str | os.PathLike[str], device: torch.device) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto `device`.

    Raises: ValueError naming the file where it is damaged or holds more than plain content.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{path}: not a readable checkpoint: {reason}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: a checkpoint is a dict, got {type(state).__name__}")
    return state
