"""RecordIO files of recognition training (.rec, .idx, .lst), written and read without MXNet.

A record is the magic number, a length word whose upper 3 bits say whether it is whole or a part,
the data, and zeros up to a multiple of 4. Where the data holds the magic number at a multiple of 4,
the record is split there and the number omitted. An image record's data is a header (flag, label,
id, id2), `flag` further labels, and the bytes of a PNG or JPEG file.
Source: the layout of dmlc-core's recordio.h and of MXNet's IRHeader; the records 0 and n + 1, ...
with ranges are those that insightface's training reads.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO

from data.storage import Storage
from dnnlib import files

_MAGIC = struct.pack("<I", 0xCED7230A)
_WORD = struct.Struct("<I")
_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_WHOLE, _START, _MIDDLE, _END = range(4)


@dataclass(frozen=True)
class Record:
    """A record with its header."""

    number: int  # id, and key in the .idx file
    labels: tuple[float, ...]  # one number, or several, which `flag` counts
    content: bytes = b""  # of an image file; empty for records of ranges
    has_list: bool = False  # labels are stored as a list even where there is one

    def pack(self) -> bytes:
        """Return header and content."""
        if len(self.labels) == 1 and not self.has_list:
            return _HEADER.pack(0, self.labels[0], self.number, 0) + self.content
        head = _HEADER.pack(len(self.labels), 0.0, self.number, 0)
        return head + struct.pack(f"<{len(self.labels)}f", *self.labels) + self.content

    @classmethod
    def unpack(cls, data: bytes, where: str) -> "Record":
        """Return what `pack` packed. Raises: ValueError naming `where`."""
        if len(data) < _HEADER.size:
            raise ValueError(f"{where}: a record of {len(data)} bytes has no header")
        flag, label, number, _ = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if flag == 0:
            return cls(number, (label,), body)
        if len(body) < 4 * flag:
            raise ValueError(f"{where}: a record of {len(data)} bytes cannot have {flag} labels")
        return cls(number, struct.unpack_from(f"<{flag}f", body), body[4 * flag :], has_list=True)


def write_identities(
    folder: Path, identities: Sequence[Sequence[tuple[str, Path]]], side: int
) -> None:
    """Write train.rec, train.idx, train.lst and property as insightface's training reads them.

    Args:
        folder: to write to.
        identities: of each label the images: name in the .lst file, path of the PNG or JPEG file.
        side: of the images in pixels, for `property`.
    """
    images = [(label, *image) for label, found in enumerate(identities) for image in found]
    total = len(images)
    with (
        files.atomic_write(folder / "train.rec") as rec,
        files.atomic_write(folder / "train.idx", "w") as idx,
    ):
        first = Record(0, (total + 1, total + 1 + len(identities)), has_list=True)
        write_record(rec, idx, first)
        for number, (label, _, path) in enumerate(images, start=1):
            write_record(rec, idx, Record(number, (label,), path.read_bytes()))
        start = 1
        for label, found in enumerate(identities):
            span = (start, start + len(found))
            write_record(rec, idx, Record(total + 1 + label, span, has_list=True))
            start += len(found)
    with files.atomic_write(folder / "train.lst", "w") as lst:
        lst.writelines(f"{n}\t{label}\t{name}\n" for n, (label, name, _) in enumerate(images, 1))
    with files.atomic_write(folder / "property", "w") as file:
        file.write(f"{len(identities)},{side},{side}\n")


def write_record(rec: IO[bytes], idx: IO[str], record: Record) -> None:
    """Append a record and its line of the index."""
    idx.write(f"{record.number}\t{rec.tell()}\n")
    data = record.pack()
    parts = _split(data)
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        kind = (_WHOLE if is_last else _START) if index == 0 else (_END if is_last else _MIDDLE)
        rec.write(_MAGIC + _WORD.pack(kind << _LENGTH_BITS | len(part)))
        rec.write(part + b"\0" * (-len(part) % 4))


class RecordReader(Storage):
    """Random access to the records of a .rec file with its .idx file beside it.

    As a storage, it has the images of its records under their numbers.

    Args:
        path: .rec file.
    Raises: FileNotFoundError; ValueError where the index has a line that is no two numbers.
    """

    def __init__(self, path: Path) -> None:
        index = path.with_suffix(".idx")
        for file in (path, index):
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file")
        self.path = path
        self._starts: dict[int, int] = {}
        lines = index.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if len(words) != 2 or not all(word.isdecimal() for word in words):
                raise ValueError(f"{index}: line {number} must be two numbers, got {line[:60]!r}")
            self._starts[int(words[0])] = int(words[1])
        bounds = pairwise(sorted({*self._starts.values(), path.stat().st_size}))
        self._sizes = {start: end - start for start, end in bounds}

    def describe(self, name: str = "") -> str:
        """Return file and record."""
        return f"{self.path}: record {name}" if name else str(self.path)

    def open(self, name: str) -> BinaryIO:
        """Open a record's image. Raises: ValueError for a damaged record."""
        return io.BytesIO(self.record(int(name)).content)

    def size(self, name: str) -> int:
        """Return the size of a record in bytes, with its header."""
        return self._sizes.get(self._starts[int(name)], 0)

    def record(self, number: int) -> Record:
        """Read a record. Raises: ValueError naming file and record where it is damaged."""
        where = self.describe(str(number))
        if number not in self._starts:
            raise ValueError(f"{where}: not in the index")
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            return Record.unpack(_read_data(file, where), where)

    def labels(self) -> Iterator[tuple[int, int]]:
        """Yield number and label of each image; with the records of ranges no image is read.

        Raises: ValueError where a label is no whole number from 0 on.
        """
        numbers = list(self._starts)
        first = self.record(0) if numbers and numbers[0] == 0 else None
        if first is None or not first.has_list:
            for number in numbers:
                yield number, self._label(number)
            return
        for number in range(int(first.labels[0]), int(first.labels[1])):
            start, stop = (int(value) for value in self.record(number).labels[:2])
            if start < stop:
                label = self._label(start)
                yield from ((image, label) for image in range(start, stop))

    def _label(self, number: int) -> int:
        label = self.record(number).labels[0]
        if label < 0 or label != int(label):
            where = self.describe(str(number))
            raise ValueError(f"{where}: labels must be whole numbers from 0 on, got {label}")
        return int(label)


def _split(data: bytes) -> list[bytes]:
    """Split data where the magic number stands at a multiple of 4; it is omitted."""
    parts, start, position = [], 0, -1
    while (position := data.find(_MAGIC, position + 1)) >= 0:
        if position % 4 == 0:
            parts.append(data[start:position])
            start = position + 4
    return [*parts, data[start:]]


def _read_data(file: IO[bytes], where: str) -> bytes:
    data = b""
    while True:
        head = file.read(8)
        if len(head) < 8 or head[:4] != _MAGIC:
            raise ValueError(f"{where}: no record begins at the position that the index names")
        (word,) = _WORD.unpack_from(head, 4)
        kind, length = word >> _LENGTH_BITS, word & ((1 << _LENGTH_BITS) - 1)
        part = file.read(length)
        if len(part) < length:
            raise ValueError(f"{where}: the file ends in it")
        file.read(-length % 4)
        data += part
        if kind in (_WHOLE, _END):
            return data
        data += _MAGIC
