"""Verification: can identities be distinguished, in each spectrum and across spectra."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biometrics.comparisons import compare
from biometrics.detection import MtcnnDetector
from biometrics.embedding import Embeddings, load_embedder
from biometrics.verification import OperatingPoint, VerificationScore, score_comparisons
from data.plots import Line, plot_histograms, plot_lines, to_svg
from data.sample_index import SampleIndex
from dnnlib.options import Progress
from evaluation.faces import Faces, hash_inputs, list_comparisons, open_faces
from evaluation.options import VerificationOptions
from evaluation.pairs import (
    Pair,
    check_pairs,
    compare_pairs,
    describe_misalignment,
    embed_distances,
    read_pair_archive,
    read_pair_list,
)
from evaluation.report import Block, Cell, Chart, Headline, Section, Table
from evaluation.topic import (
    ReportJob,
    Topic,
    describe_sets,
    open_named_sets,
    skip_unmeasured,
)
from metrics import NotMeasuredError
from metrics.estimates import Estimate, wilson
from metrics.folds import FoldScore, score_folds
from torch_utils.devices import resolve_repeatable

_logger = logging.getLogger(__name__)
_LEVELS = {0.01: "FMR100", 0.001: "FMR1000"}


@dataclass(frozen=True, kw_only=True, eq=False)
class VerificationTopic(Topic):
    """Comparisons of the images of data sets, of a list of pairs, or of `.bin` archives.

    Attributes:
        sets: by name.
        faces: of the recogniser.
        seed: of resampling.
        pairs: of the first set, compared instead of all images; none compares all.
        pair_file: where they come from.
        bins: archives, and the weights that embed them.
    """

    key = "verification"
    title = "Verification"

    sets: Mapping[str, SampleIndex]
    faces: Faces
    seed: int
    pairs: tuple[Pair, ...] = ()
    pair_file: Path = Path()
    bins: tuple[tuple[Path, Path], ...] = ()

    def measure(self, progress: Progress) -> Section:
        """Compare each modality with itself, and RGB galleries with probes of the others.

        Raises: NotMeasuredError where nothing can be compared.
        """
        scored = {str(path): self._score_bin(path, weights) for path, weights in self.bins}
        folds = {path: fold for path, (fold, _) in scored.items()}
        unaligned = {path: why for path, (_, why) in scored.items() if why}
        scores: dict[str, VerificationScore] = {}
        enrolments: dict[str, Estimate] = {}
        skipped: list[tuple[str, str]] = []
        listed = {modality for pair in self.pairs for modality, _ in (pair.first, pair.second)}
        for name, samples in self.sets.items():
            modalities = [m for m in samples.modalities if m in listed or not listed]
            embedded = {m: self.faces.of(samples, m, progress) for m in modalities}
            for modality, found in embedded.items():
                failed = wilson(len(found.failures), len(samples))
                enrolments[f"{name}, {modality.upper()}"] = failed
            if listed:
                score = score_comparisons(compare_pairs([*self.pairs], embedded), seed=self.seed)
                scores[f"pairs of {self.pair_file.name}"] = score
                break  # of the first set
            for label, compared in list_comparisons(samples):
                with skip_unmeasured(skipped, f"verification of {name}, {label}"):
                    scores[f"{name}, {label}"] = self._score([embedded[m] for m in compared])
        if not scores and not folds:
            raise NotMeasuredError("; ".join(f"{what}: {why}" for what, why in skipped))
        return self._section(scores, enrolments, folds, unaligned, skipped)

    def _score(self, sides: Sequence[Embeddings]) -> VerificationScore:
        gallery, *probes = (embeddings.side() for embeddings in sides)
        comparisons = compare(gallery, *probes, device=self.faces.device, seed=self.seed)
        return score_comparisons(comparisons, seed=self.seed)

    def _score_bin(self, path: Path, weights: Path) -> tuple[FoldScore, str | None]:
        """Return the ten-fold score of a .bin, and why it looks unaligned, if it does.

        Embeddings are f(x) + f(mirrored x), as the protocol asks.
        """
        images, is_same = read_pair_archive(path)
        try:
            detector = MtcnnDetector(device=self.faces.device)
        except ValueError:  # not installed
            detector = None
        why = describe_misalignment(images, str(path), detector)
        if why is not None:
            _logger.warning("%s looks unaligned: %s", path, why)
        embedder = load_embedder(weights, device=self.faces.device, flip=True)
        return score_folds(embed_distances(images, embedder, str(path)), is_same), why

    def _section(
        self,
        scores: Mapping[str, VerificationScore],
        enrolments: Mapping[str, Estimate],
        folds: Mapping[str, FoldScore],
        unaligned: Mapping[str, str],
        skipped: Sequence[tuple[str, str]],
    ) -> Section:
        blocks: list[Block] = []
        if scores:
            blocks += [_rates(scores), _separation(scores), *_by_level(scores), *_curves(scores)]
            blocks += [_distributions(name, score) for name, score in scores.items()]
        if enrolments:
            blocks.append(
                Table(
                    caption="Failure to enrol: images that gave no embedding",
                    columns=("Images", "Share"),
                    rows=tuple(enrolments.items()),
                    note="n counts images; Wilson's interval.",
                )
            )
        if folds:
            blocks.append(_folds(folds, unaligned))
        return Section(
            key=self.key,
            title=self.title,
            lead="Can identities be distinguished: comparisons of two images of one identity "
            f"(mated) and of two identities (non-mated) by {self.faces.name}.",
            blocks=tuple(blocks),
            data={
                "recogniser": self.faces.name,
                "comparisons": scores,
                "failure_to_enrol": enrolments,
                "folds": {name: _fold_data(fold) for name, fold in folds.items()},
                "unaligned": dict(unaligned),
            },
            headlines=tuple(
                Headline(label=f"EER, {name}", value=score.eer, meaning="verification; 0 is best")
                for name, score in list(scores.items())[:4]
            ),
            skipped=tuple(skipped),
        )


def prepare(options: VerificationOptions) -> ReportJob:
    """Open data sets, lists and recogniser, and read all lists once.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    sets = open_named_sets(options.data)
    for path in options.bins:
        read_pair_archive(path)  # and forgotten: several together may not fit into memory
    pairs = []
    if options.pairs is not None:
        pairs = read_pair_list(options.pairs)
        check_pairs(pairs, next(iter(sets.values())), options.pairs)
    faces = open_faces([options.rec_model], resolve_repeatable(options.device))
    topic = VerificationTopic(
        sets=sets,
        faces=faces[0],
        seed=options.seed,
        pairs=tuple(pairs),
        pair_file=options.pairs or Path(),
        bins=tuple((path, options.rec_model) for path in options.bins),
    )
    return ReportJob(
        name="verification",
        title="Verification",
        subtitle=", ".join([*sets, *map(str, options.bins)]),
        topics=[topic],
        plan={"data": describe_sets(sets), "bins": options.bins},
        options=options,
        inputs=lambda: hash_inputs(sets, faces),
    )


