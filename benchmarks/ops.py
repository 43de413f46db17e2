"""Milliseconds of each operation, forward and with derivatives, for each op backend."""

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
from torch_utils.devices import resolve_device
from torch_utils.ops import backends
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.layout import is_channels_last
from torch_utils.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upsample2d,
)

EPILOG = """\b
Examples:
  python benchmarks/ops.py --resolution=64 --channels=128 --batch=8 --threads=1
  python benchmarks/ops.py --resolution=256 --channels=64 --batch=12 --device=cuda --dtype=float16
"""
TAPS = (1.0, 3.0, 3.0, 1.0)


def layout_of(x: torch.Tensor) -> torch.memory_format:
    """Return whether channels are innermost."""
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def make_cases(
    x: torch.Tensor,
) -> dict[str, tuple[Callable[..., torch.Tensor], list[torch.Tensor]]]:
    """Return each operation as a function of tensors, and the tensors."""
    f = setup_filter(TAPS).to(x.device)
    channels = x.shape[1]
    bias = torch.randn([channels], device=x.device, dtype=x.dtype)
    weight = torch.randn([channels, channels, 3, 3], device=x.device, dtype=x.dtype)
    weight = weight.contiguous(memory_format=layout_of(x)) / channels

    def convolution(**options: int) -> Callable[..., torch.Tensor]:
        return lambda x, w: conv2d_resample(x, w, f, padding=1, **options)

    return {
        "bias_act lrelu": (lambda x, b: bias_act(x, b, act="lrelu", clamp=256), [x, bias]),
        "bias_act swish": (lambda x, b: bias_act(x, b, act="swish"), [x, bias]),
        "filter2d": (lambda x: filter2d(x, f), [x]),
        "upsample2d": (lambda x: upsample2d(x, f), [x]),
        "downsample2d": (lambda x: downsample2d(x, f), [x]),
        "conv2d 3x3": (convolution(), [x, weight]),
        "conv2d 3x3 up": (convolution(up=2), [x, weight]),
        "conv2d 3x3 down": (convolution(down=2), [x, weight]),
    }


def make_runs(
    function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], backend: str
) -> dict[str, Callable[[], None]]:
    """Return calls that compute the result, its derivatives, and a gradient penalty's."""
    free = [tensor.detach().clone().requires_grad_() for tensor in inputs]

    def forward() -> None:
        with torch.no_grad(), backends.using(backend):
            function(*inputs)

    def first() -> None:
        with backends.using(backend):
            torch.autograd.grad(function(*free).sum(), free)

    def second() -> None:
        with backends.using(backend):
            with backends.no_weight_gradients():
                y = function(*free).square().sum()
                (grad,) = torch.autograd.grad(y, free[:1], create_graph=True)
            torch.autograd.grad(grad.square().sum(), free)

    return {"forward": forward, "1st": first, "2nd": second}


def measure(x: torch.Tensor, backend_names: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Return the machine and a row of milliseconds for each operation."""
    rows = []
    for name, (function, inputs) in make_cases(x).items():
        runs: dict[str, Callable[[], None]] = {}
        for backend in backend_names:
            for order, run in make_runs(function, inputs, backend).items():
                runs[f"{order} {backend}"] = run
                run()
        seconds = common.interleaved_medians(runs, repeats, x.device)
        milliseconds = {key: value * 1000 for key, value in sorted(seconds.items())}
        rows.append({"operation": name, **milliseconds})
    return {"machine": common.describe_machine(x.device), "rows": rows}


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--resolution", default=64, help="Side of the images.")
@click.option("--channels", default=128, help="Channels of the images.")
@click.option("--batch", default=8, help="Images.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--dtype", default="float32", type=click.Choice(["float32", "float16", "bfloat16"]))
@click.option("--nhwc", type=bool, default=True, help="Channels innermost in memory.")
@click.option("--ops", default="auto,plain", help="Op backends to compare, measured in turn.")
@click.option("--threads", default=None, type=int, help="CPU threads; default: PyTorch's.")
@click.option("--repeats", default=7, help="Rounds; the median counts.")
@click.option("--seed", default=0, help="Of the images.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    resolution: int,
    channels: int,
    batch: int,
    device: str,
    dtype: str,
    nhwc: bool,
    ops: str,
    threads: int | None,
    repeats: int,
    seed: int,
    json_path: Path | None,
) -> None:
    """Time each operation, its derivatives and the derivatives of those, in milliseconds."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False  # as in training
    cli.start_logging()
    with cli.friendly_errors():
        random = torch.Generator().manual_seed(seed)
        x = torch.randn([batch, channels, resolution, resolution], generator=random)
        layout = torch.channels_last if nhwc else torch.contiguous_format
        x = x.to(resolve_device(device), getattr(torch, dtype)).contiguous(memory_format=layout)
        content = measure(x, tuple(ops.split(",")), repeats)
        content["setting"] = {"shape": list(x.shape), "dtype": dtype, "nhwc": nhwc}
        common.report("Operations, milliseconds", content, json_path)


if __name__ == "__main__":
    main()
