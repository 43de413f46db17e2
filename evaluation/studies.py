"""What can be computed of given data sets with a given recogniser, and what cannot, with reasons.

A recogniser reaches these functions as an argument; a set that lacks what a measure needs (two
images of a person, a second modality) costs that measure, not the whole evaluation.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from biometrics.comparisons import compare
from biometrics.verification import VerificationScore, score_comparisons
from data.modalities import MODALITIES
from data.sample_index import SampleIndex
from evaluation.embeddings import Advance, Embedded, Recogniser, embed_images
from evaluation.report.dataset_section import DatasetScore
from metrics.alignment import AlignmentScore, score_alignment
from metrics.estimates import Estimate, wilson
from metrics.identity_sets import (
    Agreement,
    Capacity,
    ClassStatistics,
    attribute_entropies,
    class_diversity,
    class_statistics,
    identity_agreement,
    identity_capacity,
)
from metrics.privacy import Group, PrivacyScore, score_privacy

ATTRIBUTES_FILE = "attributes.json"
PRIVACY_LEVELS = (1e-3, 1e-4)
IDENTITY_LEVEL = 1e-3
Gaps = list[tuple[str, str]]
Attributes = Mapping[str, Mapping[str, Any]]  # sample -> name -> value
Features = tuple[str, Callable[[SampleIndex], np.ndarray]]  # name, images -> [N, F]


class Faces:
    """Embeddings of data sets by one recogniser, each computed once.

    Args:
        recogniser: that computes them.
        advance: told how many images are done.
        device: of comparisons.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        advance: Advance = lambda _count: None,
        device: str = "cpu",
    ) -> None:
        self.recogniser, self.device = recogniser, device
        self._advance = advance
        self._done: dict[tuple[int, str], Embedded] = {}

    def of(self, images: SampleIndex, modality: str) -> Embedded:
        """Return the embeddings of one modality of a set."""
        key = id(images), modality
        if key not in self._done:
            embed = self.recogniser.embed
            self._done[key] = embed_images(images, modality, embed, self._advance)
        return self._done[key]


def study_verification(
    sets: Mapping[str, SampleIndex], faces: Faces, *, device: str = "cpu", seed: int = 0
) -> tuple[dict[str, VerificationScore], dict[str, Estimate], Gaps]:
    """Compare the images of each set: each modality, and RGB galleries with probes of the others.

    Returns: scores; shares of images that could not be enrolled; what is missing, and why.
    """
    scores: dict[str, VerificationScore] = {}
    enrolments: dict[str, Estimate] = {}
    gaps: Gaps = []
    for name, images in sets.items():
        for modality in images.modalities:
            embedded = faces.of(images, modality)
            enrolments[f"{name}, {modality.upper()}"] = wilson(len(embedded.failures), len(images))
        for label, gallery, probes in _comparisons(images):
            sides = [faces.of(images, m).side() for m in (gallery, probes) if m]
            try:
                found = compare(*sides, device=device, seed=seed)
                scores[f"{name}, {label}"] = score_comparisons(found, seed=seed)
            except ValueError as error:
                gaps.append((f"verification of {name}, {label}", str(error)))
    return scores, enrolments, gaps


def study_dataset(
    images: SampleIndex,
    faces: Faces | None,
    thresholds: Mapping[str, float],
    *,
    name: str,
    real: SampleIndex | None = None,
    features: Features | None = None,
    attributes: Attributes | None = None,
    seed: int = 0,
) -> tuple[DatasetScore, Gaps]:
    """Return what can be said about the people and pairs of one data set.

    Args:
        thresholds: "RGB", "NIR", "RGB against NIR" -> cosine at or above which two images show
            one person; what is absent leaves out what needs it.
        name: of the set, for what is missing.
        real: images whose variety is to be covered (D); None leaves D out.
        features: of a network for image quality, for D.
        attributes: of the samples, as `read_attributes` returns them; None for no such file.
    """
    gaps: Gaps = []
    classes: dict[str, ClassStatistics] = {}
    capacity: dict[str, Capacity] = {}
    agreement = None
    if faces is not None:
        for label, modality, other in _comparisons(images):
            if label not in thresholds:
                gaps.append((f"people of {name}, {label}", "no threshold is known"))
                continue
            threshold = thresholds[label]
            if other is not None:
                agreement = _agreement(images, faces, (modality, other), threshold, seed)
                continue
            found = faces.of(images, modality).enrolled()
            arguments = found.vectors, found.images.identities
            for store, compute in (
                (
                    classes,
                    lambda v, p, t=threshold: class_statistics(
                        v, p, t, device=faces.device, seed=seed
                    ),
                ),
                (capacity, identity_capacity),
            ):
                _try(store, modality, lambda c=compute, a=arguments: c(*a), name, gaps)
    return DatasetScore(
        images=len(images),
        people=images.num_identities,
        classes=classes,
        diversity=_diversity(images, real, features, (name, seed), gaps),
        capacity=capacity,
        agreement=agreement,
        alignment=_alignment(images, (name, seed), gaps),
        entropies=tuple(_entropies(images, attributes, (name, seed), gaps)),
    ), gaps


