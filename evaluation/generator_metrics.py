"""All metrics of one generator or folder against a data set, in one pass over the images."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.extractors import Extractor
from evaluation.features import (
    FeatureCache,
    FeatureSet,
    FolderImages,
    Images,
    Key,
    Progress,
    collect_features,
    gather_rows,
    share,
)
from evaluation.names import Kind, Metric, Role
from evaluation.path_length import BLOCK as PATHS
from evaluation.path_length import path_lengths, trimmed_mean
from metrics import NotMeasuredError
from metrics.distances import KID_SUBSETS, frechet_distance, kernel_distance
from metrics.diversity import inception_score, vendi_score
from metrics.estimates import Estimate, half_samples, interval_estimate
from metrics.neighbours import neighbour_scores
from metrics.statistics import Features, check_features, compute_moments, merge_moments
from networks.sampling import IndexedSampler
from torch_utils.distributed import World

_KID_HALF_SUBSETS = 10  # behind each replicate of an interval
_POSITIVE, _ANY = (0.0, math.inf), (-math.inf, math.inf)
_BOUNDS = {f"_{name}": (0.0, 1.0) for name in ("precision", "recall", "coverage")}


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A measured metric.

    Attributes:
        metric: what was asked for.
        name: of the result; the published one only with the published network.
        label: shown in tables, such as "FD(random-conv-seed0)".
        extractor: the network.
        values: name with its published ending -> number and interval.
        heldout: the same of held-out identities in the samples' place; empty where not measured.
        num_real: real images behind it, 0 where none are compared.
        seconds: that it took, without embedding images, which is done once for all metrics.
    """

    metric: Metric
    name: str
    label: str
    extractor: Extractor
    values: Mapping[str, Estimate]
    heldout: Mapping[str, Estimate]
    num_real: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MetricPlan:
    """What is measured, with which networks.

    Attributes:
        metrics: which.
        extractors: a network for each role of theirs.
        real: images to compare with; None where no metric does.
        heldout: real images of other identities, whose numbers are what a perfect generator can
            reach with so many images; None leaves that out.
        replicates: half-samples behind each interval; 0 gives none.
        seed: of subsets and half-samples.
        device: of the nearest neighbours.
        cache: of the features of real images; None keeps nothing.
    """

    metrics: tuple[Metric, ...]
    extractors: Mapping[Role, Extractor]
    real: FolderImages | None
    heldout: FolderImages | None = None
    replicates: int = 0
    seed: int = 0
    device: str = "cpu"
    cache: FeatureCache | None = None

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if not metric.needs_real:
                continue
            if self.real is None:
                raise NotMeasuredError(f"metric {metric.name}: needs real images to compare with")
            _check_modalities(metric, self.real)
            if self.heldout is not None:
                _check_modalities(metric, self.heldout)
            metric.check_count(len(self.real), f"{self.real.name} has")

    def check(self, fake: Images, sampler: IndexedSampler | None) -> None:
        """Check that generated images fit; a sampler is needed for path lengths.

        Raises: NotMeasuredError naming the metric.
        """
        for metric in self.metrics:
            _check_modalities(metric, fake)
            if metric.kind is Kind.PPL and sampler is None:
                raise ValueError(f"metric {metric.name}: needs a generator, not images")
            if metric.kind is not Kind.PPL and metric.count > len(fake):
                count = metric.count
                written = f"{count // 1000}k" if count % 1000 == 0 else str(count)
                raise NotMeasuredError(
                    f"metric {metric.name}: needs {count} images, {fake.name} has {len(fake)};"
                    f" {metric.name.replace(written, str(len(fake)), 1)} uses all of them"
                )

    def key(self, metric: Metric) -> Key:
        """Return which features a metric needs."""
        return self.extractors[metric.role].hash, metric.view

    def num_real(self, metric: Metric) -> int:
        """Return how many real images a metric compares with."""
        if self.real is None or not metric.needs_real:
            return 0
        return len(self.real) if metric.is_full else min(metric.count, len(self.real))

    def num_heldout(self, metric: Metric) -> int:
        """Return how many held-out images are measured beside a metric; 0 where too few are."""
        if self.heldout is None or not metric.needs_real:
            return 0
        count = min(metric.count, len(self.heldout))
        return count if count >= metric.least else 0

    @property
    def by_hash(self) -> dict[str, Extractor]:
        """The networks by their hash."""
        return {extractor.hash: extractor for extractor in self.extractors.values()}


def count_images(metrics: tuple[Metric, ...]) -> int:
    """Return how many generated images metrics need; 0 where all of them are path lengths."""
    return max((m.count for m in metrics if m.kind is not Kind.PPL), default=0)


