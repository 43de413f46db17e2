"""The section on privacy: nearest training people, beside held-out people."""

from collections.abc import Mapping, Sequence

from data.modalities import MODALITIES
from evaluation.plots import Mark, Sample, histogram
from evaluation.report.content import Block, Cell, Chart, Headline, Panels, Section, Table
from metrics.privacy import PrivacyScore

_NAMES = {"mean": "Mean", "median": "Median", "p95": "95 % quantile", "p99": "99 % quantile"}
_MAX_DRAWN = 200_000


def privacy_section(
    scores: Mapping[str, PrivacyScore],
    panels: Sequence[Panels],
    threshold_source: str,
    *,
    is_audited: bool,
    omitted: Sequence[tuple[str, str]] = (),
) -> Section:
    """Return tables and charts of the similarity to training people.

    Args:
        scores: recogniser and modality ("a.pth, RGB") -> what it finds.
        panels: pictures of nearest neighbours.
        threshold_source: how thresholds were set.
        is_audited: whether there is a second recogniser, beside that of the filter.
    """
    blocks: list[Block] = []
    for name, score in scores.items():
        blocks += [_nearest(name, score), _above(name, score, threshold_source)]
        blocks += [_tests(name, score), _chart(name, score)]
    gaps = list(omitted)
    if not is_audited and scores:
        gaps.append(
            (
                "second recogniser",
                "no --audit-model was given; a filter must not be judged only by the recogniser "
                "that it used",
            )
        )
    return Section(
        key="privacy",
        title="Privacy",
        lead="Do samples show training people. The nearest of many images is always somewhat "
        "similar; the leak is what exceeds real people who were held out.",
        blocks=(*blocks, *panels),
        data={
            "thresholds": threshold_source,
            "recognisers": {name: _data(score) for name, score in scores.items()},
        },
        headlines=tuple(
            entry
            for name, score in scores.items()
            if name.endswith(MODALITIES[0].name.upper())
            for entry in _headlines(name, score)
        ),
        omitted=tuple(gaps),
    )


def _headlines(name: str, score: PrivacyScore) -> tuple[Headline, ...]:
    found = []
    excess = score.statistics["mean"].excess
    if excess is not None:
        label = f"Excess similarity to training people ({name})"
        found.append(Headline(label=label, value=excess, meaning="privacy; at most 0 is best"))
    if score.membership_auc is not None:
        found.append(
            Headline(
                label=f"Membership inference AUC ({name})",
                value=score.membership_auc,
                meaning="privacy; 0.5 is best",
            )
        )
    return tuple(found)


def _nearest(name: str, score: PrivacyScore) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (label, s.samples, s.heldout, s.excess)
        for key, label in _NAMES.items()
        for s in [score.statistics[key]]
    ]
    highest, baseline = score.maximum
    rows.append(("Highest", f"{highest:.4f}", _fixed(baseline), _gap(highest, baseline)))
    return Table(
        caption=f"Cosine to the nearest training image, by {name}",
        columns=("Statistic", "Samples", "Held-out people", "Excess (the leak)"),
        rows=tuple(rows),
        note="Intervals are 95 %, from resampling people; n counts images. An excess whose "
        "interval lies above 0 speaks for a leak; one interval in twenty does so by chance.",
    )


def _above(name: str, score: PrivacyScore, source: str) -> Table:
    return Table(
        caption=f"Share of images that match a training person, by {name}",
        columns=("Threshold at FMR", "Cosine", "Samples", "Held-out people", "Excess"),
        rows=tuple(
            (f"{a.fmr:g}", f"{a.threshold:.4f}", a.samples, a.heldout, a.excess)
            for a in score.above
        ),
        note=f"Thresholds: {source}. With many training images a match by chance is more likely "
        "than the FMR of a single comparison; held-out people show how likely.",
    )


def _tests(name: str, score: PrivacyScore) -> Table:
    rows: list[tuple[Cell, ...]] = []
    if score.copies:
        copies = score.copies
        rows += [
            ("C_T (z)", f"{copies.c_t:.3f}", f"below -3 says copying; p = {copies.p_value:.3g}"),
            ("Chance that a sample is nearer", copies.chance, "0.5 is no difference"),
        ]
    rows.append(("AuthPct", score.authentic, "share not nearer than training images are apart"))
    if score.authentic_person:
        rows.append(
            (
                "AuthPct, by people",
                score.authentic_person,
                "share not nearer than another training person is",
            )
        )
    if score.membership_auc:
        rows.append(
            ("Membership inference AUC", score.membership_auc, "0.5: members cannot be told")
        )
    return Table(
        caption=f"Memorisation and membership, by {name}",
        columns=("Test", "Value", "Reading"),
        rows=tuple(rows),
        note="C_T counts images as independent, which those of one person are not; the chance "
        "below it has an interval over people. A recogniser trained on the training people may "
        "tell members for reasons of its own: judge by one that was not.",
    )


def _chart(name: str, score: PrivacyScore) -> Chart:
    step = -(-len(score.nearest.scores) // _MAX_DRAWN)
    samples = [Sample("samples", score.nearest.scores[::step].tolist())]
    if len(score.heldout_similarity):
        samples.append(Sample("held-out people", score.heldout_similarity.tolist()))
    svg = histogram(
        samples,
        title=f"Nearest training image ({name})",
        x_label="cosine similarity",
        marks=[Mark(entry.threshold, f"{entry.fmr:g}") for entry in score.above],
    )
    return Chart(
        svg=svg,
        caption="Samples to the right of held-out people are nearer to training people than "
        "strangers are. Dashed lines: thresholds of the recogniser at these false match rates.",
    )


def _data(score: PrivacyScore) -> dict[str, object]:
    """Return what goes into report.json: everything but the values of single images."""
    kept = ("statistics", "above", "copies", "authentic", "authentic_person", "membership_auc")
    highest, baseline = score.maximum
    return {
        **{name: getattr(score, name) for name in kept},
        "maximum": {"samples": highest, "heldout": baseline},
        "samples": len(score.nearest.scores),
        "heldout": len(score.heldout_similarity),
    }


def _fixed(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _gap(value: float, baseline: float | None) -> str | None:
    return None if baseline is None else f"{value - baseline:.4f}"
