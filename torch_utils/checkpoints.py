"""Full states on disk: written whole or not at all, read without executing anything."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib import files
from dnnlib.extras import need
from torch_utils.safe_pickle import load_archive


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write tensors and plain containers atomically; equal states give equal bytes."""
    # Through an open file, torch gives the archive a constant inner name.
    with files.atomic_write(path) as file:
        torch.save(_with_equal_texts_shared(state), file)


def load_checkpoint(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    kind: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto `device`.

    Args:
        path: the file.
        device: where its tensors go.
        kind: "format" and "version" that it must have; None takes any.
    Raises: FileNotFoundError; ValueError naming the file where it is damaged, holds more than plain
        content, or is of another kind.
    """
    state = load_archive(path, device, keys=(str, int))
    if not isinstance(state, dict):
        raise ValueError(f"{path}: a checkpoint is a dict, got {type(state).__name__}")
    found = state.get("format"), state.get("version")
    if kind is not None and found != kind:
        raise ValueError(
            f"{path}: not a {kind[0]} of version {kind[1]}, got format {found[0]!r}, version "
            f"{found[1]!r}"
        )
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a .safetensors file.

    Raises: FileNotFoundError; ValueError naming the file, also where safetensors is not installed.
    """
    need(f"{path}", "safetensors")
    from safetensors import SafetensorError  # noqa: PLC0415  # optional
    from safetensors.torch import load  # noqa: PLC0415

    files.check_content(path)
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors; not of the file they are in, nor of their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(plain.dtype), list(plain.shape)]).encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _with_equal_texts_shared(value: Any) -> Any:
    """Return new containers in which equal texts are one object, since pickle writes that once.

    Whether two equal texts were one object before depends on where a state came from: a loaded one
    differs there from the one that was saved. Tensors stay as they are.
    """
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, Mapping):
        return {
            _with_equal_texts_shared(key): _with_equal_texts_shared(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_with_equal_texts_shared(entry) for entry in value)
    return value
