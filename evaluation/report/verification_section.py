"""The section on verification: error rates, DET curves and score distributions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from biometrics.verification import OperatingPoint, ScoreHistogram, VerificationScore
from evaluation.folds import FoldScore
from evaluation.plots import Mark, Sample, Series, histogram, line_chart
from evaluation.report.content import Block, Cell, Chart, Headline, Section, Table
from metrics.estimates import Estimate

_DRAWN = 4000
_LEVELS = {0.01: "FMR100", 0.001: "FMR1000"}


def verification_section(
    scores: Mapping[str, VerificationScore],
    enrolments: Mapping[str, Estimate],
    recogniser: str,
    *,
    folds: Mapping[str, FoldScore] | None = None,
    omitted: Sequence[tuple[str, str]] = (),
) -> Section:
    """Return tables and curves of comparisons.

    Args:
        scores: what was compared ("samples, RGB") -> its error rates.
        enrolments: set and modality -> share of images without an embedding.
        recogniser: by which everything was compared.
        folds: names of .bin files -> their ten-fold scores.
    """
    blocks: list[Block] = []
    if scores:
        blocks += [_rates(scores), _shape(scores), _tars(scores), _thresholds(scores)]
        blocks += [_det(scores), _roc(scores)]
        blocks += [_distributions(name, score) for name, score in scores.items()]
    if enrolments:
        blocks.append(_failures(enrolments))
    if folds:
        blocks.append(_folds(folds))
    return Section(
        key="verification",
        title="Verification",
        lead="Can people be told apart: comparisons of images of one person (mated) and of two "
        f"people (non-mated) by {recogniser}.",
        blocks=tuple(blocks),
        data={
            "recogniser": recogniser,
            "comparisons": scores,
            "failure_to_enrol": enrolments,
            "folds": {name: _fold_data(fold) for name, fold in (folds or {}).items()},
        },
        headlines=tuple(
            Headline(label=f"EER, {name}", value=score.eer, meaning="verification; 0 is best")
            for name, score in list(scores.items())[:4]
        ),
        omitted=tuple(omitted),
    )


def _rates(scores: Mapping[str, VerificationScore]) -> Table:
    rows = []
    for name, score in scores.items():
        points = {point.level: point for point in score.points}
        cells = [
            points[level].fnmr if level in points and points[level].is_supported else None
            for level in _LEVELS
        ]
        rows.append((name, score.mated, score.non_mated, score.eer, *cells, score.zero_fmr))
    return Table(
        caption="Error rates (lower is better)",
        columns=("Compared", "Mated", "Non-mated", "EER", *_LEVELS.values(), "ZeroFMR"),
        rows=tuple(rows),
        note="FMR100 is the lowest share of missed mated comparisons where at most 1 in 100 "
        "non-mated ones is accepted; FMR1000 1 in 1000; ZeroFMR none. A dash means too few "
        "non-mated comparisons (fewer than 3 are expected). Intervals are 95 %, from resampling "
        "people; n counts mated comparisons, for the EER all of them." + _resolution(scores),
    )


def _resolution(scores: Mapping[str, VerificationScore]) -> str:
    widths = [score.resolution for score in scores.values() if score.resolution]
    if not widths:
        return ""
    return (
        f" Where comparisons are very many, scores are counted in bins of {max(widths):g}; "
        "people are then resampled in groups."
    )


def _shape(scores: Mapping[str, VerificationScore]) -> Table:
    return Table(
        caption="Separation (higher is better)",
        columns=("Compared", "AUC", "FDR", "d′", "Mated mean", "Non-mated mean"),
        rows=tuple(
            (name, s.auc, s.fdr, s.d_prime, s.mated_mean, s.non_mated_mean)
            for name, s in scores.items()
        ),
        note="FDR is Fisher's discriminant ratio. Low error rates do not by themselves make a "
        "data set good to train on: samples may be too alike.",
    )


def _tars(scores: Mapping[str, VerificationScore]) -> Table:
    return _by_level(
        scores,
        lambda point: point.tar if point.is_supported else None,
        caption="True acceptance at a false acceptance rate (higher is better)",
        note="Comparisons with an image that could not be enrolled count as not accepted. A dash "
        "means too few non-mated comparisons.",
    )


def _thresholds(scores: Mapping[str, VerificationScore]) -> Table:
    return _by_level(
        scores,
        lambda point: f"{point.threshold:.4f}" if point.is_supported else None,
        caption="Lowest cosine that is accepted at a false match rate",
        note="Of use for other data sets only with the same recogniser.",
    )


def _by_level(
    scores: Mapping[str, VerificationScore],
    cell: Callable[[OperatingPoint], Cell],
    *,
    caption: str,
    note: str,
) -> Table:
    levels = list(dict.fromkeys(p.level for score in scores.values() for p in score.points))
    rows = []
    for name, score in scores.items():
        found = {point.level: cell(point) for point in score.points}
        rows.append((name, *(found.get(level) for level in levels)))
    columns = ("Compared", *(f"{level:g}" for level in levels))
    return Table(caption=caption, columns=columns, rows=tuple(rows), note=note)


def _series(scores: Mapping[str, VerificationScore], *, is_roc: bool) -> list[Series]:
    found = []
    for name, score in scores.items():
        curve = score.curve
        has_band = bool(np.isfinite(curve.low).all())
        y, low, high = curve.fnmr, curve.low, curve.high
        if is_roc:
            y, low, high = 1 - y, 1 - high, 1 - low
        found.append(
            Series(
                name,
                curve.fmr.tolist(),
                y.tolist(),
                low=low.tolist() if has_band else None,
                high=high.tolist() if has_band else None,
            )
        )
    return found


def _det(scores: Mapping[str, VerificationScore]) -> Chart:
    svg = line_chart(
        _series(scores, is_roc=False),
        title="Detection error trade-off",
        x_label="false match rate",
        y_label="false non-match rate",
        x_log=True,
        y_log=True,
    )
    return Chart(
        svg=svg,
        caption="Both axes are logarithmic; lower left is better. Bands are pointwise 95 % "
        "intervals over people. Each kind of comparison has its own dashes and marker.",
    )


def _roc(scores: Mapping[str, VerificationScore]) -> Chart:
    svg = line_chart(
        _series(scores, is_roc=True),
        title="Receiver operating characteristic",
        x_label="false match rate",
        y_label="true match rate",
        x_log=True,
        y_range=(0, 1),
    )
    return Chart(svg=svg, caption="The upper left is better.")


def _distributions(name: str, score: VerificationScore) -> Chart:
    shown = score.histogram
    svg = histogram(
        [Sample(label, _drawn(shown, label)) for label in ("mated", "non-mated")],
        title=f"Scores: {name}",
        x_label="cosine similarity",
        bins=len(shown.mated),
        x_range=(float(shown.edges[0]), float(shown.edges[-1])),
        marks=[Mark(score.eer_threshold, "EER")],
    )
    return Chart(
        svg=svg,
        caption=f"{score.mated:,} mated and {score.non_mated:,} non-mated comparisons, each in "
        "shares of its own number.",
    )


def _drawn(shown: ScoreHistogram, label: str) -> list[float]:
    """Return values whose histogram is the given one, to 1 in 4000."""
    shares = shown.mated if label == "mated" else shown.non_mated
    centres = (shown.edges[:-1] + shown.edges[1:]) / 2
    return np.repeat(centres, np.round(shares * _DRAWN).astype(int)).tolist()


def _failures(enrolments: Mapping[str, Estimate]) -> Table:
    return Table(
        caption="Failure to enrol: images that gave no embedding",
        columns=("Images", "Share"),
        rows=tuple((name, share) for name, share in enrolments.items()),
        note="n counts images; Wilson's interval.",
    )


def _folds(folds: Mapping[str, FoldScore]) -> Table:
    return Table(
        caption="Ten-fold protocol (LFW)",
        columns=("File", "Pairs (n)", "Accuracy", "TAR", "at FAR"),
        rows=tuple(
            (
                name,
                fold.pairs,
                "{:.4f} ± {:.4f}".format(*fold.accuracy),
                "{:.4f} ± {:.4f}".format(*fold.tar),
                fold.far,
            )
            for name, fold in folds.items()
        ),
        note="Mean ± standard deviation over folds; thresholds come from the other nine.",
    )


def _fold_data(fold: FoldScore) -> dict[str, object]:
    mean, deviation = fold.accuracy
    tar, tar_deviation = fold.tar
    return {
        **vars(fold),
        "accuracy": {"mean": mean, "std": deviation, "n": fold.pairs},
        "tar": {"mean": tar, "std": tar_deviation, "n": fold.pairs},
    }
