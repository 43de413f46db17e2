"""A study of image quality: from options to checked inputs, and from those to results."""

from dataclasses import dataclass
from pathlib import Path

from data.samples import open_samples
from evaluation.extractors import build_extractors
from evaluation.features import FeatureCache, FolderImages, Images, SampledImages
from evaluation.generator_metrics import (
    MetricPlan,
    MetricResult,
    Progress,
    count_images,
    evaluate,
)
from evaluation.names import Metric
from networks.sampling import IndexedSampler, load_sampler
from torch_utils.devices import use_repeatable_arithmetic
from torch_utils.distributed import World


@dataclass(frozen=True, kw_only=True)
class QualityOptions:
    """What is measured of which images, and how.

    Attributes:
        metrics: which.
        network: snapshot that draws; None where `images` are given.
        images: folder of generated images; None where a `network` is given.
        data: data set to compare with, and of a conditional network's labels; None for none.
        extractor: one of evaluation.names.EXTRACTORS.
        truncation: of the generator; 1 leaves w as it is, as published metrics have it.
        use_raw_g: draw from G instead of its average.
        replicates: half-samples behind an interval; 0 gives none.
        seed: of all that is drawn.
        device: "cpu" or "cuda:N".
        use_cache: keep features of the data set for the next time.
    """

    metrics: tuple[Metric, ...]
    network: Path | None = None
    images: Path | None = None
    data: Path | None = None
    extractor: str = "reference"
    truncation: float = 1.0
    use_raw_g: bool = False
    replicates: int = 20
    seed: int = 0
    device: str = "cpu"
    use_cache: bool = True

    def __post_init__(self) -> None:
        if (self.network is None) == (self.images is None):
            raise ValueError("one of --network and --images must say what is measured")
        if not self.metrics:
            raise ValueError("--metrics must name at least one metric, got none")
        if self.replicates == 1:
            raise ValueError("--intervals must be 0, or at least 2 to have a spread, got 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class QualityStudy:
    """Inputs that have been read and fit together.

    Attributes:
        options: what was asked for.
        plan: metrics, networks and real images.
        fake: images that are measured.
        sampler: that draws them; None for a folder.
    """

    options: QualityOptions
    plan: MetricPlan
    fake: Images
    sampler: IndexedSampler | None

    def run(
        self, progress: Progress | None = None, world: World | None = None
    ) -> list[MetricResult]:
        """Measure everything; only the first process gets results. Raises: as `evaluate`."""
        return evaluate(self.plan, self.fake, self.sampler, world=world, progress=progress)


def prepare_quality(
    options: QualityOptions,
    *,
    sampler: IndexedSampler | None = None,
    progress: Progress | None = None,
) -> QualityStudy:
    """Read and check all inputs.

    Args:
        options: what is asked for.
        sampler: of `options.network` where it is loaded already.
        progress: shows what is being fetched.
    Raises: ValueError or FileNotFoundError naming file or option, rule and value.
    """
    if options.device != "cpu":
        use_repeatable_arithmetic()
    fake: Images
    if options.network is not None:
        sampler = sampler or load_sampler(
            options.network,
            data=options.data,
            truncation=options.truncation,
            seed=options.seed,
            device=options.device,
            use_raw_g=options.use_raw_g,
        )
        fake = SampledImages(sampler, count_images(options.metrics))
    else:
        assert options.images is not None, "checked by the options"
        fake = FolderImages(open_samples(options.images))
    plan = MetricPlan(
        metrics=options.metrics,
        extractors=build_extractors(
            options.extractor,
            {metric.role for metric in options.metrics},
            device=options.device,
            progress=progress,
        ),
        real=None if options.data is None else FolderImages(open_samples(options.data)),
        replicates=options.replicates,
        seed=options.seed,
        device=options.device,
        cache=FeatureCache() if options.use_cache else None,
    )
    plan.check(fake, sampler)
    return QualityStudy(options=options, plan=plan, fake=fake, sampler=sampler)
