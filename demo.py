"""Run the whole pipeline on rendered example faces, one printed command a step."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import click

from dnnlib import cli, files
from dnnlib.text import format_seconds

EPILOG = """\b
Examples:
  python demo.py
  python demo.py --size=64 --kimg=300 --device=cuda
  python demo.py --list

\b
Repeating it skips the steps whose commands have been run, and continues where it was stopped."""

CONFIGS = "EXPERIMENTS/example"
INTERPRETER = "EXPERIMENTS/interpreter_example"
STATE_FILE = "steps.json"
PAGE = "pipeline"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the demo is.

    Attributes:
        size: of the images in pixels.
        kimg: thousands of images that the generator sees.
        people: rendered.
        samples: images of each.
        device: "auto", "cpu" or "cuda".
    """

    size: int
    kimg: int
    people: int
    samples: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the pipeline.

    Attributes:
        title: what it does.
        words: script and options; "{net}" stands for the newest snapshot.
        result: folder of the demo that the step alone fills; None where others write there, too.
        look_at: picture, page or data set that it makes; * stands for the newest run.
    """

    title: str
    words: tuple[str, ...]
    result: str | None = None
    look_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """What the commands share.

    Attributes:
        folder: of the results.
        data: rendered data set.
        device: option of the scripts.
    """

    folder: Path
    data: str
    device: str

    @property
    def features(self) -> str:
        """What the recogniser sees in the training people."""
        return f"{self.data}/identity_features.json"

    @property
    def model(self) -> str:
        """The recogniser."""
        return f"{self.folder}/recogniser/recogniser.pth"

    @property
    def auditor(self) -> str:
        """The second recogniser."""
        return f"{self.folder}/auditor/recogniser.pth"


def plan_steps(sizes: Sizes, folder: Path) -> list[Step]:
    """Return the commands of the pipeline, in order.

    Args:
        sizes: of everything.
        folder: of the results.
    """
    places = Places(
        folder=folder, data=f"DATASETS/example_{sizes.size}", device=f"--device={sizes.device}"
    )
    return [
        *_recognition_steps(sizes, places),
        *_generator_steps(sizes, places),
        *_label_steps(places),
        *_people_steps(places),
    ]


def _recognition_steps(sizes: Sizes, places: Places) -> list[Step]:
    """Return what leads from nothing to people and their features."""
    return [
        Step(
            title="Render people in visible and near-infrared light",
            words=("prepare_dataset.py", "example", f"--outdir={places.data}",
                   f"--resolution={sizes.size}", f"--identities={sizes.people}",
                   f"--samples={sizes.samples}"),
            look_at=f"{places.data}/contact_sheet.png",
        ),
        Step(
            title="Train a small recogniser on them",
            result="recogniser",
            words=("train_recognition.py", f"--config={CONFIGS}/recognition.json",
                   f"--data={places.data}", f"--outdir={places.folder}/recogniser",
                   f"--size={sizes.size}",
                   "--modality=rgb", "--epochs=20", places.device),
        ),
        Step(
            title="Train a second one, which will check the first one's work",
            result="auditor",
            words=("train_recognition.py", f"--config={CONFIGS}/recognition.json",
                   f"--data={places.data}", f"--outdir={places.folder}/auditor",
                   f"--size={sizes.size}",
                   "--modality=rgb", "--epochs=10", "--seed=1", places.device),
        ),
        Step(
            title="Write down what the recogniser sees in each image",
            words=("create_identity_features.py", f"--data-folder={places.data}",
                   f"--rec-model={places.model}", "--fresh", places.device),
        ),
    ]  # fmt: skip


def _generator_steps(sizes: Sizes, places: Places) -> list[Step]:
    """Return training and drawing."""
    return [
        Step(
            title="Train the generator of aligned pairs, conditioned on identities",
            words=("train_db_stylegan2.py", f"--config={CONFIGS}/demo.json",
                   f"--data={places.data}",
                   f"--outdir={places.folder}/training", f"--kimg={sizes.kimg}", places.device),
            look_at=f"{places.folder}/training/*/fakes0*.png",
        ),
        Step(
            title="Draw pairs",
            result="generated",
            words=("generate.py", "--network={net}", f"--labels={places.features}", "--seeds=0-31",
                   "--truncation=0.8", f"--outdir={places.folder}/generated", places.device),
            look_at=f"{places.folder}/generated/grid.png",
        ),
    ]  # fmt: skip


def _label_steps(places: Places) -> list[Step]:
    """Return what leads from eight annotated images to a labelled data set."""
    return [
        Step(
            title="Draw images to annotate and choose eight",
            result="interpreter/drawn",
            words=("make_training_data.py", f"--exp={INTERPRETER}/generate.json", "--network={net}",
                   f"--labels={places.features}", f"--sv-path={places.folder}/interpreter/drawn",
                   "--num-sample=100", "--select=8", places.device),
        ),
        Step(
            title="Annotate them (a small network stands in for you and GIMP)",
            result="interpreter/processed",
            words=("preprocess_annotations.py", "--auto=example4",
                   f"--drawn={places.folder}/interpreter/drawn",
                   f"--outdir={places.folder}/interpreter/processed"),
            look_at=f"{places.folder}/interpreter/processed/check_sheet.jpg",
        ),
        Step(
            title="Train the pixel interpreter on the eight",
            result="interpreter/models",
            words=("train_interpreter.py", f"--exp={INTERPRETER}/train_datagan.json",
                   f"--exp-dir={places.folder}/interpreter", "--network={net}", places.device),
        ),
        Step(
            title="Write a labelled data set without the training people",
            words=("train_interpreter.py", f"--exp={INTERPRETER}/generate.json",
                   f"--exp-dir={places.folder}/interpreter", "--network={net}",
                   "--generate-data", f"--labels={places.features}",
                   f"--resume={places.folder}/interpreter/models", "--num-sample=200", "--save-vis",
                   "--save-uncertainty", f"--filter-identities={places.features}",
                   f"--rec-model={places.model}", places.device),
            look_at=f"{places.folder}/interpreter/models/samples_200",
        ),
    ]  # fmt: skip


def _people_steps(places: Places) -> list[Step]:
    """Return what leads to new people and the report."""
    return [
        Step(
            title="Draw new people for recognition, unlike every training person",
            result="people",
            words=("generate_recognition_data.py", "--gen-model={net}",
                   f"--rec-model={places.model}",
                   f"--training-ids={places.features}",
                   f"--outdir={places.folder}/people", "--ids=20", "--samples-per-id=8",
                   "--identity-source=interpolate",
                   f"--audit-model={places.auditor}", places.device),
            look_at=f"{places.folder}/people/overview.png",
        ),
        Step(
            title="Say how good and how private the new people are",
            result="report",
            words=("evaluate.py", "report", f"--data={places.data}",
                   f"--samples={places.folder}/people",
                   f"--heldout={places.data}/heldout", f"--rec-model={places.model}",
                   f"--audit-model={places.auditor}", "--extractor=standin",
                   f"--outdir={places.folder}/report", places.device),
            look_at=f"{places.folder}/report/report.html",
        ),
    ]  # fmt: skip


def newest_snapshot(folder: Path) -> str:
    """Return the last snapshot of the newest run.

    Raises: FileNotFoundError where there is none.
    """
    found = sorted(folder.glob("training/*/network-snapshot-*.pkl"))
    if not found:
        raise FileNotFoundError(f"{folder}/training: no snapshot, the training did not end")
    return str(found[-1])


@dataclass(frozen=True)
class Cost:
    """What a step took.

    Attributes:
        seconds: of wall time.
        memory_gb: largest of the process; None where the system does not say.
    """

    seconds: float
    memory_gb: float | None


def run_command(words: tuple[str, ...]) -> Cost:
    """Run a script of this folder with this Python, and return what it took.

    Raises: ValueError where it fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words])
    try:
        memory = _wait(process)
    except KeyboardInterrupt:
        process.wait()
        raise
    if process.returncode:
        raise ValueError(f"{words[0]} ended with exit code {process.returncode}; see above")
    return Cost(time.perf_counter() - began, memory)