# Tables and charts


def _rates(scores: Mapping[str, VerificationScore]) -> Table:
    rows = []
    for name, score in scores.items():
        points = {point.level: point for point in score.points if point.is_supported}
        cells = [points[level].fnmr if level in points else None for level in _LEVELS]
        rows.append((name, score.mated, score.non_mated, score.eer, *cells, score.zero_fmr))
    widths = [score.resolution for score in scores.values() if score.resolution]
    note = (
        "FMR100 is the lowest share of missed mated comparisons where at most 1 in 100 non-mated "
        "ones is accepted; FMR1000 1 in 1000; ZeroFMR none. A dash means too few non-mated "
        "comparisons (fewer than 3 are expected). Intervals are 95 %, from resampling identities; "
        "n counts mated comparisons, for the EER all of them."
    )
    if widths:
        note += (
            f" Where comparisons are very many, scores are counted in bins of {max(widths):g}; "
            "identities are then resampled in groups."
        )
    return Table(
        caption="Error rates (lower is better)",
        columns=("Compared", "Mated", "Non-mated", "EER", *_LEVELS.values(), "ZeroFMR"),
        rows=tuple(rows),
        note=note,
    )


def _separation(scores: Mapping[str, VerificationScore]) -> Table:
    return Table(
        caption="Separation (higher is better)",
        columns=("Compared", "AUC", "FDR", "d′", "Mated mean", "Non-mated mean"),
        rows=tuple(
            (name, s.auc, s.fdr, s.d_prime, s.mated_mean, s.non_mated_mean)
            for name, s in scores.items()
        ),
        note="FDR is Fisher's discriminant ratio. Low error rates do not by themselves make a "
        "data set good to train on: the samples of an identity may be too alike.",
    )


