"""Several processes of this program on this machine."""

import os
import subprocess
import sys
from typing import NoReturn


def is_first_process() -> bool:
    """Tell whether this is the process that speaks: torchrun's rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def restart_under_torchrun(count: int) -> NoReturn:
    """Replace this process by torchrun with `count` processes of the same command.

    The end of one process ends the others, and torchrun says which one and why.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", *sys.argv]
    if os.name == "nt":  # where exec returns to the shell at once
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)  # noqa: S606  # no shell: a list of arguments