def _wait(process: subprocess.Popen[bytes]) -> float | None:
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e9


def run_steps(
    steps: list[Step], folder: Path, run: Callable[[tuple[str, ...]], Cost] = run_command
) -> None:
    """Run the steps that have not been run with these very commands and configs, and remember them.

    A step runs again where an earlier one has; what it made with another command is removed.
    """
    place = folder / STATE_FILE
    done = files.read_json(place) if place.is_file() else {}
    is_stale = False
    for number, step in enumerate(steps, start=1):
        net = newest_snapshot(folder) if "{net}" in " ".join(step.words) else ""
        words = tuple(word.replace("{net}", net) for word in step.words)
        wanted = _described(words)
        click.echo(f"\n[{number}/{len(steps)}] {step.title}\n$ {wanted['command']}")
        before = done.get(step.title, wanted)
        is_same = all(before.get(key) == value for key, value in wanted.items())
        if not is_stale and "seconds" in before and is_same:
            click.echo("done before")
            continue
        if step.result is not None and (not is_same or "seconds" in before):
            shutil.rmtree(folder / step.result, ignore_errors=True)
        is_stale = True
        done[step.title] = wanted
        files.write_json(place, done)
        done[step.title] = wanted | vars(run(words))
        files.write_json(place, done)
    click.echo(_table(steps, done))
    click.echo(f"\nLook at {_write_page(steps, done, folder)}, and what it shows at:")
    for made in filter(None, map(_made_by, steps)):
        click.echo(f"  {made}")


