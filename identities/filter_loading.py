"""Puts a filter together from files: recogniser, features, thresholds, rules, face check."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.detection import FaceMethod, build_face_check
from biometrics.embedding import Embedder, load_embedder
from biometrics.faces import FaceRules
from biometrics.features import IdentityFeatures, read_identity_features
from biometrics.thresholds import (
    SCORE_EDGES,
    THRESHOLDS_FILE,
    Thresholds,
    calibrate,
    read_thresholds,
    write_thresholds,
)
from data.modalities import NIR, RGB
from data.plots import plot_histograms, to_pixels
from data.sheets import save_image
from dnnlib import config as configs
from dnnlib.files import sha256_file
from identities import rules as rule_sets
from identities.filtering import PairScorer, PeopleFilter, TrainingPeople, check_features
from identities.options import LIMITS, FilterOptions
from identities.rules import FilterRules, Preset, Which

_MANY = 0.5
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedFilter:
    """A filter and its parts.

    Attributes:
        scorer: of images, with the rules.
        features: of the training people.
        features_sha256: of their files, by modality.
        thresholds: that the rules come from; None for published constants.
    """

    scorer: PairScorer
    features: IdentityFeatures
    features_sha256: dict[str, str]
    thresholds: Thresholds | None

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""
        return {
            "recogniser": self.scorer.embedder.hash,
            "features_sha256": self.features_sha256,
            "training_images": len(self.scorer.people.stems),
            "training_people": self.scorer.people.people,
            "rules": configs.to_dict(self.scorer.rules),
            "face_check": self.scorer.face_check.describe(),
        }

    def as_sample_filter(self) -> PeopleFilter:
        """Return the filter of samples that stand alone."""
        return PeopleFilter(self.scorer, self.features_sha256)


def load_sample_filter(**options: Any) -> PeopleFilter:
    """Return the filter of samples that stand alone, from the fields of FilterOptions."""
    return load_filter(FilterOptions(**options)).as_sample_filter()


def load_filter(options: FilterOptions) -> LoadedFilter:
    """Read and check everything.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    features, embedder = load_people(options.training_ids, options.rec_model, options.device)
    if options.calibrate is not None:
        thresholds: Thresholds | None = calibrate(
            features, fmr=options.calibrate, recogniser=embedder.hash, device=options.device
        )
    else:
        thresholds = _find_thresholds(options, features, embedder)
    if thresholds is not None:
        _warn_of_refusals(thresholds)
    rules = _make_rules(options, thresholds)
    _check_completeness(features, rules, options.training_ids)
    device = torch.device(options.device)
    people = TrainingPeople(features, rules.training, device)
    hashes = {RGB.name: sha256_file(options.training_ids)}
    people_nir = None
    if options.training_ids_nir is not None:
        features_nir = _read_nir(options.training_ids_nir, embedder)
        _check_completeness(features_nir, rules, options.training_ids_nir)
        is_given = "privacy" in options.changes()
        rules = _with_nir(rules, features_nir, None if is_given else thresholds, options.device)
        people_nir = TrainingPeople(features_nir, rules.training, device)
        hashes[NIR.name] = sha256_file(options.training_ids_nir)
    if embedder.aligner is not None and options.face_check == FaceMethod.NONE:
        _logger.warning(
            "%s: features of aligned faces; an image in which no face is found is compared as it "
            "is, and may pass: --face-check=mtcnn refuses it",
            options.training_ids,
        )
    is_published = options.rules is Preset.PUBLISHED
    check = build_face_check(
        options.face_check,
        rules=FaceRules.published() if is_published else None,
        device=options.device,
    )
    return LoadedFilter(
        scorer=PairScorer(embedder, people, rules, check, people_nir),
        features=features,
        features_sha256=hashes,
        thresholds=thresholds,
    )


def load_people(
    training_ids: Path, rec_model: Path, device: str
) -> tuple[IdentityFeatures, Embedder]:
    """Return features and their recogniser, with the preprocessing that the features record."""
    features = read_identity_features(training_ids)
    made = features.info.preprocessing if features.info is not None else None
    flip, align = (made.flip, made.align) if made is not None else (False, FaceMethod.NONE)
    embedder = load_embedder(rec_model, device=device, flip=flip, align=align)
    check_features(features, training_ids, embedder, "--training_ids")
    if features.recogniser is None:
        _logger.warning(
            "%s does not say which recogniser made it; that it was --rec_model is taken on trust",
            training_ids,
        )
    return features, embedder


def save_thresholds(options: FilterOptions, thresholds: Thresholds) -> None:
    """Write thresholds and their plot, by default beside the features."""
    path = options.thresholds or options.training_ids.with_name(THRESHOLDS_FILE)
    write_thresholds(path, thresholds)
    save_image(path.with_suffix(".png"), draw_thresholds(thresholds))
    _logger.info("wrote %s and its plot", path)


