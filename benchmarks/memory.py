"""Bytes of tensors that live at once in a training iteration: what a GPU must hold at least.

Needs no GPU: the iteration really runs, on the CPU in float32, and every tensor is counted from its
making to its end. A GPU needs less where blocks compute in 16 bits, and beside the tensors its
context and the working space of cuDNN, about 1 GB.
"""

import sys
import weakref
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.train_step import Setting, build_iteration, phase_runs, random_batch
from dnnlib import cli

_BLOCK_BYTES = 512  # a GPU's memory is given out in multiples of this

EPILOG = """\b
Examples:
  python benchmarks/memory.py --resolution=256 --cbase=16384 --batch=12
"""


class TensorBytes(TorchDispatchMode):
    """Counts the memory of tensors that operations make while the block runs.

    Attributes:
        now: bytes of those that live.
        peak: most at once so far; may be set back to `now`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        num_bytes = -(-storage.nbytes() // _BLOCK_BYTES) * _BLOCK_BYTES
        self._known.add(storage)
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, num_bytes)

    def _forget(self, num_bytes: int) -> None:
        self.now -= num_bytes


def measure(setting: Setting) -> dict[str, Any]:
    """Return machine, setting and a row a phase: 10^9 bytes at its start and at most."""
    count = TensorBytes()
    rows = []
    with count:
        iteration = build_iteration(setting)
        batch = random_batch(setting)
        runs = phase_runs(iteration, iteration.phases, batch, "plain")
        for run in runs.values():
            run()  # optimizers have their moments after the first step
        for name, run in runs.items():
            began = count.peak = count.now
            run()
            rows.append({"phase": name, "before GB": began / 1e9, "peak GB": count.peak / 1e9})
    machine = common.describe_machine(iteration.device)
    return {"machine": machine, "setting": vars(setting), "rows": rows}


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--resolution", default=256, help="Side of the images.")
@click.option("--cbase", default=16384, help="Channels of a block: cbase / resolution ...")
@click.option("--cmax", default=512, help="... but at most this many.")
@click.option("--w-dim", default=512, help="Width of w and z.")
@click.option("--map-depth", default=2, help="Mapping layers.")
@click.option("--batch", default=12, help="Images at once.")
@click.option("--p", default=0.0, help="Strength of bgc augmentation; 0 for none.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(json_path: Path | None, **options: Any) -> None:
    """Count the tensors of a training iteration by phase, all discriminators together."""
    cli.start_logging()
    rest: dict[str, Any] = {"fp32": True, "half": "float16", "nhwc": False, "allow_tf32": False}
    with cli.friendly_errors():
        content = measure(Setting(**options, **rest, device="cpu", seed=0))
        common.report("Tensors of a training iteration", content, json_path)


if __name__ == "__main__":
    main()
