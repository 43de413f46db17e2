"""Run the whole pipeline on rendered example faces, one printed command a step."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import Any, Literal

import click

from dnnlib import files
from dnnlib.command import command, lazy
from dnnlib.options import Device, Job, Options, Progress, device_option, option
from dnnlib.text import format_seconds

EXAMPLES = """
  python demo.py
  python demo.py --size=64 --kimg=300 --device=cuda
  python demo.py --list
"""
EPILOG = """
Repeating it skips the steps whose commands have been run, and continues where it was stopped.
"""
STATE_FILE = "steps.json"
_write_report = lazy("evaluation.html:write_report")
_pipeline_step = lazy("evaluation.pipeline_page:PipelineStep")
_pipeline_report = lazy("evaluation.pipeline_page:pipeline_report")
PAGE = "pipeline"


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """Render, recognise, generate, label, filter and evaluate, on example data."""

    size: Literal[32, 64, 128] = option(32, help="Side of the images.", metavar="PIXELS")
    kimg: int = option(28, ge=1, help="Thousands of images that the generator is trained on.")
    identities: int = option(400, ge=3, aliases=("people",), help="Rendered identities.")
    samples: int = option(5, ge=1, help="Images per identity.")
    device: Device = device_option()
    outdir: Path = option(Path("EXPERIMENTS/demo"), metavar="DIR", help="Output directory.")
    is_list: bool = option(False, name="list", help="Print the commands and run nothing.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the pipeline.

    Attributes:
        title: what it does.
        command: script and options. Options of the demo stand in braces, with `data`, `features`,
            `model` (the recogniser), `auditor` (a second one), and `net`, the newest snapshot.
        fills: folder of the demo that the step alone fills; "" where others write there, too.
        shows: picture, page or data set that it makes; * stands for the newest run.
    """

    title: str
    command: str
    fills: str = ""
    shows: str = ""


STEPS = (
    Step(
        title="Render identities in visible and near-infrared light",
        command="prepare_dataset.py example --outdir={data} --resolution={size}"
        " --identities={identities} --samples={samples} --audit-identities=200",
        shows="{data}/contact_sheet.png",
    ),
    Step(
        title="Train a small recogniser on them",
        command="train_recognition.py --config=EXPERIMENTS/example/recognition.json --data={data}"
        " --outdir={outdir}/recogniser --size={size} --modality=rgb --epochs=20 --device={device}",
        fills="recogniser",
    ),
    Step(
        title="Train a second one on other identities: it will audit what the first one filters",
        command="train_recognition.py --config=EXPERIMENTS/example/recognition.json"
        " --data={data}/audit --outdir={outdir}/auditor --size={size} --modality=rgb --epochs=16"
        " --seed=1"
        " --device={device}",
        fills="auditor",
    ),
    Step(
        title="Embed the training images: their identity features",
        command="create_identity_features.py --data-folder={data} --rec-model={model} --fresh"
        " --device={device}",
    ),
    Step(
        title="Train the generator of aligned pairs, conditioned on identities",
        command="train_db_stylegan2.py --config=EXPERIMENTS/example/demo.json --data={data}"
        " --outdir={outdir}/training --kimg={kimg} --device={device}",
        shows="{outdir}/training/*/fakes0*.png",
    ),
    Step(
        title="Generate pairs",
        command="generate.py --network={net} --labels={features} --seeds=0-31 --truncation=0.8"
        " --outdir={outdir}/generated --device={device}",
        fills="generated",
        shows="{outdir}/generated/grid.png",
    ),
    Step(
        title="Generate images to annotate and choose eight",
        command="make_training_data.py --exp=EXPERIMENTS/interpreter_example/generate.json"
        " --network={net} --labels={features} --sv-path={outdir}/interpreter/drawn"
        " --num-sample=100 --select=8 --device={device}",
        fills="interpreter/drawn",
    ),
    Step(
        title="Annotate them (a small network stands in for you and GIMP)",
        command="preprocess_annotations.py --auto=example4 --drawn={outdir}/interpreter/drawn"
        " --outdir={outdir}/interpreter/processed",
        fills="interpreter/processed",
        shows="{outdir}/interpreter/processed/check_sheet.jpg",
    ),
    Step(
        title="Train the pixel interpreter on the eight",
        command="train_interpreter.py --exp=EXPERIMENTS/interpreter_example/train_datagan.json"
        " --exp-dir={outdir}/interpreter --network={net} --device={device}",
        fills="interpreter/models",
    ),
    Step(
        title="Write a labelled data set without the training identities",
        command="train_interpreter.py --exp=EXPERIMENTS/interpreter_example/generate.json"
        " --exp-dir={outdir}/interpreter --network={net} --generate-data --labels={features}"
        " --resume={outdir}/interpreter/models --num-sample=200 --save-vis --save-uncertainty"
        " --filter-identities={features} --rec-model={model} --device={device}",
        shows="{outdir}/interpreter/models/samples_200",
    ),
    Step(
        title="Generate new identities for recognition, unlike every training identity",
        command="generate_recognition_data.py --gen-model={net} --rec-model={model}"
        " --training-ids={features} --outdir={outdir}/identities --ids=20 --samples-per-id=8"
        " --identity-source=interpolate --rules=varied --audit-model={auditor} --device={device}",
        fills="identities",
        shows="{outdir}/identities/overview.png",
    ),
    Step(
        title="Evaluate how good and how private the new identities are",
        command="evaluate.py report --data={data} --samples={outdir}/identities"
        " --heldout={data}/heldout --rec-model={model} --audit-model={auditor}"
        " --extractor=standin --outdir={outdir}/report --device={device}",
        fills="report",
        shows="{outdir}/report/report.html",
    ),
)


