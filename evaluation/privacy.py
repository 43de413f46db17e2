"""Privacy: do samples show training identities; always beside held-out identities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.modalities import MODALITIES
from data.plots import bin_values, plot_histograms, to_svg
from data.sample_index import SampleIndex
from dnnlib.options import Progress
from evaluation.faces import Faces, given_thresholds, hash_inputs, measure_thresholds, open_faces
from evaluation.options import PrivacyOptions
from evaluation.pictures import neighbour_panels
from evaluation.report import Block, Cell, Chart, Headline, Panels, Section, Table
from evaluation.topic import ReportJob, Topic, describe_sets, open_sets
from metrics.privacy import Group, PrivacyScore, check_strangers, score_privacy
from torch_utils.devices import resolve_repeatable

_NAMES = {"mean": "Mean", "median": "Median", "p95": "95 % quantile", "p99": "99 % quantile"}
_CLOSEST = 12
_NO_HELDOUT = (
    "baseline of held-out identities",
    "no --heldout was given; nothing below is a leak by itself, as identities that were never seen "
    "have near neighbours too",
)
_NO_AUDIT = (
    "second recogniser",
    "no --audit-model was given; a filter must not be tested only by the recogniser that it used",
)


@dataclass(frozen=True, kw_only=True)
class PrivacyResults:
    """Similarity to training identities.

    Attributes:
        scores: recogniser and modality ("a.pth, RGB") -> what it finds.
        panels: pictures of nearest neighbours, by recogniser.
        source: how thresholds were set.
    """

    scores: Mapping[str, PrivacyScore]
    panels: Sequence[Panels]
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivacyTopic(Topic):
    """Samples, training data, and real identities that no network was trained on.

    Attributes:
        samples, training: data sets.
        heldout: the baseline; None leaves out what needs it.
        faces: of one recogniser or two.
        thresholds: FMR -> cosine, as given for the first recogniser.
        seed: of resampling.
    Raises: ValueError where held-out identities are training identities.
    """

    key = "privacy"
    title = "Privacy"

    samples: SampleIndex
    training: SampleIndex
    heldout: SampleIndex | None
    faces: Sequence[Faces]
    thresholds: Mapping[float, float]
    seed: int

    def __post_init__(self) -> None:
        if self.heldout is not None:
            check_strangers(self.heldout.identities, self.training.identities)

    @property
    def _sets(self) -> list[SampleIndex]:
        return [self.samples, self.training] + ([self.heldout] if self.heldout else [])

    def measure(self, progress: Progress) -> PrivacyResults:
        """Measure by each recogniser, in each modality that all sets have."""
        known = self.heldout or self.training
        source = f"measured on {known.num_identities} identities of {known.name}"
        if self.thresholds:
            source = f"as given for {self.faces[0].name}, else {source}"
        scores, panels = {}, []
        for number, faces in enumerate(self.faces):
            for modality in self.samples.modalities:
                if not all(modality in samples.modalities for samples in self._sets):
                    continue
                levels = self.thresholds if number == 0 else {}
                levels = levels or measure_thresholds(known, faces, modality, progress=progress)
                score = self._score(faces, modality, levels, progress)
                scores[f"{faces.name}, {modality.upper()}"] = score
                if modality == MODALITIES[0].name:
                    panels.append(self._closest(score, faces, modality, progress))
        return PrivacyResults(scores=scores, panels=panels, source=source)

    def _score(
        self, faces: Faces, modality: str, levels: Mapping[float, float], progress: Progress
    ) -> PrivacyScore:
        groups = []
        for samples in self._sets:
            found = faces.of(samples, modality, progress).enrolled()
            groups.append(Group(vectors=found.vectors, identities=found.samples.identities))
        samples, training, *heldout = groups
        return score_privacy(
            samples,
            training,
            heldout[0] if heldout else None,
            levels,
            device=faces.device,
            seed=self.seed,
        )

    def _closest(
        self, score: PrivacyScore, faces: Faces, modality: str, progress: Progress
    ) -> Panels:
        """Return the most similar pairs, one a sample."""
        rows, columns = (
            np.flatnonzero(faces.of(samples, modality, progress).is_enrolled)
            for samples in (self.samples, self.training)
        )
        nearest = score.nearest
        order = np.argsort(-nearest.scores, kind="stable")[:_CLOSEST].tolist()
        pairs = [
            (int(rows[i]), int(columns[nearest.indices[i]]), float(nearest.scores[i]))
            for i in order
        ]
        return neighbour_panels(self.samples, self.training, pairs, faces.name)

    def section(self, results: PrivacyResults) -> Section:
        """Return tables and charts of the similarity to training identities."""
        blocks: list[Block] = []
        for name, score in results.scores.items():
            blocks += [_nearest(name, score), _above(name, score, results.source)]
            blocks += [_tests(name, score), _chart(name, score)]
        is_audited = len(self.faces) > 1 or not results.scores
        return Section(
            key=self.key,
            title=self.title,
            lead="Do samples show training identities. The nearest of many images is always "
            "somewhat similar; the leak is what exceeds real identities that were held out.",
            blocks=(*blocks, *results.panels),
            data={
                "thresholds": results.source,
                "recognisers": {name: _data(score) for name, score in results.scores.items()},
            },
            headlines=tuple(
                headline
                for name, score in results.scores.items()
                if name.endswith(MODALITIES[0].name.upper())
                for headline in _headlines(name, score)
            ),
            skipped=(() if self.heldout else (_NO_HELDOUT,)) + (() if is_audited else (_NO_AUDIT,)),
        )


def prepare(options: PrivacyOptions) -> ReportJob:
    """Open data sets and recognisers.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    roles = ("samples", "data", "heldout")
    sets = open_sets({role: getattr(options, role) for role in roles})
    faces = open_faces([options.rec_model, options.audit_model], resolve_repeatable(options.device))
    topic = PrivacyTopic(
        samples=sets["samples"],
        training=sets["data"],
        heldout=sets.get("heldout"),
        faces=faces,
        thresholds=given_thresholds(options, faces),
        seed=options.seed,
    )
    return ReportJob(
        name="privacy",
        title="Privacy",
        subtitle=f"{sets['samples'].name} against {sets['data'].name}",
        topics=[topic],
        plan=describe_sets(sets),
        options=options,
        inputs=lambda: hash_inputs(sets, faces),
    )


