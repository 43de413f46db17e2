"""Writes images of identities in the formats that recognition training reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data import recordio, shards
from data.modalities import MODALITIES
from data.pixels import read_header
from data.storage import link_or_copy
from dnnlib import files
from identities.options import ExportKind

SHARD_SIZE = 5000
Images = Mapping[str, Sequence[Path]]  # of each identity; labels count them, from 0 on


def export_manifest(folder: Path, entries: Sequence[dict[str, Any]], kind: ExportKind) -> None:
    """Export a data set's images to export/KIND/PLACE in it, one a modality.

    What is there already is replaced.

    Args:
        folder: of the data set.
        entries: of its manifest; the samples of an identity stand together.
        kind: of the export.
    """
    writers = {
        ExportKind.IMAGEFOLDER: _link_images,
        ExportKind.RECORDIO: _write_records,
        ExportKind.WEBDATASET: _write_shards,
    }
    for modality in MODALITIES:
        if kind in writers and entries and modality.name in entries[0]["files"]:
            images: dict[str, list[Path]] = {}
            for entry in entries:
                path = folder / entry["files"][modality.name]["name"]
                images.setdefault(f"id_{entry['identity']}", []).append(path)
            writers[kind](folder / "export" / kind.value / modality.folders[0], images)


def _link_images(folder: Path, images: Images) -> None:
    for identity, paths in images.items():
        for path in paths:
            link_or_copy(path, folder / identity / path.name)


def _write_records(folder: Path, images: Images) -> None:
    identities = [
        [(f"{identity}/{path.name}", path) for path in paths] for identity, paths in images.items()
    ]
    recordio.write_identities(folder, identities, read_header(identities[0][0][1]).width)


def _write_shards(folder: Path, images: Images) -> None:
    labelled = [(label, path) for label, paths in enumerate(images.values()) for path in paths]
    for shard, start in enumerate(range(0, len(labelled), SHARD_SIZE)):
        part = enumerate(labelled[start : start + SHARD_SIZE], start)
        with files.atomic_write(folder / f"shard-{shard:06d}.tar") as file:
            shards.write_shard(file, (_as_sample(number, *image) for number, image in part))


def _as_sample(number: int, label: int, path: Path) -> shards.Sample:
    return f"{number:09d}", {path.suffix[1:]: path.read_bytes(), "cls": str(label).encode()}