def _by_level(scores: Mapping[str, VerificationScore]) -> list[Table]:
    """Return the tables whose columns are false acceptance, or false match, rates."""
    levels = list(dict.fromkeys(p.level for score in scores.values() for p in score.points))
    columns = ("Compared", *(f"{level:g}" for level in levels))

    def rows(cell: Callable[[OperatingPoint], Cell]) -> tuple[tuple[Cell, ...], ...]:
        found = {
            name: {p.level: cell(p) for p in score.points if p.is_supported}
            for name, score in scores.items()
        }
        return tuple((name, *map(cells.get, levels)) for name, cells in found.items())

    accepted = Table(
        caption="True acceptance at a false acceptance rate (higher is better)",
        columns=columns,
        rows=rows(lambda point: point.tar),
        note="Comparisons with an image that could not be enrolled count as not accepted. A dash "
        "means too few non-mated comparisons.",
    )
    lowest = Table(
        caption="Lowest cosine that is accepted at a false match rate",
        columns=columns,
        rows=rows(lambda point: f"{point.threshold:.4f}"),
        note="Of use for other data sets only with the same recogniser.",
    )
    return [accepted, lowest]


def _curves(scores: Mapping[str, VerificationScore]) -> list[Chart]:
    misses, matches = [], []
    for name, score in scores.items():
        curve = score.curve
        band = (curve.low, curve.high) if np.isfinite(curve.low).all() else ()
        misses.append(Line(name, curve.fmr, curve.fnmr, *band))
        matches.append(Line(name, curve.fmr, 1 - curve.fnmr, *(1 - end for end in band[::-1])))
    det = plot_lines(
        misses,
        title="Detection error trade-off",
        x_label="false match rate",
        y_label="false non-match rate",
        x_log=True,
        y_log=True,
    )
    roc = plot_lines(
        matches,
        title="Receiver operating characteristic",
        x_label="false match rate",
        y_label="true match rate",
        x_log=True,
        y_range=(0, 1),
    )
    names = ", ".join(scores)
    return [
        Chart(
            svg=to_svg(det, f"Misses over false matches of {names}."),
            caption="Both axes are logarithmic; lower left is better. Bands are pointwise 95 % "
            "intervals over identities. Each kind of comparison has its own dashes and marker.",
        ),
        Chart(
            svg=to_svg(roc, f"True over false matches of {names}."),
            caption="The upper left is better.",
        ),
    ]


def _distributions(name: str, score: VerificationScore) -> Chart:
    shown = score.histogram
    figure = plot_histograms(
        {"mated": shown.mated, "non-mated": shown.non_mated},
        shown.edges,
        title=f"Scores: {name}",
        x_label="cosine similarity",
        thresholds={"EER": score.eer_threshold},
    )
    return Chart(
        svg=to_svg(figure, f"Distributions of mated and non-mated scores of {name}."),
        caption=f"{score.mated:,} mated and {score.non_mated:,} non-mated comparisons, each in "
        "shares of its own number.",
    )


def _folds(folds: Mapping[str, FoldScore], unaligned: Mapping[str, str]) -> Table:
    warnings = "".join(f" {path} looks unaligned: {why}." for path, why in unaligned.items())
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
        note="Mean ± standard deviation over folds; thresholds come from the other nine."
        + warnings,
    )


def _fold_data(fold: FoldScore) -> dict[str, object]:
    shares = {"accuracy": fold.accuracy, "tar": fold.tar}
    means = {name: {"mean": m, "std": d, "n": fold.pairs} for name, (m, d) in shares.items()}
    return {**vars(fold), **means}