# Tables and charts


def _headlines(name: str, score: PrivacyScore) -> list[Headline]:
    found = []
    excess = score.statistics["mean"].excess
    if excess is not None:
        label = f"Excess similarity to training identities ({name})"
        found.append(Headline(label=label, value=excess, meaning="privacy; at most 0 is best"))
    if score.membership_auc is not None:
        label, meaning = f"Membership inference AUC ({name})", "privacy; 0.5 is best"
        found.append(Headline(label=label, value=score.membership_auc, meaning=meaning))
    return found


def _nearest(name: str, score: PrivacyScore) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for key, label in _NAMES.items():
        found = score.statistics[key]
        rows.append((label, found.samples, found.heldout, found.excess))
    highest, baseline = score.maximum
    compared = (None, None) if baseline is None else (baseline, highest - baseline)
    shown = [None if value is None else f"{value:.4f}" for value in (highest, *compared)]
    rows.append(("Highest", *shown))
    return Table(
        caption=f"Cosine to the nearest training image, by {name}",
        columns=("Statistic", "Samples", "Held-out identities", "Excess (the leak)"),
        rows=tuple(rows),
        note="Intervals are 95 %, from resampling identities; n counts images. An excess whose "
        "interval lies above 0 speaks for a leak; one interval in twenty does so by chance.",
    )


def _above(name: str, score: PrivacyScore, source: str) -> Table:
    return Table(
        caption=f"Share of images that match a training identity, by {name}",
        columns=("Threshold at FMR", "Cosine", "Samples", "Held-out identities", "Excess"),
        rows=tuple(
            (f"{a.fmr:g}", f"{a.threshold:.4f}", a.samples, a.heldout, a.excess)
            for a in score.above
        ),
        note=f"Thresholds: {source}. With many training images a match by chance is more likely "
        "than the FMR of a single comparison; held-out identities show how likely.",
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
        reading = "share not nearer than another training identity is"
        rows.append(("AuthPct, by identities", score.authentic_person, reading))
    if score.membership_auc:
        reading = "0.5: members cannot be distinguished"
        rows.append(("Membership inference AUC", score.membership_auc, reading))
    return Table(
        caption=f"Memorisation and membership, by {name}",
        columns=("Test", "Value", "Reading"),
        rows=tuple(rows),
        note="C_T counts images as independent, which those of one identity are not; the chance "
        "below it has an interval over identities. A recogniser trained on the training "
        "identities may recognise members for reasons of its own: use one that was not.",
    )


def _chart(name: str, score: PrivacyScore) -> Chart:
    values = {"samples": score.nearest.scores}
    if len(score.heldout_similarity):
        values["held-out identities"] = score.heldout_similarity
    figure = plot_histograms(
        *bin_values(values),
        title=f"Nearest training image ({name})",
        x_label="cosine similarity",
        thresholds={f"{entry.fmr:g}": entry.threshold for entry in score.above},
    )
    return Chart(
        svg=to_svg(figure, f"Similarity to the nearest training image of {', '.join(values)}."),
        caption="Samples to the right of held-out identities are nearer to training identities "
        "than chance. Dashed lines: thresholds of the recogniser at these false match rates.",
    )


def _data(score: PrivacyScore) -> dict[str, object]:
    """Return what goes into the JSON: everything but the values of single images."""
    kept = ("statistics", "above", "copies", "authentic", "authentic_person", "membership_auc")
    highest, baseline = score.maximum
    return {
        **{name: getattr(score, name) for name in kept},
        "maximum": {"samples": highest, "heldout": baseline},
        "samples": len(score.nearest.scores),
        "heldout": len(score.heldout_similarity),
    }
