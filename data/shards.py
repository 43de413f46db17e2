"""WebDataset shards: tar files in which the files of a sample share a name up to the first dot."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from data.storage import Storage

Sample = tuple[str, Mapping[str, bytes]]


def write_shard(file: IO[bytes], samples: Iterable[Sample]) -> None:
    """Write samples as a tar file; equal samples give equal bytes.

    Args:
        file: to write to.
        samples: key without a dot, and the content by ending, such as "rgb.png".
    Raises: ValueError for a key with a dot.
    """
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for key, parts in samples:
            if "." in key.rpartition("/")[2]:
                raise ValueError(f"keys of samples must have no dot, got {key!r}")
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


class ShardReader(Storage):
    """Random access to the members of some shards, whose names begin with that of the shard.

    Args:
        paths: .tar files of one folder.
    Raises: FileNotFoundError; ValueError for a file that is no whole tar file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {path.name: path for path in paths}
        self._spans: dict[str, tuple[int, int]] = {}
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
            try:
                with tarfile.open(path, mode="r:") as archive:
                    for member in filter(tarfile.TarInfo.isfile, archive):
                        span = (member.offset_data, member.size)
                        self._spans[f"{path.name}/{member.name}"] = span
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ValueError(f"{path}: not a whole tar file: {error}") from error

    def describe(self, name: str = "") -> str:
        """Return shard and member."""
        first = next(iter(self._paths.values()))
        return str(first.parent / name) if name else str(first)

    def open(self, name: str) -> BinaryIO:
        """Open a member. Raises: ValueError where the file ends before it."""
        start, size = self._spans[name]
        path = self._paths[name.split("/", maxsplit=1)[0]]
        if start + size > path.stat().st_size:
            raise ValueError(f"{self.describe(name)}: the file ends in it")
        with path.open("rb") as file:
            file.seek(start)
            return io.BytesIO(file.read(size))

    def size(self, name: str) -> int:
        """Return a member's size in bytes."""
        return self._spans[name][1]

    def samples(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each sample's key, with the shard's name, and its members' names by ending."""
        found: dict[str, dict[str, str]] = {}
        for name in self._spans:
            folder, slash, file = name.rpartition("/")
            key, _, ending = file.partition(".")
            found.setdefault(folder + slash + key, {})[ending] = name
        yield from found.items()
