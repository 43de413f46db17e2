"""The numbers of each kind of metric, from features: value, and interval where it is wanted."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.half_samples import half_samples, interval_estimate, subset_estimate
from evaluation.image_features import FeatureSet, group_numbers
from metrics.distances import KID_SUBSET_SIZE, frechet_distance, kernel_distance
from metrics.diversity import inception_score, vendi_score
from metrics.estimates import Estimate
from metrics.names import Kind, Metric
from metrics.neighbours import neighbour_scores
from metrics.path_length import trimmed_mean
from metrics.statistics import Features, Floats, Moments, check_features, merge_moments

_POSITIVE = (0.0, math.inf)
_BOUNDS = {f"_{name}": (0.0, 1.0) for name in ("precision", "recall", "coverage")}

Estimates = dict[str, Estimate]
RowScore = Callable[..., Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How numbers are computed from features.

    Attributes:
        replicates: half-samples behind an interval; 0 gives none.
        seed: of subsets and half-samples.
        device: of the nearest neighbours.
    """

    replicates: int
    seed: int
    device: str = "cpu"


def compute_scores(
    metric: Metric, fake: FeatureSet, real: FeatureSet | None, options: ScoreOptions
) -> Estimates:
    """Return the numbers of a metric under the endings of their published names.

    Args:
        metric: any but PPL.
        fake: features of the generated images.
        real: features of the real ones; None where the metric needs none.
        options: intervals and seeds.
    Raises: ValueError for too few samples, NaN, or features that cannot be compared.
    """
    if metric.kind is Kind.FID:
        assert real is not None, "FID compares"
        return _frechet(fake, real, options)
    if metric.kind is Kind.KID:
        assert real is not None, "KID compares"
        return _kernel(_rows(fake), _rows(real), options)
    sets = [fake] if real is None or not metric.needs_real else [fake, real]
    return _by_rows(sets, _row_score(metric, options), options)


def path_length_scores(lengths: Floats, options: ScoreOptions) -> Estimates:
    """Return the trimmed mean of path lengths. Raises: ValueError where they are not finite."""
    groups = group_numbers(np.arange(len(lengths)))
    halves = half_samples([groups], replicates=options.replicates, seed=options.seed)
    drawn = [trimmed_mean(lengths[np.isin(groups, chosen)]) for (chosen,) in halves]
    return {"": interval_estimate(trimmed_mean(lengths), drawn, n=len(lengths), bounds=_POSITIVE)}


def _frechet(fake: FeatureSet, real: FeatureSet, options: ScoreOptions) -> Estimates:
    for features, name in ((fake, "generated images"), (real, "real images")):
        if features.rows is not None:
            check_features(features.rows, name, at_least=2)
    parts = [features.group_moments() for features in (fake, real)]
    value = frechet_distance(*(_merge(moments) for moments in parts))
    halves = half_samples(
        [fake.groups, real.groups], replicates=options.replicates, seed=options.seed
    )
    drawn = [
        frechet_distance(
            *(_merge([m[g] for g in groups]) for m, groups in zip(parts, chosen, strict=True))
        )
        for chosen in halves
    ]
    return {"": interval_estimate(value, drawn, n=len(fake), bounds=_POSITIVE)}


def _kernel(fake: Features, real: Features, options: ScoreOptions) -> Estimates:
    distance = kernel_distance(real, fake, seed=options.seed)
    n = min(len(real), len(fake))
    subsets, size = distance.subsets, KID_SUBSET_SIZE
    if options.replicates and n < 2 * KID_SUBSET_SIZE:
        # Subsets that overlap too much say little about the spread of all samples.
        size = max(n // 2, 2)
        subsets = kernel_distance(real, fake, seed=options.seed, subset_size=size).subsets
    if not options.replicates:
        return {"": Estimate(value=distance.mean, n=len(fake))}
    estimate = subset_estimate(distance.mean, subsets, subset_size=size, drawn_from=n, n=len(fake))
    return {"": estimate}


def _by_rows(sets: list[FeatureSet], score: RowScore, options: ScoreOptions) -> Estimates:
    rows = [_rows(features) for features in sets]
    groups = [features.groups for features in sets]
    values = score(*rows)
    halves = half_samples(groups, replicates=options.replicates, seed=options.seed)
    drawn = [
        score(
            *(
                part[np.isin(numbers, chosen)]
                for part, numbers, chosen in zip(rows, groups, half, strict=True)
            )
        )
        for half in halves
    ]
    return {
        ending: interval_estimate(
            value,
            [one[ending] for one in drawn],
            n=len(rows[0]),
            bounds=_BOUNDS.get(ending, _POSITIVE),
        )
        for ending, value in values.items()
    }


def _row_score(metric: Metric, options: ScoreOptions) -> RowScore:
    if metric.kind is Kind.VENDI:
        return lambda fake: {"": vendi_score(fake)}
    if metric.kind is Kind.IS:
        return _inception
    names = ("precision", "recall") if metric.kind is Kind.PR else ("density", "coverage")

    def score(fake: Features, real: Features) -> Mapping[str, float]:
        scores = neighbour_scores(real, fake, k=metric.k, device=options.device)
        return {f"_{name}": getattr(scores, name) for name in names}

    return score


def _inception(probabilities: Features) -> Mapping[str, float]:
    mean, deviation = inception_score(probabilities)
    return {"_mean": mean, "_std": deviation}


def _rows(features: FeatureSet) -> Features:
    assert features.rows is not None, "rows were asked for"
    return features.rows


def _merge(parts: tuple[Moments | None, ...] | list[Moments | None]) -> Moments:
    return merge_moments([moments for moments in parts if moments is not None])
