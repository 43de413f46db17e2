"""Time, memory and accuracy of training the ensemble, against the published way.

The published way keeps the features of all pixels at full size and trains one classifier after the
other, in shuffled epochs, until the published stopping rule. Accuracy is that of the vote on fresh
samples. With --network (a snapshot trained on example faces) the truth is the automatic
annotator's; without, a random network's images in four steps of brightness.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import upsample_and_concatenate
from interpreter.ensemble import ensemble_from_states, hidden_widths
from interpreter.experiment import Experiment
from interpreter.features import FeatureTable, feature_layout
from interpreter.native import NativeInterpreter
from interpreter.task import EnsembleTask
from networks.config import GeneratorConfig
from networks.generator import Generator
from networks.sampling import IndexedSampler, Truncation
from networks.snapshot import load_generator
from renderer.auto_annotate import AnnotatorOptions, build_annotator
from torch_utils.trainer import Cadence, Trainer

Row = dict[str, Any]
_BRIGHTNESS_CLASSES = 4


@click.command(context_settings={"show_default": True})
@click.option("--network", type=click.Path(path_type=Path), help="Snapshot of example faces.")
@click.option("--resolution", default=256, help="Of the random network.")
@click.option("--images", default=8, help="Annotated images.")
@click.option("--fresh", default=20, help="Samples to measure accuracy on.")
@click.option("--members", default=10, help="Models of the ensemble.")
@click.option("--max-steps", default=2000, help="Of our way; 0 is no limit.")
@click.option("--threads", default=2, help="CPU threads.")
@click.option("--truncation", default=0.7)
@click.option("--plain/--no-plain", default=False, help="Also train in the published way.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of the results.")
def main(plain: bool, out: Path | None, **given: Any) -> None:
    """Print a table of seconds, peak memory and accuracy.

    \b
    Examples:
      python benchmarks/train_interpreter.py
      python benchmarks/train_interpreter.py --network=network-snapshot.pkl --images=16 --plain
    """
    rows = [_in_process(_measure_native, given)]
    if plain:
        rows.append(_in_process(_measure_plain, given))
    click.echo(
        f"{'way':<10}{'seconds':>10}{'CPU s':>10}{'peak GiB':>10}{'steps':>10}"
        f"{'vote':>9}{'member':>9}"
    )
    for row in rows:
        click.echo(
            f"{row['way']:<10}{row['sec']:>10.1f}{row['cpu_sec']:>10.1f}{row['peak_gib']:>10.2f}{row['steps']:>10.0f}"
            f"{row['vote_accuracy']:>9.4f}{row['member_accuracy']:>9.4f}"
        )
    if out is not None:
        options = {key: str(value) for key, value in given.items()}
        out.write_text(json.dumps({"options": options, "results": rows}, indent=2) + "\n")


def _in_process(function: Any, given: dict[str, Any]) -> Row:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=function, args=(sender, given))
    process.start()
    row = receiver.recv()
    process.join()
    return row


class _Task:
    """Generator, truth, and what is learnt and measured on."""

    def __init__(self, given: dict[str, Any]) -> None:
        torch.set_num_threads(given["threads"])
        torch.manual_seed(0)
        self.given, self.annotator = given, None
        if given["network"] is not None:
            self.generator, _ = load_generator(given["network"])
            self.annotator = _annotator(self.generator.config.resolution)
        else:
            config = GeneratorConfig(resolution=given["resolution"], channel_base=16384)
            self.generator = Generator(config).eval().requires_grad_(False)
        self.layout = feature_layout(self.generator.config)
        self.classes = 10 if self.annotator else _BRIGHTNESS_CLASSES
        self.labels = torch.cat(
            [torch.from_numpy(self.truth(sample)).flatten() for sample in self.samples("train")]
        )

    def samples(self, stream: str) -> Any:
        count = self.given["images" if stream == "train" else "fresh"]
        truncation = Truncation(psi=self.given["truncation"], cutoff=8)
        sampler = IndexedSampler(self.generator, name="", stream=stream, truncation=truncation)
        yield from sampler.features(sampler.ws(range(count)))

    def truth(self, sample: Any) -> Any:
        """Return the mask [R, R] uint8 of a sample."""
        if self.annotator:
            return self.annotator.annotate(sample.images)
        nir = Image.fromarray(sample.images["nir"][0]).filter(ImageFilter.GaussianBlur(2))
        return (np.asarray(nir) // (256 // _BRIGHTNESS_CLASSES)).astype(np.uint8)

    def accuracy(self, ensemble: Any) -> tuple[float, float]:
        """Return the accuracy of the vote and the mean of the members' on fresh samples."""
        interpreter = NativeInterpreter(ensemble, self.layout)
        votes, members = [], []
        for sample in self.samples("fresh"):
            truth = torch.from_numpy(self.truth(sample)).flatten()
            votes.append((interpreter.label(sample.maps).labels.flatten() == truth).double().mean())
            labels = interpreter.logits(sample.maps).argmax(dim=2)
            members.append((labels == truth).double().mean())
        return float(torch.stack(votes).mean()), float(torch.stack(members).mean())


