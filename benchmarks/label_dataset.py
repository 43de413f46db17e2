"""Time and memory of labelling one image, generator included, against the plain definition.

The plain way builds all features at full size and asks one classifier after the other; it is what
the published code does, in its plainest form. Each way runs in a process of its own, so that its
peak memory is its own. Random weights.
"""

import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import synchronize, upsample_and_concatenate
from interpreter.ensemble import PixelEnsemble, hidden_widths
from interpreter.features import feature_layout
from interpreter.native import Consensus, NativeInterpreter
from networks.config import GeneratorConfig
from networks.generator import Generator
from networks.sampling import IndexedSampler, Truncation

Row = dict[str, Any]


@click.command(context_settings={"show_default": True})
@click.option("--resolution", default=256, help="Side of the images in pixels.")
@click.option("--members", default=10, help="Models of the ensemble.")
@click.option("--classes", default=4)
@click.option("--images", default=5, help="Timed after one that is not.")
@click.option("--threads", default=2, help="CPU threads.")
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]))
@click.option("--cbase", default=16384, help="Channels of a block: cbase / resolution.")
@click.option("--plain/--no-plain", default=True, help="Also time the plain definition.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of the results.")
def main(plain: bool, out: Path | None, **given: Any) -> None:
    """Print a table of seconds an image and peak memory.

    \b
    Examples:
      python benchmarks/label_dataset.py
      python benchmarks/label_dataset.py --resolution=128 --threads=1 --out=label.json
    """
    rows = [_in_process(_measure_native, given)]
    if plain:
        rows.append(_in_process(_measure_plain, {**given, "images": min(2, given["images"])}))
        rows[0]["equal_labels"] = _in_process(_compare, given)["equal_labels"]
    header = (
        f"{'way':<10}{'generator s':>12}{'labels s':>10}{'total s':>10}{'CPU s':>9}{'peak GiB':>10}"
    )
    click.echo(header)
    for row in rows:
        total = row["generator_sec"] + row["label_sec"]
        click.echo(
            f"{row['way']:<10}{row['generator_sec']:>12.3f}{row['label_sec']:>10.3f}"
            f"{total:>10.3f}{row['cpu_sec']:>9.3f}{row['peak_gib']:>10.2f}"
        )
    if plain:
        click.echo(f"equal labels: {100 * rows[0]['equal_labels']:.4f} %")
    if out is not None:
        out.write_text(json.dumps({"options": given, "results": rows}, indent=2) + "\n")


def _in_process(function: Callable[[Any, dict[str, int]], None], given: dict[str, Any]) -> Row:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(sender, given))
    process.start()
    row = receiver.recv()
    process.join()
    return row


def _build(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return generator, ensemble and the layout of features."""
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    config = GeneratorConfig(resolution=given["resolution"], channel_base=given["cbase"])
    generator = Generator(config).eval().requires_grad_(False).to(given["device"])
    layout = feature_layout(config)
    widths = (layout.total, hidden_widths(given["classes"]), given["classes"])
    ensemble = PixelEnsemble(*widths, given["members"]).eval().requires_grad_(False)
    ensemble = ensemble.to(given["device"])
    return generator, ensemble, layout


def _draw(generator: Any, index: int) -> list[Any]:
    truncation = Truncation(psi=0.5, cutoff=8)
    sampler = IndexedSampler(generator, name="", stream="benchmark", truncation=truncation)
    sampler.micro_batch = 1
    return next(sampler.features(sampler.ws([index]))).maps


def _measure(way: str, given: dict[str, Any], generator: Any, label: Callable[[Any], Any]) -> Row:
    times = []
    cpu = 0.0
    for index in range(given["images"] + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        maps = _draw(generator, index)
        synchronize(maps[0].device)
        drawn = time.perf_counter()
        label(maps)
        synchronize(maps[0].device)
        times.append((drawn - start, time.perf_counter() - drawn))
        cpu += (time.process_time() - cpu_start) * (index > 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "way": way,
        "generator_sec": statistics.median(drawing for drawing, _ in times[1:]),
        "label_sec": statistics.median(labelling for _, labelling in times[1:]),
        "cpu_sec": cpu / given["images"],
        "peak_gib": peak,
    }


def _measure_native(sender: Any, given: dict[str, Any]) -> None:
    generator, ensemble, layout = _build(given)
    interpreter = NativeInterpreter(ensemble, layout)
    sender.send(_measure("native", given, generator, interpreter.label))


def _measure_plain(sender: Any, given: dict[str, Any]) -> None:
    generator, ensemble, layout = _build(given)
    sender.send(
        _measure("plain", given, generator, lambda maps: _plain_labels(ensemble, layout, maps))
    )


def _plain_labels(ensemble: Any, layout: Any, maps: list[Any]) -> Any:
    """Label by full-size features; the consensus is that of the fast way."""
    with torch.inference_mode():
        full = upsample_and_concatenate([m[None] for m in maps], layout.resolution)
        features = full[0].flatten(1).t().contiguous()
        del full
        result = Consensus(len(features), ensemble.widths[3], features.device)
        logits = [_member(ensemble, member, features) for member in range(ensemble.members)]
        result.add(torch.stack(logits).transpose(1, 2), slice(0, len(features)))
        result.divergence()
        return result.labels()


def _member(ensemble: Any, member: int, x: Any) -> Any:
    for index in range(3):
        x = F.linear(x, ensemble.weights[index][member], ensemble.biases[index][member])
        if index < 2:
            mean, var = ensemble.running(index)
            weight, bias = ensemble.norm_weights[index][member], ensemble.norm_biases[index][member]
            x = F.batch_norm(F.relu(x), mean[member], var[member], weight, bias)
    return x


def _compare(sender: Any, given: dict[str, Any]) -> None:
    generator, ensemble, layout = _build(given)
    maps = _draw(generator, 0)
    labels = NativeInterpreter(ensemble, layout).label(maps).labels.flatten()
    same = (labels == _plain_labels(ensemble, layout, maps)).double().mean()
    sender.send({"equal_labels": float(same)})


if __name__ == "__main__":
    main()
