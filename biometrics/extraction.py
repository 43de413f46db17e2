"""Identity features of a data set's people, from its images."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from biometrics.embedding import Embedder
from biometrics.features import FeatureInfo, IdentityFeatures
from data.identities import identity_of
from data.modalities import MODALITIES
from data.pairs import PairSource
from data.pixels import decode_image


class Vectors(StrEnum):
    """Which vector an image gets."""

    ALL = "all"
    ONE = "one"


@dataclass(frozen=True, kw_only=True, eq=False)
class Extraction:
    """Features of a data set, and the images that gave none.

    Attributes:
        features: of the other images.
        file_names: of those images.
        failures: file -> reason.
        representatives: with Vectors.ONE, person -> stem of the image whose vector stands for all.
    """

    features: IdentityFeatures
    file_names: list[str]
    failures: dict[str, str] = field(default_factory=dict)
    representatives: dict[str, str] = field(default_factory=dict)


def extract_features(
    source: PairSource,
    embedder: Embedder,
    *,
    vectors: Vectors,
    modality: str = "rgb",
    batch: int = 64,
    progress: Callable[[int], None] = lambda _: None,
    on_failure: Callable[[Mapping[str, str]], None] = lambda _: None,
) -> Extraction:
    """Embed all images of a modality.

    Args:
        source: the pairs.
        embedder: of the images.
        vectors: ALL gives each image its own; ONE gives all images of a person the vector of the
            one that is most like the others, so that a generator can be conditioned on either.
        modality: "rgb" or "nir".
        batch: images decoded at once.
        progress: called with further images done.
        on_failure: called at each image that gives no features with all of them so far, as file
            -> reason; an error that it raises ends the work.
    Raises: ValueError where no image could be read.
    """
    stems, names, parts, failures = [], [], [], {}

    def note(index: int, reason: str) -> None:
        failures[source.files[modality][index]] = reason
        progress(1)
        on_failure(failures)

    for images, indices in _batches(source, embedder, modality, batch, note):
        parts.append(embedder.embed_aligned(images).numpy())
        stems += [source.stems[i] for i in indices]
        names += [source.files[modality][i] for i in indices]
        progress(len(indices))
    if not stems:
        raise ValueError(f"{source.layout.base.describe()}: no image could be read: {failures}")
    matrix, representatives = np.concatenate(parts), {}
    if vectors is Vectors.ONE:
        matrix, representatives = share_vectors(stems, matrix)
    info = describe_features(embedder, vectors, modality, len(stems))
    features = IdentityFeatures(stems=tuple(stems), vectors=matrix, info=info)
    return Extraction(
        features=features, file_names=names, failures=failures, representatives=representatives
    )


def describe_features(
    embedder: Embedder, vectors: Vectors, modality: str, count: int
) -> FeatureInfo:
    """Return where features of `count` images come from, see `extract_features`."""
    return FeatureInfo(
        recogniser=embedder.hash,
        preprocessing=embedder.preprocessing,
        vectors=vectors.value,
        modality=modality,
        count=count,
    )


def share_vectors(stems: Sequence[str], vectors: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Replace each person's vectors by the one of highest mean cosine to the person's others.

    Args:
        stems: of the images.
        vectors: [N, E] float32 of unit length.
    Returns: [N, E] float32; person -> stem of the chosen image, the first among equals.
    """
    rows: dict[str, list[int]] = {}
    for row, stem in enumerate(stems):
        rows.setdefault(identity_of(stem), []).append(row)
    shared, chosen = vectors.copy(), {}
    for person, own in rows.items():
        group = vectors[own].astype(np.float64)
        best = own[int((group @ group.sum(0)).argmax())]
        shared[own] = vectors[best]
        chosen[person] = stems[best]
    return shared, chosen


def describe_people(stems: Sequence[str]) -> str:
    """Return how many people and images there are."""
    counts = Counter(identity_of(stem) for stem in stems)
    return f"{len(counts)} people, {min(counts.values())} to {max(counts.values())} images each"


def _batches(
    source: PairSource,
    embedder: Embedder,
    modality: str,
    batch: int,
    note: Callable[[int, str], None],
) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield images of one size and their indices; note the index of what gives none, and why."""
    channels = next(m.channels for m in MODALITIES if m.name == modality)
    images: list[np.ndarray] = []
    indices: list[int] = []
    for index in range(len(source)):
        try:
            with source.open(modality, index) as file:
                image = decode_image(file, channels, source.describe(modality, index))
        except ValueError as error:
            note(index, str(error))
            continue
        moved = embedder.align(torch.from_numpy(image))
        if isinstance(moved, str):
            note(index, moved)
            continue
        image = moved.numpy()
        if images and (len(images) == batch or image.shape != images[0].shape):
            yield torch.from_numpy(np.stack(images)), indices
            images, indices = [], []
        images.append(image)
        indices.append(index)
    if indices:
        yield torch.from_numpy(np.stack(images)), indices
