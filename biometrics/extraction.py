"""Identity features of a data set, computed from its images."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from biometrics.embedding import Embedder, embed_samples, load_embedder
from biometrics.features import (
    FeatureInfo,
    IdentityFeatures,
    check_replaceable,
    check_writable,
    write_identity_features,
)
from biometrics.input_check import check_samples
from biometrics.options import FeatureOptions
from data.labels import IDENTITY_FILE
from data.pairs import open_pairs
from data.sample_index import SampleIndex, describe_unnamed, identity_of
from dnnlib.options import Job, Progress
from metrics.nearest import unit_rows
from torch_utils.devices import resolve_repeatable

_LEAST_ALIKE = 5
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Extraction:
    """Features of images of a data set.

    Attributes:
        features: of the images.
        file_names: of these images.
        failures: file -> reason, of the others.
        agreement: [N] float32, of means: cosine of each image to the mean of its identity's other
            images, NaN for an only one.
    """

    features: IdentityFeatures
    file_names: list[str]
    failures: Mapping[str, str]
    agreement: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionJob(Job):
    """Identity features of one data set, to be computed and written."""

    options: FeatureOptions
    target: Path
    source: SampleIndex
    embedder: Embedder

    def describe(self) -> dict[str, Any]:
        """Return what is written and by which recogniser."""
        return {
            "out": str(self.target),
            "images": len(self.source),
            "width": self.embedder.width,
            "recogniser": self.embedder.hash,
        }

    def run(self, progress: Progress) -> str:
        """Embed the images and write the file."""
        found = extract_features(
            self.source,
            self.embedder,
            vectors=self.options.all_or_one,
            modality=self.options.modality,
            batch=self.options.batch,
            progress=progress(0, len(self.source)),
            on_failure=self.check_failures,
        )
        if found.failures:
            name, reason = next(iter(found.failures.items()))
            count = len(found.failures)
            _logger.warning("%d images gave no features, %s first: %s", count, name, reason)
        unnamed = describe_unnamed(found.features.stems, found.features.identities)
        if unnamed:
            _logger.warning("%s", unnamed)
        write_identity_features(self.target, found.features, found.file_names)
        check = check_samples(self.embedder, self.source, self.options.modality)
        if check is not None and check.warning is not None:
            _logger.warning("%s: %s", self.options.rec_model, check.warning)
        if found.agreement is not None:
            _log_agreement(found.agreement, found.file_names)
        images = Counter(found.features.identities).values()
        return (
            f"{self.target}: {len(found.file_names)} vectors of {self.embedder.width} numbers; "
            f"{len(images)} identities, {min(images)} to {max(images)} images each"
        )

    def check_failures(self, failures: Mapping[str, str]) -> None:
        """Check that these images (file -> reason) may lack features, and the rest be kept.

        Raises: ValueError with --strict, and where features of more images, or others, would be
            replaced without --fresh.
        """
        first = "".join(f"; {name} gave none: {why}" for name, why in [*failures.items()][:1])
        options = self.options
        if failures and options.strict:
            raise ValueError(f"--strict: every image must give features{first}")
        if not options.fresh:
            count = len(self.source) - len(failures)
            info = describe_features(self.embedder, options.all_or_one, options.modality, count)
            check_replaceable(self.target, info, first)


def prepare(options: FeatureOptions) -> ExtractionJob:
    """Check that features can be computed and written.

    Raises: ValueError, FileNotFoundError.
    """
    target = options.out
    if target is None:
        if options.data_folder.is_file():
            raise ValueError(f"--data-folder {options.data_folder}: an archive needs --out, too")
        target = options.data_folder / IDENTITY_FILE
    check_writable(target)
    source = open_pairs(options.data_folder)
    # Repeatable as the filter, which compares with these features.
    device = resolve_repeatable(options.device, options.gpu_device_number)
    embedder = load_embedder(
        options.rec_model, device=device, flip=options.flip, align=options.align
    )
    job = ExtractionJob(options=options, target=target, source=source, embedder=embedder)
    job.check_failures({})
    return job


def extract_features(
    source: SampleIndex,
    embedder: Embedder,
    *,
    vectors: str = "all",
    modality: str = "rgb",
    batch: int = 64,
    progress: Callable[[int], None] = lambda _: None,
    on_failure: Callable[[Mapping[str, str]], None] = lambda _: None,
) -> Extraction:
    """Embed all images of a modality.

    Args:
        source: the pairs.
        embedder: of the images.
        vectors: "all" gives each image its own; "one" gives all images of an identity the vector
            of the one that is most like the others, "mean" their mean at unit length. A generator
            can be conditioned on each.
        modality: "rgb" or "nir".
        batch: images decoded at once.
        progress: called with further images done.
        on_failure: called at each image that gives no features with all of them so far, as file
            -> reason; an error that it raises ends the work.
    Raises: ValueError where no image could be read.
    """

    def named(reasons: Mapping[int, str]) -> dict[str, str]:
        return {_name_of(source, modality, index): reason for index, reason in reasons.items()}

    found = embed_samples(
        source,
        modality,
        embedder.embed_aligned,
        embedder.width,
        align=embedder.align,
        batch=batch,
        progress=progress,
        on_failure=lambda failures: on_failure(named(failures)),
    )
    kept = np.flatnonzero(found.is_enrolled).tolist()
    stems = [source.stems[index] for index in kept]
    matrix, agreement = found.vectors[kept], None
    if vectors == "one":
        matrix = share_vectors(stems, matrix)
    elif vectors == "mean":
        matrix, agreement = mean_vectors(stems, matrix)
    info = describe_features(embedder, vectors, modality, len(stems))
    features = IdentityFeatures(stems=tuple(stems), vectors=matrix, info=info)
    return Extraction(
        features=features,
        file_names=[_name_of(source, modality, index) for index in kept],
        failures=named(found.failures),
        agreement=agreement,
    )


def describe_features(embedder: Embedder, vectors: str, modality: str, count: int) -> FeatureInfo:
    """Return where features of `count` images come from, see `extract_features`."""
    return FeatureInfo(
        recogniser=embedder.hash,
        preprocessing=embedder.preprocessing,
        vectors=vectors,
        modality=modality,
        count=count,
    )


def share_vectors(stems: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Replace the vectors of each identity by the one of highest mean cosine to the others.

    Args:
        stems: of the images.
        vectors: [N, E] float32 of unit length.
    Returns: [N, E] float32; of equally good ones the first is taken.
    """
    shared = vectors.copy()
    for own in _rows_of_identities(stems):
        group = vectors[own].astype(np.float64)
        shared[own] = vectors[own[int((group @ group.sum(0)).argmax())]]
    return shared


