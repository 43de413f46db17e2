"""Studies: what is trained, tested and compared, in a JSON file; with replicates and intervals.

Each cell is a run of a training script in a folder of its own, so that a study that was interrupted
continues. Replicate k has the k-th seed and the k-th path of each place: where several generators
wrote a data set each, the spread over replicates holds that of generators and data sets, not of the
training's seed alone.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import numpy as np
import torch

from benchmarks.common import describe_machine, format_table
from dnnlib import cli, files
from dnnlib.runs import slug
from metrics.estimates import Floats, percentile_interval
from torch_utils.devices import resolve_device

PATH = click.Path(path_type=Path)
DRAWS = 500  # of the bootstrap
KEYS = frozenset({"places", "base", "seeds", "train", "test", "compare"})

Row = dict[str, Any]
Study = dict[str, Any]


def read_studies(path: Path, words: Iterable[str], extra_keys: Iterable[str] = ()) -> list[Study]:
    """Read a study: one a seed, with "{name}" replaced by its places.

    Args:
        path: of the JSON file.
        words: NAME=PATH; of several paths of a name, replicate k takes the k-th, beginning again
            after the last.
        extra_keys: that the file may have besides KEYS.
    Raises: ValueError for unknown keys, places or training sets, or where something is missing.
    """
    study, places = files.read_json(path), _split_places(words)
    known = sorted({*KEYS, *extra_keys})
    unknown = set(study) - set(known)
    if unknown:
        raise ValueError(f"{path}: unknown key {min(unknown)!r}, known are {known}")
    lacking = [name for name in study.get("places", []) if name not in places]
    if lacking:
        raise ValueError(f"{path}: needs --set {lacking[0]}=PATH")
    own = (
        {name: paths[k % len(paths)] for name, paths in places.items()}
        for k in range(len(study.setdefault("seeds", [0])))
    )
    return [
        {**_filled(study, paths), "seed": seed}
        for seed, paths in zip(study["seeds"], own, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class StudyKind:
    """What one kind of studies trains and measures."""

    read: Callable[[Path, Iterable[str]], list[Study]]  # config, NAME=PATH words; one a replicate
    train: Callable[[Study, str, Path, str], None]  # study, training set, folder of cells, device
    model: str  # file of a cell that is trained; "" where `train` is to find out by itself
    measure: Callable[[Sequence[Study], Path, str], dict[str, Any]]  # studies, folder, device
    show: Callable[[Mapping[str, Any]], str]  # what `measure` found, as Markdown


def study_command(kind: StudyKind, examples: str) -> click.Command:
    """Return the command line of a kind of studies; examples are for --help."""
    return click.Command(
        None,
        callback=functools.partial(run_study, kind),
        help=run_study.__doc__,
        epilog=f"\b\nExamples:{examples.rstrip()}",
        context_settings=cli.CONTEXT,
        params=[
            click.Argument(["config"], type=PATH),
            click.Option(
                ["--set", "places"],
                multiple=True,
                metavar="NAME=PATH",
                help="A place of the config; given several times, replicates take them in turn.",
            ),
            click.Option(["--outdir"], type=PATH, required=True, help="Of cells and results."),
            click.Option(
                ["--only"],
                multiple=True,
                metavar="NAME",
                help="Train only these, test nothing.",
            ),
            click.Option(["--device"], type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
            click.Option(["--threads"], type=click.IntRange(min=1), help="CPU threads."),
        ],
    )


def run_study(
    kind: StudyKind,
    config: Path,
    places: tuple[str, ...],
    outdir: Path,
    only: tuple[str, ...],
    device: str,
    threads: int | None,
) -> None:
    """Train all cells of a study, test them, and write table.md and results.json.

    Intervals and p-values are of a bootstrap that draws test identities, the same ones for all
    training sets, and replicates; p-values of all comparisons are adjusted together (Holm).
    """
    cli.start_logging()
    if threads is not None:
        torch.set_num_threads(threads)
    with cli.friendly_errors():
        studies = kind.read(config, places)
        check_names(studies, only)
        for study in studies:
            for name in only or study["train"]:
                if not (cell(outdir, name, study["seed"]) / kind.model).is_file():
                    kind.train(study, name, outdir, device)
        if only:
            return
        results = kind.measure(studies, outdir, device)
        machine = describe_machine(torch.device(resolve_device(device)))
        results |= {"machine": machine, "config": studies}
        files.write_json(outdir / "results.json", results)
        text = kind.show(results)
        (outdir / "table.md").write_text(text, encoding="utf-8")
    click.echo(text)


def check_names(studies: Sequence[Study], only: Sequence[str]) -> None:
    """Raise ValueError where --only or "compare" names what a study does not have."""
    study = studies[0]
    unknown = [name for name in only if name not in study["train"]]
    if unknown:
        raise ValueError(f"--only must be among {list(study['train'])}, got {unknown[0]!r}")
    for test, pairs in study.get("compare", {}).items():
        missing = [name for pair in pairs for name in pair if name not in study["train"]]
        missing += [test] if test not in study["test"] else []
        if missing:
            raise ValueError(f"'compare' names {missing[0]!r}, which is not in the study")


def _split_places(words: Iterable[str]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for text in words:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set must be NAME=PATH, got {text!r}")
        places[name].append(value)
    return places


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place)
        return value
    if isinstance(value, dict):
        return {key: _filled(entry, places) for key, entry in value.items()}
    return [_filled(entry, places) for entry in value] if isinstance(value, list) else value


def cell(outdir: Path, name: str, seed: int) -> Path:
    """Return the folder of a training set's replicate."""
    return outdir / "cells" / slug(name) / f"seed-{seed}"


