"""Metrics of the snapshots of a run: measured, logged, and kept in metric-NAME.jsonl."""

import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data.pairs import open_pairs
from dnnlib import files
from dnnlib.text import format_seconds
from evaluation.extractors import build_extractors, may_download
from evaluation.features import FeatureCache, FolderImages, SampledImages
from evaluation.generator_metrics import MetricPlan, MetricResult, count_images, evaluate
from evaluation.names import Metric
from evaluation.report import format_number
from networks.sampling import IndexedSampler
from torch_utils.distributed import World

_log = logging.getLogger(__name__)


def measure_snapshot(
    plan: MetricPlan, path: Path, sampler: IndexedSampler, nimg: int, world: World
) -> dict[str, float]:
    """Measure a snapshot and write the results beside it; all processes call it together.

    Args:
        plan: metrics, networks and real images.
        path: of the snapshot.
        sampler: of its generator.
        nimg: images that training had shown.
        world: the processes.
    Returns: name -> number in the first process, nothing in the others.
    """
    began = time.monotonic()
    fake = SampledImages(sampler, count_images(plan.metrics))
    results = evaluate(plan, fake, sampler, world=world)
    seconds = time.monotonic() - began
    for result in results:
        _record(result, path, nimg=nimg, seconds=seconds, processes=world.size)
    values = {name: entry.value for one in results for name, entry in one.values.items()}
    if values:
        shown = ", ".join(f"{name} {format_number(value)}" for name, value in values.items())
        _log.info("%s: %s (%s)", path.name, shown, format_seconds(seconds))
    return values


def prepare_snapshot_metrics(
    metrics: Sequence[Metric],
    extractor: str,
    data: Path,
    *,
    seed: int,
    device: str,
    may_fetch: bool = True,
) -> partial[dict[str, float]] | None:
    """Load the networks and find the real images, before a run begins.

    Args:
        metrics: which.
        extractor: one of evaluation.names.EXTRACTORS.
        data: data set to compare with: all of it, without flipped images, as published.
        seed: of subsets.
        device: that computes.
        may_fetch: fetch networks that are not here.
    Returns: `measure_snapshot` of these; None where networks may have to be fetched and must
        not be.
    Raises: ValueError or FileNotFoundError naming what is missing.
    """
    if not may_fetch and may_download(extractor):
        return None
    roles = {metric.role for metric in metrics}
    plan = MetricPlan(
        metrics=tuple(metrics),
        extractors=build_extractors(extractor, roles, device=device),
        real=FolderImages(open_pairs(data)),
        seed=seed,
        device=device,
        cache=FeatureCache(),
    )
    return partial(measure_snapshot, plan)


def _record(result: MetricResult, path: Path, *, nimg: int, seconds: float, processes: int) -> None:
    """Append a line to a metric's file, in place of what an earlier process wrote from here on.

    A killed run continues from its last checkpoint and comes to later snapshots again.
    """
    record = {
        "results": {name: entry.value for name, entry in result.values.items()},
        "metric": result.name,
        "total_time": seconds,
        "total_time_str": format_seconds(seconds),
        "num_gpus": processes,
        "snapshot_pkl": path.name,
        "timestamp": time.time(),
        "nimg": nimg,
        "extractor": result.extractor.name,
        "extractor_hash": result.extractor.hash,
        "num_real": result.num_real,
    }
    file = path.with_name(f"metric-{result.name}.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    lines = [line for line in lines if _is_before(line, nimg)]
    with files.atomic_write(file, "w") as stream:
        stream.writelines(f"{line}\n" for line in (*lines, json.dumps(record)))


def _is_before(line: str, nimg: int) -> bool:
    """Tell whether a line is of an earlier snapshot; one that is not ours stays."""
    try:
        content = json.loads(line)
    except ValueError:
        return False
    known = content.get("nimg") if isinstance(content, dict) else None
    return not isinstance(known, int) or known < nimg
