"""Curves of training runs, from stats.jsonl and metric-*.jsonl of their folders."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.modalities import MODALITIES
from dnnlib import files
from dnnlib.runs import slug
from evaluation.plots import Series, line_chart
from evaluation.report.content import Chart, Report, Section
from evaluation.report.writing import write_report

STATS_FILE = "stats.jsonl"
_KIMG = "Progress/kimg"
_CAPTION = "The band is one standard deviation of the values behind each mean."
_METRIC_FILE = re.compile(r"metric-(.+)\.jsonl")

# A point: thousands of images, mean, deviation of the values behind the mean.
Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ChartPlan:
    """One chart of related statistics.

    Attributes:
        title: above it.
        unit: of the y axis.
        statistics: published names without the modality's ending, with what the legend says.
        is_log: logarithmic y axis.
        has_band: show the deviation of the values behind a mean.
    """

    title: str
    unit: str
    statistics: Mapping[str, str]
    is_log: bool = False
    has_band: bool = False


CHARTS = (
    ChartPlan(title="Generator loss", unit="loss", statistics={"Loss/G/loss": "G"}, has_band=True),
    ChartPlan(
        title="Discriminator loss", unit="loss", statistics={"Loss/D/loss": "D"}, has_band=True
    ),
    ChartPlan(
        title="Discriminator scores",
        unit="logit",
        statistics={"Loss/scores/real": "real", "Loss/scores/fake": "generated"},
        has_band=True,
    ),
    ChartPlan(
        title="Signs of the discriminator's answers",
        unit="mean sign, 1 is all real",
        statistics={"Loss/signs/real": "real", "Loss/signs/fake": "generated"},
    ),
    ChartPlan(
        title="R1 penalty",
        unit="squared gradient",
        statistics={"Loss/r1_penalty": "R1"},
        is_log=True,
    ),
    ChartPlan(
        title="Path length penalty",
        unit="penalty",
        statistics={"Loss/pl_penalty": "path length"},
        is_log=True,
    ),
    ChartPlan(
        title="Augmentation strength", unit="p", statistics={"Progress/augment": "augmentation"}
    ),
    ChartPlan(
        title="Time", unit="seconds per kimg", statistics={"Timing/sec_per_kimg": "training"}
    ),
    ChartPlan(
        title="Memory",
        unit="GiB",
        statistics={
            "Resources/cpu_mem_gb": "CPU, peak",
            "Resources/peak_gpu_mem_gb": "GPU, peak",
        },
    ),
)


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """What a run wrote down.

    Attributes:
        name: of its folder.
        statistics: name -> points by kimg.
        metrics: name -> points by kimg.
    """

    name: str
    statistics: Mapping[str, Sequence[Point]]
    metrics: Mapping[str, Sequence[Point]]


def read_run(folder: Path) -> RunCurves:
    """Read a run's curves.

    A last line that was cut short by a kill is left out.

    Raises: FileNotFoundError without stats.jsonl; ValueError naming file and line of other damage.
    """
    path = folder / STATS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no {STATS_FILE} in it; a training run's folder is needed"
        )
    statistics: dict[str, list[Point]] = {}
    for number, row in _rows(path):
        kimg = _value(row.get(_KIMG), "mean")
        if kimg is None:
            raise ValueError(f"{path}, line {number}: no number {_KIMG}")
        for name, entry in row.items():
            mean, deviation = _value(entry, "mean"), _value(entry, "std")
            if mean is not None and not name.startswith("Metrics/"):
                statistics.setdefault(name, []).append((kimg, mean, deviation or 0.0))
    if not statistics:
        raise ValueError(f"{path}: no statistics in it")
    return RunCurves(
        name=folder.resolve().name, statistics=statistics, metrics=_read_metrics(folder)
    )


def describe_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what a dry run says about runs. Raises: as `read_run`."""
    runs = {str(folder): read_run(folder) for folder in folders}
    return {
        place: {"charts": list(draw_curves([run])), "kimg": _last_kimg(run)}
        for place, run in runs.items()
    }


def draw_curves(runs: Sequence[RunCurves]) -> dict[str, str]:
    """Return title -> SVG of all charts for which a run has points."""
    charts = {}
    for name in sorted({name for run in runs for name in run.metrics}):
        series = [
            _series(run.name, run.metrics[name], has_band=False)
            for run in runs
            if name in run.metrics
        ]
        charts[name] = _draw(name, "value", series, is_log=False)
    is_alone = len(runs) == 1
    plans = CHARTS if is_alone else [part for whole in CHARTS for part in _apart(whole)]
    for plan in plans:
        series = [one for run in runs for one in _series_of(plan, run, is_alone=is_alone)]
        if series:
            charts[plan.title] = _draw(plan.title, plan.unit, series, is_log=plan.is_log)
    return charts


