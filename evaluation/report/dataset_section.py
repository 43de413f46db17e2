"""The section on a data set's people: how many, how consistent, how aligned, how varied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.report.content import Block, Cell, Headline, Section, Table, format_number
from metrics.alignment import AlignmentScore
from metrics.estimates import Estimate
from metrics.identity_sets import Agreement, Capacity, ClassStatistics, Entropy

_DASH = None


@dataclass(frozen=True, kw_only=True)
class DatasetScore:
    """What is known about one data set; None and empty where it cannot be computed.

    Attributes:
        images: number of samples.
        people: number of people.
        classes: modality -> DCFace's measures.
        diversity: D, with the features' name; None without real images or features.
        capacity: modality -> identity capacity.
        agreement: RGB against NIR.
        alignment: of RGB and NIR.
        entropies: of attributes.
    """

    images: int
    people: int
    classes: Mapping[str, ClassStatistics]
    diversity: tuple[str, Estimate] | None
    capacity: Mapping[str, Capacity]
    agreement: Agreement | None
    alignment: AlignmentScore | None
    entropies: tuple[Entropy, ...]


def dataset_section(
    scores: Mapping[str, DatasetScore],
    recogniser: str | None,
    threshold_source: str,
    omitted: Sequence[tuple[str, str]] = (),
) -> Section:
    """Return tables of data sets beside each other.

    Args:
        scores: name -> what is known.
        recogniser: that gave the embeddings; None where there was none.
        threshold_source: how the threshold of "one person" was chosen.
    """
    blocks: list[Block] = [
        Table(
            caption="Size",
            columns=("Data set", "Samples", "People"),
            rows=tuple((name, s.images, s.people) for name, s in scores.items()),
        )
    ]
    makers = (_classes(scores, threshold_source), _agreement(scores), _alignment(scores))
    blocks += [table for table in makers if table.rows]
    entropies = _entropies(scores)
    if entropies.rows:
        blocks.append(entropies)
    return Section(
        key="dataset",
        title="People and pairs",
        lead="How many people a data set holds, whether the images of one person agree, whether "
        "RGB and NIR show the same person in the same place"
        + (f"; by {recogniser}." if recogniser else "."),
        blocks=tuple(blocks),
        data={"recogniser": recogniser, "threshold": threshold_source, "sets": scores},
        headlines=_headlines(scores),
        omitted=tuple(omitted),
    )


def _headlines(scores: Mapping[str, DatasetScore]) -> tuple[Headline, ...]:
    found = []
    for name, score in scores.items():
        if score.alignment:
            found.append(
                Headline(
                    label=f"RGB-NIR displacement, {name}",
                    value=score.alignment.residual_px,
                    meaning="median, pixels; 0 is best",
                )
            )
    return tuple(found[:2])


def _classes(scores: Mapping[str, DatasetScore], source: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, score in scores.items():
        for modality, found in score.classes.items():
            capacity = score.capacity.get(modality)
            is_first = modality == next(iter(score.classes))
            rows.append(
                (
                    f"{name}, {modality.upper()}",
                    found.uniqueness,
                    found.consistency,
                    score.diversity[1] if score.diversity and is_first else _DASH,
                    f"{found.threshold:.4f}",
                    found.greedy_capacity,
                    _DASH if capacity is None else f"10^{format_number(capacity.log10)}",
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
            "Distinct people",
            "Capacity (caps)",
        ),
        rows=tuple(rows),
        note="U: share of people whose centres are pairwise below the threshold, counted greedily "
        "(n people, Wilson's interval). C: share of images within the threshold of their own "
        "centre (n images, interval over people). D: share of real images within the range of one "
        "person's images"
        + (f" by {', '.join(sorted(features))}" if features else "")
        + ". Capacity: cap of all people over cap of one person, 5 % left outside of each. "
        f"Threshold: {source}.",
    )


def _agreement(scores: Mapping[str, DatasetScore]) -> Table:
    return Table(
        caption="Do RGB and NIR of a pair show one person",
        columns=("Data set", "Mean similarity", "Share above threshold", "Nearest is own person"),
        rows=tuple(
            (name, s.agreement.similarity, s.agreement.above, s.agreement.rank_one)
            for name, s in scores.items()
            if s.agreement
        ),
        note="n counts pairs. The last column compares each NIR image with all people's RGB "
        "centres.",
    )


def _alignment(scores: Mapping[str, DatasetScore]) -> Table:
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
        ),
        rows=tuple(
            (
                name,
                s.alignment.residual_px,
                s.alignment.residual_p95_px,
                s.alignment.systematic_px,
                s.alignment.within_one_px,
                s.alignment.edge_correlation,
                s.alignment.edge_correlation_chance,
            )
            for name, s in scores.items()
            if s.alignment
        ),
        note="Displacement by phase correlation of edges; single small images may register "
        "wrongly, so read the median and compare with a real set. By chance: edges against those "
        "of another pair. n counts pairs.",
    )


def _entropies(scores: Mapping[str, DatasetScore]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, score in scores.items():
        rows += [
            (f"{name}: {entry.name}", entry.nats, f"{entry.share_of_uniform:.3f}", entry.kinds)
            for entry in score.entropies
        ]
    return Table(
        caption="Spread of attributes (entropy)",
        columns=("Attribute", "Nats", "Share of an even spread", "Kinds"),
        rows=tuple(rows),
        note="Numbers are counted in ten equal bins. n counts samples.",
    )
