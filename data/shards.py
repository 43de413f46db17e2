"""WebDataset shards: tar files in which the files of a sample share a name up to the first dot."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

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


def read_shard(path: Path) -> Iterator[Sample]:
    """Yield the samples of a shard in their order.

    Raises: FileNotFoundError; ValueError where the file is no whole tar file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such shard")
    key, parts = "", dict[str, bytes]()
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if folder + slash + stem != key and parts:
                    yield key, parts
                    parts = {}
                key = folder + slash + stem
                parts[ending] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a whole tar file: {error}") from error
    if parts:
        yield key, parts
