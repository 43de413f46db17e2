"""Puts a filter together from files: recogniser, features, thresholds, rules, face check."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.detection import FaceMethod, build_face_check
from biometrics.embedding import Embedder, load_embedder
from biometrics.faces import FaceRules
from biometrics.features import IdentityFeatures, read_identity_features
from biometrics.thresholds import THRESHOLDS_FILE, Thresholds, calibrate, read_thresholds
from data.modalities import NIR, RGB
from dnnlib import config as configs
from dnnlib.files import sha256_file
from identities.audit import Auditor, load_auditor
from identities.filtering import PairScorer, TrainingIdentities, check_features
from identities.options import LIMITS, AuditOptions, FilterOptions
from identities.reports import describe_thresholds, write_thresholds_and_plot
from identities.rules import FilterRules, Preset, Which, published_rules, strict_rules
from metrics.estimates import group_numbers
from metrics.nearest import unit_rows

_MANY = 0.5
_COMPARED = 2000  # identities, at most, that constants are tried on
_RULES_ALONE = ["privacy", "privacy_nir", "training", "is_absolute", "check_nir", "min_agreement"]
_TOLERANCE = 1.5  # of the share of mated pairs that was asked for
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedFilter:
    """A filter and its parts; drops samples that show a training identity, or no face.

    By `identity` and `__call__` it is the interpreter's `SampleFilter`.
    """

    scorer: PairScorer  # of images, with the rules
    features: IdentityFeatures  # of the training identities
    features_sha256: dict[str, str]  # of their files, by modality
    thresholds: Thresholds | None  # that the rules come from; None for published constants
    # File that the thresholds are to be written to; None for those of a file.
    calibrated: Path | None = None
    auditor: Auditor | None = None  # second recogniser, which measures the result; None for none

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""
        return {
            "recogniser": self.scorer.embedder.hash,
            "features_sha256": self.features_sha256,
            "training_images": len(self.scorer.training.stems),
            "training_people": self.scorer.training.num_identities,
            "rules": configs.to_dict(self.scorer.rules),
            "face_check": self.scorer.face_check.describe(),
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides about samples that stand alone, as plain JSON values."""
        scorer, rules = self.scorer, configs.to_dict(self.scorer.rules)
        return {
            "recogniser": scorer.embedder.hash,
            "features": self.features_sha256,
            **{name: rules[name] for name in _RULES_ALONE},
            "face_check": scorer.face_check.describe(),
        }

    def __call__(self, samples: Sequence[Mapping[str, np.ndarray]]) -> list[str | None]:
        """Return the first reason to drop each sample, or None.

        Args:
            samples: images [C, R, R] uint8 0..255 by modality.
        """
        reasons: list[str | None] = []
        for decision in self.scorer.decide(samples)[0]:
            first = decision.reasons[0].value if decision.reasons else None
            reasons.append(first if decision.face is None else f"{first}: {decision.face.value}")
        return reasons

    def card_sections(self, audit: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what a data set's card says of rules, thresholds and audit, by heading.

        Args:
            audit: what `Auditor.report` found; None without an auditor.
        """
        known = (*sorted(LIMITS), "fmr", "measured_fmr", "measured_fnmr", "images", "identities")
        return {
            "Rules": self.describe(),
            "Thresholds": "Constants of the published filter, or given by options."
            if self.thresholds is None
            else {name: getattr(self.thresholds, name) for name in known},
            "Audit": "None: no second recogniser looked at the samples (`--audit-model`)."
            if audit is None
            else {name: value for name, value in audit.items() if name != "highest"},
        }

    def save_calibration(self) -> None:
        """Write thresholds that --calibrate asked for, and their plot."""
        if self.calibrated is not None and self.thresholds is not None:
            write_thresholds_and_plot(self.calibrated, self.thresholds)
            _logger.info("wrote %s and its plot", self.calibrated)


def load_sample_filter(**options: Any) -> LoadedFilter:
    """Return the filter of samples that stand alone, from the fields of FilterOptions."""
    return load_filter(FilterOptions(**options))


def load_filter(options: FilterOptions, audit: AuditOptions | None = None) -> LoadedFilter:
    """Read and check everything; nothing is written.

    Args:
        options: of the filter.
        audit: of the second recogniser; None for none.
    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = options.device
    features, embedder = load_identities(options.training_ids, options.rec_model, device)
    thresholds = _find_thresholds(options, features, embedder)
    if thresholds is not None and thresholds.refused_new_people > _MANY:
        _logger.warning(
            "at a false match rate of %g, %.0f %% of images of new identities would be rejected, "
            "because each is compared with %d images; --calibrate with a lower rate rejects fewer "
            "and misses more training identities:\n%s",
            thresholds.fmr,
            100 * thresholds.refused_new_people,
            thresholds.images,
            describe_thresholds(thresholds),
        )
    rules = _make_rules(options, thresholds)
    if thresholds is None:
        _warn_of_strangers(rules, features)
    elif "same_identity" in options.limits():
        _tell_costs(rules, thresholds)
    hashes = {RGB.name: sha256_file(options.training_ids)}
    training_nir = None
    if options.training_ids_nir is not None:
        features_nir = _read_nir(options.training_ids_nir, embedder)
        rules = replace(rules, check_nir=True)
        if options.privacy is None and thresholds is not None:
            found = calibrate(features_nir, fmr=thresholds.fmr, device=device)
            rules = replace(rules, privacy_nir=found.privacy)
        training_nir = _as_training(features_nir, rules, options.training_ids_nir, device)
        hashes[NIR.name] = sha256_file(options.training_ids_nir)
    if embedder.aligner is not None and options.face_check == FaceMethod.NONE:
        _logger.warning(
            "%s: features of aligned faces; an image in which no face is found is compared as it "
            "is, and may pass: --face-check=mtcnn rejects it",
            options.training_ids,
        )
    face_rules = FaceRules.published() if options.rules is Preset.PUBLISHED else None
    check = build_face_check(options.face_check, rules=face_rules, device=device)
    training = _as_training(features, rules, options.training_ids, device)
    return LoadedFilter(
        scorer=PairScorer(embedder, training, rules, check, training_nir),
        features=features,
        features_sha256=hashes,
        thresholds=thresholds,
        calibrated=None if options.calibrate is None else thresholds_path(options),
        auditor=None if audit is None else load_auditor(audit, options, embedder),
    )


def _tell_costs(rules: FilterRules, thresholds: Thresholds) -> None:
    """Say how many mated pairs of training images the rules would reject: what variation costs."""
    mated = thresholds.mated
    low = mated.share_below(rules.same_identity)
    high = 0.0 if rules.too_similar is None else 1 - mated.share_below(rules.too_similar)
    asked = thresholds.fnmr + 1 - thresholds.diversity
    level = logging.WARNING if low + high > _TOLERANCE * asked else logging.INFO
    _logger.log(
        level,
        "of pairs of images of one training identity, %.1f %% score less than same_identity %.4f "
        "and %.1f %% at least too_similar %s (%.1f %% were asked for): new identities can vary "
        "that much less",
        100 * low,
        rules.same_identity,
        100 * high,
        "none" if rules.too_similar is None else f"{rules.too_similar:.4f}",
        100 * asked,
    )


def _warn_of_strangers(rules: FilterRules, features: IdentityFeatures) -> None:
    """Warn where constants that nobody calibrated would call most strangers known."""
    groups, count = group_numbers(features.identities)
    firsts = [int(row) for row in np.unique(groups, return_index=True)[1][:_COMPARED]]
    vectors = unit_rows(features.vectors[firsts])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1 if not rules.is_absolute else 0)
    nearest = (abs(cosines) if rules.is_absolute else cosines).max(axis=1)
    known = float((nearest >= rules.privacy).mean())
    if count > 1 and known > _MANY:
        _logger.warning(
            "privacy %.3f is not calibrated for this recogniser: %.0f %% of training identities "
            "reach it with another one (median cosine of the nearest: %.3f), so most strangers "
            "would be called known; --calibrate finds a threshold, and `evaluate.py recogniser "
            "--centre` helps where all cosines are high",
            *(rules.privacy, 100 * known, float(np.median(nearest))),
        )