def describe_thresholds(thresholds: Thresholds) -> str:
    """Return thresholds in a few lines, with what other rates would give."""
    lines = [
        f"privacy {thresholds.privacy:.4f}, same identity {thresholds.same_identity:.4f}, "
        f"too similar {thresholds.too_similar:.4f} (from {thresholds.non_mated.number} comparisons "
        f"of two people, {thresholds.mated.number} of one)",
        f"{'FMR':>8}{'privacy':>10}{'FNMR':>10}{'new people refused':>21}"
        f"{'training people missed':>25}",
    ]
    lines += [
        f"{point.fmr:>8.0e}{point.privacy:>10.4f}{point.fnmr:>10.1%}"
        f"{point.refused_new_people:>21.1%}{point.missed_training_people:>25.1%}"
        for point in thresholds.choices
    ]
    return "\n".join(lines)


def _warn_of_refusals(thresholds: Thresholds) -> None:
    if thresholds.refused_new_people > _MANY:
        _logger.warning(
            "at a false match rate of %g, %.0f %% of images of new people would be refused, "
            "because each is compared with %d images; --calibrate with a lower rate refuses fewer "
            "and misses more training people:\n%s",
            thresholds.fmr,
            100 * thresholds.refused_new_people,
            thresholds.images,
            describe_thresholds(thresholds),
        )


def training_counts(thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Return histograms of the training images' own scores, by kind of comparison."""
    return {
        "two training people": thresholds.non_mated.counts,
        "one training person": thresholds.mated.counts,
    }


def plot_scores(
    title: str, counts: Mapping[str, np.ndarray], limits: Mapping[str, float]
) -> np.ndarray:
    """Return a plot of scores and of the limits that they are held against: [3, H, W] uint8."""
    marks = {f"{name} {score:.3f}": score for name, score in limits.items()}
    return to_pixels(
        plot_histograms(
            counts, SCORE_EDGES, title=title, x_label="cosine similarity", thresholds=marks
        )
    )


def draw_thresholds(thresholds: Thresholds) -> np.ndarray:
    """Return a plot of the training images' scores and the thresholds: [3, H, W] uint8."""
    limits = {
        "privacy": thresholds.privacy,
        "same identity": thresholds.same_identity,
        "too similar": thresholds.too_similar,
    }
    title = (
        f"{thresholds.images} images of {thresholds.identities} people, "
        f"false match rate {thresholds.fmr:g}"
    )
    return plot_scores(title, training_counts(thresholds), limits)


def _find_thresholds(
    options: FilterOptions, features: IdentityFeatures, embedder: Embedder
) -> Thresholds | None:
    if options.thresholds is not None:
        return read_thresholds(options.thresholds, embedder.hash)
    if options.rules is Preset.PUBLISHED or options.changes().keys() >= options.limits():
        return None
    beside = options.training_ids.with_name(THRESHOLDS_FILE)
    if beside.is_file():
        thresholds = read_thresholds(beside, embedder.hash)
        if thresholds.features and thresholds.features != sha256_file(options.training_ids):
            raise ValueError(
                f"{beside}: calibrated on other features than {options.training_ids.name} has now; "
                "calibrate again with --calibrate"
            )
        return thresholds
    thresholds = calibrate(features, recogniser=embedder.hash, device=options.device)
    _logger.info("calibrated on the training images at a false match rate of %g", thresholds.fmr)
    return thresholds


def _make_rules(options: FilterOptions, thresholds: Thresholds | None) -> FilterRules:
    changes = options.changes()
    if "privacy" in changes:
        changes.setdefault("uniqueness", changes["privacy"])
    if options.rules is Preset.STRICT:
        found = {} if thresholds is None else {name: getattr(thresholds, name) for name in LIMITS}
        limits = {name: changes.pop(name, found.get(name)) for name in LIMITS}
        return replace(rule_sets.strict_rules(**limits), **changes)
    if thresholds is None:
        return replace(rule_sets.published_rules(), **changes)
    rules = rule_sets.published_rules(
        thresholds.published_same_identity, thresholds.published_too_similar
    )
    return replace(rules, **changes)


def _read_nir(path: Path, embedder: Embedder) -> IdentityFeatures:
    features = read_identity_features(path)
    check_features(features, path, embedder, "--training-ids-nir")
    if features.info is not None and features.info.modality != NIR.name:
        raise ValueError(f"--training-ids-nir {path}: features of {features.info.modality} images")
    return features


def _with_nir(
    rules: FilterRules, features: IdentityFeatures, thresholds: Thresholds | None, device: str
) -> FilterRules:
    """Return rules that check NIR images, too, with a threshold of their own where one is due."""
    if thresholds is None:
        return replace(rules, check_nir=True)
    found = calibrate(features, fmr=thresholds.fmr, device=device)
    return replace(rules, check_nir=True, privacy_nir=found.privacy)


def _check_completeness(features: IdentityFeatures, rules: FilterRules, path: Path) -> None:
    info = features.info
    if rules.training is Which.ALL and info is not None and info.vectors == "one":
        raise ValueError(
            f"--training_ids {path}: holds one vector a person, but these rules compare every "
            "image; make the features with --all_or_one=all, or take --rules=published"
        )
