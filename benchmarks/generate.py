"""Seconds an image of generation by batch size, for one or several op backends."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from dnnlib import cli
from networks.config import GeneratorConfig
from networks.generator import Generator
from torch_utils.devices import resolve_device, use_repeatable_arithmetic
from torch_utils.ops import backends

EPILOG = """\b
Examples:
  python benchmarks/generate.py --resolution=256 --cbase=16384 --batches=1,4,16 --threads=2
  python benchmarks/generate.py --batches=1,16,64 --device=cuda --json=generate.json
"""


def build_generator(
    resolution: int, cbase: int, cmax: int, *, fp32: bool, nhwc: bool, device: torch.device
) -> Generator:
    """Return a random generator that draws both modalities."""
    config = GeneratorConfig(
        resolution=resolution,
        channel_base=cbase,
        channel_max=cmax,
        num_fp16_res=0 if fp32 else 4,
        conv_clamp=None if fp32 else 256.0,
    )
    torch.manual_seed(0)
    layout = torch.channels_last if nhwc else torch.contiguous_format
    generator = Generator(config).to(device=device, memory_format=layout)
    return generator.eval().requires_grad_(False)


def make_run(generator: Generator, batch: int, backend: str) -> Callable[[], None]:
    """Return a call that maps and draws a batch of pairs."""
    device = generator.mapping.w_avg.device
    random = torch.Generator().manual_seed(batch)
    z = torch.randn([batch, generator.config.z_dim], generator=random).to(device)

    def run() -> None:
        with torch.inference_mode(), backends.using(backend):
            generator(z, truncation_psi=0.7, noise_mode="const")

    return run


def measure(
    generator: Generator, batches: tuple[int, ...], backend_names: tuple[str, ...], repeats: int
) -> dict[str, Any]:
    """Return the machine and a row for each batch size and backend."""
    device = generator.mapping.w_avg.device
    rows = []
    for batch in batches:
        runs = {backend: make_run(generator, batch, backend) for backend in backend_names}
        common.reset_peak_memory(device)
        for run in runs.values():
            run()
        for backend, seconds in common.interleaved_medians(runs, repeats, device).items():
            row = {"batch": batch, "ops": backend, "sec/image": seconds / batch}
            rows.append({**row, "images/sec": batch / seconds})
    peak = common.peak_memory_gb(device)
    return {"machine": common.describe_machine(device), "rows": rows, "peak_memory_gb": peak}


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--resolution", default=256, help="Side of the images.")
@click.option("--cbase", default=16384, help="Channels of a block: cbase / resolution ...")
@click.option("--cmax", default=512, help="... but at most this many.")
@click.option("--batches", default="1,4,16", help="Batch sizes.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--fp32", type=bool, default=False, help="No 16-bit blocks on CUDA.")
@click.option("--nhwc", type=bool, default=False, help="Channels innermost; not in generate.py.")
@click.option("--ops", default="auto,plain", help="Op backends to compare, measured in turn.")
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
@click.option("--repeats", default=5, help="Rounds; the median counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    batches: str,
    device: str,
    ops: str,
    threads: int | None,
    repeats: int,
    json_path: Path | None,
    **sizes: Any,
) -> None:
    """Time the drawing of pairs of images from latents."""
    if threads is not None:
        torch.set_num_threads(threads)
    cli.start_logging()
    with cli.friendly_errors():
        use_repeatable_arithmetic()  # as generate.py does
        generator = build_generator(**sizes, device=torch.device(resolve_device(device)))
        counts = tuple(int(text) for text in batches.split(","))
        content = measure(generator, counts, tuple(ops.split(",")), repeats)
        content["setting"] = sizes
        common.report("Generation", content, json_path)


if __name__ == "__main__":
    main()
