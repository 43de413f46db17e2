"""Started by torchrun: an optimizer is built beside the group; writes who still holds it after."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from torch_utils.distributed import init_distributed  # noqa: E402

OURS = 2  # references: the name in the function, and the argument of getrefcount


def holders_after_the_end() -> int:
    with init_distributed(torch.device("cpu")) as world:
        group = dist.group.WORLD
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)  # imports much of torch
        world.barrier()
    return sys.getrefcount(group) - OURS


if __name__ == "__main__":
    sys.stdout.write(f"{holders_after_the_end()} others hold the group\n")
