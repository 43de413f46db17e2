"""Seconds and memory of the numbers behind image quality, on random features."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from dnnlib import cli
from metrics.distances import frechet_distance, kernel_distance
from metrics.diversity import vendi_score
from metrics.neighbours import neighbour_scores
from metrics.statistics import Features, Moments, compute_moments

EPILOG = """\b
Examples:
  python benchmarks/metrics.py --threads=2 --json=metrics.json
  python benchmarks/metrics.py --tasks=neighbours --neighbours=2000 --threads=1
"""

TASKS = ("statistics", "frechet", "kernel", "neighbours", "vendi")


def draw(count: int, width: int, seed: int) -> Features:
    """Return features of their own: [count, width] float32."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, width), np.float32) + np.float32(0.02 * seed)


def moments_of(width: int, seed: int) -> Moments:
    """Return moments of full rank."""
    return compute_moments(draw(width + 1000, width, seed))


def build_task(name: str, count: int, width: int) -> Callable[[], object]:
    """Return the call of a task, with its inputs made."""
    match name:
        case "statistics":
            return partial(compute_moments, draw(count, width, 0))
        case "frechet":
            return partial(frechet_distance, moments_of(width, 0), moments_of(width, 1))
        case "kernel":
            return partial(kernel_distance, draw(count, width, 0), draw(count, width, 1), seed=0)
        case "neighbours":
            return partial(neighbour_scores, draw(count, width, 0), draw(count, width, 1), k=3)
        case _:
            return partial(vendi_score, draw(count, width, 0))


def measure(names: list[str], width: int, sizes: Mapping[str, int], repeats: int) -> dict[str, Any]:
    """Return the machine and a row for each task, with the process's peak memory so far."""
    device = torch.device("cpu")
    rows = []
    for name in names:
        count = sizes.get(name, width)
        task = build_task(name, count, width)
        began = time.process_time()
        seconds = common.interleaved_medians({name: task}, repeats, device)[name]
        row = {"task": name, "samples": count, "width": width, "seconds": seconds}
        row["CPU seconds"] = (time.process_time() - began) / repeats
        rows.append({**row, "peak GB": common.peak_memory_gb(device)})
    return {"machine": common.describe_machine(device), "rows": rows}


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--tasks", default=",".join(TASKS), help="What is timed, in this order.")
@click.option("--width", default=2048, help="Numbers in a feature.")
@click.option("--statistics", default=50_000, help="Samples of mean and covariance.")
@click.option("--kernel", default=5_000, help="Samples of each set for the kernel distance.")
@click.option("--neighbours", default=10_000, help="Samples of each set for nearest neighbours.")
@click.option("--threads", default=None, type=int, help="CPU threads; default: the libraries'.")
@click.option("--repeats", default=1, help="Rounds; the median counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    tasks: str,
    width: int,
    threads: int | None,
    repeats: int,
    json_path: Path | None,
    **sizes: int,
) -> None:
    """Time means and covariances, distances, nearest neighbours and diversity.

    CPU seconds are of all threads together, and hardly move when others use the machine. Peak
    memory is that of the process until then: put the task that counts first.
    """
    if threads is not None:  # NumPy's library reads it when it is loaded
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    names = tasks.split(",")
    sizes["vendi"] = sizes["neighbours"]
    with cli.friendly_errors():
        if not set(names) <= set(TASKS):
            raise ValueError(f"--tasks must be of {', '.join(TASKS)}, got {tasks!r}")
        content = measure(names, width, sizes, repeats)
    common.report("Metrics", content, json_path)


if __name__ == "__main__":
    main()
