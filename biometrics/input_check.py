"""Does a recogniser get the images that it was made for? Other formats are tried on a few of them.

With the right format, images of different identities lie far apart. With swapped channels or in
another range a network sees hardly more than that there is something, and all come close together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from biometrics.embedding import Embedder, NoEmbeddingError, Preprocessing
from biometrics.recogniser_settings import ChannelOrder
from data.sample_index import SampleIndex

IMAGES = 8
_FEWEST = 3
_MARGIN = 0.15  # of cosine; another format must be better by it
_LEAST_MIRRORED = 0.5
_RANGES = {"-1..1": (127.5, 127.5), "0..1": (0.0, 255.0), "0..255": (0.0, 1.0)}


@dataclass(frozen=True, kw_only=True)
class InputCheck:
    """What a few images of different identities say.

    Attributes:
        mirrored: median cosine of an image and its mirror image.
        strangers: format -> median cosine of two images; the first is the recogniser's own. A
            format that gives no embeddings is left out.
    """

    mirrored: float
    strangers: Mapping[str, float]

    @property
    def warning(self) -> str | None:
        """What looks wrong, None for nothing."""
        own = next(iter(self.strangers.values()))
        best = min(self.strangers, key=lambda name: self.strangers[name])
        if self.strangers[best] < own - _MARGIN:
            return (
                f"images of different identities have a cosine of {own:.2f}, but "
                f"{self.strangers[best]:.2f} with {best}: the recogniser was probably made for that"
            )
        if self.mirrored < _LEAST_MIRRORED:
            return (
                f"an image and its mirror image have a cosine of only {self.mirrored:.2f}: the "
                "images or their format are not what the recogniser was made for"
            )
        return None


def check_inputs(embedder: Embedder, images: Tensor) -> InputCheck:
    """Embed images mirrored, with swapped channels and in other ranges.

    Args:
        embedder: of them; a centre is left out.
        images: [N, C, H, W] uint8 of N different identities, aligned; N at least 3.
    Raises: NoEmbeddingError where the recogniser's own format gives none.
    """
    own = embedder.preprocessing
    formats = {}
    if own.channels == 3 and images.shape[1] == 3:
        swapped = ChannelOrder.RGB if own.order is ChannelOrder.BGR else ChannelOrder.BGR
        formats[f"--order={swapped}"] = replace(own, order=swapped)
    for name, (mean, std) in _RANGES.items():
        if (own.mean, own.std) != ((mean,), (std,)):
            label = f"--mean={mean:g} --std={std:g} ({name})"
            formats[label] = replace(own, mean=(mean,), std=(std,))
    rows = embedder.with_preprocessing(own).embed_aligned(images)
    mirrored = _embeddings(embedder, own, images.flip(3))
    found = {name: _embeddings(embedder, other, images) for name, other in formats.items()}
    above = np.triu_indices(len(images), 1)
    return InputCheck(
        mirrored=0.0 if mirrored is None else float((rows * mirrored).sum(dim=1).median()),
        strangers={
            name: float(np.median((vectors @ vectors.T).numpy()[above]))
            for name, vectors in {"its own format": rows, **found}.items()
            if vectors is not None
        },
    )


def _embeddings(embedder: Embedder, preprocessing: Preprocessing, images: Tensor) -> Tensor | None:
    """Return [N, E], None where an embedding is zero or not finite, as in a foreign format."""
    try:
        return embedder.with_preprocessing(preprocessing).embed_aligned(images)
    except NoEmbeddingError:
        return None


def check_samples(embedder: Embedder, samples: SampleIndex, modality: str) -> InputCheck | None:
    """Check a recogniser on images of a data set; None where there are too few identities."""
    firsts = {identity: i for i, identity in reversed([*enumerate(samples.identities)])}
    readable = (_aligned(embedder, samples, modality, i) for i in sorted(firsts.values()))
    images = [*islice((image for image in readable if image is not None), IMAGES)]
    images = [image for image in images if image.shape == images[0].shape]
    return check_inputs(embedder, torch.stack(images)) if len(images) >= _FEWEST else None


def _aligned(embedder: Embedder, samples: SampleIndex, modality: str, index: int) -> Tensor | None:
    try:
        answer = embedder.align(torch.from_numpy(samples.image(modality, index)))
    except ValueError:
        return None
    return answer if isinstance(answer, Tensor) else None
