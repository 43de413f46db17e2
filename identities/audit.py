"""Looks at a filtered data set with a second recogniser.

A filter cannot prove itself with the recogniser that it filters by: what that one does not see, it
lets pass. The audit changes nothing, it reports.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.embedding import Embedder, load_embedder
from biometrics.extraction import extract_features
from biometrics.features import IdentityFeatures, read_identity_features
from biometrics.thresholds import DEFAULT_FMR, calibrate
from data.modalities import MODALITIES, RGB
from data.pairs import open_pairs
from data.pixels import decode_image
from identities.filtering import TrainingPeople, check_features
from identities.rules import Which
from identities.summary import describe_scores

_BATCH = 64
_NAMED = 20
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Auditor:
    """A second recogniser that knows the training people.

    Attributes:
        embedder: the recogniser.
        people: training people, by its features.
        privacy: its threshold, calibrated on these features; None where they are too few.
        fmr: false match rate of that.
    """

    embedder: Embedder
    people: TrainingPeople
    privacy: float | None
    fmr: float = DEFAULT_FMR

    def report(self, folder: Path, names: Sequence[str]) -> dict[str, Any]:
        """Compare images with all training people.

        Args:
            folder: of the data set.
            names: of RGB images in it.
        Returns: plain JSON values: distribution of the highest cosines, and how many of them reach
            the threshold, the highest ones by name.
        """
        scores, nearest = self._nearest(folder, names)
        order = np.argsort(-scores, kind="stable")[:_NAMED]
        report: dict[str, Any] = {
            "recogniser": self.embedder.hash,
            "threshold": self.privacy,
            "false_match_rate": self.fmr,
            "training": describe_scores(scores.tolist()),
            "highest": [
                {
                    "image": names[row],
                    "score": round(float(scores[row]), 6),
                    "training_image": self.people.stems[nearest[row]],
                }
                for row in order
            ],
        }
        if self.privacy is not None:
            above = int((scores >= self.privacy).sum())
            report["at_or_above"] = above
            report["share_at_or_above"] = round(above / max(len(scores), 1), 6)
        return report

    def _nearest(self, folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        scores, indices = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            images = (torch.from_numpy(decode_image(folder / name, 3)) for name in batch)
            found = self.people.nearest(self.embedder.embed(images).numpy(), is_absolute=False)
            scores.append(found.scores)
            indices.append(found.indices)
        return np.concatenate(scores), np.concatenate(indices)


def load_auditor(
    model: Path, features: Path | None, training_ids: Path, *, device: str, other_than: str
) -> Auditor:
    """Read the second recogniser and find the training people's features by it.

    Args:
        model: its weights.
        features: identity_features.json that it made; None embeds the images beside
            `training_ids`, those in VIS.
        training_ids: features of the recogniser that filters.
        device: of recogniser and comparisons.
        other_than: SHA-256 of the recogniser that filters.
    Raises: FileNotFoundError; ValueError, naming option and file.
    """
    known = None if features is None else read_identity_features(features)
    flip = known is not None and known.info is not None and known.info.preprocessing.flip
    embedder = load_embedder(model, device=device, flip=flip)
    if embedder.hash == other_than:
        raise ValueError(f"--audit-model {model}: is --rec-model itself, which proves nothing")
    if known is None:
        known = _embed_training_images(training_ids, embedder)
    else:
        assert features is not None, "known features come from a file"
        check_features(known, features, embedder, "--audit-features")
    people = TrainingPeople(known, Which.ALL, torch.device(device))
    try:
        privacy: float | None = calibrate(known, recogniser=embedder.hash, device=device).privacy
    except ValueError as error:
        _logger.warning("audit without a threshold: %s", error)
        privacy = None
    return Auditor(embedder, people, privacy)


def rgb_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the first modality's images of a manifest's entries."""
    order = [modality.name for modality in MODALITIES]
    return [
        min(e["files"].items(), key=lambda item: order.index(item[0]))[1]["name"] for e in entries
    ]


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
