"""Writes images of identities in the formats that recognition training reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import recordio, shards
from data.modalities import MODALITIES
from data.pixels import read_header
from data.storage import link_or_copy
from dnnlib import files
from identities.options import ExportKind

SHARD_SIZE = 5000


@dataclass(frozen=True)
class IdentityImage:
    """An image of an identity.

    Attributes:
        label: the identity's number, from 0 on without gaps.
        identity: the identity's name.
        name: of the image, in the export.
        path: of the file.
    """

    label: int
    identity: str
    name: str
    path: Path


def images_of(
    folder: Path, entries: Sequence[dict[str, Any]], modality: str
) -> list[IdentityImage]:
    """Return a manifest's images of a modality; identities are numbered as they come."""
    labels: dict[int, int] = {}
    images = []
    for entry in entries:
        identity = entry["identity"]
        label = labels.setdefault(identity, len(labels))
        path = folder / entry["files"][modality]["name"]
        images.append(IdentityImage(label, f"id_{identity}", path.name, path))
    return images


def export_manifest(folder: Path, entries: Sequence[dict[str, Any]], kind: ExportKind) -> None:
    """Export a data set's images to export/KIND/PLACE in it, one a modality.

    What is there already is replaced.
    """
    for modality in MODALITIES:
        if entries and modality.name in entries[0]["files"]:
            target = folder / "export" / kind.value / modality.folders[0]
            images = images_of(folder, entries, modality.name)
            if kind is ExportKind.IMAGEFOLDER:
                for image in images:
                    link_or_copy(image.path, target / image.identity / image.name)
            elif kind is ExportKind.RECORDIO:
                _write_records(target, images)
            elif kind is ExportKind.WEBDATASET:
                _write_shards(target, images)


def _write_records(folder: Path, images: Sequence[IdentityImage]) -> None:
    identities: list[list[tuple[str, Path]]] = [[] for _ in range(images[-1].label + 1)]
    for image in images:
        identities[image.label].append((f"{image.identity}/{image.name}", image.path))
    recordio.write_identities(folder, identities, read_header(images[0].path).width)


def _write_shards(folder: Path, images: Sequence[IdentityImage]) -> None:
    for number, start in enumerate(range(0, len(images), SHARD_SIZE)):
        part = images[start : start + SHARD_SIZE]
        with files.atomic_write(folder / f"shard-{number:06d}.tar") as file:
            shards.write_shard(file, (_as_sample(start + i, image) for i, image in enumerate(part)))


def _as_sample(number: int, image: IdentityImage) -> shards.Sample:
    content = {image.path.suffix[1:]: image.path.read_bytes(), "cls": str(image.label).encode()}
    return f"{number:09d}", content
