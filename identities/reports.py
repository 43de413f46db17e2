"""What readers see of a filter and of a data set: tables, plots, contact sheets, the summary."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biometrics.thresholds import SCORE_EDGES, Thresholds, write_thresholds
from data.pixels import decode_image
from data.plots import plot_histograms, to_pixels
from data.sheets import Pixels, image_grid, resize, save_image
from identities.rules import FilterRules, Reason

OVERVIEW = "overview.png"
SCORES_PLOT = "scores.png"
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_ROWS = 64
_COLUMNS = 16
_CELL_PX = 64
_GAP_PX = 6
_LINES = 4  # rows of an identity's grid, as published
Entry = dict[str, Any]


# Summaries


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


def count_reasons(rejected: Sequence[Entry]) -> dict[str, Any]:
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


def training_score(entry: Entry) -> float | None:
    """Return the highest cosine of a sample's first modality; None for unreadable ones."""
    return next((nearest["score"] for nearest in entry["training"].values()), None)


def summarise_dataset(
    accepted: Sequence[Entry],
    rejected: Sequence[Entry],
    counts: Sequence[tuple[int, int]],
    samples: int,
    surplus: int,
) -> dict[str, Any]:
    """Return the counts and distributions of a data set.

    Args:
        accepted: entries of the manifest.
        rejected: entries of the rejections.
        counts: samples and attempts of each identity.
        samples: wanted per identity.
        surplus: candidates that nobody needed.
    """
    failed = [number for number, (found, _) in enumerate(counts) if found == 0]
    incomplete = [
        {"identity": number, "samples": found, "attempts": attempts}
        for number, (found, attempts) in enumerate(counts)
        if 0 < found < samples
    ]
    every = [*accepted, *rejected]
    others = (entry["other"] for entry in accepted)
    return {
        "identities": {
            "requested": len(counts),
            "complete": len(counts) - len(failed) - len(incomplete),
            "incomplete": incomplete,
            "failed_to_enrol": failed,
            "failure_to_enrol_rate": round(len(failed) / len(counts), 6),
        },
        "candidates": len(every) + surplus,
        "accepted": len(accepted),
        "surplus": surplus,
        "rejected": {"total": len(rejected), **count_reasons(rejected)},
        "scores": {
            "own_first": describe_scores(entry["own_first"] for entry in accepted),
            "own_nearest": describe_scores(entry["own_nearest"] for entry in accepted),
            "training": describe_scores(map(training_score, accepted)),
            "training_of_all_candidates": describe_scores(map(training_score, every)),
            "other": describe_scores(other["score"] for other in others if other is not None),
            "agreement": describe_scores(entry["agreement"] for entry in accepted),
            "agreement_of_all_candidates": describe_scores(entry["agreement"] for entry in every),
        },
    }


# Thresholds and scores


def describe_thresholds(thresholds: Thresholds) -> str:
    """Return thresholds in a few lines, with what other rates would give."""
    lines = [
        f"privacy {thresholds.privacy:.4f}, same identity {thresholds.same_identity:.4f}, "
        f"too similar {thresholds.too_similar:.4f} (from {thresholds.non_mated.number} comparisons "
        f"of two identities, {thresholds.mated.number} of one)",
        f"{'FMR':>8}{'privacy':>10}{'FNMR':>10}{'new identities rejected':>26}"
        f"{'training identities missed':>29}",
    ]
    lines += [
        f"{point.fmr:>8.0e}{point.privacy:>10.4f}{point.fnmr:>10.1%}"
        f"{point.refused_new_people:>26.1%}{point.missed_training_people:>29.1%}"
        for point in thresholds.choices
    ]
    return "\n".join(lines)


