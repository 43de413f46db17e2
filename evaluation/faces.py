"""Data sets through one recogniser: embeddings, each computed once, and its thresholds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from biometrics.comparisons import compare
from biometrics.embedding import (
    Embedder,
    Embeddings,
    are_independent,
    embed_samples,
    load_embedder,
)
from biometrics.thresholds import read_thresholds
from biometrics.verification import score_comparisons
from data.sample_index import SampleIndex
from dnnlib.options import Progress
from evaluation.options import ThresholdOptions
from metrics import NotMeasuredError

STRICT_LEVELS = (1e-3, 1e-4)
IDENTITY_LEVEL = 1e-3


class Faces:
    """Embeddings of data sets by one recogniser, each computed once; tables show its name."""

    def __init__(self, name: str, embedder: Embedder, device: str = "cpu") -> None:
        self.name, self.embedder, self.device = name, embedder, device
        self._done: dict[tuple[int, str], Embeddings] = {}

    def of(self, samples: SampleIndex, modality: str, progress: Progress) -> Embeddings:
        """Return the embeddings of one modality; damaged images are counted as failures."""
        key = id(samples), modality
        if key not in self._done:
            advance = progress(0, len(samples))
            embed, width = self.embedder.embed, self.embedder.width
            self._done[key] = embed_samples(samples, modality, embed, width, progress=advance)
        return self._done[key]


def open_faces(paths: Sequence[Path | None], device: str) -> list[Faces]:
    """Load recognisers; of equal file names, folders tell them apart.

    Args:
        paths: weights, None for none.
    Raises: ValueError, FileNotFoundError as `load_embedder`, and where two are the same.
    """
    given = [path for path in paths if path is not None]
    names = [path.name for path in given]
    faces = [
        Faces(
            path.name
            if names.count(path.name) == 1
            else f"{path.resolve().parent.name}/{path.name}",
            load_embedder(path, device=device),
            device,
        )
        for path in given
    ]
    pairs = combinations([one.embedder for one in faces], 2)
    if not all(are_independent(*pair) for pair in pairs):
        raise ValueError("--audit-model must be another recogniser than --rec-model")
    return faces


def hash_inputs(sets: Mapping[str, SampleIndex], faces: Sequence[Faces]) -> dict[str, str]:
    """Return the SHA-256 of data sets and recognisers."""
    hashes = {f"{role} ({samples.name})": samples.content_hash() for role, samples in sets.items()}
    return {**hashes, **{f"recogniser {one.name}": one.embedder.hash for one in faces}}


def list_comparisons(samples: SampleIndex) -> list[tuple[str, tuple[str, ...]]]:
    """Return (label, modalities): each by itself, and the first one's galleries with the others."""
    first, *others = samples.modalities
    alone = [(name.upper(), (name,)) for name in samples.modalities]
    return alone + [(f"{first.upper()} against {name.upper()}", (first, name)) for name in others]


# Thresholds


def given_thresholds(options: ThresholdOptions, faces: Sequence[Faces]) -> dict[float, float]:
    """Return FMR -> cosine of --threshold or --thresholds, for the first recogniser.

    Raises: ValueError or FileNotFoundError for a file of another form or recogniser.
    """
    if options.thresholds is None:
        return dict(options.threshold)
    found = read_thresholds(options.thresholds, faces[0].embedder.hash if faces else None)
    return found.by_fmr


def measure_thresholds(
    samples: SampleIndex,
    faces: Faces,
    modalities: Sequence[str],
    progress: Progress,
) -> dict[float, float]:
    """Return FMR -> cosine on a set of real identities; nothing where the set is too small.

    Args:
        modalities: of both images of a comparison, or of the gallery and of the probes.
    """
    sides = [faces.of(samples, name, progress).side() for name in modalities]
    try:
        found = compare(*sides, device=faces.device)
    except NotMeasuredError:
        return {}
    score = score_comparisons(found, levels=(*STRICT_LEVELS, 0.01, 0.1), replicates=0)
    usable = {p.level: p.threshold for p in score.points if p.is_supported}
    strict = {level: usable[level] for level in STRICT_LEVELS if level in usable}
    return strict or dict(sorted(usable.items())[:1])


def identity_thresholds(
    given: Mapping[float, float], real: SampleIndex, faces: Faces, progress: Progress
) -> tuple[dict[str, float], str]:
    """Return the cosine from which two images show one identity, and how it was chosen.

    Args:
        given: FMR -> cosine for all comparisons; the FMR nearest to 0.001 is taken.
        real: identities to measure it on, for each kind of comparison, where none is given.
    Returns: ("RGB", "NIR", "RGB against NIR" -> cosine, as far as the set allows; a sentence).
    """
    if given:
        level = _nearest_level(given)
        source = f"cosine {given[level]:g} at FMR {level:g}, as given"
        return dict.fromkeys(dict(list_comparisons(real)), given[level]), source
    found, levels = {}, set()
    for label, modalities in list_comparisons(real):
        measured = measure_thresholds(real, faces, modalities, progress)
        if measured:
            level = _nearest_level(measured)
            found[label] = measured[level]
            levels.add(f"{level:g}")
    origin = f"measured on {real.num_identities} identities of {real.name}"
    return found, f"cosine at FMR {', '.join(sorted(levels)) or '-'}, {origin}"


def _nearest_level(thresholds: Mapping[float, float]) -> float:
    return min(thresholds, key=lambda fmr: abs(np.log(fmr / IDENTITY_LEVEL)))
