"""Time and memory of the privacy filter, against the generator and the recogniser before it.

Each candidate is compared with every known vector, exactly. Random weights and vectors.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from biometrics.backbones import build_backbone, named_backbone
from biometrics.embedding import Embedder, Preprocessing
from dnnlib import cli
from metrics.nearest import References
from networks.config import GeneratorConfig
from networks.generator import Generator
from networks.sampling import Sampler, Truncation, micro_batch_size
from torch_utils.devices import resolve_device

WIDTH = 512
EPILOG = """\b
Examples:
  python benchmarks/filter.py --threads=2
  python benchmarks/filter.py --device=cuda --samples=256 --repeats=10 --json=filter.json
"""


def build_sampler(resolution: int, micro_batch: int | None, device: torch.device) -> Sampler:
    """Return a random conditional generator."""
    torch.manual_seed(0)
    config = GeneratorConfig(resolution=resolution, c_dim=WIDTH, channel_base=16384)
    generator = Generator(config).to(device).eval().requires_grad_(False)
    return Sampler(generator, truncation=Truncation(psi=0.7), micro_batch=micro_batch)


def build_embedder(backbone: str, micro_batch: int, device: torch.device) -> Embedder:
    """Return a random recogniser."""
    torch.manual_seed(0)
    config = named_backbone(backbone)
    network = build_backbone(config).requires_grad_(False)
    return Embedder(
        network,
        Preprocessing(size=config.size),
        hash="",
        width=WIDTH,
        device=device,
        micro_batch=micro_batch,
    )


def unit_vectors(count: int) -> np.ndarray:
    """Return random float32 directions, made in blocks."""
    random = np.random.default_rng(0)
    rows = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 10000):
        part = random.standard_normal((min(10000, count - start), WIDTH), np.float32)
        rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def latents(count: int) -> tuple[Tensor, Tensor]:
    """Return latents and conditions."""
    random = torch.Generator().manual_seed(0)
    z, c = torch.randn([2, count, WIDTH], generator=random)
    return z, 4 * c / c.norm(dim=1, keepdim=True)


def time_filter(given: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """Return a row a number of known vectors: the filter's share of generator and recogniser."""
    count = given["samples"]
    sampler = build_sampler(given["resolution"], given["micro_batch"], device)
    embedder = build_embedder(given["backbone"], 32, device)
    z, c = latents(count)
    images = sampler.pixels(sampler.map(z, c))["rgb"]
    vectors = embedder.embed(images).numpy()
    rows = []
    for known in sorted(int(text) for text in given["known"].split(",")):
        people = unit_vectors(known)
        references = References(people, device=device)
        planted = np.linspace(0, known - 1, 8).astype(np.int64)
        found = references.nearest(people[planted])
        assert (found.indices == planted).all(), "a copy is its own nearest neighbour"
        del people
        stages: dict[str, Callable[[], object]] = {
            "generator": lambda: sampler.pixels(sampler.map(z, c)),
            "recogniser": lambda: embedder.embed(images),
            "filter": lambda references=references: references.nearest(vectors),
        }
        stages["filter"]()
        seconds = common.interleaved_medians(stages, given["repeats"], device)
        rest = seconds["generator"] + seconds["recogniser"]
        rows.append(
            {
                "known": known,
                **{f"{name} ms/sample": 1e3 * sec / count for name, sec in seconds.items()},
                "filter adds %": 100 * seconds["filter"] / rest,
                "peak GB": common.peak_memory_gb(device),
            }
        )
    return rows


def time_batches(given: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    """Return samples a second of generator and recogniser, one by one and in batches."""
    count = given["samples"]
    z, c = latents(count)
    runs: dict[str, Callable[[], object]] = {}
    for size in (1, given["batch"]):
        sampler = build_sampler(given["resolution"], size, device)
        embedder = build_embedder(given["backbone"], size, device)
        runs[str(size)] = lambda sampler=sampler, embedder=embedder: embedder.embed(
            sampler.pixels(sampler.map(z, c))["rgb"]
        )
        runs[str(size)]()
    seconds = common.interleaved_medians(runs, given["repeats"], device)
    return [{"batch": size, "samples/sec": count / sec} for size, sec in seconds.items()]


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--resolution", default=256, help="Side of the images.")
@click.option("--backbone", default="r50", help="Recogniser.")
@click.option("--known", default="100000,1000000", help="Numbers of known vectors.")
@click.option("--samples", default=64, help="Candidates a round.")
@click.option("--batch", default=64, help="Compared with one by one.")
@click.option("--micro-batch", type=int, help="Of the generator; by default by device and size.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
@click.option("--repeats", default=5, help="Rounds; the median counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(threads: int | None, json_path: Path | None, **given: Any) -> None:
    """Time the comparison with all training people, and generation one by one and in batches."""
    if threads is not None:
        torch.set_num_threads(threads)
    cli.start_logging()
    with cli.friendly_errors():
        device = torch.device(resolve_device(given["device"]))
        size = micro_batch_size(given["resolution"], device.type)
        given["micro_batch"] = given["micro_batch"] or size
        machine = common.describe_machine(device)
        rows, batches = time_filter(given, device), time_batches(given, device)
    common.report("Batches", {"machine": machine, "rows": batches}, None)
    content = {"machine": machine, "rows": rows, "batches": batches, "setting": given}
    common.report("Privacy filter", content, json_path)


if __name__ == "__main__":
    main()