def write_thresholds_and_plot(path: Path, thresholds: Thresholds) -> None:
    """Write thresholds, and beside them a plot of the training images' scores."""
    write_thresholds(path, thresholds)
    limits = {
        "privacy": thresholds.privacy,
        "same identity": thresholds.same_identity,
        "too similar": thresholds.too_similar,
    }
    title = (
        f"{thresholds.images} images of {thresholds.identities} identities, "
        f"false match rate {thresholds.fmr:g}"
    )
    plot = _plot_scores(title, _training_counts(thresholds), limits)
    save_image(path.with_suffix(".png"), plot)


def plot_dataset(
    entries: Sequence[Entry], rules: FilterRules, thresholds: Thresholds | None
) -> Pixels:
    """Return a plot of the scores of a manifest's entries and of the limits: [3, H, W] uint8."""
    scores = {
        "new identity, own first sample": [entry["own_first"] for entry in entries],
        "nearest training identity": [training_score(entry) for entry in entries],
        "nearest other new identity": [(entry["other"] or {}).get("score") for entry in entries],
    }
    counts = {} if thresholds is None else _training_counts(thresholds)
    for label, values in scores.items():  # rounding may leave scores a little beyond 1
        known = np.array([value for value in values if value is not None], np.float64)
        counts[label] = np.histogram(known.clip(-1, 1), SCORE_EDGES)[0]
    limits = {"privacy": rules.privacy}
    if rules.same_identity != rules.privacy:
        limits["same identity"] = rules.same_identity
    if rules.too_similar is not None:
        limits["too similar"] = rules.too_similar
    number = len({entry["identity"] for entry in entries})
    return _plot_scores(f"{len(entries)} samples of {number} new identities", counts, limits)


def _training_counts(thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Return histograms of the training images' own scores, by kind of comparison."""
    return {
        "two training identities": thresholds.non_mated.counts,
        "one training identity": thresholds.mated.counts,
    }


def _plot_scores(
    title: str, counts: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> Pixels:
    marks = {f"{name} {score:.3f}": score for name, score in limits.items()}
    return to_pixels(
        plot_histograms(
            counts, SCORE_EDGES, title=title, x_label="cosine similarity", thresholds=marks
        )
    )


# Contact sheets


def write_identity_sheets(
    folder: Path, identity: int, samples: int, wanted: int, places: Sequence[str]
) -> None:
    """Write id_N_samples_PLACE.png for each modality's folder.

    Args:
        folder: of the data set.
        identity: N.
        samples: that the identity has.
        wanted: samples of a complete identity; a grid has a quarter of them a row, at least one.
        places: folders of the modalities, such as VIS.
    """
    for place in places:
        cells = [_read(folder, identity, place, sample) for sample in range(samples)]
        grid = image_grid(cells, max(1, wanted // _LINES))
        save_image(folder / f"id_{identity}_samples_{place}.png", grid)


def write_overview(folder: Path, counts: Sequence[tuple[int, int]], places: Sequence[str]) -> None:
    """Write a sheet of the first identities: a row each, the modalities side by side.

    Args:
        folder: of the data set.
        counts: samples and attempts of each identity.
        places: folders of the modalities.
    """
    shown = [number for number, (samples, _) in enumerate(counts) if samples][:_ROWS]
    if not shown:
        return
    columns = min(_COLUMNS, max(counts[number][0] for number in shown))
    parts = []
    for place in places:
        cells = []
        for number in shown:
            own = range(min(columns, counts[number][0]))
            cells += [resize(_read(folder, number, place, i), _CELL_PX, _CELL_PX) for i in own]
            cells += [np.zeros_like(cells[0])] * (columns - len(own))
        grid = image_grid(cells, columns)
        parts += [grid, np.full([3, grid.shape[1], _GAP_PX], 255, np.uint8)]
    save_image(folder / OVERVIEW, np.concatenate(parts[:-1], axis=2))


def _read(folder: Path, identity: int, place: str, sample: int) -> Pixels:
    return decode_image(folder / image_name(identity, place, sample), 3)


def image_name(identity: int, place: str, sample: int) -> str:
    """Return the name of a sample's image in a modality's folder, as published."""
    return f"id_{identity}/{place}/sample_{sample}_{place}.png"
