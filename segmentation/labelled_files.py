"""Finds the samples of labelled data sets: images, class masks, and their uncertainty."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data.apart import NamedSet, check_apart
from data.info import INFO_FILE
from data.masks import MASK_FOLDER
from data.modalities import MODALITIES, Modality
from data.pairs import list_images, match_stems, shorten
from data.storage import Storage, ZipStorage, open_storage
from segmentation.classes import StatedClasses, stated_classes

MANIFEST = "manifest.jsonl"
_MASK = "mask"


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """Where one sample is.

    Attributes:
        stem: its name.
        images: file of each wanted modality, in their order.
        mask: file of the classes.
        uncertainty: file of the map of uncertainty; None without one.
        score: uncertainty of the sample, 0..1 as a share of ln(classes); None where unknown.
    """

    stem: str
    images: tuple[str, ...]
    mask: str
    uncertainty: str | None = None
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelledSource:
    """A labelled data set that was found but not read.

    Attributes:
        storage: that file names are relative to.
        modalities: of the images.
        samples: sorted by name, or in the manifest's order.
        stated: what it says of its classes.
    """

    storage: Storage
    modalities: tuple[Modality, ...]
    samples: tuple[SampleFiles, ...]
    stated: StatedClasses

    def describe(self) -> str:
        """Return how messages show the set."""
        return self.storage.describe()


def wanted_modalities(names: Sequence[str]) -> tuple[Modality, ...]:
    """Return modalities by name, in the order of MODALITIES whatever that of the names."""
    return tuple(modality for modality in MODALITIES if modality.name in names)


def open_source(path: Path, modalities: Sequence[Modality]) -> LabelledSource:
    """Find the samples of a folder or zip archive; only the wanted modalities must be there.

    Known are what the interpreter writes (manifest.jsonl), and images in VIS and NIR with masks of
    the same names in the folder masks.

    Raises: FileNotFoundError; ValueError where the set is neither, is empty, or an image or mask
        is alone. Messages count and name the files.
    """
    storage: Storage = open_storage(path)
    if isinstance(storage, ZipStorage) and len(storage.folders()) == 1:
        storage = storage.enter(storage.folders()[0])
    stated = _stated(storage)
    if storage.exists(MANIFEST):
        samples = _from_manifest(storage, modalities, stated)
    else:
        samples = _from_folders(storage, modalities)
    if not samples:
        raise ValueError(f"{path}: there are no samples in it")
    return LabelledSource(
        storage=storage, modalities=tuple(modalities), samples=tuple(samples), stated=stated
    )


def open_training_sources(
    data: Sequence[Path], measured: Mapping[str, Path], modalities: Sequence[Modality]
) -> tuple[list[LabelledSource], dict[str, LabelledSource]]:
    """Find the samples of all sets.

    Args:
        data: sets that are learned from.
        measured: name of an option without dashes -> set that is measured on.
        modalities: of all sets.
    Raises: FileNotFoundError; ValueError for a set that is learned from twice or measured on as
        well, or one that cannot be read.
    """
    learned: list[LabelledSource] = []
    known: list[NamedSet] = []
    for path in data:
        source = open_source(path, modalities)
        named = _named("--data", path, source)
        check_apart(named, known)
        known.append(named)
        learned.append(source)
    others = {name: open_source(path, modalities) for name, path in measured.items()}
    for name, source in others.items():
        check_apart(_named(f"--{name}", measured[name], source), known)
    return learned, others


def drop_most_uncertain(source: LabelledSource, share: float) -> LabelledSource:
    """Return a set without those samples that have the highest scores, of equal ones the later.

    Args:
        source: with scores.
        share: of the samples, 0 to below 1; their number is rounded down.
    Raises: ValueError where the set has no scores.
    Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3, which removes 10 %.
    """
    if share == 0:
        return source
    scores = [sample.score for sample in source.samples]
    if None in scores:
        raise ValueError(f"--drop-uncertain: {source.describe()} has no scores of uncertainty")
    count = len(scores) - math.floor(len(scores) * share + 1e-9)
    order = np.argsort(np.array(scores, float), kind="stable")[:count]
    return replace(source, samples=tuple(source.samples[k] for k in sorted(order.tolist())))


def _named(option: str, path: Path, source: LabelledSource) -> NamedSet:
    storage, first = source.storage, source.samples[0]
    rows = [[s.stem, *(storage.size(n) for n in (*s.images, s.mask))] for s in source.samples]

    def read_first() -> bytes:
        content = b""
        for name in (*first.images, first.mask):
            with storage.open(name) as file:
                content += file.read()
        return content

    return NamedSet(option=option, path=path, content=json.dumps(rows), first_bytes=read_first)


def _stated(storage: Storage) -> StatedClasses:
    """Return what the record in or above a folder says; splits have theirs above."""
    if storage.exists(INFO_FILE):
        return stated_classes(storage.read_json(INFO_FILE), storage.describe(INFO_FILE))
    parent = Path(storage.describe()).parent
    if isinstance(storage, ZipStorage) or not (parent / INFO_FILE).is_file():
        return StatedClasses()
    above = open_storage(parent)
    return stated_classes(above.read_json(INFO_FILE), above.describe(INFO_FILE))


def _from_manifest(
    storage: Storage, modalities: Sequence[Modality], stated: StatedClasses
) -> list[SampleFiles]:
    where = storage.describe(MANIFEST)
    with storage.open(MANIFEST) as file:
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    samples = []
    for number, content in enumerate(lines, start=1):
        line = f"{where}: line {number}"
        entry = _parsed(content, line)
        files = _names(entry, storage, line)
        missing = [kind for kind in (*(m.name for m in modalities), "label") if kind not in files]
        if missing:
            raise ValueError(f"{line}: the sample has no {' and no '.join(missing)}")
        samples.append(
            SampleFiles(
                stem=str(entry.get("index", number)),
                images=tuple(files[modality.name] for modality in modalities),
                mask=files["label"],
                uncertainty=files.get("uncertainty"),
                score=_score(entry.get("score"), stated, line),
            )
        )
    return samples


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error


def _names(entry: Any, storage: Storage, where: str) -> dict[str, str]:
    content = entry.get("files") if isinstance(entry, dict) else None
    if not isinstance(content, dict):
        raise ValueError(f'{where}: expected an object with "files"')
    names = {}
    for kind, file in content.items():
        name = file.get("name") if isinstance(file, dict) else None
        if not isinstance(name, str) or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{where}: {kind} must name a file of the set, got {name!r}")
        names[kind] = name
    absent = [name for kind, name in names.items() if kind != "vis" and not storage.exists(name)]
    if absent:
        raise ValueError(f"{where}: no such file: {shorten(absent)}")
    return names


def _score(value: Any, stated: StatedClasses, where: str) -> float | None:
    """Return a score in nats as a share of the largest possible one."""
    if value is None or stated.count is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: score must be a number, got {value!r}")
    return min(max(value / math.log(max(2, stated.count)), 0.0), 1.0)


def _from_folders(storage: Storage, modalities: Sequence[Modality]) -> list[SampleFiles]:
    present = storage.folders()
    places: dict[str, str] = {}
    for modality in modalities:
        found = [folder for folder in modality.folders if folder in present]
        if len(found) != 1:
            wanted = " or ".join(modality.folders)
            raise ValueError(
                f"{storage.describe()}: expected one folder {wanted} for {modality.name} images "
                f"(or a {MANIFEST}); folders in it: {', '.join(present) or 'none'}"
            )
        places[modality.name] = found[0]
    if MASK_FOLDER not in present:
        raise ValueError(f"{storage.describe()}: expected a folder {MASK_FOLDER} with class masks")
    places[_MASK] = MASK_FOLDER
    names = {kind: list_images(storage.enter(folder)) for kind, folder in places.items()}
    matching = match_stems(names)
    for kind, files in matching.alone.items():
        if files:
            others = " and ".join(folder for k, folder in places.items() if k != kind)
            raise ValueError(
                f"{storage.describe()}: {len(files)} file(s) of {places[kind]} without one of the "
                f"same name in {others}: {shorten(files)}"
            )
    for kind, stem, files in matching.duplicates:
        raise ValueError(f"{storage.describe(places[kind])}: {stem!r} is there twice: {files}")
    return [
        SampleFiles(
            stem=stem,
            images=tuple(f"{places[m.name]}/{files[m.name]}" for m in modalities),
            mask=f"{MASK_FOLDER}/{files[_MASK]}",
        )
        for stem, files in matching.pairs.items()
    ]