def _described(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the command, and the content of the JSON files that it reads its settings from."""
    configs = [word.split("=", 1)[1] for word in words if word.startswith(("--config=", "--exp="))]
    return {
        "command": shlex.join(["python", *words]),
        "configs": {path: files.read_json(Path(path)) for path in configs},
    }


def _made_by(step: Step) -> Path | None:
    """Return what a step made to be looked at, the newest where there are several."""
    if step.look_at is None:
        return None
    return Path(max(glob(step.look_at), default=step.look_at))


def _write_page(steps: list[Step], done: dict[str, dict[str, Any]], folder: Path) -> Path:
    """Write pipeline.html, all steps and pictures on one page."""
    from evaluation.report.pipeline import PipelineStep, pipeline_report  # noqa: PLC0415  # slow
    from evaluation.report.writing import write_report  # noqa: PLC0415

    shown = []
    for step in steps:
        seconds, memory = _costs(done[step.title])
        made = _made_by(step)
        shown.append(
            PipelineStep(
                title=step.title,
                command=done[step.title]["command"].replace(" --", " \\\n    --"),
                time=format_seconds(seconds),
                memory=memory,
                made=made if made is not None and made.exists() else None,
            )
        )
    total = sum(_costs(done[step.title])[0] for step in steps)
    return write_report(pipeline_report(shown, format_seconds(total), folder), folder, PAGE)[0]


def _costs(cost: dict[str, Any]) -> tuple[float, str]:
    """Return seconds, and the memory in words."""
    memory = cost["memory_gb"]
    return float(cost["seconds"]), "-" if memory is None else f"{memory:.2f} GB"


def _table(steps: list[Step], done: dict[str, dict[str, Any]]) -> str:
    width = max(len(step.title) for step in steps)
    lines = ["", f"{'step':{width}}  {'time':>8}  {'memory':>8}"]
    total = 0.0
    for step in steps:
        seconds, memory = _costs(done[step.title])
        total += seconds
        lines.append(f"{step.title:{width}}  {format_seconds(seconds):>8}  {memory:>8}")
    return "\n".join([*lines, f"{'together':{width}}  {format_seconds(total):>8}"])


@click.command(epilog=EPILOG, context_settings=cli.CONTEXT)
@click.option("--size", type=click.Choice([32, 64, 128]), default=32, help="Of the images.")
@click.option("--kimg", default=28, help="Thousands of images that the generator sees.")
@click.option("--people", default=400, help="Rendered people.")
@click.option("--samples", default=5, help="Images of each.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--outdir", type=click.Path(path_type=Path), default=Path("EXPERIMENTS/demo"), metavar="DIR"
)
@click.option("--list", "is_list", is_flag=True, help="Print the commands, run nothing.")
def main(outdir: Path, *, is_list: bool, **sizes: int | str) -> None:
    """Render, recognise, generate, label, filter and evaluate, on example data."""
    with cli.friendly_errors():
        steps = plan_steps(Sizes(**sizes), outdir)  # type: ignore[arg-type]
        if is_list:
            for step in steps:
                click.echo(f"# {step.title}\n{shlex.join(['python', *step.words])}\n")
            return
        run_steps(steps, outdir)


if __name__ == "__main__":
    main()
