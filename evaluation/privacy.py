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
from evaluation.report import Block, Cell, Chart, Headline, Panels, Section, Table, Text
from evaluation.topic import ReportJob, Topic, describe_sets, open_sets
from metrics.privacy import ALARM_RATE, Group, PrivacyScore, check_strangers, score_privacy
from torch_utils.devices import resolve_repeatable

_NAMES = {"mean": "Mean", "median": "Median", "p95": "95 % quantile", "p99": "99 % quantile"}
_CLOSEST = 12
_NAMED = 20
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
        copies: the same -> (sample, training image, cosine) of each copy.
        panels: pictures of nearest neighbours, by recogniser.
        source: how thresholds were set.
    """

    scores: Mapping[str, PrivacyScore]
    copies: Mapping[str, Sequence[tuple[str, str, float]]]
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

    @property
    def _tested(self) -> list[str]:
        """Modalities that all sets have."""
        return [m for m in self.samples.modalities if all(m in s.modalities for s in self._sets)]

    @property
    def _num_tests(self) -> int:
        return max(len(self.faces) * len(self._tested), 1)

    def measure(self, progress: Progress) -> PrivacyResults:
        """Measure by each recogniser, in each modality that all sets have."""
        known = self.heldout or self.training
        source = f"measured on {known.num_identities} identities of {known.name}"
        if self.thresholds:
            source = f"as given for {self.faces[0].name}, else {source}"
        scores, panels, copies = {}, [], {}
        for number, faces in enumerate(self.faces):
            for modality in self._tested:
                levels = self.thresholds if number == 0 else {}
                levels = levels or measure_thresholds(known, faces, modality, progress=progress)
                score = self._score(faces, modality, levels, progress)
                name = f"{faces.name}, {modality.upper()}"
                scores[name] = score
                copies[name] = self._name_copies(score, faces, modality, progress)
                if modality == MODALITIES[0].name:
                    panels.append(self._closest(score, faces, modality, progress))
        return PrivacyResults(scores=scores, copies=copies, panels=panels, source=source)

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
            alarm_rate=ALARM_RATE / self._num_tests,
        )

    def _closest(
        self, score: PrivacyScore, faces: Faces, modality: str, progress: Progress
    ) -> Panels:
        """Return the most similar pairs, one a sample."""
        order = np.argsort(-score.nearest.scores, kind="stable")[:_CLOSEST].tolist()
        pairs = self._pairs(score, order, faces, modality, progress)
        return neighbour_panels(self.samples, self.training, pairs, faces.name)

    def _name_copies(
        self, score: PrivacyScore, faces: Faces, modality: str, progress: Progress
    ) -> list[tuple[str, str, float]]:
        """Return the names of each copy and of its training image, and their cosine."""
        pairs = self._pairs(score, score.copies.rows, faces, modality, progress)
        return [(self.samples.stems[i], self.training.stems[j], score) for i, j, score in pairs]

    def _pairs(
        self,
        score: PrivacyScore,
        order: Sequence[int],
        faces: Faces,
        modality: str,
        progress: Progress,
    ) -> list[tuple[int, int, float]]:
        """Return (sample, nearest training sample, cosine) of rows of the embeddings."""
        rows, columns = (
            np.flatnonzero(faces.of(samples, modality, progress).is_enrolled)
            for samples in (self.samples, self.training)
        )
        nearest = score.nearest
        return [
            (int(rows[i]), int(columns[nearest.indices[i]]), float(nearest.scores[i]))
            for i in order
        ]

    def section(self, results: PrivacyResults) -> Section:
        """Return tables and charts of the similarity to training identities."""
        copies = {name: found for name, found in results.copies.items() if found}
        verdict = _verdict(results, has_heldout=self.heldout is not None)
        blocks: list[Block] = [Text(label="Verdict", text=verdict)]
        if copies:
            blocks.append(_copies(copies, results.scores))
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
            alarm=verdict if copies else "",
            data={
                "verdict": verdict,
                "copies": results.copies,
                "thresholds": results.source,
                "recognisers": {name: _data(score) for name, score in results.scores.items()},
            },
            headlines=(
                Headline(
                    label="Samples named as copies of training images",
                    value=len({sample for found in copies.values() for sample, *_ in found}),
                    meaning="privacy; 0 is best",
                ),
                *(
                    headline
                    for name, score in results.scores.items()
                    if name.endswith(MODALITIES[0].name.upper())
                    for headline in _headlines(name, score)
                ),
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
        fails_on_alarm=options.fail_on == "copies",
        inputs=lambda: hash_inputs(sets, faces),
    )


# Tables and charts


def _verdict(results: PrivacyResults, *, has_heldout: bool) -> str:
    """Return what the numbers say, in sentences for readers who know none of the measures."""
    copies = {sample for found in results.copies.values() for sample, _, _ in found}
    if copies:
        lines = [f"Copies of training images: {len(copies)} samples, which are named below."]
    else:
        lines = ["No sample is named as a copy of a training image."]
    near = [
        name
        for name, score in results.scores.items()
        if (excess := score.statistics["mean"].excess) is not None and (excess.low or 0) > 0
    ]
    if not has_heldout:
        lines.append(
            "Whether samples are nearer to training identities than strangers are was not measured:"
            " that needs --heldout."
        )
    elif near:
        lines.append(
            "On average, samples are nearer to training identities than identities that were never"
            f" seen, by {', '.join(near)}."
        )
    else:
        lines.append(
            "On average, no sign that samples are nearer to training identities than identities"
            " that were never seen; this shows no leak, and cannot show that there is none."
        )
    return "\n".join(lines)


def _copies(
    copies: Mapping[str, Sequence[tuple[str, str, float]]], scores: Mapping[str, PrivacyScore]
) -> Table:
    rows = [
        (name, sample, training, f"{cosine:.4f}", f"{scores[name].copies.threshold:.4f}")
        for name, found in copies.items()
        for sample, training, cosine in found[:_NAMED]
    ]
    return Table(
        caption="Copies of training images",
        columns=("By", "Sample", "Training image", "Cosine", "Threshold"),
        rows=tuple(rows),
        note="Nearer to a training image than held-out identities can be expected to come: the "
        f"threshold lets a set without copies raise an alarm in {ALARM_RATE:.0%} of all cases "
        "(with too few held-out identities it is fixed, near 1). "
        f"At most {_NAMED} a recogniser are shown; the JSON has all.",
    )


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
    if score.copy_test:
        copies = score.copy_test
        rows += [
            ("C_T", f"{copies.c_t:.3f}", None, None, "below -3 says copying"),
            ("Chance that a sample is nearer", copies.chance, None, None, "0.5: no difference"),
        ]
    reading = "share not nearer than training images are to each other"
    rows.append(("AuthPct", *vars(score.authentic).values(), reading))
    if score.authentic_identity:
        reading = "share not nearer than another training identity is"
        rows.append(("AuthPct, by identities", *vars(score.authentic_identity).values(), reading))
    if score.membership_auc:
        reading = "0.5: members cannot be distinguished"
        rows.append(("Membership inference AUC", score.membership_auc, None, None, reading))
    return Table(
        caption=f"Memorisation and membership, by {name}",
        columns=("Test", "Samples", "Held-out identities", "Excess", "Reading"),
        rows=tuple(rows),
        note="Intervals, and the deviation in C_T, are over identities. AuthPct below that of "
        "held-out identities speaks for copies. A recogniser trained on the training identities "
        "may recognise members for reasons of its own: use one that was not.",
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
    kept = ("statistics", "above", "copy_test", "authentic", "authentic_identity", "membership_auc")
    highest, baseline = score.maximum
    return {
        **{name: getattr(score, name) for name in kept},
        "maximum": {"samples": highest, "heldout": baseline},
        "samples": len(score.nearest.scores),
        "heldout": len(score.heldout_similarity),
    }
