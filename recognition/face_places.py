"""Samples of people, and where the bytes of their images are: file, pairs, .rec or .tar."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.modalities import MODALITIES, RGB
from data.pairs import PairSource
from data.recordio import RecordReader


class ImagePlace(Protocol):
    """The bytes of an image file; can be read from several threads and processes."""

    def read(self) -> bytes:
        """Return them."""

    def describe(self) -> str:
        """Return how messages show the image."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file of its own."""

    path: Path

    def read(self) -> bytes:
        """Return the file's bytes. Raises: FileNotFoundError."""
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file")
        return self.path.read_bytes()

    def describe(self) -> str:
        """Return the path."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PairPlace:
    """An image of a data set of pairs, which may be an archive."""

    source: PairSource
    modality: str
    index: int

    def read(self) -> bytes:
        """Return the file's bytes."""
        with self.source.open(self.modality, self.index) as file:
            return file.read()

    def describe(self) -> str:
        """Return folder or archive, and name."""
        return self.source.describe(self.modality, self.index)


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A record of a .rec file."""

    reader: RecordReader
    path: Path
    number: int

    def read(self) -> bytes:
        """Return the record's image. Raises: ValueError for a damaged record."""
        return self.reader.read(self.number).content

    def describe(self) -> str:
        """Return file and number."""
        return f"{self.path}: record {self.number}"


@dataclass(frozen=True, slots=True)
class SpanPlace:
    """A stretch of a file, such as a member of a tar file."""

    path: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the stretch's bytes. Raises: ValueError where the file ends before."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ValueError(f"{self.describe()}: the file ends in it")
        return content

    def describe(self) -> str:
        """Return file and name in it."""
        return f"{self.path}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceSample:
    """The images of one moment of a person.

    Attributes:
        person: name.
        places: modality -> where its image is.
        other: name of the second person where the image shows a mixture; None for one person.
        share: weight of `person`; `other` has the rest.
    """

    person: str
    places: Mapping[str, ImagePlace]
    other: str | None = None
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class FaceSource:
    """Images of known people.

    Attributes:
        name: of the folder or file.
        samples: all of them, in a fixed order.
        fingerprint: 64 hex digits that other names, people or file sizes change.
    """

    name: str
    samples: tuple[FaceSample, ...]
    fingerprint: str


def fingerprint_of(rows: Iterable[Any]) -> str:
    """Return the hash of plain JSON values."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def modality_of(path: Path) -> str:
    """Return the modality whose folder a packed file lies in; RGB elsewhere."""
    for modality in MODALITIES:
        if path.parent.name in modality.folders:
            return modality.name
    return RGB.name