def write_curves(folders: Sequence[Path], outdir: Path) -> Path:
    """Write one SVG a chart and a page of all of them.

    Args:
        folders: of runs; equal names are told apart by the folder above.
        outdir: of the files.
    Returns: path of the page.
    Raises: FileNotFoundError, ValueError as `read_run`, and where a run is given twice.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ValueError("a run is given twice")
    runs = [_named(read_run(folder), folder, folders) for folder in folders]
    charts = draw_curves(runs)
    for title, svg in charts.items():
        with files.atomic_write(outdir / f"{slug(title)}.svg", "w") as file:
            file.write(svg)
    names = ", ".join(run.name for run in runs)
    section = Section(
        key="training",
        title="Training",
        lead=f"Statistics of {names}, by thousands of images shown.",
        blocks=tuple(
            Chart(svg=svg, caption=_CAPTION if "fill-opacity" in svg else "")
            for svg in charts.values()
        ),
        data={run.name: {"metrics": run.metrics, "statistics": run.statistics} for run in runs},
    )
    report = Report(title="Training curves", subtitle=names, sections=(section,))
    return write_report(report, outdir, "training")[0]


def _draw(title: str, unit: str, series: Sequence[Series], *, is_log: bool) -> str:
    is_above_zero = all(value >= 0 for one in series for value in one.y)
    return line_chart(
        series,
        title=title,
        x_label="thousands of images shown",
        y_label=unit,
        y_log=is_log and any(value > 0 for one in series for value in one.y),
        x_range=(0, None),
        y_zero=is_above_zero,
    )


def _series_of(plan: ChartPlan, run: RunCurves, *, is_alone: bool) -> list[Series]:
    found = []
    for statistic, label in plan.statistics.items():
        for modality in MODALITIES:
            points = run.statistics.get(f"{statistic}{modality.suffix}")
            if not points or not any(mean for _, mean, _ in points):
                continue
            has_modality = f"{statistic}{MODALITIES[-1].suffix}" in run.statistics
            parts = [] if is_alone else [run.name]
            parts += [label] if len(plan.statistics) > 1 or is_alone else []
            parts += [modality.name] if has_modality else []
            found.append(_series(" · ".join(parts), points, has_band=is_alone and plan.has_band))
    return found


def _apart(plan: ChartPlan) -> list[ChartPlan]:
    """Return a chart a statistic: several runs of several statistics are too many lines."""
    if len(plan.statistics) == 1:
        return [plan]
    return [
        replace(plan, title=f"{plan.title}, {label}", statistics={name: label})
        for name, label in plan.statistics.items()
    ]


def _series(label: str, points: Sequence[Point], *, has_band: bool) -> Series:
    x, y = [kimg for kimg, _, _ in points], [mean for _, mean, _ in points]
    if not has_band or not any(deviation for _, _, deviation in points):
        return Series(label, x, y)
    low = [mean - deviation for _, mean, deviation in points]
    high = [mean + deviation for _, mean, deviation in points]
    return Series(label, x, y, low, high)


def _named(run: RunCurves, folder: Path, folders: Sequence[Path]) -> RunCurves:
    if sum(other.resolve().name == run.name for other in folders) == 1:
        return run
    name = "/".join(folder.resolve().parts[-2:])
    return RunCurves(name=name, statistics=run.statistics, metrics=run.metrics)


def _last_kimg(run: RunCurves) -> float:
    return max(kimg for points in run.statistics.values() for kimg, _, _ in points)


def _read_metrics(folder: Path) -> dict[str, list[Point]]:
    """Return the points of metric-*.jsonl; published files have no nimg but the snapshot's name."""
    metrics: dict[str, list[Point]] = {}
    for path in sorted(folder.glob("metric-*.jsonl")):
        if not _METRIC_FILE.fullmatch(path.name):
            continue
        for number, row in _rows(path):
            kimg, results = _kimg_of(row), row.get("results")
            if kimg is None or not isinstance(results, dict):
                raise ValueError(f"{path}, line {number}: needs results and snapshot_pkl")
            for name, value in results.items():
                if _is_number(value):
                    metrics.setdefault(str(name), []).append((kimg, float(value), 0.0))
    return metrics


def _kimg_of(row: Mapping[str, Any]) -> float | None:
    nimg = row.get("nimg")
    if isinstance(nimg, int):
        return nimg / 1000
    digits = re.search(r"(\d+)\.pkl$", str(row.get("snapshot_pkl")))
    return float(digits[1]) if digits else None


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(text.splitlines()) and not text.endswith("\n"):
                break  # a killed process was writing it
            raise ValueError(f"{path}, line {number}: not valid JSON") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected an object")
        rows.append((number, row))
    return rows


def _value(entry: Any, name: str) -> float | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
