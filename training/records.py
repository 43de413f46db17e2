"""What a run writes down: stats.jsonl, TensorBoard and the status line."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dnnlib import files
from dnnlib.text import format_seconds
from training.state import TrainingState
from training.terms import SUFFIXES

STATS_FILE = "stats.jsonl"

Row = dict[str, dict[str, float]]

_log = logging.getLogger(__name__)


class Records:
    """Appends one row a tick to stats.jsonl and shows it in TensorBoard, where that is installed.

    Args:
        folder: of the run.
        ticks: rows to keep of an earlier process; what lies behind the last checkpoint is dropped.
    """

    def __init__(self, folder: Path, ticks: int) -> None:
        self.path = folder / STATS_FILE
        self._trim(ticks)
        self._writer = _open_tensorboard(folder)

    def write(self, row: Row, nimg: int) -> None:
        """Append a row and flush it."""
        line = json.dumps({**row, "timestamp": time.time()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(name, value["mean"], global_step=nimg)
            self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()

    def _trim(self, ticks: int) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        with files.atomic_write(self.path, "w") as file:
            file.writelines(lines[:ticks])


def collect_row(state: TrainingState, timing: Mapping[str, float]) -> Row:
    """Return the statistics of a tick under their published names.

    Args:
        state: whose statistics are read; one synchronisation with the device.
        timing: "name" -> seconds, reported as Timing/name.
    """
    row = state.statistics.summary()
    scalars = {
        "Progress/tick": float(state.tick),
        "Progress/kimg": state.nimg / 1e3,
        **{f"Timing/{name}": value for name, value in timing.items()},
        **{f"Resources/{name}": value for name, value in memory_gib(state.device).items()},
    }
    for name, controller in state.ada.items():
        scalars[f"Progress/augment{SUFFIXES[name]}"] = controller.p
    for name, value in scalars.items():
        row[name] = {"num": 1, "mean": value, "std": 0.0}
    return row


def memory_gib(device: torch.device) -> dict[str, float]:
    """Return the process's peak memory on CPU and GPU in GiB, as far as the platform tells."""
    memory = {"cpu_mem_gb": _peak_cpu_gib(), "peak_gpu_mem_gb": 0.0}
    if device.type == "cuda":
        memory["peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
        torch.cuda.reset_peak_memory_stats(device)
    return memory


def status_line(row: Row, state: TrainingState, seconds_left: float) -> str:
    """Return one line for people about the tick in `row`."""
    mean = {name: value["mean"] for name, value in row.items()}
    augment = "/".join(f"{controller.p:.3f}" for controller in state.ada.values())
    steps = row.get("Progress/nonfinite_steps", {"num": 0, "mean": 0.0})
    bad = steps["num"] * steps["mean"]
    parts = [
        f"tick {state.tick:<5d}",
        f"kimg {mean['Progress/kimg']:<8.1f}",
        f"time {format_seconds(mean['Timing/total_sec']):<10s}",
        f"sec/tick {mean['Timing/sec_per_tick']:<7.1f}",
        f"sec/kimg {mean['Timing/sec_per_kimg']:<7.2f}",
        f"maintenance {mean['Timing/maintenance_sec']:<6.1f}",
        f"cpumem {mean['Resources/cpu_mem_gb']:<6.2f}",
        f"gpumem {mean['Resources/peak_gpu_mem_gb']:<6.2f}",
        f"augment {augment}",
        f"left {format_seconds(seconds_left)}",
    ]
    if bad:
        parts.append(f"non-finite steps {bad:.0f}")
    return " ".join(parts)


def _peak_cpu_gib() -> float:
    try:
        import resource  # noqa: PLC0415  # absent on Windows
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # optional and slow
    except ImportError:
        _log.info("tensorboard is not installed: stats.jsonl has all the numbers")
        return None
    return SummaryWriter(str(folder))