def _annotator(resolution: int) -> Any:
    folder = Path(f"/tmp/biface-annotator-{resolution}")  # noqa: S108  # read with weights only
    return build_annotator(AnnotatorOptions(resolution=resolution), folder)


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _measure_native(sender: Any, given: dict[str, Any]) -> None:
    task = _Task(given)
    start, cpu = time.perf_counter(), time.process_time()
    table = FeatureTable(task.layout, given["images"])
    for index, sample in enumerate(task.samples("train")):
        table.put(index, sample.maps)
    experiment = Experiment(model_num=given["members"], max_steps=given["max_steps"])
    training = EnsembleTask(task.labels, task.layout, experiment, task.classes, table.device)
    training.table = table
    with tempfile.TemporaryDirectory() as folder:
        Trainer(training, Path(folder), Cadence(row_steps=experiment.evaluate_every)).run()
        steps = training.export(Path(folder))["steps"]
    row = {"way": "native", "sec": time.perf_counter() - start}
    row |= {"cpu_sec": time.process_time() - cpu, "peak_gib": _peak_gib()}
    vote, member = task.accuracy(training.kept)
    sender.send({**row, "steps": steps, "vote_accuracy": vote, "member_accuracy": member})


def _measure_plain(sender: Any, given: dict[str, Any]) -> None:
    task = _Task(given)
    start, cpu = time.perf_counter(), time.process_time()
    size = task.layout.resolution
    features = torch.empty([given["images"] * size * size, task.layout.total])
    for index, sample in enumerate(task.samples("train")):
        full = upsample_and_concatenate([m[None] for m in sample.maps], size)[0]
        features[index * size * size : (index + 1) * size * size] = full.flatten(1).t()
    states, steps = [], []
    for member in range(given["members"]):
        state, count = _train_plain(features, task.labels.long(), task.classes, member)
        states.append(state)
        steps.append(count)
    row = {"way": "published", "sec": time.perf_counter() - start}
    row |= {"cpu_sec": time.process_time() - cpu, "peak_gib": _peak_gib()}
    vote, member_accuracy = task.accuracy(ensemble_from_states(states, "plain"))
    mean_steps = sum(steps) / len(steps)
    sender.send(
        {**row, "steps": mean_steps, "vote_accuracy": vote, "member_accuracy": member_accuracy}
    )


def _train_plain(features: Any, labels: Any, classes: int, member: int) -> tuple[Any, int]:
    """Train one classifier in shuffled epochs until the published rule; return state and steps."""
    torch.manual_seed(member)
    first, second = hidden_widths(classes)
    model = nn.Sequential(
        *(nn.Linear(features.shape[1], first), nn.ReLU(), nn.BatchNorm1d(first)),
        *(nn.Linear(first, second), nn.ReLU(), nn.BatchNorm1d(second), nn.Linear(second, classes)),
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, stale, steps = float("inf"), 0, 0
    for epoch in range(100):
        for pixels in torch.randperm(len(features)).split(64)[:-1]:
            loss = nn.functional.cross_entropy(model(features[pixels]), labels[pixels])
            adam.zero_grad()
            loss.backward()
            adam.step()
            steps += 1
            value = loss.item()
            best, stale = (value, 0) if value < best else (best, stale + 1)
            if epoch >= 3 and stale > 50:
                return model.state_dict(), steps
    return model.state_dict(), steps


if __name__ == "__main__":
    main()
