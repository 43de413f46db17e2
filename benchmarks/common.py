"""What all benchmarks share: timing, a description of the machine, tables and JSON."""

import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from torch.nn.functional import interpolate

from dnnlib import files
from metrics.segmentation import intersection_over_union

ROOT = Path(__file__).resolve().parents[1]


def interleaved_medians(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Time functions in turn, so that a machine that slows down slows all of them.

    Args:
        functions: what to time, by name; each has already run once.
        repeats: rounds.
        device: whose queue is waited for.
    Returns: median seconds a call by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize(device)
            began = time.perf_counter()
            function()
            synchronize(device)
            seconds[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_gb(device: torch.device) -> float:
    """Return the largest memory so far in 10^9 bytes: of the GPU's tensors, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new count of the GPU's memory; a process cannot forget its own peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what a number of seconds depends on besides the code."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _processor() -> str:
    """Return the processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a Markdown table; the keys of the first row are its columns."""
    columns = list(rows[0])
    cells = [columns, *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    lines = [_line(line, widths) for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return "| " + " | ".join(padded) + " |"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report(title: str, content: dict[str, Any], json_path: Path | None) -> None:
    """Print a benchmark's machine and rows, and write all of it as JSON where that is wanted.

    Args:
        title: of the table.
        content: has "machine" and "rows", and whatever else belongs into the file.
        json_path: file to write; None for none.
    """
    machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    click.echo(f"{title}\n{machine}\n\n{format_table(content['rows'])}")
    if json_path is not None:
        files.write_json(json_path, {"benchmark": title, **content})


def class_ious(confusion: Any) -> list[float | None]:
    """Return the intersection over union of each class, None for one that is in no mask."""
    values = intersection_over_union(np.asarray(confusion)).tolist()
    return [None if math.isnan(value) else value for value in values]


def upsample_and_concatenate(maps: Sequence[torch.Tensor], resolution: int) -> torch.Tensor:
    """Return pixel features as published code makes them, in full: [N, sum of C, R, R].

    Args:
        maps: [N, C, side, side] each.
        resolution: R, side of the result.
    """
    size = [resolution, resolution]
    full = [interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(full, dim=1)
