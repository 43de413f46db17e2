"""Curves of training runs, from stats.jsonl and metric-*.jsonl of their folders."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.modalities import JOINT, MODALITIES
from data.plots import Line, plot_lines, to_svg
from dnnlib import files
from dnnlib.options import Job, Progress
from dnnlib.runs import slug
from evaluation.html import write_report
from evaluation.options import CurveOptions
from evaluation.report import Chart, Report, Section
from evaluation.topic import check_outdir

STATS_FILE = "stats.jsonl"
GAN_AXIS = "Progress/kimg"
# What runs count, most telling first, and what the axis then says.
AXES = {
    GAN_AXIS: "thousands of images shown",
    "Progress/step": "steps",
    "Progress/epoch": "epochs",
}
_MOST_LINES = 8
_CAPTION = "The band is one standard deviation of the values behind each mean."

# A point: place on the axis, mean, deviation of the values behind the mean.
Point = tuple[float, float, float]


@dataclass(frozen=True)
class ChartPlan:
    """One chart of related statistics.

    Attributes:
        title: above it.
        unit: of the y axis.
        statistics: names without the modality's suffix, with what the legend says.
        is_log: logarithmic y axis.
        has_band: show the deviation of the values behind a mean.
    """

    title: str
    unit: str
    statistics: Mapping[str, str]
    is_log: bool = False
    has_band: bool = False


_SUFFIXES = {modality.name: modality.suffix for modality in MODALITIES} | {JOINT: f"_{JOINT}"}
_SCORES = {
    "Loss/scores/real": "real",
    "Loss/scores/fake": "generated",
    "Loss/scores/mismatch": "mismatched",
}
_SIGNS = {"Loss/signs/real": "real", "Loss/signs/fake": "generated"}
_GIB = {"Resources/cpu_mem_gb": "CPU, peak", "Resources/peak_gpu_mem_gb": "GPU, peak"}
MEMORY_CHART = ChartPlan("Memory", "GiB", _GIB)
GAN_CHARTS = (
    ChartPlan("Generator loss", "loss", {"Loss/G/loss": "G"}, has_band=True),
    ChartPlan("Discriminator loss", "loss", {"Loss/D/loss": "D"}, has_band=True),
    ChartPlan("Discriminator scores", "logit", _SCORES, has_band=True),
    ChartPlan("Signs of the discriminator's logits", "mean sign, 1 is all real", _SIGNS),
    ChartPlan("R1 penalty", "squared gradient", {"Loss/r1_penalty": "R1"}, is_log=True),
    ChartPlan("Path length penalty", "penalty", {"Loss/pl_penalty": "path length"}, is_log=True),
    ChartPlan("Augmentation strength", "p", {"Progress/augment": "augmentation"}),
    ChartPlan("Time", "seconds per kimg", {"Timing/sec_per_kimg": "training"}),
    MEMORY_CHART,
)


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """What a run wrote down: name -> points, of statistics over `axis`, of metrics over kimg.

    `axis` is one of AXES, `name` is that of the run's folder.
    """

    name: str
    axis: str
    statistics: Mapping[str, Sequence[Point]]
    metrics: Mapping[str, Sequence[Point]]


@dataclass(frozen=True, kw_only=True)
class CurveJob(Job):
    """Plots the curves of runs, by the folder that was given."""

    runs: Mapping[str, RunCurves]
    outdir: Path

    def describe(self) -> dict[str, Any]:
        """Return the charts and the last place of each run."""
        return {
            folder: {
                "charts": list(plot_curves([run])),
                run.axis.removeprefix("Progress/"): max(
                    at for points in run.statistics.values() for at, _, _ in points
                ),
            }
            for folder, run in self.runs.items()
        }

    def run(self, progress: Progress) -> str:
        """Write one SVG a chart, a page of all of them and a JSON file of the numbers."""
        runs = [*self.runs.values()]
        charts = plot_curves(runs)
        for title, chart in charts.items():
            with files.atomic_write(self.outdir / f"{slug(title)}.svg", "w") as file:
                file.write(chart.svg)
        names = ", ".join(run.name for run in runs)
        section = Section(
            key="training",
            title="Training",
            lead=f"Statistics of {names}.",
            blocks=tuple(charts.values()),
            data={run.name: {"metrics": run.metrics, "statistics": run.statistics} for run in runs},
        )
        report = Report(title="Training curves", subtitle=names, sections=(section,))
        return f"wrote {write_report(report, self.outdir, 'training')[0]}"


def prepare(options: CurveOptions) -> CurveJob:
    """Read the curves of all runs; equal names are told apart by the folder above.

    Raises: FileNotFoundError, ValueError as `read_run`, and where a run is given twice.
    """
    check_outdir(options.outdir)
    paths = [folder.resolve() for folder in options.runs]
    if len(set(paths)) < len(paths):
        raise ValueError("a run is given twice")
    names = [path.name for path in paths]
    runs = {}
    for folder, path in zip(options.runs, paths, strict=True):
        run = read_run(folder)
        is_shared = names.count(path.name) > 1
        runs[str(folder)] = replace(run, name="/".join(path.parts[-2:])) if is_shared else run
    return CurveJob(runs=runs, outdir=options.outdir)


# Reading


def read_run(folder: Path) -> RunCurves:
    """Read the curves of any training. A last line that was cut short by a kill is left out.

    Raises: FileNotFoundError without stats.jsonl; ValueError naming file and line of other damage.
    """
    path = folder / STATS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no {STATS_FILE} in it; a training run's folder is needed"
        )
    rows = list(_read_rows(path))
    axis = next((axis for axis in AXES if any(axis in row for _, row in rows)), GAN_AXIS)
    statistics: dict[str, list[Point]] = {}
    for number, row in rows:
        at = _mean(row.get(axis))
        if at is None:
            raise ValueError(f"{path}, line {number}: no number {axis}")
        for name, entry in row.items():
            mean, deviation = _mean(entry), _mean(entry, "std")
            if mean is not None and not (axis == GAN_AXIS and name.startswith("Metrics/")):
                statistics.setdefault(name, []).append((at, mean, deviation or 0.0))
    if not statistics:
        raise ValueError(f"{path}: no statistics in it")
    return RunCurves(
        name=folder.resolve().name,
        axis=axis,
        statistics=statistics,
        metrics=_read_metrics(folder),
    )


def _read_metrics(folder: Path) -> dict[str, list[Point]]:
    """Return the points of metric-*.jsonl; published files have no nimg but the snapshot's name."""
    metrics: dict[str, list[Point]] = {}
    for path in sorted(folder.glob("metric-*.jsonl")):
        for number, row in _read_rows(path):
            nimg, results = row.get("nimg"), row.get("results")
            digits = re.search(r"(\d+)\.pkl$", str(row.get("snapshot_pkl")))
            if not isinstance(results, dict) or not (isinstance(nimg, int) or digits):
                raise ValueError(f"{path}, line {number}: needs results and snapshot_pkl")
            kimg = nimg / 1000 if isinstance(nimg, int) else float(digits[1]) if digits else 0.0
            for name, value in results.items():
                if _is_finite(value):
                    metrics.setdefault(str(name), []).append((kimg, float(value), 0.0))
    return metrics


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object of each line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not text.endswith("\n"):
                return  # a killed process was writing it
            raise ValueError(f"{path}, line {number}: not valid JSON") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object")
        yield number, row


