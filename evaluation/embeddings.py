"""Images of a set through a recogniser that the caller hands in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from biometrics.comparisons import Side
from biometrics.embedding import embed_samples

if TYPE_CHECKING:
    from data.sample_index import SampleIndex

Embed = Callable[[torch.Tensor], torch.Tensor]  # uint8 [N, C, H, W] -> float32 [N, E]
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """A network that gives embeddings, and how to name it.

    Attributes:
        name: shown in tables, such as the file's name.
        hash: SHA-256 of its weights.
        embed: uint8 [N, C, H, W] with C 1 or 3 -> float32 [N, E]; a row of NaN is a failure.
    """

    name: str
    hash: str
    embed: Embed


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Embeddings of one modality of a set.

    Attributes:
        images: where they come from.
        modality: "rgb" or "nir".
        vectors: [N, E] float32 of unit length; NaN where an image could not be enrolled.
        failures: (file, reason) of those.
    """

    images: "SampleIndex"
    modality: str
    vectors: np.ndarray
    failures: tuple[tuple[str, str], ...]

    @property
    def is_enrolled(self) -> np.ndarray:
        """Which rows have an embedding: [N] bool."""
        return np.isfinite(self.vectors).all(axis=1)

    def side(self) -> Side:
        """Return what verification compares."""
        return Side(vectors=self.vectors, people=self.images.identities, captures=self.images.stems)

    def enrolled(self) -> "Embedded":
        """Return only the images that have an embedding. Raises: ValueError where none has."""
        kept = np.flatnonzero(self.is_enrolled)
        if len(kept) == 0:
            raise ValueError(f"{self.images.name}: no image could be enrolled")
        return Embedded(
            images=self.images.select(kept.tolist()),
            modality=self.modality,
            vectors=self.vectors[kept],
            failures=(),
        )


def embed_images(
    images: "SampleIndex", modality: str, embed: Embed, advance: Advance = lambda _count: None
) -> Embedded:
    """Return the embeddings of one modality; damaged images are counted as failures.

    Raises: ValueError where the modality is absent, or the recogniser answers with another shape.
    """
    if modality not in images.modalities:
        raise ValueError(f"{images.name}: has no {modality} images")
    found = embed_samples(
        lambda index: torch.from_numpy(images.image(modality, index)),
        len(images),
        embed,
        progress=advance,
    )
    failures = [(images.describe(modality, i), why) for i, why in found.failures.items()]
    return Embedded(
        images=images, modality=modality, vectors=found.vectors, failures=tuple(failures)
    )
