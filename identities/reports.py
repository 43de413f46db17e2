"""Files about a data set of new people that are for readers: thresholds, plots, the audit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biometrics.thresholds import SCORE_EDGES, THRESHOLDS_FILE, write_thresholds
from data.sheets import save_image
from dnnlib import config as configs
from identities.audit import Auditor, rgb_names
from identities.filter_loading import LoadedFilter, plot_scores, training_counts

SCORES_PLOT = "scores.png"


def write_reports(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    loaded: LoadedFilter,
    auditor: Auditor | None,
) -> dict[str, Any]:
    """Write thresholds and plot; return what the summary says of rules and audit.

    Args:
        folder: of the data set.
        entries: of its manifest.
        loaded: the filter.
        auditor: second recogniser, or None.
    """
    if loaded.thresholds is not None:
        write_thresholds(folder / THRESHOLDS_FILE, loaded.thresholds)
    if entries:
        save_image(folder / SCORES_PLOT, _plot(entries, loaded))
    audit = None if auditor is None else auditor.report(folder, rgb_names(entries))
    return {"rules": configs.to_dict(loaded.scorer.rules), "audit": audit}


def _plot(entries: Sequence[dict[str, Any]], loaded: LoadedFilter) -> np.ndarray:
    rules = loaded.scorer.rules
    training = [next(iter(entry["training"].values()))["score"] for entry in entries]
    own = [entry["own_first"] for entry in entries if entry["own_first"] is not None]
    other = [entry["other"]["score"] for entry in entries if entry["other"] is not None]
    counts = {} if loaded.thresholds is None else training_counts(loaded.thresholds)
    for label, scores in (
        ("new person, own first sample", own),
        ("nearest training person", training),
        ("nearest other new person", other),
    ):  # rounding may leave scores a little beyond 1
        counts[label] = np.histogram(np.clip(scores, -1, 1), SCORE_EDGES)[0]
    limits = {"privacy": rules.privacy}
    if rules.same_identity != rules.privacy:
        limits["same identity"] = rules.same_identity
    if rules.too_similar is not None:
        limits["too similar"] = rules.too_similar
    people = len({entry["identity"] for entry in entries})
    return plot_scores(f"{len(entries)} samples of {people} new people", counts, limits)