def _mean(entry: Any, name: str = "mean") -> float | None:
    """Return a finite number of a statistic; None for anything else."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return float(value) if _is_finite(value) else None


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


# Charts


def plot_curves(runs: Sequence[RunCurves]) -> dict[str, Chart]:
    """Return title -> chart of all for which a run has points; runs over one axis share charts."""
    charts: dict[str, Chart] = {}
    for name in sorted({name for run in runs for name in run.metrics}):
        lines = [_line(run.name, run.metrics[name]) for run in runs if name in run.metrics]
        charts[name] = _plot(ChartPlan(name, "value", {}), lines, GAN_AXIS)
    for axis, axis_label in AXES.items():
        group = [run for run in runs if run.axis == axis]
        is_alone = len(group) == 1
        for plan in _plans(group, is_alone=is_alone):
            lines = [line for run in group for line in _lines(plan, run, is_alone=is_alone)]
            if lines:
                title = plan.title if plan.title not in charts else f"{plan.title}, {axis_label}"
                charts[title] = _plot(replace(plan, title=title), lines, axis)
    return charts


def _plans(runs: Sequence[RunCurves], *, is_alone: bool) -> Iterator[ChartPlan]:
    """Yield the charts of runs over one axis: those of a GAN, else one a family of names.

    "Loss/total" is of the family "Loss", "Metrics/val_mean_iou" of "val".

    Several runs of several statistics would be too many lines: each then has a chart of its own.
    """
    plans = [*GAN_CHARTS]
    if any(run.axis != GAN_AXIS for run in runs):
        families: dict[str, dict[str, str]] = {}
        for name in dict.fromkeys(name for run in runs for name in run.statistics):
            short = name.removeprefix("Metrics/")
            family, _, label = short.rpartition("/") if "/" in short else short.partition("_")
            if name not in AXES and family not in ("Timing", "Resources"):
                families.setdefault(family, {})[name] = label or family
        plans = [ChartPlan(family, "value", names) for family, names in families.items()]
        plans.append(MEMORY_CHART)
    for plan in plans:
        if (is_alone and len(plan.statistics) <= _MOST_LINES) or len(plan.statistics) == 1:
            yield plan
            continue
        for name, label in plan.statistics.items():
            yield replace(plan, title=f"{plan.title}, {label}", statistics={name: label})


def _lines(plan: ChartPlan, run: RunCurves, *, is_alone: bool) -> Iterator[Line]:
    for statistic, label in plan.statistics.items():
        present = [name for name in _SUFFIXES if f"{statistic}{_SUFFIXES[name]}" in run.statistics]
        for name in present:
            points = run.statistics[f"{statistic}{_SUFFIXES[name]}"]
            if not any(mean for _, mean, _ in points):
                continue
            parts = [] if is_alone else [run.name]
            parts += [label] if len(plan.statistics) > 1 or is_alone else []
            parts += [name] * (present != [MODALITIES[0].name])
            yield _line(" · ".join(parts), points, has_band=is_alone and plan.has_band)


def _line(label: str, points: Sequence[Point], *, has_band: bool = False) -> Line:
    x, y, deviations = zip(*points, strict=True)
    if not has_band or not any(deviations):
        return Line(label, x, y)
    low = [mean - deviation for _, mean, deviation in points]
    high = [mean + deviation for _, mean, deviation in points]
    return Line(label, x, y, low, high)


def _plot(plan: ChartPlan, lines: Sequence[Line], axis: str) -> Chart:
    values = [value for line in lines for value in (*line.y, *(line.low or ()))]
    is_log = plan.is_log and max(values) > 0
    figure = plot_lines(
        lines,
        title=plan.title,
        x_label=AXES[axis],
        y_label=plan.unit,
        y_log=is_log,
        x_range=(0, None),
        y_range=(0 if min(values) >= 0 and not is_log else None, None),
    )
    names = ", ".join(line.label for line in lines)
    has_band = any(line.low is not None for line in lines)
    return Chart(
        svg=to_svg(figure, f"{plan.title} over {AXES[axis]}: {names}."),
        caption=_CAPTION if has_band else "",
    )