def evaluate(
    plan: MetricPlan,
    fake: Images,
    sampler: IndexedSampler | None = None,
    *,
    world: World | None = None,
    progress: Progress | None = None,
) -> list[MetricResult]:
    """Measure all metrics; all processes call it together.

    Args:
        plan: what is measured.
        fake: the generated images.
        sampler: of the generator, for path lengths.
        world: the processes.
        progress: shows how many images this process has done.
    Returns: results in the order of the metrics in the first process, nothing in the others.
    Raises: ValueError naming the metric or the images, the rule and what was found.
    """
    world = world or World()
    plan.check(fake, sampler)
    counts = {m: m.count for m in plan.metrics if m.kind is not Kind.PPL}
    generated = _features(fake, counts, plan, world, progress)
    counts = {m: n for m in plan.metrics if (n := plan.num_heldout(m))}
    heldout = _features(plan.heldout, counts, plan, world, progress)
    counts = {m: n for m in plan.metrics if (n := plan.num_real(m))}
    real = _features(plan.real, counts, plan, world, progress, plan.cache)
    results = []
    for metric in plan.metrics:
        began, floor = time.monotonic(), {}
        if metric.kind is Kind.PPL:
            assert sampler is not None, "checked above"
            values = _measure_paths(plan, metric, sampler, world, progress)
        elif world.is_first:
            against = [real[metric]] if metric in real else []
            values = compute_scores(metric, [generated[metric], *against], plan)
            if metric in heldout:
                floor = compute_scores(metric, [heldout[metric], *against], plan)
        if world.is_first:
            results.append(_result(plan, metric, values, floor, time.monotonic() - began))
    world.barrier()  # here, and not in a message between GPUs, which waits less patiently
    return results


def _result(
    plan: MetricPlan,
    metric: Metric,
    values: Mapping[str, Estimate],
    floor: Mapping[str, Estimate],
    seconds: float,
) -> MetricResult:
    extractor = plan.extractors[metric.role]
    name, label = metric.names("" if extractor.is_reference else extractor.name)
    return MetricResult(
        metric=metric,
        name=name,
        label=label,
        extractor=extractor,
        values={f"{name}{ending}": value for ending, value in values.items()},
        heldout={f"{name}{ending}": value for ending, value in floor.items()},
        num_real=plan.num_real(metric),
        seconds=seconds,
    )


def _features(
    images: Images | None,
    counts: Mapping[Metric, int],
    plan: MetricPlan,
    world: World,
    progress: Progress | None,
    cache: FeatureCache | None = None,
) -> dict[Metric, FeatureSet]:
    """Return the features of the first images that each metric needs, in the first process.

    With a cache they come from there, or are computed and kept there.
    """
    if images is None or not counts:
        return {}
    largest: dict[Key, int] = {}
    for metric, count in counts.items():
        largest[plan.key(metric)] = max(count, largest.get(plan.key(metric), 0))
    entries: dict[Key, dict[str, str | int]] = {}
    held: dict[Key, Features] = {}
    if cache is not None and world.is_first:
        content = images.samples.content_hash()
        for key, count in largest.items():
            name = plan.by_hash[key[0]].name
            entries[key] = {"images": content, "extractor": key[0], "view": key[1], "count": count}
            entries[key]["name"] = name
            rows = cache.load(images.name, entries[key])
            if rows is not None:
                held[key] = rows
    is_missing = world.any(*(world.is_first and key not in held for key in largest))
    missing = {k: n for (k, n), flag in zip(largest.items(), is_missing, strict=True) if flag}
    computed = collect_features(images, missing, plan.by_hash, world=world, progress=progress)
    if cache is not None:
        for key, rows in computed.items():
            cache.store(images.name, entries[key], rows)
    held |= computed
    if not world.is_first:
        return {}
    return {
        metric: FeatureSet(held[plan.key(metric)][:count], images.identities(count))
        for metric, count in counts.items()
    }


# Numbers with intervals


