"""Several processes at work in one output folder."""

import contextlib
from collections.abc import Iterator

from dnnlib.runs import OutputFolder
from torch_utils.distributed import World


@contextlib.contextmanager
def at_work_together(output: OutputFolder, world: World) -> Iterator[None]:
    """Begin in the first process and keep other runs out while the block runs in all of them.

    Raises: ValueError in the first process where another run is at work in the folder.
    """
    world.wait()  # until all have looked at the folder as it was
    with output.at_work() if world.is_first else contextlib.nullcontext():
        world.wait()
        yield
