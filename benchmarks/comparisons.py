"""All images of a set against each other: comparisons a second and memory, without their matrix."""

import sys
import time
from pathlib import Path
from typing import Any

import click

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dnnlib import cli

EPILOG = """\b
Examples:
  python benchmarks/comparisons.py --images=10000,40000
  python benchmarks/comparisons.py --images=1000000 --width=512 --device=cuda --json=out.json

\b
`matrix GB` is what all scores would take as float32, `grown GB` how much the process (on CUDA: the
GPU's tensors) grew beyond the embeddings at its peak. EER and its interval come after the time."""

PEOPLE_SHARE = 10  # images a person


def measure(images: int, width: int, device_name: str) -> dict[str, Any]:
    """Return one row for a set of random people."""
    import numpy as np  # noqa: PLC0415  # slow; --help needs none
    import torch  # noqa: PLC0415

    from benchmarks import common  # noqa: PLC0415
    from biometrics.comparisons import HistogramComparisons, Side  # noqa: PLC0415
    from biometrics.verification import score_comparisons  # noqa: PLC0415

    device = torch.device(device_name)
    rng = np.random.default_rng(0)
    people = np.arange(images) // PEOPLE_SHARE
    vectors = rng.standard_normal((people[-1] + 1, width), np.float32)[people]
    vectors += rng.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    side = Side(vectors=vectors, identities=people.astype(str).tolist())
    before = common.peak_memory_gb(device)
    began = time.perf_counter()
    found = HistogramComparisons(side, device=device)
    common.synchronize(device)
    seconds = time.perf_counter() - began
    grown = common.peak_memory_gb(device) - before
    count = found.num_mated + found.num_non_mated
    return {
        "images": images,
        "comparisons": count,
        "seconds": seconds,
        "million/s": count / seconds / 1e6,
        "matrix GB": images**2 * 4 / 1e9,
        "grown GB": grown,
        "EER": score_comparisons(found).eer.value,
    }


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--images", default="10000,40000", metavar="LIST", help="Sizes of the set, rising.")
@click.option("--width", default=128, help="Numbers in an embedding.")
@click.option("--threads", default=1, help="CPU threads.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(images: str, width: int, threads: int, device: str, json_path: Path | None) -> None:
    """Count the scores of all comparisons within sets of random people."""
    import torch  # noqa: PLC0415

    from benchmarks import common  # noqa: PLC0415

    torch.set_num_threads(threads)
    with cli.friendly_errors():
        sizes = [int(size) for size in images.split(",")]
        rows = [measure(size, width, device) for size in sizes]
    content = {"machine": common.describe_machine(torch.device(device)), "rows": rows}
    common.report("Comparisons", content, json_path)


if __name__ == "__main__":
    main()
