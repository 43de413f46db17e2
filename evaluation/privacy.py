"""Privacy: do samples show training identities; always beside held-out identities."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.modalities import MODALITIES
from data.plots import bin_values, plot_histograms, to_svg
from data.sample_index import SampleIndex
from dnnlib.options import Progress
from evaluation.faces import Faces, given_thresholds, hash_inputs, measure_thresholds, open_faces
from evaluation.options import PrivacyOptions
from evaluation.pictures import neighbour_panels
from evaluation.report import Block, Cell, Chart, Headline, Panels, Section, Table, Text
from evaluation.topic import ReportJob, Topic, describe_sets, open_sets
from metrics.estimates import Estimate
from metrics.privacy import ALARM_RATE, Group, PrivacyScore, check_strangers, score_privacy
from torch_utils.devices import resolve_repeatable

_NAMES = {"mean": "Mean", "median": "Median", "p95": "95 % quantile", "p99": "99 % quantile"}
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

Copies = Mapping[str, Sequence[tuple[str, str, float]]]  # by -> sample, training image, cosine


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

    def measure(self, progress: Progress) -> Section:
        """Measure by each recogniser, in each modality that all sets have."""
        sets = [self.samples, self.training, *([self.heldout] if self.heldout else [])]
        modalities = [m for m in self.samples.modalities if all(m in s.modalities for s in sets)]
        known = self.heldout or self.training
        source = f"measured on {known.num_identities} identities of {known.name}"
        if self.thresholds:
            source = f"as given for {self.faces[0].name}, else {source}"
        scores, panels, copies = {}, [], {}
        for faces, modality in itertools.product(self.faces, modalities):
            levels = self.thresholds if faces is self.faces[0] else {}
            enrolled = [faces.of(samples, modality, progress).enrolled() for samples in sets]
            groups = [
                Group(vectors=found.vectors, identities=found.samples.identities)
                for found in enrolled
            ]
            score = score_privacy(
                *groups[:2],
                groups[2] if self.heldout else None,
                levels or measure_thresholds(known, faces, [modality], progress),
                device=faces.device,
                seed=self.seed,
                alarm_rate=ALARM_RATE / (len(self.faces) * len(modalities)),
            )
            name = f"{faces.name}, {modality.upper()}"
            samples, training = (found.samples for found in enrolled[:2])
            nearest = score.nearest
            scores[name] = score
            copies[name] = [
                (samples.stems[i], training.stems[nearest.indices[i]], float(nearest.scores[i]))
                for i in score.copies.rows
            ]
            if modality == MODALITIES[0].name:
                panels.append(neighbour_panels(samples, training, nearest, faces.name))
        return self._section(scores, copies, panels, source)

    def _section(
        self,
        scores: Mapping[str, PrivacyScore],
        all_copies: Copies,
        panels: Sequence[Panels],
        source: str,
    ) -> Section:
        copies = {name: found for name, found in all_copies.items() if found}
        verdict = privacy_verdict(scores, copies, has_heldout=self.heldout is not None)
        blocks: list[Block] = [Text(label="Verdict", text=verdict)]
        if copies:
            blocks.append(_copies(copies, scores))
        for name, score in scores.items():
            blocks += [_nearest(name, score), _above(name, score, source)]
            blocks += [_tests(name, score), _chart(name, score)]
        is_audited = len(self.faces) > 1 or not scores
        return Section(
            key=self.key,
            title=self.title,
            lead="Do samples show training identities. The nearest of many images is always "
            "somewhat similar, so real identities that were held out stand beside.",
            blocks=(*blocks, *panels),
            alarm=verdict if copies else "",
            data={
                "verdict": verdict,
                "copies": all_copies,
                "thresholds": source,
                "recognisers": {name: _data(score) for name, score in scores.items()},
            },
            headlines=(
                Headline(
                    label="Samples named as copies of training images",
                    value=len({sample for found in copies.values() for sample, *_ in found}),
                    meaning="privacy; 0 is best",
                ),
                *(
                    headline
                    for name, score in scores.items()
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


def privacy_verdict(
    scores: Mapping[str, PrivacyScore], copies: Copies, *, has_heldout: bool
) -> str:
    """Return what the numbers say, in sentences for readers who know none of the measures."""
    named = {sample for found in copies.values() for sample, _, _ in found}
    if named:
        lines = [f"Copies of training images: {len(named)} samples, which are named below."]
    else:
        lines = ["No sample is named as a copy of a training image."]
    near = _above_chance({name: score.nearer_training for name, score in scores.items()})
    members = _above_chance({name: score.membership_auc for name, score in scores.items()})
    if not has_heldout:
        lines.append(
            "Whether samples are nearer to training identities than strangers are was not measured:"
            " that needs --heldout."
        )
    elif not near and not members:
        lines.append(
            "There is no sign that samples are nearer to training identities than to as many"
            " identities that were never seen; this shows no leak, and cannot show that there is"
            " none."
        )
    if near:
        lines.append(
            "More samples are nearer to training identities than to as many identities that were"
            f" never seen, by {', '.join(near)}: a sign of memory."
        )
    if members:
        lines.append(
            "Training images are nearer to samples than held-out images are, by "
            f"{', '.join(members)}: a sign of memory."
        )
    if near or members:
        lines.append(
            "0.5 is chance; without a leak one test in forty is as far above it, and "
            f"{2 * len(scores)} were made."
        )
    return "\n".join(lines)


def _above_chance(found: Mapping[str, Estimate | None]) -> list[str]:
    """Return the names and numbers of those that are above 0.5 by their intervals."""
    return [
        f"{name} ({entry.value:.2f} [{entry.low:.2f}, {entry.high:.2f}])"
        for name, entry in found.items()
        if entry and entry.high is not None and (entry.low or 0) > 0.5
    ]


def _copies(copies: Copies, scores: Mapping[str, PrivacyScore]) -> Table:
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
    values = {
        "Samples nearer to training than to held-out identities": score.nearer_training,
        "Membership inference AUC": score.membership_auc,
    }
    return [
        Headline(label=f"{label} ({name})", value=value, meaning="privacy; 0.5 is best")
        for label, value in values.items()
        if value is not None
    ]


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
        columns=("Statistic", "Samples", "Held-out identities", "Excess"),
        rows=tuple(rows),
        note="Intervals are 95 %, from resampling identities; n counts images. An excess speaks "
        "for a leak only where samples are as sharp and as varied as held-out images: blurred or "
        "typical ones are nearer to everybody. The share of samples nearer to training than to "
        "held-out identities, below, does not depend on that.",
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
    if score.nearer_training:
        label, reading = "Share nearer to training than to held-out identities", "0.5: no memory"
        rows.append((label, score.nearer_training, None, None, reading))
    if score.membership_auc:
        reading = "0.5: members cannot be distinguished"
        rows.append(("Membership inference AUC", score.membership_auc, None, None, reading))
    return Table(
        caption=f"Memorisation and membership, by {name}",
        columns=("Test", "Samples", "Held-out identities", "Excess", "Reading"),
        rows=tuple(rows),
        note="Intervals, and the deviation in C_T, are over identities. AuthPct below that of "
        "held-out identities speaks for copies. C_T and AuthPct compare samples with held-out "
        "images, so that blurred samples can look like copies; the share, over as many identities "
        "of each side, and membership inference cannot be misled so. A recogniser trained on the "
        "training identities may recognise members for reasons of its own: use one that was not.",
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
    kept = (
        "statistics",
        "above",
        "copy_test",
        "authentic",
        "authentic_identity",
        "nearer_training",
        "membership_auc",
    )
    highest, baseline = score.maximum
    return {
        **{name: getattr(score, name) for name in kept},
        "maximum": {"samples": highest, "heldout": baseline},
        "samples": len(score.nearest.scores),
        "heldout": len(score.heldout_similarity),
    }
