"""Options and steps that the commands on people and masks share."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli, files
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.embeddings import Recogniser
    from evaluation.report.content import Section
    from evaluation.studies import Faces, Features

PATH = click.Path(path_type=Path)


def check_outdir(path: Path) -> None:
    """Check that results can be written to a folder, which may be absent; writes nothing.

    Raises: ValueError where it, or the nearest folder above it, is a file or closed to us.
    """
    nearest = files.nearest_place(path)
    if not nearest.is_dir():
        raise ValueError(f"--outdir {path}: must be a folder or absent, {nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--outdir {path}: must be writable, {nearest} is not")


def read_thresholds(texts: Sequence[str]) -> dict[float, float]:
    """Return FMR -> cosine of texts such as "0.001:0.42". Raises: ValueError."""
    found = {}
    for text in texts:
        level, colon, cosine = text.partition(":")
        try:
            fmr, value = float(level), float(cosine)
        except ValueError:
            fmr, value = -1.0, 2.0
        if not colon or not 0 < fmr < 1 or not -1 <= value <= 1:
            raise ValueError(f"--threshold must be FMR:COSINE, such as 0.001:0.42, got {text!r}")
        found[fmr] = value
    return found


def _outdir(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    with cli.friendly_errors():
        check_outdir(path)
    return path


def _thresholds(
    _context: click.Context, _parameter: click.Parameter, texts: Sequence[str]
) -> dict[float, float]:
    with cli.friendly_errors():
        return read_thresholds(texts)


rec_model = click.option(
    "--rec-model",
    type=PATH,
    metavar="FILE",
    help="Weights of a recogniser, such as an ArcFace backbone's .pth.",
)
outdir = click.option(
    "--outdir",
    type=PATH,
    required=True,
    metavar="DIR",
    callback=_outdir,
    help="Of the page and the numbers.",
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of resampling for intervals."
)
device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
dry_run = click.option(
    "-n", "--dry-run", is_flag=True, help="Check what is given, print it, write nothing."
)
thresholds = click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    callback=_thresholds,
    metavar="FMR:COSINE",
    help="Threshold of the recogniser at an FMR, such as 0.001:0.42; can be repeated. Without, "
    "thresholds are measured on real people: held-out ones, else the training people.",
)


def open_sets(paths: Mapping[str, Path | None]) -> dict[str, "SampleIndex"]:
    """Return the data sets that are given, by their role."""
    from data.samples import open_samples  # noqa: PLC0415

    return {role: open_samples(path) for role, path in paths.items() if path is not None}


def named_sets(paths: Sequence[Path]) -> dict[str, "SampleIndex"]:
    """Return data sets by their names; equal names are told apart by their folders."""
    from data.samples import open_samples  # noqa: PLC0415

    sets: dict[str, SampleIndex] = {}
    for path in paths:
        images = open_samples(path)
        name = images.name if images.name not in sets else str(path)
        if name in sets:
            raise ValueError(f"--data: {path} is given twice")
        sets[name] = images
    return sets


def resolve_device(name: str, number: int | None = None) -> str:
    """Return "cpu" or "cuda:N", which then computes in full float32, the same every time.

    Raises: ValueError where CUDA is asked for and absent.
    """
    from torch_utils import devices  # noqa: PLC0415

    device = devices.resolve_device(name, number)
    if device != "cpu":
        devices.use_repeatable_arithmetic()
    return device


def faces_of(
    tools: Tools,
    path: Path,
    device: str,
    sets: Mapping[str, "SampleIndex"],
    among: Sequence[Path] = (),
) -> "Faces":
    """Return a recogniser with a progress bar over all images of the sets.

    Args:
        path: its weights.
        among: all recognisers' paths; of equal names, folders tell them apart.
    """
    from evaluation.embeddings import Recogniser  # noqa: PLC0415
    from evaluation.studies import Faces  # noqa: PLC0415

    is_shared = sum(other.name == path.name for other in among) > 1
    embedder = tools.load_embedder(path, device=device)
    recogniser = Recogniser(
        name=f"{path.resolve().parent.name}/{path.name}" if is_shared else path.name,
        hash=embedder.hash,
        embed=embedder.embed,
    )
    total = sum(len(images) * len(images.modalities) for images in sets.values())
    return Faces(recogniser, cli.progress_bar(0, total), device)


def describe_sets(sets: Mapping[str, "SampleIndex"]) -> dict[str, Any]:
    """Return what a dry run says about data sets."""
    return {
        name: {
            "samples": len(images),
            "people": images.num_identities,
            "modalities": list(images.modalities),
            "masks": images.num_masks,
        }
        for name, images in sets.items()
    }


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print a dry run's plan."""
    click.echo(json.dumps(plan, indent=2, default=str))


def finish(
    title: str,
    subtitle: str,
    sections: Sequence["Section"],
    inputs: Mapping[str, str],
    target: tuple[Path, str],
    seed: int,
) -> None:
    """Write page and numbers, and print the tables.

    Args:
        inputs: what was read -> its SHA-256.
        target: folder and name of the files.
    """
    from dnnlib.runs import describe_environment  # noqa: PLC0415
    from evaluation.report.content import Report  # noqa: PLC0415
    from evaluation.report.provenance import provenance_section  # noqa: PLC0415
    from evaluation.report.writing import section_text, write_report  # noqa: PLC0415

    last = provenance_section(sys.argv, describe_environment(), inputs, seed)
    report = Report(title=title, subtitle=subtitle, sections=(*sections, last))
    page, numbers = write_report(report, *target)
    click.echo("\n\n".join(section_text(section) for section in sections))
    click.echo(f"\nwrote {page} and {numbers}")


def hashes_of(
    sets: Mapping[str, "SampleIndex"], recognisers: Sequence["Recogniser"]
) -> dict[str, str]:
    """Return the SHA-256 of data sets and recognisers."""
    found = {f"{name} ({images.name})": images.content_hash() for name, images in sets.items()}
    return {**found, **{f"recogniser {r.name}": r.hash for r in recognisers}}


def diversity_features(extractor: str | None, device: str) -> "Features | None":
    """Return the features of DCFace's D by a network for image quality; None without one.

    Raises: ValueError, FileNotFoundError as `evaluation.extractors.build_extractors`.
    """
    if extractor is None:
        return None
    from evaluation.extractors import build_extractors  # noqa: PLC0415
    from evaluation.features import extract_all  # noqa: PLC0415
    from evaluation.names import Role  # noqa: PLC0415

    network = build_extractors(
        extractor, [Role.FEATURES], device=device, progress=cli.progress_bar
    )[Role.FEATURES]
    return network.name, partial(extract_all, network)