def read_attributes(images: SampleIndex) -> Attributes | None:
    """Return the attributes of a set's samples from its attributes.json; None without that file.

    Raises: ValueError naming the file where it is damaged or no object.
    """
    if not images.base.exists(ATTRIBUTES_FILE):
        return None
    content = images.base.read_json(ATTRIBUTES_FILE)
    if not isinstance(content, dict):
        raise ValueError(f"{images.base.describe(ATTRIBUTES_FILE)}: expected an object")
    return {key: entry for key, entry in content.items() if isinstance(entry, dict)}


def study_privacy(
    samples: SampleIndex,
    training: SampleIndex,
    heldout: SampleIndex | None,
    faces: Faces,
    thresholds: Mapping[float, float],
    *,
    modality: str = MODALITIES[0].name,
    seed: int = 0,
) -> PrivacyScore:
    """Compare samples with training people, beside held-out people, in one modality."""
    groups = [
        None if images is None else _group(faces.of(images, modality).enrolled())
        for images in (samples, training, heldout)
    ]
    if groups[0] is None or groups[1] is None:
        raise ValueError("privacy needs samples and training images")
    return score_privacy(
        groups[0], groups[1], groups[2], thresholds, device=faces.device, seed=seed
    )


def closest_pairs(
    score: PrivacyScore,
    samples: SampleIndex,
    training: SampleIndex,
    faces: Faces,
    *,
    modality: str = MODALITIES[0].name,
    wanted: int = 12,
) -> list[tuple[int, int, float]]:
    """Return (sample, training image, similarity) of the most similar pairs, one a sample.

    Places count all images of the two sets, those without an embedding included.
    """
    kept = [np.flatnonzero(faces.of(s, modality).is_enrolled) for s in (samples, training)]
    order = np.argsort(-score.nearest.scores, kind="stable")[:wanted]
    return [
        (
            int(kept[0][i]),
            int(kept[1][score.nearest.indices[i]]),
            float(score.nearest.scores[i]),
        )
        for i in order
    ]


def privacy_thresholds(
    given: Mapping[float, float],
    real: SampleIndex,
    faces: Faces,
    modality: str,
    device: str = "cpu",
) -> dict[float, float]:
    """Return FMR -> cosine: as given, or measured; nothing where the set is too small."""
    if given:
        return dict(given)
    try:
        return thresholds_of(real, faces, modality, device=device)
    except ValueError:
        return {}


