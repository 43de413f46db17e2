"""Which person an image shows, and how identity features become conditions of a generator."""

from pathlib import PurePosixPath

import numpy as np

from data.modalities import MODALITIES

DEFAULT_FEATURE_SCALE = 4.0  # what the published generate_recognition_data.py multiplies with

_MODALITY_FOLDERS = frozenset(name for modality in MODALITIES for name in modality.folders)


def identity_of(stem: str) -> str:
    """Return the person of an image: its folder, or what stands before the last "_" of its name.

    Folders of modalities do not count: "id_3/VIS/sample_1_VIS" shows "id_3", "0007_003" shows
    "0007", "person/IMG_5" shows "person". A name without "_" is a person of its own.
    """
    path = PurePosixPath(stem)
    folders = [part for part in path.parts[:-1] if part not in _MODALITY_FOLDERS]
    if folders:
        return "/".join(folders)
    prefix, _, sample = path.name.rpartition("_")
    return prefix if prefix and sample else path.name


def scale_features(vectors: np.ndarray, scale: float | None) -> np.ndarray:
    """Return identity features as conditions: rows of length `scale`, or as they are for None.

    The published training takes features as they are, the published generation 4 times a unit
    vector; one recorded scale for both is ours.

    Args:
        vectors: [N, E] float; rows that are not zero.
    Returns: [N, E] float32.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if scale is None:
        return vectors
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors * (scale / lengths)).astype(np.float32)