def compute_scores(metric: Metric, sets: list[FeatureSet], plan: MetricPlan) -> dict[str, Estimate]:
    """Return the numbers of a metric under the endings of their published names.

    Args:
        metric: any but PPL.
        sets: features of the generated images, and of the real ones where the metric needs them.
        plan: intervals and seeds.
    Raises: ValueError for too few samples, NaN, or features that cannot be compared.
    """
    if metric.kind is Kind.FID:
        return _frechet(*sets, plan)

    def score(parts: Sequence[FeatureSet], kid_subsets: int) -> Mapping[str, float]:
        rows = [part.rows for part in parts]
        match metric.kind:
            case Kind.KID:
                is_published = plan.extractors[metric.role].is_reference
                return {"": _kernel(*parts, kid_subsets, plan.seed, is_published=is_published)}
            case Kind.VENDI:
                return {"": vendi_score(*rows)}
            case Kind.IS:
                return dict(zip(("_mean", "_std"), inception_score(*rows), strict=True))
        fake, real = rows
        found = neighbour_scores(real, fake, k=metric.k, device=plan.device)
        names = ("precision", "recall") if metric.kind is Kind.PR else ("density", "coverage")
        return {f"_{name}": getattr(found, name) for name in names}

    def score_half(*chosen: np.ndarray) -> Mapping[str, float]:
        parts = [part.of_groups(groups) for part, groups in zip(sets, chosen, strict=True)]
        return score(parts, _KID_HALF_SUBSETS)

    values = score(sets, KID_SUBSETS)
    halves = _of_halves(score_half, sets, plan)
    bounds = {"": _ANY} if metric.kind is Kind.KID else _BOUNDS
    return {
        ending: interval_estimate(
            value,
            [half[ending] for half in halves],
            n=len(sets[0]),
            bounds=bounds.get(ending, _POSITIVE),
        )
        for ending, value in values.items()
    }


def _of_halves(
    measure: Callable[..., Any], sets: Sequence[FeatureSet], plan: MetricPlan
) -> list[Any]:
    """Return what random halves of the sets' groups give; nothing where these are too few images.

    `measure` takes the numbers of the groups of each set.
    """
    groups = [part.groups for part in sets]
    halves = half_samples(groups, replicates=plan.replicates, seed=plan.seed)
    try:
        return [measure(*half) for half in halves]
    except NotMeasuredError:
        return []


def _frechet(fake: FeatureSet, real: FeatureSet, plan: MetricPlan) -> dict[str, Estimate]:
    check_features(fake.rows, "generated images", at_least=2)
    check_features(real.rows, "real images", at_least=2)
    parts = [
        {group: compute_moments(part.rows[part.groups == group]) for group in set(part.groups)}
        for part in (fake, real)
    ]

    def distance(*chosen: np.ndarray) -> float:
        return frechet_distance(
            *(
                merge_moments([moments[group] for group in groups])
                for moments, groups in zip(parts, chosen, strict=True)
            )
        )

    value = distance(*(np.unique(part.groups) for part in (fake, real)))
    replicates = _of_halves(distance, [fake, real], plan)
    return {"": interval_estimate(value, replicates, n=len(fake), bounds=_POSITIVE)}


def _kernel(
    fake: FeatureSet, real: FeatureSet, subsets: int, seed: int, *, is_published: bool
) -> float:
    """Return the kernel distance; the published one takes all images for independent."""
    names = real.identities, fake.identities
    has_names = not is_published and all(len(np.unique(own)) > 1 for own in names)
    own = names if has_names else None
    found = kernel_distance(real.rows, fake.rows, seed=seed, subsets=subsets, identities=own)
    return float(found.mean())


def _measure_paths(
    plan: MetricPlan,
    metric: Metric,
    sampler: IndexedSampler,
    world: World,
    progress: Progress | None,
) -> dict[str, Estimate]:
    """Return the path length in the first process; the others only compute their part of it."""
    blocks = share(math.ceil(metric.count / PATHS), world)
    advance = None if progress is None else progress(0, len(blocks) * PATHS)
    measure = plan.extractors[metric.role]
    parts = []
    for block in blocks:
        lengths = path_lengths(sampler, measure, metric, block=block, seed=plan.seed)
        start = block * PATHS
        parts.append((start, lengths[: metric.count - start, None].astype("float32")))
        if advance is not None:
            advance(len(parts[-1][1]))
    lengths = gather_rows(parts, metric.count, world)[:, 0].astype("float64")
    if not world.is_first:
        return {}
    paths = FeatureSet(lengths, np.arange(len(lengths)))
    halves = _of_halves(lambda kept: trimmed_mean(paths.of_groups(kept).rows), [paths], plan)
    value = trimmed_mean(lengths)
    return {"": interval_estimate(value, halves, n=len(lengths), bounds=_POSITIVE)}


def _check_modalities(metric: Metric, images: Images) -> None:
    for modality in metric.modalities:
        if modality not in images.modalities:
            has = ", ".join(images.modalities) or "none"
            raise NotMeasuredError(
                f"metric {metric.name}: needs {modality} images, {images.name} has {has}"
            )
