"""The labelled sets that a training is given: learned from, and measured on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.apart import NamedSet, check_apart
from data.modalities import Modality
from segmentation.labelled_files import LabelledSource, open_source


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
    judged = {name: open_source(path, modalities) for name, path in measured.items()}
    for name, source in judged.items():
        check_apart(_named(f"--{name}", measured[name], source), known)
    return learned, judged


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
