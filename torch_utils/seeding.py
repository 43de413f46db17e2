"""Random streams that depend on a seed and an index alone, so that any run can be continued."""

import hashlib

import torch


def derive_seed(seed: int, *path: int | str) -> int:
    """Return a 63-bit seed for one place of a run, such as (seed, "augment", step).

    Distinct paths give independent seeds; nothing else enters, so step n draws the same numbers
    whether the run got there in one go or was restarted.
    """
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(
    seed: int, *path: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a torch generator seeded by `derive_seed` on the device that will draw."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *path))
