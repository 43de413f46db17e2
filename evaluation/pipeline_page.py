"""The page of a pipeline that has run: each command, what it took, and what it made."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.samples import open_samples
from evaluation.pictures import sample_panels
from evaluation.report import Block, Link, Picture, Report, Section, Table, Text

_SMALL, _ENLARGED, _WIDEST = 400, 3, 1000


@dataclass(frozen=True, kw_only=True)
class PipelineStep:
    """One command that has run.

    Attributes:
        title: what it did.
        command: as it was given, one option a line.
        time: that it took, in words.
        memory: that it took, in words.
        made: a picture, a page, or the folder of a data set; None where there is nothing to see.
    """

    title: str
    command: str
    time: str
    memory: str
    made: Path | None = None


def pipeline_report(steps: Sequence[PipelineStep], total: str, folder: Path) -> Report:
    """Return the page.

    Args:
        steps: in order.
        total: time of all of them, in words.
        folder: of the page; other pages lie in it.
    """
    rows = [(f"{i}. {step.title}", step.time, step.memory) for i, step in enumerate(steps, 1)]
    costs = Table(
        caption="What each step took",
        columns=("step", "time", "memory"),
        rows=(*rows, ("together", total, "")),
    )
    return Report(
        title="The pipeline, step by step",
        subtitle="From rendered identities to labelled and privacy-checked data.",
        sections=(
            *(_section(number, step, folder) for number, step in enumerate(steps, 1)),
            Section(key="costs", title="Time and memory", lead="", blocks=(costs,)),
        ),
    )


def _section(number: int, step: PipelineStep, folder: Path) -> Section:
    blocks: list[Block] = [Text(label="Command", text=step.command)]
    if step.made is not None:
        blocks += _shown(step.made, folder)
    return Section(
        key=f"step{number}",
        title=f"{number}. {step.title}",
        lead=f"{step.time}, {step.memory}",
        blocks=tuple(blocks),
        data={"title": step.title, "time": step.time, "memory": step.memory},
    )


def _shown(made: Path, folder: Path) -> Iterator[Block]:
    if made.is_dir():
        yield sample_panels(open_samples(made), made.name)
    elif made.suffix == ".html":
        yield Link(text=made.name, href=made.relative_to(folder).as_posix())
    else:
        yield _picture(made)


def _picture(path: Path) -> Picture:
    """Return a picture file; a small one is enlarged without smoothing."""
    with Image.open(path) as image:
        shown = image.convert("RGB")
    if shown.width <= _SMALL:
        size = (shown.width * _ENLARGED, shown.height * _ENLARGED)
        shown = shown.resize(size, Image.Resampling.NEAREST)
    stream = io.BytesIO()
    shown.save(stream, format="PNG", optimize=True)
    return Picture(
        png=stream.getvalue(),
        width=min(shown.width, _WIDEST),
        alt=f"the picture {path.name}",
        caption=path.as_posix(),
    )
