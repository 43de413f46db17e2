"""Verification of held-out identities while a recogniser trains."""

from collections import Counter
from pathlib import Path

import numpy as np
from torch import Tensor

from biometrics.comparisons import Side, compare
from biometrics.embedding import Embedder
from biometrics.verification import error_rates, score_comparisons
from data.modalities import MODALITIES
from recognition.face_sets import FaceSet

FMR = 0.01
_SUFFIXES = {modality.name: modality.suffix.lower() for modality in MODALITIES}


class Verifier:
    """Measures a recogniser on other identities, for each modality by itself.

    Args:
        faces: images of these identities, all of which are read once.
        path: where they come from, for messages.
    Raises: ValueError where no identity has two images, or an image cannot be read.
    """

    def __init__(self, faces: FaceSet, path: Path) -> None:
        images = Counter(int(label) for label in faces.labels[: faces.num_samples])
        if max(images.values()) < 2:
            raise ValueError(f"--heldout {path}: verification needs two images of one identity")
        faces.verify()
        self.faces = faces

    def __call__(self, embedder: Embedder) -> dict[str, float]:
        """Return error rates, under names that end in _nir for that modality."""
        faces, row = self.faces, {}
        faces.cache()
        for column in range(1 if faces.is_joint else len(faces.modalities)):
            indices = range(column * faces.num_samples, (column + 1) * faces.num_samples)
            vectors = embedder.embed(faces.image(index) for index in indices)
            identities = [faces.identities[int(faces.labels[i])] for i in indices]
            suffix = _SUFFIXES[faces.modalities[column]]
            numbers = verification_numbers(vectors, identities)
            row |= {f"{name}{suffix}": value for name, value in numbers.items()}
        return row


def verification_numbers(vectors: Tensor, identities: list[str]) -> dict[str, float]:
    """Return error rates of all comparisons of images.

    Args:
        vectors: [N, E] float32 of unit length.
        identities: the identity of each.
    Returns: eer; tar at FMR 1e-2; auc; accuracy, of the best threshold, where mated and non-mated
        comparisons count alike.
    """
    comparisons = compare(Side(vectors=vectors.numpy(), identities=identities))
    score = score_comparisons(comparisons, levels=(FMR,), replicates=0)
    rates = error_rates(comparisons.tally())
    return {
        "eer": score.eer.value,
        "tar_at_fmr_0.01": score.points[0].tar.value,
        "auc": score.auc.value,
        "accuracy_best": float(np.max(1 - (rates.fmr + rates.fnmr) / 2)),
    }
