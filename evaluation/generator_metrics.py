"""All metrics of one generator or folder against a data set, in one pass over the images."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.extractors import Extractor
from evaluation.feature_cache import FeatureCache
from evaluation.image_features import (
    GROUPS,
    ROWS_UP_TO,
    FeatureSet,
    Request,
    collect_features,
    gather_rows,
)
from evaluation.scores import ScoreOptions, compute_scores, path_length_scores
from evaluation.sources import FolderSource, Source
from metrics.estimates import Estimate
from metrics.names import Kind, Metric, Role
from metrics.path_length import BLOCK, PathGenerator, path_lengths
from torch_utils.distributed import World

# Takes how many images there are; returns what counts further ones.
Progress = Callable[[int, int], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A measured metric.

    Attributes:
        metric: what was asked for.
        name: of the result; the published one only with the published network.
        label: for people, such as "FD(random-conv-seed0)".
        extractor: name of the network.
        extractor_hash: of its weights.
        is_reference: whether it is the published network.
        values: name with its published ending -> number and interval.
        num_real: real images behind it, 0 where none are compared.
        seconds: that it took; the images are drawn and looked at once for all metrics together.
    """

    metric: Metric
    name: str
    label: str
    extractor: str
    extractor_hash: str
    is_reference: bool
    values: Mapping[str, Estimate]
    num_real: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured, with which networks.

    Attributes:
        metrics: which.
        extractors: a network for each role of theirs.
        real: images to compare with; None where no metric does.
        options: intervals and seeds.
        cache: of the features of real images; None keeps nothing.
    """

    metrics: tuple[Metric, ...]
    extractors: Mapping[Role, Extractor]
    real: FolderSource | None
    options: ScoreOptions
    cache: FeatureCache | None = None

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric.needs_real and self.real is None:
                raise ValueError(f"metric {metric.name}: needs real images to compare with")
            if metric.needs_real and self.real is not None:
                _check_modalities(metric, self.real)
                metric.check_count(len(self.real), f"{self.real.name} has")

    @property
    def count(self) -> int:
        """Generated images that the metrics need; 0 where all of them are PPL."""
        return max((m.count for m in self.metrics if m.kind is not Kind.PPL), default=0)

    def check(self, fake: Source, generator: PathGenerator | None) -> None:
        """Check that generated images fit. Raises: ValueError naming the metric that they do not.

        Args:
            fake: the generated images.
            generator: of path lengths; None where there are only images.
        """
        for metric in self.metrics:
            _check_modalities(metric, fake)
            if metric.kind is Kind.PPL and generator is None:
                raise ValueError(f"metric {metric.name}: needs a generator, not images")
            if metric.kind is not Kind.PPL and metric.count > len(fake):
                fitting = metric.name.replace(_count_text(metric.count), str(len(fake)), 1)
                raise ValueError(
                    f"metric {metric.name}: needs {metric.count} images, {fake.name} has"
                    f" {len(fake)}; {fitting} uses all of them"
                )


def evaluate(
    plan: Evaluation,
    fake: Source,
    generator: PathGenerator | None = None,
    *,
    world: World | None = None,
    progress: Progress | None = None,
) -> list[MetricResult]:
    """Measure all metrics; all processes call it together.

    Args:
        plan: what is measured.
        fake: the generated images.
        generator: of path lengths.
        world: the processes.
        progress: shows how many images this process has done.
    Returns: results in the order of the metrics in the first process, nothing in the others.
    Raises: ValueError naming the metric or the images, the rule and what was found.
    """
    world = world or World()
    plan.check(fake, generator)
    drawn = _collect(plan, fake, world, progress, is_real=False)
    known = _collect_real(plan, world, progress)
    results = []
    for metric in plan.metrics:
        began = time.monotonic()
        if metric.kind is Kind.PPL:
            assert generator is not None, "checked above"
            values = _measure_paths(plan, metric, generator, world, progress)
        elif world.is_first:
            request = _request_of(plan, metric, metric.count, is_real=False)
            real = _real_features(plan, metric, known)
            values = compute_scores(metric, _find(drawn, request), real, plan.options)
        if world.is_first:
            results.append(_result(plan, metric, values, time.monotonic() - began))
    world.wait()  # here, and not in a message between GPUs, which waits less patiently
    return results


def _result(
    plan: Evaluation, metric: Metric, values: Mapping[str, Estimate], seconds: float
) -> MetricResult:
    extractor = plan.extractors[metric.role]
    identity = {"extractor": extractor.name, "is_reference": extractor.is_reference}
    name = metric.result_name(**identity)
    return MetricResult(
        metric=metric,
        name=name,
        label=metric.label(**identity),
        extractor=extractor.name,
        extractor_hash=extractor.hash,
        is_reference=extractor.is_reference,
        values={f"{name}{ending}": value for ending, value in values.items()},
        num_real=_num_real(plan, metric),
        seconds=seconds,
    )


# Features


def _collect(
    plan: Evaluation,
    source: Source,
    world: World,
    progress: Progress | None,
    *,
    is_real: bool,
    requests: Sequence[Request] | None = None,
) -> dict[Request, FeatureSet]:
    if requests is None:
        requests = _requests(plan, is_real=is_real)
    if not requests:
        return {}
    by_hash = {extractor.hash: extractor for extractor in plan.extractors.values()}
    total = math.ceil(max(request.count for request in requests) / world.size)
    advance = None if progress is None else progress(0, total)
    return collect_features(source, requests, by_hash, world=world, advance=advance)


def _collect_real(
    plan: Evaluation, world: World, progress: Progress | None
) -> dict[Request, FeatureSet]:
    """Return features of the real images from the cache, or computed and kept there."""
    requests = _requests(plan, is_real=True)
    if plan.real is None or not requests:
        return {}
    names = {extractor.hash: extractor.name for extractor in plan.extractors.values()}
    keys: dict[Request, dict[str, str | int | bool]] = {}
    found: dict[Request, FeatureSet] = {}
    if plan.cache is not None and world.is_first:
        content = plan.real.content_hash()
        for request in requests:
            keys[request] = {**vars(request), "images": content, "groups": GROUPS}
            keys[request]["name"] = names[request.extractor]
            held = plan.cache.load(plan.real.name, keys[request])
            if held is not None:
                found[request] = held
    is_missing = world.any(*(world.is_first and request not in found for request in requests))
    missing = [request for request, flag in zip(requests, is_missing, strict=True) if flag]
    computed = _collect(plan, plan.real, world, progress, is_real=True, requests=missing)
    for request, features in computed.items():
        if plan.cache is not None:
            plan.cache.store(plan.real.name, keys[request], features)
    return {**found, **computed}


def _requests(plan: Evaluation, *, is_real: bool) -> list[Request]:
    """Return what has to be computed: one set of rows, or moments for each count."""
    wanted: list[Request] = []
    for metric in plan.metrics:
        if metric.kind is Kind.PPL or (is_real and not metric.needs_real):
            continue
        count = _num_real(plan, metric) if is_real else metric.count
        wanted.append(_request_of(plan, metric, count, is_real=is_real))
    merged: dict[tuple[str, str, bool, int], Request] = {}
    for request in wanted:
        # Of rows, the largest number serves all.
        place = 0 if request.keeps_rows else request.count
        key = (request.extractor, request.view, request.keeps_rows, place)
        if key not in merged or merged[key].count < request.count:
            merged[key] = request
    return list(merged.values())


def _request_of(plan: Evaluation, metric: Metric, count: int, *, is_real: bool) -> Request:
    extractor = plan.extractors[metric.role].hash
    others = [m for m in plan.metrics if m.view == metric.view and m.kind is not Kind.PPL]
    needs_rows = any(
        m.kind is not Kind.FID and (m.needs_real or not is_real)
        for m in others
        if plan.extractors[m.role].hash == extractor
    )
    keeps_rows = needs_rows or count <= ROWS_UP_TO
    return Request(extractor=extractor, view=metric.view, count=count, keeps_rows=keeps_rows)


def _find(collected: Mapping[Request, FeatureSet], wanted: Request) -> FeatureSet:
    if not wanted.keeps_rows:
        return collected[wanted]
    key = (wanted.extractor, wanted.view)
    (features,) = (
        found
        for request, found in collected.items()
        if request.keeps_rows and (request.extractor, request.view) == key
    )
    return features.first(wanted.count)


def _real_features(
    plan: Evaluation, metric: Metric, known: Mapping[Request, FeatureSet]
) -> FeatureSet | None:
    if not metric.needs_real:
        return None
    return _find(known, _request_of(plan, metric, _num_real(plan, metric), is_real=True))


def _num_real(plan: Evaluation, metric: Metric) -> int:
    if plan.real is None or not metric.needs_real:
        return 0
    return len(plan.real) if metric.is_full else min(metric.count, len(plan.real))


# Path lengths


def _measure_paths(
    plan: Evaluation,
    metric: Metric,
    generator: PathGenerator,
    world: World,
    progress: Progress | None,
) -> Mapping[str, Estimate]:
    """Return the path length in the first process, nothing in the others."""
    blocks = range(math.ceil(metric.count / BLOCK))
    mine = blocks[len(blocks) * world.rank // world.size :]
    mine = mine[: len(blocks) * (world.rank + 1) // world.size - mine.start]
    advance = None if progress is None else progress(0, len(mine) * BLOCK)
    measure = plan.extractors[metric.role]
    rows = []
    for block in mine:
        lengths = path_lengths(generator, measure, metric, block=block, seed=plan.options.seed)
        start = block * BLOCK
        kept = lengths[: metric.count - start, None].astype("float32")
        rows.append((start, kept))
        if advance is not None:
            advance(len(kept))
    lengths = gather_rows(rows, metric.count, world)
    if lengths is None:
        return {}
    return path_length_scores(lengths[:, 0].astype("float64"), plan.options)


def _check_modalities(metric: Metric, images: Source) -> None:
    for modality in metric.modalities:
        if modality not in images.modalities:
            has = ", ".join(images.modalities) or "none"
            raise ValueError(
                f"metric {metric.name}: needs {modality} images, {images.name} has {has}"
            )


def _count_text(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
