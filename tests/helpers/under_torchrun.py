"""Restarts itself under torchrun; each process there tells its words and who holds the group."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dnnlib.cli import restart_under_torchrun  # noqa: E402

OURS = 2  # references to the group: the name in the function, and the argument of getrefcount


def count_holders():
    """Return how many others hold a process group after its end, beside which torch was used."""
    import torch  # noqa: PLC0415  # not before the restart

    from torch_utils.distributed import init_distributed  # noqa: PLC0415

    with init_distributed(torch.device("cpu")) as world:
        group = torch.distributed.group.WORLD
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)  # imports much of torch
        world.barrier()
    return sys.getrefcount(group) - OURS


if __name__ == "__main__":
    if "RANK" not in os.environ:
        restart_under_torchrun(2)
    sys.stdout.write(f"{sys.argv[1:]}: {count_holders()} others hold the group\n")
