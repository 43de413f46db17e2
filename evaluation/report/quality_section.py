"""The section on image quality: distances to real images, fidelity, coverage, diversity."""

from collections.abc import Sequence

from evaluation.generator_metrics import MetricResult
from evaluation.names import Kind
from evaluation.report.content import Headline, Section, Table

_MEANINGS = {
    Kind.FID: "distance to the real images' distribution; 0 is best",
    Kind.KID: "distance to the real images' distribution; about 0 is best, below 0 by chance",
    Kind.PR: "precision: share of images that look real; recall: share of real ones within reach",
    Kind.DC: "density: real neighbours around an image; coverage: real ones with an image near",
    Kind.IS: "clear and varied classes; higher is better",
    Kind.VENDI: "effective number of different images; higher is more varied",
    Kind.PPL: "change of the image for a small step of the latent; lower is smoother",
}


def quality_section(results: Sequence[MetricResult], subject: str, against: str | None) -> Section:
    """Return the table of metrics.

    Args:
        results: at least one.
        subject: what was measured.
        against: name of the real images; None where nothing was compared.
    """
    rows = []
    for result in results:
        for name, estimate in result.values.items():
            part = name.removeprefix(result.name).replace("_", " ")
            real = result.num_real or None
            rows.append((result.label + part, result.metric.view, estimate, real, name))
    others = sorted(
        {result.extractor.name for result in results if not result.extractor.is_reference}
    )
    omitted = []
    if others:
        text = "Measured with another network than the published one: of use to compare snapshots"
        text += " and data sets with each other, not with published numbers."
        omitted.append((f"FID, KID and other published numbers ({', '.join(others)})", text))
    meanings = {one.label.partition("(")[0]: _MEANINGS[one.metric.kind] for one in results}
    close = f"How close {subject} is to the real images of {against}, how varied and how smooth."
    return Section(
        key="quality",
        title="Image quality",
        lead=close if against else f"How varied and how smooth {subject} is.",
        blocks=(
            Table(
                caption="Image quality",
                columns=("Metric", "View", "Value", "Real images", "Name"),
                rows=tuple(rows),
                note=" ".join(f"{label}: {meaning}." for label, meaning in meanings.items())
                + " Intervals are 95 %, from random halves of the people or, for the kernel"
                " distance, from subsets; n counts generated images.",
            ),
        ),
        data={
            "subject": subject,
            "against": against,
            "results": [_data(result) for result in results],
        },
        headlines=tuple(
            Headline(
                label=f"{result.label}, {result.metric.view}",
                value=next(iter(result.values.values())),
                meaning="image quality; 0 is best",
            )
            for result in results
            if result.metric.kind in (Kind.FID, Kind.KID)
        )[:2],
        omitted=tuple(omitted),
    )


def _data(result: MetricResult) -> dict[str, object]:
    return {
        "asked_for": result.metric.name,
        "name": result.name,
        "label": result.label,
        "view": result.metric.view,
        "extractor": result.extractor.name,
        "extractor_hash": result.extractor.hash,
        "is_reference": result.extractor.is_reference,
        "values": result.values,
        "num_real": result.num_real,
        "seconds": result.seconds,
    }