@dataclass(frozen=True)
class Cost:
    """What a step took.

    Attributes:
        seconds: wall time.
        memory_gb: peak of the process; None where the system does not say.
    """

    seconds: float
    memory_gb: float | None

    def __str__(self) -> str:
        memory = "" if self.memory_gb is None else f"{self.memory_gb:.2f} GB"
        return f"{format_seconds(self.seconds):>8}  {memory:>8}"


def run_command(words: Sequence[str]) -> Cost:
    """Run a script of this folder with this Python.

    Raises: ValueError where it fails.
    """
    began, memory = time.perf_counter(), None
    with subprocess.Popen([sys.executable, *words]) as process:
        if hasattr(os, "wait4"):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    if process.returncode:
        raise ValueError(f"{words[0]} ended with exit code {process.returncode}; see above")
    return Cost(time.perf_counter() - began, memory)


class Demo(Job):
    """The steps at some size, in an output directory that remembers which were done.

    Args:
        options: of the demo.
        steps: in order.
        run_step: runs a command.
    """

    def __init__(
        self,
        options: DemoOptions,
        steps: Sequence[Step] = STEPS,
        run_step: Callable[[Sequence[str]], Cost] = run_command,
    ) -> None:
        self.options, self.steps, self._run_step = options, steps, run_step
        self._state = options.outdir / STATE_FILE
        self.done: dict[str, Any] = files.read_object(self._state) if self._state.is_file() else {}

    def words(self, step: Step, net: str = "{net}") -> list[str]:
        """Return the words of a step's command."""
        return shlex.split(self._filled(step.command, net))

    def describe(self) -> dict[str, Any]:
        """Return the commands."""
        return {step.title: shlex.join(["python", *self.words(step)]) for step in self.steps}

    def run(self, progress: Progress) -> str | None:
        """Run what has not been run with these very commands and configs, or print the commands.

        A step runs again where an earlier one has; what it made with another command is removed.
        """
        if self.options.is_list:
            return "\n\n".join(f"# {title}\n{text}" for title, text in self.describe().items())
        is_stale = False
        for number, step in enumerate(self.steps, start=1):
            words = self.words(step, self._newest_snapshot() if "{net}" in step.command else "")
            wanted = _described(words)
            click.echo(f"\n[{number}/{len(self.steps)}] {step.title}\n$ {wanted['command']}")
            before = self.done.get(step.title, wanted)
            is_same = wanted.items() <= before.items()
            if not is_stale and is_same and "seconds" in before:
                click.echo("done before")
                continue
            if step.fills and (not is_same or "seconds" in before):
                shutil.rmtree(self.options.outdir / step.fills, ignore_errors=True)
            is_stale = True
            self._note(step, wanted)
            self._note(step, wanted | asdict(self._run_step(words)))
        return self._summary()

    def _note(self, step: Step, entry: dict[str, Any]) -> None:
        self.done[step.title] = entry
        files.write_json(self._state, self.done)

    def _filled(self, text: str, net: str = "") -> str:
        options = vars(self.options)
        data, outdir = f"DATASETS/example_{options['size']}", options["outdir"]
        return text.format(
            **options,
            data=data,
            features=f"{data}/identity_features.json",
            model=f"{outdir}/recogniser/recogniser.pth",
            auditor=f"{outdir}/auditor/recogniser.pth",
            net=net,
        )

    def _newest_snapshot(self) -> str:
        found = sorted(self.options.outdir.glob("training/*/network-snapshot-*.pkl"))
        if not found:
            raise FileNotFoundError(f"{self.options.outdir}/training: no snapshot, it did not end")
        return str(found[-1])

    def _costs(self) -> Iterator[tuple[Step, Cost]]:
        for step in self.steps:
            entry = self.done[step.title]
            yield step, Cost(entry["seconds"], entry["memory_gb"])

    def _made(self, step: Step) -> Path | None:
        """Return what a step made to be looked at, the newest where there are several."""
        path = self._filled(step.shows)
        return Path(max(glob(path), default=path)) if path else None

    def _summary(self) -> str:
        """Write the page with all steps and pictures; return a table of costs and what to open."""
        costs = [(step.title, cost) for step, cost in self._costs()]
        costs.append(("together", Cost(sum(cost.seconds for _, cost in costs), None)))
        width = max(len(title) for title, _ in costs)
        lines = ["", *(f"{title:{width}}  {cost}" for title, cost in costs)]
        shown = filter(None, map(self._made, self.steps))
        lines += ["", f"Open {self._write_page()}, and what it shows at:"]
        return "\n".join([*lines, *(f"  {path}" for path in shown)])

    def _write_page(self) -> Path:
        shown = [
            _pipeline_step(
                title=step.title,
                command=self.done[step.title]["command"].replace(" --", " \\\n    --"),
                time=format_seconds(cost.seconds),
                memory="-" if cost.memory_gb is None else f"{cost.memory_gb:.2f} GB",
                made=made if (made := self._made(step)) and made.exists() else None,
            )
            for step, cost in self._costs()
        ]
        total = format_seconds(sum(cost.seconds for _, cost in self._costs()))
        folder = self.options.outdir
        return _write_report(_pipeline_report(shown, total, folder), folder, PAGE)[0]


def _described(words: Sequence[str]) -> dict[str, Any]:
    """Return a command, and the content of the JSON files that it reads its settings from."""
    configs = [word.split("=", 1)[1] for word in words if word.startswith(("--config=", "--exp="))]
    return {
        "command": shlex.join(["python", *words]),
        "configs": {path: files.read_json(Path(path)) for path in configs},
    }


main = command(DemoOptions, Demo, examples=EXAMPLES, epilog=EPILOG)

if __name__ == "__main__":
    main()
