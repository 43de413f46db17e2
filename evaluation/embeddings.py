"""Images of a set through a recogniser that the caller hands in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from biometrics.comparisons import Side

if TYPE_CHECKING:
    from evaluation.image_sets import ImageSet

Embed = Callable[[torch.Tensor], torch.Tensor]  # uint8 [N, C, H, W] -> float32 [N, E]
Advance = Callable[[int], None]
_BATCH = 128


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

    images: "ImageSet"
    modality: str
    vectors: np.ndarray
    failures: tuple[tuple[str, str], ...]

    @property
    def is_enrolled(self) -> np.ndarray:
        """Which rows have an embedding: [N] bool."""
        return np.isfinite(self.vectors).all(axis=1)

    def side(self) -> Side:
        """Return what verification compares."""
        return Side(vectors=self.vectors, people=self.images.people, captures=self.images.stems)

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
    images: "ImageSet", modality: str, embed: Embed, advance: Advance = lambda _count: None
) -> Embedded:
    """Return the embeddings of one modality; damaged images are counted as failures.

    Raises: ValueError where the modality is absent, or the recogniser answers with another shape.
    """
    if modality not in images.files:
        raise ValueError(f"{images.name}: has no {modality} images")
    failures: list[tuple[str, str]] = []
    rows: dict[int, np.ndarray] = {}
    for places, batch in _batches(images, modality, failures):
        answer = np.asarray(embed(torch.from_numpy(batch)), dtype=np.float32)
        if answer.ndim != 2 or len(answer) != len(batch):
            raise ValueError(
                f"the recogniser must answer [{len(batch)}, E], got {list(answer.shape)}"
            )
        rows.update(zip(places, _unit(answer), strict=True))
        advance(len(batch))
    if not rows:
        raise ValueError(f"{images.name}: none of {len(images)} {modality} images could be read")
    width = len(next(iter(rows.values())))
    vectors = np.full((len(images), width), np.nan, np.float32)
    for place, row in rows.items():
        vectors[place] = row
    described = dict(failures)
    for place in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        vectors[place] = np.nan
        described.setdefault(images.describe(modality, place), "the recogniser gives no embedding")
    return Embedded(
        images=images, modality=modality, vectors=vectors, failures=tuple(described.items())
    )


def _batches(
    images: "ImageSet", modality: str, failures: list[tuple[str, str]]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield (places, [n, C, H, W] uint8) of images of one size."""
    places: list[int] = []
    batch: list[np.ndarray] = []
    for index in range(len(images)):
        try:
            image = images.image(modality, index)
        except ValueError as error:
            failures.append((images.describe(modality, index), str(error)))
            continue
        if batch and (len(batch) == _BATCH or batch[0].shape != image.shape):
            yield places, np.stack(batch)
            places, batch = [], []
        places.append(index)
        batch.append(image)
    if batch:
        yield places, np.stack(batch)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return rows of unit length; zero or infinite ones become NaN."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    is_usable = np.isfinite(lengths) & (lengths > 0)
    scaled = vectors / np.where(is_usable, lengths, 1)
    return np.where(is_usable, scaled, np.nan).astype(np.float32)