def mean_vectors(stems: Sequence[str], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace the vectors of each identity by their mean at unit length.

    Args:
        stems: of the images.
        vectors: [N, E] float32 of unit length.
    Returns: [N, E] float32, and [N] float32, the cosine of each image to the mean of the others of
        its identity (leave-one-out); NaN for an only one.
    Raises: ValueError where the vectors of an identity cancel each other.
    """
    means, agreement = vectors.copy(), np.full(len(vectors), np.nan, np.float32)
    for own in _rows_of_identities(stems):
        group = vectors[own].astype(np.float64)
        total, name = group.sum(axis=0), identity_of(stems[own[0]])
        means[own] = unit_rows(total[None], f"the mean of the images of {name}")
        if len(own) > 1:
            others = total - group
            lengths = np.linalg.norm(others, axis=1).clip(1e-12)
            agreement[own] = (group * others).sum(axis=1) / lengths
    return means, agreement


def _rows_of_identities(stems: Sequence[str]) -> Iterable[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, stem in enumerate(stems):
        rows.setdefault(identity_of(stem), []).append(row)
    return rows.values()


def _log_agreement(agreement: np.ndarray, names: Sequence[str]) -> None:
    """Say how like the others of their identity images are, and which ones least."""
    known = np.flatnonzero(~np.isnan(agreement))
    if len(known) == 0:
        _logger.warning("no identity has several images: each mean is of one")
        return
    values, order = agreement[known], known[np.argsort(agreement[known], kind="stable")]
    lowest = [f"{names[row]} ({agreement[row]:.3f})" for row in order[:_LEAST_ALIKE]]
    _logger.info(
        "cosine of an image to the mean of its identity's others: %.3f on average, deviation %.3f; "
        "lowest: %s",
        values.mean(),
        values.std(),
        ", ".join(lowest),
    )


def _name_of(source: SampleIndex, modality: str, index: int) -> str:
    """Return an image's name below the modality's folder, as feature files have it."""
    return source.stems[index] + PurePosixPath(source.file(modality, index)).suffix
