"""What a data set of new people is like, in a few numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from identities.rules import Reason

_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def describe_scores(scores: Iterable[float | None]) -> dict[str, Any] | None:
    """Return number, mean, deviation, extremes and quantiles; None without any score."""
    values = np.array([score for score in scores if score is not None], np.float64)
    if not len(values):
        return None
    return {
        "number": len(values),
        "mean": round(float(values.mean()), 6),
        "std": round(float(values.std()), 6),
        "lowest": round(float(values.min()), 6),
        "highest": round(float(values.max()), 6),
        "quantiles": {f"{s:g}": round(float(np.quantile(values, s)), 6) for s in _SHARES},
    }


def summarise_dataset(
    accepted: Sequence[dict[str, Any]],
    rejected: Sequence[dict[str, Any]],
    counts: Sequence[tuple[int, int]],
    requested: tuple[int, int],
    surplus: int,
) -> dict[str, Any]:
    """Return the counts and distributions of a data set.

    Args:
        accepted: entries of the manifest.
        rejected: entries of the rejections.
        counts: samples and attempts of each person.
        requested: people, and samples of each.
        surplus: candidates that nobody needed.
    """
    identities, samples = requested
    failed = [number for number, (found, _) in enumerate(counts) if found == 0]
    incomplete = [
        {"identity": number, "samples": found, "attempts": attempts}
        for number, (found, attempts) in enumerate(counts)
        if 0 < found < samples
    ]
    return {
        "identities": {
            "requested": identities,
            "complete": identities - len(failed) - len(incomplete),
            "incomplete": incomplete,
            "failed_to_enrol": failed,
            "failure_to_enrol_rate": round(len(failed) / identities, 6),
        },
        "candidates": len(accepted) + len(rejected) + surplus,
        "accepted": len(accepted),
        "surplus": surplus,
        "rejected": {"total": len(rejected), **count_reasons(rejected)},
        "scores": {
            "own_first": describe_scores(entry["own_first"] for entry in accepted),
            "own_nearest": describe_scores(entry["own_nearest"] for entry in accepted),
            "training": describe_scores(_first_training(entry) for entry in accepted),
            "training_of_all_candidates": describe_scores(
                _first_training(entry) for entry in [*accepted, *rejected]
            ),
            "other": describe_scores(
                None if entry["other"] is None else entry["other"]["score"] for entry in accepted
            ),
            "agreement": describe_scores(entry["agreement"] for entry in accepted),
            "agreement_of_all_candidates": describe_scores(
                entry["agreement"] for entry in [*accepted, *rejected]
            ),
        },
    }


def count_reasons(rejected: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return counts by reason: each rejection once, by its first one, and by all of them."""
    first = Counter(entry["reasons"][0] for entry in rejected)
    every = Counter(reason for entry in rejected for reason in entry["reasons"])
    faces = Counter(entry["face"] for entry in rejected if entry.get("face"))
    order = [reason.value for reason in Reason]
    return {
        "by_first_reason": {name: first[name] for name in order if name in first},
        "by_any_reason": {name: every[name] for name in order if name in every},
        "faces": dict(sorted(faces.items())),
    }


def _first_training(entry: dict[str, Any]) -> float:
    return next(iter(entry["training"].values()))["score"]
