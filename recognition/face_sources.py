"""Data sets of faces, and whom each sample shows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from data.modalities import MODALITIES
from data.sample_index import SampleIndex, describe_unnamed, hash_rows, identity_of
from data.samples import MANIFEST, open_samples
from recognition.options import LabelKind
from torch_utils.seeding import generator_for

_log = logging.getLogger(__name__)
Item = TypeVar("Item")
Shown = tuple[tuple[str, float], ...]  # identities and their shares, which sum to 1


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSource:
    """Samples of known identities."""

    samples: SampleIndex  # their files
    shown: tuple[Shown, ...]  # whom each sample shows
    fingerprint: str  # 64 hex digits that other samples or identities change


def open_faces(path: Path, labels: LabelKind = LabelKind.PEOPLE) -> FaceSource:
    """Find the images of a data set, and whom they show.

    Args:
        path: anything that `data.samples.open_samples` opens.
        labels: parents needs a manifest that names them.
    Raises: FileNotFoundError; ValueError for a folder without images, an identity without images,
        or a damaged index.
    """
    has_pairs = path.is_dir() and all(
        any((path / folder).is_dir() for folder in modality.folders) for modality in MODALITIES
    )
    samples = open_samples(path, is_complete=has_pairs or path.is_file())
    if samples.entries:
        shown = tuple(_shown_by(samples, index, labels) for index in range(len(samples)))
    elif labels is LabelKind.PARENTS:
        raise ValueError(f"{path}: has no {MANIFEST} that names the parents of mixed identities")
    else:
        known = {name: ((name, 1.0),) for name in samples.identities}  # one object an identity
        shown = tuple(known[name] for name in samples.identities)
        unnamed = describe_unnamed(samples.stems, samples.identities)
        if unnamed:
            _log.warning("%s: %s", path, unnamed)
        if path.is_dir():
            _check_empty_folders(path)
    fingerprint = hash_rows([samples.fingerprint(), labels.value])
    return FaceSource(samples=samples, shown=shown, fingerprint=fingerprint)


def take_part(source: FaceSource, identities: int | None, samples: int | None) -> FaceSource:
    """Return some random identities of a source, with some random samples of each.

    The identities of a smaller number are among those of a larger one, and so are the samples.

    Args:
        source: of images.
        identities: how many; None for all.
        samples: most of each identity; None for all.
    Raises: ValueError for more identities than there are, or a number below 1.
    """
    if identities is None and samples is None:
        return source
    found: dict[str, list[int]] = {}
    for index, shown in enumerate(source.shown):
        found.setdefault(shown[0][0], []).append(index)
    for name, count, most in (("identities", identities, len(found)), ("samples", samples, None)):
        if count is not None and (count < 1 or (most is not None and count > most)):
            where = source.samples.name
            raise ValueError(f"{where}: {name} must be 1..{most or 'any'}, got {count}")
    kept = sorted(
        index
        for name in _shuffled(sorted(found), "people")[:identities]
        for index in _shuffled(found[name], f"samples of {name}")[:samples]
    )
    return FaceSource(
        samples=source.samples.select(kept),
        shown=tuple(source.shown[index] for index in kept),
        fingerprint=hash_rows([source.fingerprint, kept]),
    )


def _shown_by(samples: SampleIndex, index: int, labels: LabelKind) -> Shown:
    """Return whom a sample of a manifest shows."""
    entry: Mapping[str, Any] = samples.entries[index]
    where = f"{samples.base.describe(MANIFEST)}: sample {samples.stems[index]}"
    if labels is LabelKind.PEOPLE:
        if type(entry.get("identity")) is not int:
            raise ValueError(f"{where} names no identity")
        return ((samples.identities[index], 1.0),)
    origin = entry.get("origin")
    mixed = origin.get("mixed") if isinstance(origin, dict) else None
    phi = origin.get("phi") if isinstance(origin, dict) else None
    is_pair = isinstance(mixed, list) and len(mixed) == 2
    if not is_pair or not isinstance(phi, int | float) or not 0 <= phi <= 1:
        raise ValueError(
            f"{where} names no two parents and phi (origin.mixed, origin.phi); "
            "--identity-source=interpolate writes them"
        )
    first, second = (identity_of(str(parent)) for parent in mixed)
    return ((first, float(phi)), (second, 1 - float(phi)))


def _check_empty_folders(path: Path) -> None:
    """Refuse the folder of an identity in which there is nothing."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not any(file.is_file() for file in entry.rglob("*")):
            raise ValueError(f"{entry}: the folder of an identity without images")


def _shuffled(items: Sequence[Item], stream: str) -> list[Item]:
    order = torch.randperm(len(items), generator=generator_for(0, stream))
    return [items[index] for index in order.tolist()]
