"""Image quality: distances to real images, fidelity, coverage, diversity, smoothness."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib import files
from dnnlib.cli import restart_under_torchrun
from dnnlib.options import Progress
from evaluation.extractors import build_extractors
from evaluation.features import FeatureCache, FolderImages, Images, SampledImages
from evaluation.generator_metrics import MetricPlan, MetricResult, count_images, evaluate
from evaluation.names import Kind
from evaluation.options import QualityOptions
from evaluation.report import Headline, Section, Table
from evaluation.topic import ReportJob, Topic, open_sets
from networks.sampling import IndexedSampler, load_sampler
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import init_distributed, is_launched, local_rank

_MEANINGS = {
    Kind.FID: "distance to the real images' distribution; 0 is best",
    Kind.KID: "distance to the real images' distribution; about 0 is best, below 0 by chance",
    Kind.PR: "precision: share of images that look real; recall: share of real ones within reach",
    Kind.DC: "density: real neighbours around an image; coverage: real ones with an image near",
    Kind.IS: "clear and varied classes; higher is better",
    Kind.VENDI: "effective number of different images; higher is more varied",
    Kind.PPL: "change of the image for a small step of the latent; lower is smoother",
}
_NOT_PUBLISHED = (
    "Measured with another network than the published one: of use to compare snapshots and data "
    "sets with each other, not with published numbers."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class QualityTopic(Topic):
    """Images to measure, and what with.

    Attributes:
        plan: metrics, networks and real images.
        fake: images that are measured.
        sampler: of their generator; None for a folder.
        network: snapshot of it.
    """

    key = "quality"
    title = "Image quality"

    plan: MetricPlan
    fake: Images
    sampler: IndexedSampler | None
    network: Path | None

    def measure(self, progress: Progress) -> Section:
        """Measure everything, together with the other processes; only the first gets numbers."""
        with init_distributed(torch.device(self.plan.device)) as world:
            shown = progress if world.is_first else None
            results = evaluate(self.plan, self.fake, self.sampler, world=world, progress=shown)
        subject = self.fake.name
        against = None if self.plan.real is None else self.plan.real.name
        rows = []
        for result in results:
            for name, estimate in result.values.items():
                part = name.removeprefix(result.name).replace("_", " ")
                real = result.num_real or None
                floor = result.heldout.get(name)
                rows.append((result.label + part, result.metric.view, estimate, floor, real, name))
        others = sorted({r.extractor.name for r in results if not r.extractor.is_reference})
        what = f"FID, KID and other published numbers ({', '.join(others)})"
        meanings = {r.label.partition("(")[0]: _MEANINGS[r.metric.kind] for r in results}
        close = f"How close {subject} is to the real images of {against}, how varied and smooth."
        return Section(
            key=self.key,
            title=self.title,
            lead=close if against else f"How varied and how smooth {subject} is.",
            blocks=(
                Table(
                    caption="Image quality",
                    columns=("Metric", "View", "Value", "Held-out", "Real images", "Name"),
                    rows=tuple(rows),
                    note=" ".join(f"{label}: {meaning}." for label, meaning in meanings.items())
                    + " Intervals are 95 %, from random halves of the identities or, for the "
                    "kernel distance, from subsets; n counts images. Held-out: the "
                    "same of as many real images of other identities (of all, where n is smaller), "
                    "which is what a perfect generator would reach.",
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
            skipped=((what, _NOT_PUBLISHED),) if others else (),
        )

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of networks and images."""
        found = {f"network {e.name}": e.hash for e in self.plan.extractors.values()}
        if self.network is not None:
            found[f"snapshot {self.network.name}"] = files.sha256_file(self.network)
        for images in (self.fake, self.plan.real, self.plan.heldout):
            if isinstance(images, FolderImages):
                found[f"images {images.name}"] = images.samples.content_hash()
        return found


@dataclass(frozen=True, kw_only=True)
class QualityJob(ReportJob):
    """A report on image quality by one process, or by `gpus` that are started."""

    gpus: int | None

    def run(self, progress: Progress) -> str | None:
        """Measure, after a restart under torchrun where several processes are asked for."""
        if self.gpus is not None and self.gpus > 1 and not is_launched():
            restart_under_torchrun(self.gpus)
        return super().run(progress)


def open_topic(options: QualityOptions, device: str) -> QualityTopic:
    """Open images and networks, and check that the metrics can be measured of them.

    Raises: NotMeasuredError where the images do not allow a metric; ValueError or
        FileNotFoundError naming file or option, rule and value.
    """
    sets = {"images": options.images, "data": options.data, "heldout": options.heldout}
    folders = {role: FolderImages(samples) for role, samples in open_sets(sets).items()}
    sampler, fake = None, folders.get("images")
    if options.network is not None:
        sampler = load_sampler(
            options.network,
            data=options.data,
            truncation=options.truncation,
            seed=options.seed,
            device=device,
            use_raw_g=options.use_raw_g,
        )
        fake = SampledImages(sampler, count_images(options.metrics))
    assert fake is not None, "checked by the options"
    roles = {metric.role for metric in options.metrics}
    plan = MetricPlan(
        metrics=options.metrics,
        extractors=build_extractors(options.extractor, roles, device=device),
        real=folders.get("data"),
        heldout=folders.get("heldout"),
        replicates=options.replicates,
        seed=options.seed,
        device=device,
        cache=FeatureCache() if options.cache else None,
    )
    plan.check(fake, sampler)
    return QualityTopic(plan=plan, fake=fake, sampler=sampler, network=options.network)


def prepare(options: QualityOptions) -> QualityJob:
    """Open images and networks. Raises: as `open_topic`."""
    topic = open_topic(options, resolve_repeatable(options.device, local_rank()))
    plan, fake = topic.plan, topic.fake
    real = None if plan.real is None else {"name": plan.real.name, "images": len(plan.real)}
    return QualityJob(
        name="images",
        title="Image quality",
        subtitle=fake.name + (f" against {plan.real.name}" if plan.real else ""),
        topics=[topic],
        plan={
            "metrics": [metric.name for metric in plan.metrics],
            "networks": {role: network.name for role, network in plan.extractors.items()},
            "generated": {"name": fake.name, "images": len(fake)},
            "real": real,
        },
        options=options,
        inputs=topic.hashes,
        gpus=options.gpus,
    )


def _data(result: MetricResult) -> dict[str, Any]:
    return {
        "asked_for": result.metric.name,
        "name": result.name,
        "label": result.label,
        "view": result.metric.view,
        "extractor": result.extractor.name,
        "extractor_hash": result.extractor.hash,
        "is_reference": result.extractor.is_reference,
        "values": result.values,
        "heldout": result.heldout,
        "num_real": result.num_real,
        "seconds": result.seconds,
    }
