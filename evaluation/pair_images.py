"""The images of a `.bin` through a recogniser."""

import numpy as np
import torch

from data.pixels import decode_image
from evaluation.embeddings import Embed
from evaluation.folds import PairArchive

_BATCH = 128


def embed_pairs(archive: PairArchive, embed: Embed, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of first and second images, [P, E] float32 each.

    Args:
        embed: uint8 [N, 3, H, W] -> float32 [N, E] of unit length.
        where: the file, for messages.
    Raises: ValueError naming the image that is damaged or of another size than the first.
    """
    parts = []
    for start in range(0, len(archive.images), _BATCH):
        batch = [
            decode_image(content, 3, f"{where}, image {start + i}")
            for i, content in enumerate(archive.images[start : start + _BATCH])
        ]
        shapes = {image.shape for image in batch}
        if len(shapes) > 1:
            raise ValueError(f"{where}: images must be of one size, got {sorted(shapes)}")
        parts.append(np.asarray(embed(torch.from_numpy(np.stack(batch))), np.float32))
    vectors = np.concatenate(parts)
    return vectors[0::2], vectors[1::2]