def train_cell(
    study: Study, name: str, outdir: Path, script: click.Command, device: str, **given: str | Path
) -> None:
    """Run a training script with the options of a training set; `given` ones go before."""
    options = {**study["base"], **study["train"][name], **given}
    line = [word for key, value in options.items() for word in _words(key, value)]
    line += [f"--outdir={cell(outdir, name, study['seed'])}", f"--seed={study['seed']}"]
    click.echo(f"{name}, seed {study['seed']}", err=True)
    code = script.main([*line, f"--device={device}"], standalone_mode=False)
    if code:  # stopped by a signal: the cells that follow are not for now
        raise click.exceptions.Exit(code)


def _words(key: str, value: Any) -> list[str]:
    """Return an option as words of a command line; None leaves the option's default."""
    option = "--" + key.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, list):
        return [word for entry in value for word in _words(key, entry)]
    if value is True and key == "joint":
        return [option]
    return [f"{option}={json.dumps(value) if not isinstance(value, str | Path) else value}"]


def summarise(
    studies: Sequence[Study], drawn: Mapping[str, Mapping[str, Sequence[Floats]]]
) -> dict[str, Any]:
    """Return intervals of each training set, and comparisons of the pairs that are asked for.

    Args:
        studies: the replicates.
        drawn: test -> training set -> [DRAWS] of each replicate, by the same draws of identities.
    """
    rates = {test: replicate_means(cells) for test, cells in drawn.items()}
    intervals = [
        {"test": test, "train": name, "interval": percentile_interval(values.tolist())}
        for test, rows in rates.items()
        for name, values in rows.items()
    ]
    compared = [
        {"test": test, "a": a, "b": b, **difference(rates[test][a], rates[test][b])}
        for test, pairs in studies[0].get("compare", {}).items()
        for a, b in pairs
    ]
    adjusted = holm([row["p"] for row in compared])
    compared = [{**row, "p_holm": p} for row, p in zip(compared, adjusted, strict=True)]
    return {"intervals": intervals, "compared": compared}


def replicate_means(cells: Mapping[str, Sequence[Floats]]) -> dict[str, Floats]:
    """Return the mean over drawn replicates of each training set's numbers.

    Args:
        cells: training set -> [DRAWS] a replicate, of the same draws of test identities.
    Returns: training set -> [DRAWS]; draw b takes the same replicates of all training sets.
    """
    count = len(next(iter(cells.values())))
    rng = np.random.Generator(np.random.PCG64(count))
    picks = rng.integers(0, count, [DRAWS, count])
    rows = np.arange(DRAWS)[:, None]
    return {name: np.stack(values, axis=1)[rows, picks].mean(1) for name, values in cells.items()}


def difference(first: Floats, second: Floats) -> Row:
    """Return the interval of a difference of two bootstrapped numbers, and its two-sided p."""
    values = (first - second)[np.isfinite(first - second)]
    extreme = min(int((values <= 0).sum()), int((values >= 0).sum()))
    interval = percentile_interval(values.tolist())
    return {"interval": interval, "p": min(2 * (extreme + 1) / (len(values) + 1), 1.0)}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for a family of tests.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        highest = max(highest, min((len(p_values) - rank) * p_values[k], 1.0))
        adjusted[k] = highest
    return adjusted


def format_study(results: Mapping[str, Any], key: str, title: str) -> list[str]:
    """Return Markdown tables of training sets and of their differences, in per cent.

    Args:
        results: "numbers", rows with "train", "test", "seed" and `key`, and what `summarise` found.
        key: of the number that was bootstrapped, a share.
        title: of it.
    """
    numbers, study = results["numbers"], results["config"][0]
    ends = {(row["train"], row["test"]): row["interval"] for row in results["intervals"]}
    rows: list[Row] = []
    for name in study["train"]:
        rows.append({"trained on": name})
        for test in study["test"]:
            values = _percents(key, name, test, numbers)
            rows[-1]["replicates"] = len(values)
            rows[-1][f"{test}: {title} %"] = f"{mean(values):.2f} {_interval(ends[name, test])}"
            rows[-1][f"{test}: ± over replicates"] = stdev(values) if len(values) > 1 else ""
    tables = [format_table(rows)]
    if results["compared"]:
        tables.append(format_table([_comparison(row, numbers, key) for row in results["compared"]]))
    return tables


def _comparison(row: Row, numbers: Sequence[Row], key: str) -> Row:
    first, second = (mean(_percents(key, row[k], row["test"], numbers)) for k in ("a", "b"))
    return {
        "compared": f"{row['a']} − {row['b']}",
        "test": row["test"],
        "difference": f"{first - second:+.2f} {_interval(row['interval'])}",
        "p": f"{row['p']:.3f}",
        "p, Holm": f"{row['p_holm']:.3f}",
    }


def _percents(key: str, name: str, test: str, numbers: Sequence[Row]) -> list[float]:
    own = [row for row in numbers if row["train"] == name and row["test"] == test]
    return [100 * row[key] for row in own]


def _interval(ends: Sequence[float | None]) -> str:
    low, high = ends
    return "" if low is None or high is None else f"[{100 * low:.2f}, {100 * high:.2f}]"
