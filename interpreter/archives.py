"""Packs a labelled data set into zip files or WebDataset shards; equal content, equal bytes."""

import json
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from data.shards import Sample, write_shard
from dnnlib import files

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


class Archive(StrEnum):
    """What a data set is packed into, beside its folder.

    ZIP: the folder's names. WEBDATASET: tar files with INDEX.rgb.png, INDEX.label.png, INDEX.json.
    """

    NONE = "none"
    ZIP = "zip"
    WEBDATASET = "webdataset"


def write_archive(
    folder: Path, entries: list[dict[str, Any]], archive: Archive, shard_size: int
) -> list[Path]:
    """Write shards of `shard_size` samples beside the files; nothing for Archive.NONE.

    Args:
        folder: of the data set.
        entries: of the manifest, in order.
        archive: kind.
        shard_size: samples a shard.
    Returns: the shards.
    """
    if archive is Archive.NONE:
        return []
    ending, write = (".zip", _write_zip) if archive is Archive.ZIP else (".tar", _write_tar)
    paths = []
    for number, start in enumerate(range(0, len(entries), shard_size)):
        path = folder / f"shard-{number:06d}{ending}"
        with files.atomic_write(path) as file:
            write(file, folder, entries[start : start + shard_size])
        paths.append(path)
    return paths


def _write_zip(file: IO[bytes], folder: Path, entries: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("manifest.jsonl", _ZIP_DATE), lines)
        for entry in entries:
            for written in entry["files"].values():
                data = (folder / written["name"]).read_bytes()
                archive.writestr(zipfile.ZipInfo(written["name"], _ZIP_DATE), data)


def _write_tar(file: IO[bytes], folder: Path, entries: list[dict[str, Any]]) -> None:
    write_shard(file, (_as_sample(folder, entry) for entry in entries))


def _as_sample(folder: Path, entry: dict[str, Any]) -> Sample:
    parts = {
        f"{kind}.png": (folder / written["name"]).read_bytes()
        for kind, written in entry["files"].items()
    }
    return f"{entry['index']:09d}", {**parts, "json": json.dumps(entry).encode()}
