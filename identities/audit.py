"""Compares a filtered data set with the training identities by a second recogniser.

A filter cannot prove itself with the recogniser that it filters by: what that one does not see, it
lets pass. The audit changes nothing, it reports.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.embedding import Embedder, are_independent, load_embedder
from biometrics.extraction import extract_features
from biometrics.features import IdentityFeatures, read_identity_features
from biometrics.thresholds import DEFAULT_FMR, calibrate
from data.modalities import RGB
from data.pairs import open_pairs
from data.pixels import decode_image
from identities.filtering import TrainingIdentities, check_features
from identities.options import AuditOptions, FilterOptions
from identities.reports import describe_scores
from identities.rules import Which
from metrics import NotMeasuredError

_NAMED = 20
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Auditor:
    """A second recogniser that knows the training identities."""

    embedder: Embedder
    training: TrainingIdentities  # identities, by its features
    # Threshold at DEFAULT_FMR, calibrated on these features; None where they are too few.
    privacy: float | None

    def report(self, folder: Path, names: Sequence[str]) -> dict[str, Any]:
        """Compare images with all training identities.

        Args:
            folder: of the data set.
            names: of RGB images in it.
        Returns: plain JSON values: distribution of the highest cosines, and how many of them reach
            the threshold, the highest ones by name.
        """
        images = (torch.from_numpy(decode_image(folder / name, 3)) for name in names)
        found = self.training.nearest(self.embedder.embed(images).numpy(), is_absolute=False)
        order = np.argsort(-found.scores, kind="stable")[:_NAMED]
        report: dict[str, Any] = {
            "recogniser": self.embedder.hash,
            "threshold": self.privacy,
            "false_match_rate": DEFAULT_FMR,
            "training": describe_scores(found.scores.tolist()),
            "highest": [
                {
                    "image": names[row],
                    "score": round(float(found.scores[row]), 6),
                    "training_image": self.training.stems[found.indices[row]],
                }
                for row in order
            ],
        }
        if self.privacy is not None:
            above = int((found.scores >= self.privacy).sum())
            report["at_or_above"] = above
            report["share_at_or_above"] = round(above / max(len(names), 1), 6)
        return report


def load_auditor(
    audit: AuditOptions, options: FilterOptions, other_than: Embedder
) -> Auditor | None:
    """Read the second recogniser and find the training identities' features by it.

    Args:
        audit: what to read; without a model there is no audit.
        options: of the filter, for the training identities and the device.
        other_than: the recogniser that filters.
    Raises: FileNotFoundError; ValueError, naming option and file.
    """
    model, path, device = audit.audit_model, audit.audit_features, options.device
    if model is None:
        return None
    known = None if path is None else read_identity_features(path)
    flip = known is not None and known.info is not None and known.info.preprocessing.flip
    embedder = load_embedder(model, device=device, flip=flip)
    if not are_independent(embedder, other_than):
        raise ValueError(f"--audit-model {model}: is --rec-model itself, which proves nothing")
    if known is None or path is None:
        known = _embed_training_images(options.training_ids, embedder)
    else:
        check_features(known, path, embedder, "--audit-features")
    training = TrainingIdentities(known, Which.ALL, torch.device(device))
    try:
        privacy: float | None = calibrate(known, recogniser=embedder.hash, device=device).privacy
    except NotMeasuredError as error:
        _logger.warning("audit without a threshold: %s", error)
        privacy = None
    return Auditor(embedder, training, privacy)


def _embed_training_images(training_ids: Path, embedder: Embedder) -> IdentityFeatures:
    try:
        source = open_pairs(training_ids.parent)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"--audit-model needs the training images beside {training_ids}, or their features by "
            f"it as --audit-features: {error}"
        ) from error
    known = set(read_identity_features(training_ids).stems)
    chosen = source.select([i for i, stem in enumerate(source.stems) if stem in known])
    if len(chosen) < len(known):
        raise ValueError(
            f"--audit-model: {len(known) - len(chosen)} images of {training_ids} are not beside it"
        )
    return extract_features(chosen, embedder, modality=RGB.name).features