def thresholds_of(
    images: SampleIndex,
    faces: Faces,
    modality: str = MODALITIES[0].name,
    other: str | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> dict[float, float]:
    """Return FMR -> cosine of a recogniser on a set of real people, as far as it is large enough.

    Args:
        modality: of both images of a comparison, or of the gallery.
        other: of the probes, where it is another one.
    Raises: ValueError where it has no two images of a person, or only one person.
    """
    sides = [faces.of(images, name).side() for name in (modality, other) if name]
    found = compare(*sides, device=device, seed=seed)
    score = score_comparisons(found, levels=(*PRIVACY_LEVELS, 0.01, 0.1), replicates=0, seed=seed)
    usable = {p.level: p.threshold for p in score.points if p.is_supported}
    strict = {level: usable[level] for level in PRIVACY_LEVELS if level in usable}
    return strict or dict(sorted(usable.items())[:1])


def _comparisons(images: SampleIndex) -> Iterator[tuple[str, str, str | None]]:
    """Yield (label, modality of galleries, modality of probes or None for the same)."""
    names = list(images.modalities)
    for name in names:
        yield name.upper(), name, None
    for name in names[1:]:
        yield f"{names[0].upper()} against {name.upper()}", names[0], name


def _agreement(
    images: SampleIndex, faces: Faces, names: tuple[str, str], threshold: float, seed: int
) -> Agreement:
    first, second = (faces.of(images, name) for name in names)
    both = np.flatnonzero(first.is_enrolled & second.is_enrolled)
    people = [images.identities[i] for i in both]
    return identity_agreement(
        first.vectors[both], second.vectors[both], people, threshold, device=faces.device, seed=seed
    )


def _alignment(images: SampleIndex, known: tuple[str, int], gaps: Gaps) -> AlignmentScore | None:
    (name, seed), names = known, list(images.modalities)
    if len(names) < 2:
        gaps.append((f"alignment and agreement of {name}", "it has one modality only"))
        return None
    pairs = (tuple(images.image(modality, i) for modality in names[:2]) for i in range(len(images)))
    try:
        return score_alignment(((a, b) for a, b in pairs), images.identities, seed=seed)
    except ValueError as error:
        gaps.append((f"alignment of {name}", str(error)))
        return None


def _diversity(
    images: SampleIndex,
    real: SampleIndex | None,
    features: Features | None,
    known: tuple[str, int],
    gaps: Gaps,
) -> tuple[str, Estimate] | None:
    name, seed = known
    if real is None or features is None:
        gaps.append((f"diversity D of {name}", "needs --extractor and other, real people"))
        return None
    network, compute = features
    try:
        found = class_diversity(compute(images), images.identities, compute(real), seed=seed)
    except ValueError as error:
        gaps.append((f"diversity D of {name}", str(error)))
        return None
    return network, found


def _entropies(
    images: SampleIndex, attributes: Attributes | None, known: tuple[str, int], gaps: Gaps
) -> list[Any]:
    name, seed = known
    if attributes is None:
        return []
    people = dict(zip(images.stems, images.identities, strict=True))
    try:
        return attribute_entropies(attributes, people, seed=seed)
    except ValueError as error:
        gaps.append((f"attributes of {name}", str(error)))
        return []


def _group(embedded: Embedded) -> Group:
    return Group(vectors=embedded.vectors, people=embedded.images.identities)


def _try(
    store: dict[str, Any], key: str, compute: Callable[[], Any], name: str, gaps: Gaps
) -> None:
    try:
        store[key] = compute()
    except ValueError as error:
        gaps.append((f"people of {name}, {key.upper()}", str(error)))


def choose_thresholds(
    given: Mapping[float, float], real: SampleIndex, faces: Faces, *, device: str = "cpu"
) -> tuple[dict[str, float], str]:
    """Return the cosine from which two images show one person, and how it was chosen.

    Args:
        given: FMR -> cosine of --threshold, for all comparisons; the FMR nearest to 0.001 is taken.
        real: people to measure it on, for each kind of comparison, where none is given.
    Returns: ("RGB", "NIR", "RGB against NIR" -> cosine, as far as the set allows; a sentence).
    """
    if given:
        level, cosine = _nearest_level(given)
        labels = [label for label, *_ in _comparisons(real)]
        return dict.fromkeys(labels, cosine), f"cosine {cosine:g} at FMR {level:g}, as given"
    found, levels = {}, set()
    for label, *modalities in _comparisons(real):
        try:
            measured = thresholds_of(real, faces, *modalities, device=device)
        except ValueError:
            continue
        if measured:
            level, found[label] = _nearest_level(measured)
            levels.add(f"{level:g}")
    origin = f"measured on {real.num_identities} people of {real.name}"
    return found, f"cosine at FMR {', '.join(sorted(levels)) or '-'}, {origin}"


def _nearest_level(thresholds: Mapping[float, float]) -> tuple[float, float]:
    level = min(thresholds, key=lambda fmr: abs(np.log(fmr / IDENTITY_LEVEL)))
    return level, thresholds[level]
