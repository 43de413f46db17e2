"""Identities and pairs: how many a data set holds, how consistent, aligned and varied they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.sample_index import SampleIndex
from dnnlib.options import Progress
from evaluation.extractors import Extractor, build_extractors
from evaluation.faces import (
    Faces,
    given_thresholds,
    hash_inputs,
    identity_thresholds,
    list_comparisons,
    open_faces,
)
from evaluation.features import extract_all
from evaluation.names import Role
from evaluation.options import IdentityOptions
from evaluation.report import Block, Cell, Headline, Section, Table, format_number
from evaluation.topic import (
    ReportJob,
    Topic,
    damage_is_unmeasured,
    describe_sets,
    open_named_sets,
    open_sets,
    skip_unmeasured,
)
from metrics import NotMeasuredError
from metrics.alignment import AlignmentScore, score_alignment
from metrics.estimates import Estimate
from metrics.identity_sets import (
    Agreement,
    Capacity,
    ClassStatistics,
    Entropy,
    attribute_entropies,
    class_diversity,
    class_statistics,
    identity_agreement,
    identity_capacity,
)
from torch_utils.devices import resolve_repeatable

ATTRIBUTES_FILE = "attributes.json"
Attributes = Mapping[str, Mapping[str, Any]]  # sample -> name -> value


@dataclass(kw_only=True)
class DatasetScore:
    """What is known about one data set; None and empty where it was not measured.

    Attributes:
        images: number of samples.
        identities: number of them.
        classes: modality -> DCFace's measures.
        diversity: D, with the features' name.
        capacity: modality -> identity capacity.
        agreement, alignment: of RGB and NIR.
        entropies: of attributes.
    """

    images: int
    identities: int = field(metadata={"json": "people"})
    classes: dict[str, ClassStatistics] = field(default_factory=dict)
    diversity: tuple[str, Estimate] | None = None
    capacity: dict[str, Capacity] = field(default_factory=dict)
    agreement: Agreement | None = None
    alignment: AlignmentScore | None = None
    entropies: Sequence[Entropy] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityTopic(Topic):
    """Data sets that are described.

    Attributes:
        sets: by name.
        real: real identities on which thresholds are measured, instead of on the first set, and
            whose variety the sets are to cover (D); None leaves D out.
        faces: of the recogniser; None leaves out what needs one.
        thresholds: FMR -> cosine, as given.
        extractor: network for image quality, for D; None leaves D out.
        seed: of resampling.
        attributes: of the samples of each set; None where it has none.
    """

    key = "dataset"
    title = "Identities and pairs"

    sets: Mapping[str, SampleIndex]
    real: SampleIndex | None
    faces: Faces | None
    thresholds: Mapping[float, float]
    extractor: Extractor | None
    seed: int
    attributes: Mapping[str, Attributes | None]

    def measure(self, progress: Progress) -> Section:
        """Measure all sets; what the data do not allow is skipped."""
        skipped: list[tuple[str, str]] = []
        thresholds, source = {}, "none"
        if self.faces is None:
            skipped.append(("measures of identity", "no --rec-model was given"))
        else:
            known = self.real or next(iter(self.sets.values()))
            thresholds, source = identity_thresholds(self.thresholds, known, self.faces, progress)
        scores = {}
        for name, samples in self.sets.items():
            score = DatasetScore(images=len(samples), identities=samples.num_identities)
            for label, modalities in list_comparisons(samples) if self.faces else ():
                with skip_unmeasured(skipped, f"identities of {name}, {label}"):
                    if label not in thresholds:
                        raise NotMeasuredError("no threshold is known")
                    self._compare(score, samples, modalities, thresholds[label], progress)
            with skip_unmeasured(skipped, f"diversity D of {name}"):
                score.diversity = self._diversity(samples)
            with skip_unmeasured(skipped, f"alignment and agreement of {name}"):
                score.alignment = _alignment(samples, progress, self.seed)
            attributes = self.attributes[name]
            if attributes is not None:
                identities = dict(zip(samples.stems, samples.identities, strict=True))
                with skip_unmeasured(skipped, f"attributes of {name}"):
                    score.entropies = attribute_entropies(attributes, identities, seed=self.seed)
            scores[name] = score
        return self._section(scores, source, tuple(dict.fromkeys(skipped)))

    def _compare(
        self,
        score: DatasetScore,
        samples: SampleIndex,
        modalities: Sequence[str],
        threshold: float,
        progress: Progress,
    ) -> None:
        """Measure the identities of one modality, or the agreement of two."""
        faces = self.faces
        assert faces is not None, "checked by the caller"
        how = {"device": faces.device, "seed": self.seed}
        sides = [faces.of(samples, name, progress) for name in modalities]
        if len(sides) == 1:
            found = sides[0].enrolled()
            known = found.vectors, found.samples.identities
            score.classes[found.modality] = class_statistics(*known, threshold, **how)
            score.capacity[found.modality] = identity_capacity(*known)
        else:
            both = np.flatnonzero(np.all([side.is_enrolled for side in sides], axis=0))
            pairs = (side.vectors[both] for side in sides)
            identities = [samples.identities[i] for i in both]
            score.agreement = identity_agreement(*pairs, identities, threshold, **how)

    def _diversity(self, samples: SampleIndex) -> tuple[str, Estimate]:
        if self.real is None or self.real is samples or self.extractor is None:
            raise NotMeasuredError("needs --extractor and other, real identities")
        features = [extract_all(self.extractor, part) for part in (samples, self.real)]
        found = class_diversity(features[0], samples.identities, features[1], seed=self.seed)
        return self.extractor.name, found

    def _section(
        self, scores: Mapping[str, DatasetScore], source: str, skipped: tuple[tuple[str, str], ...]
    ) -> Section:
        size = Table(
            caption="Size",
            columns=("Data set", "Samples", "Identities"),
            rows=tuple((name, s.images, s.identities) for name, s in scores.items()),
        )
        tables = (_classes(scores, source), _agreement(scores), _aligned(scores), _spread(scores))
        blocks: list[Block] = [size, *(table for table in tables if table.rows)]
        name = None if self.faces is None else self.faces.name
        return Section(
            key=self.key,
            title=self.title,
            lead="How many identities a data set holds, whether the images of one identity agree, "
            "whether RGB and NIR show the same face at the same position"
            + (f"; by {name}." if name else "."),
            blocks=tuple(blocks),
            data={"recogniser": name, "threshold": source, "sets": scores},
            headlines=tuple(
                Headline(
                    label=f"RGB-NIR displacement, {name}",
                    value=score.alignment.residual_px,
                    meaning="median, pixels; 0 is best",
                )
                for name, score in scores.items()
                if score.alignment
            )[:2],
            skipped=skipped,
        )


def read_attributes(samples: SampleIndex) -> Attributes | None:
    """Return the attributes of a set's samples from its attributes.json; None without that file.

    Raises: ValueError naming the file where it is damaged or no object.
    """
    if not samples.base.exists(ATTRIBUTES_FILE):
        return None
    content = samples.base.read_json(ATTRIBUTES_FILE)
    if not isinstance(content, dict):
        raise ValueError(f"{samples.base.describe(ATTRIBUTES_FILE)}: expected an object")
    return {key: entry for key, entry in content.items() if isinstance(entry, dict)}


def open_diversity(choice: str | None, device: str) -> Extractor | None:
    """Return the network of DCFace's D; None without a choice. Raises: as `build_extractors`."""
    if choice is None:
        return None
    return build_extractors(choice, [Role.FEATURES], device=device)[Role.FEATURES]