def load_identities(
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


def thresholds_path(options: FilterOptions) -> Path:
    """Return the file that calibrated thresholds are written to."""
    return options.thresholds or options.training_ids.with_name(THRESHOLDS_FILE)


def _find_thresholds(
    options: FilterOptions, features: IdentityFeatures, embedder: Embedder
) -> Thresholds | None:
    device = options.device
    if options.calibrate is not None:
        rate = options.calibrate
        return calibrate(features, fmr=rate, recogniser=embedder.hash, device=device)
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
    thresholds = calibrate(features, recogniser=embedder.hash, device=device)
    _logger.info("calibrated on the training images at a false match rate of %g", thresholds.fmr)
    return thresholds


def _make_rules(options: FilterOptions, thresholds: Thresholds | None) -> FilterRules:
    changes = options.changes()
    if "privacy" in changes:
        changes.setdefault("uniqueness", changes["privacy"])
    if options.rules is not Preset.PUBLISHED:
        if options.rules is Preset.VARIED and thresholds is not None:
            if thresholds.mated_same_identity is None:
                raise ValueError(
                    "--rules=varied: the thresholds lack mated_same_identity; --calibrate again"
                )
            changes.setdefault("same_identity", thresholds.mated_same_identity)
        limits = {name: changes.pop(name, getattr(thresholds, name, None)) for name in LIMITS}
        return replace(strict_rules(**limits), **changes)
    if thresholds is None:
        return replace(published_rules(), **changes)
    rules = published_rules(thresholds.published_same_identity, thresholds.published_too_similar)
    return replace(rules, **changes)


def _read_nir(path: Path, embedder: Embedder) -> IdentityFeatures:
    features = read_identity_features(path)
    check_features(features, path, embedder, "--training-ids-nir")
    if features.info is not None and features.info.modality != NIR.name:
        raise ValueError(f"--training-ids-nir {path}: features of {features.info.modality} images")
    return features


def _as_training(
    features: IdentityFeatures, rules: FilterRules, path: Path, device: str
) -> TrainingIdentities:
    info = features.info
    if rules.training is Which.ALL and info is not None and info.vectors != "all":
        raise ValueError(
            f"--training_ids {path}: holds one vector an identity, but these rules compare every "
            "image; make the features with --all_or_one=all, or take --rules=published"
        )
    return TrainingIdentities(features, rules.training, torch.device(device))