def prepare(options: IdentityOptions) -> ReportJob:
    """Open data sets and networks.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    device = resolve_repeatable(options.device)
    sets, real = open_named_sets(options.data), open_sets({"real": options.real})
    faces = open_faces([options.rec_model], device)
    topic = IdentityTopic(
        sets=sets,
        real=real.get("real"),
        faces=faces[0] if faces else None,
        thresholds=given_thresholds(options, faces),
        extractor=open_diversity(options.extractor, device),
        seed=options.seed,
        attributes={name: read_attributes(samples) for name, samples in sets.items()},
    )
    return ReportJob(
        name="dataset",
        title="Data sets",
        subtitle=", ".join(sets),
        topics=[topic],
        plan={"data": describe_sets({**sets, **real})},
        options=options,
        inputs=lambda: hash_inputs({**sets, **real}, faces),
    )


def _alignment(samples: SampleIndex, progress: Progress, seed: int) -> AlignmentScore:
    names = samples.modalities[:2]
    if len(names) < 2:
        raise NotMeasuredError("it has one modality only")

    def load(index: int) -> list[np.ndarray]:
        with damage_is_unmeasured():
            return [samples.image(name, index) for name in names]

    advance = progress(0, len(samples))
    return score_alignment(load, samples.identities, seed=seed, advance=advance)


# Tables


def _classes(scores: Mapping[str, DatasetScore], source: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, score in scores.items():
        for number, (modality, found) in enumerate(score.classes.items()):
            capacity = score.capacity.get(modality)
            rows.append(
                (
                    f"{name}, {modality.upper()}",
                    found.uniqueness,
                    found.consistency,
                    score.diversity[1] if score.diversity and number == 0 else None,
                    f"{found.threshold:.4f}",
                    found.greedy_capacity,
                    None if capacity is None else f"10^{format_number(capacity.log10)}",
                )
            )
    features = {score.diversity[0] for score in scores.values() if score.diversity}
    return Table(
        caption="DCFace's measures and identity capacity (higher is better)",
        columns=(
            "Data set",
            "Uniqueness U",
            "Consistency C",
            "Diversity D",
            "Threshold",
            "Distinct identities",
            "Capacity (caps)",
        ),
        rows=tuple(rows),
        note="U: share of identities whose centres are pairwise below the threshold, counted "
        "greedily (n identities; it falls with their number, hence no interval). C: share of "
        "images within the threshold of their own centre (n images, interval over identities). "
        "D: share of real images within the range of one identity's images"
        + (f" by {', '.join(sorted(features))}" if features else "")
        + ". Capacity: cap of all identities over cap of one, 5 % outside of each. "
        f"Threshold: {source}.",
    )


def _agreement(scores: Mapping[str, DatasetScore]) -> Table:
    return Table(
        caption="Do RGB and NIR of a pair show one identity",
        columns=("Data set", "Mean similarity", "Share above threshold", "Nearest is its own"),
        rows=tuple(
            (name, s.agreement.similarity, s.agreement.above, s.agreement.rank_one)
            for name, s in scores.items()
            if s.agreement
        ),
        note="n counts pairs. The last column compares each NIR image with the RGB centres of all "
        "identities.",
    )


def _aligned(scores: Mapping[str, DatasetScore]) -> Table:
    return Table(
        caption="Do RGB and NIR lie on each other",
        columns=(
            "Data set",
            "Median displacement (px)",
            "95 % quantile (px)",
            "Common to all (px)",
            "Within 1 px",
            "Edge correlation",
            "by chance",
            "excess",
        ),
        rows=tuple(
            (name, *vars(s.alignment).values()) for name, s in scores.items() if s.alignment
        ),
        note="Displacement by phase correlation of edges; single small images may register "
        "wrongly, so read the median and compare with a real set. By chance: edges against those "
        "of other identities' second images; only what exceeds it is due to the pairs. n counts "
        "pairs, intervals are over identities.",
    )


def _spread(scores: Mapping[str, DatasetScore]) -> Table:
    return Table(
        caption="Spread of attributes (entropy)",
        columns=("Attribute", "Nats", "Share of an even spread", "Kinds"),
        rows=tuple(
            (f"{name}: {entry.name}", entry.nats, f"{entry.share_of_uniform:.3f}", entry.kinds)
            for name, score in scores.items()
            for entry in score.entropies
        ),
        note="Numbers are counted in ten equal bins. n counts samples.",
    )
