"""Indexes of RecordIO files and WebDataset shards, made without reading the images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.modalities import MODALITIES
from data.pixels import image_suffixes
from data.recordio import RecordReader
from data.sample_index import SampleIndex, index_files
from data.shards import ShardReader
from data.storage import Directory, Mounts, Storage

PACKED_SUFFIXES = (".rec", ".tar")
Labels = dict[str, int]  # sample -> number of its identity
Names = dict[str, dict[str, str]]  # modality -> sample -> file name


def open_packed(path: Path) -> SampleIndex | None:
    """Open a .rec or .tar file, or a folder of them; None where the path is something else.

    Raises: FileNotFoundError; ValueError for a damaged file, labels that are no whole numbers, or
        labels and identities that do not agree.
    """
    for read, pattern in ((_read_records, "*.rec"), (_read_shards, "*.tar")):
        if path.is_dir():
            files = _by_modality(path, pattern)
        else:
            files = {_modality_of(path): [path]} if path.suffix == pattern[1:] else {}
        if files:
            parts = {modality: read(found, modality) for modality, found in files.items()}
            return _join(path, parts)
    return None


def _by_modality(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Return the files of each modality: in the folder itself, or in VIS and NIR in it."""
    own = sorted(folder.glob(pattern))
    if own:
        return {_modality_of(own[0]): own}
    folders = {m.name: [folder / name for name in m.folders] for m in MODALITIES}
    found = {m: sorted(f for p in ps for f in p.glob(pattern)) for m, ps in folders.items()}
    return {modality: files for modality, files in found.items() if files}


def _read_records(paths: Sequence[Path], modality: str) -> tuple[Storage, Labels, Names]:
    if len(paths) > 1:
        raise ValueError(f"{paths[0].parent}: one .rec file is read, got {len(paths)}")
    reader = RecordReader(paths[0])
    labels = {str(number): label for number, label in reader.labels()}
    _check_property(paths[0], set(labels.values()))
    return reader, labels, {modality: {key: key for key in labels}}


def _check_property(path: Path, labels: set[int]) -> None:
    """Compare labels with the number of identities in the file `property`, where there is one."""
    stated = path.with_name("property")
    if not stated.is_file():
        return
    text = stated.read_text(encoding="utf-8", errors="replace").strip()
    first = text.split(",", maxsplit=1)[0]
    if not first.isdecimal():
        raise ValueError(f"{stated}: expected IDENTITIES,HEIGHT,WIDTH, got {text[:60]!r}")
    count = int(first)
    if max(labels, default=0) >= count:
        raise ValueError(f"{path}: label {max(labels)} is outside 0..{count - 1} of {stated.name}")
    empty = min(set(range(count)) - labels, default=None)
    if empty is not None:
        raise ValueError(f"{path}: identity {empty} of {count} in {stated.name} has no image")


def _read_shards(paths: Sequence[Path], modality: str) -> tuple[Storage, Labels, Names]:
    reader = ShardReader(paths)
    known = {m.name for m in MODALITIES}
    labels: Labels = {}
    names: Names = {}
    for key, members in reader.samples():
        labels[key] = _label_of(reader, key, members)
        images = []
        for ending, name in members.items():  # "png" of the folder's modality, or "nir.png"
            kind, dot, suffix = ending.rpartition(".")
            if f".{suffix.lower()}" in image_suffixes() and (not dot or kind in known):
                images.append(kind or modality)
                names.setdefault(kind or modality, {})[key] = name
        if not images:
            raise ValueError(f"{reader.describe(key)}: the sample has no image")
    return reader, labels, names


def _label_of(reader: ShardReader, key: str, members: Mapping[str, str]) -> int:
    if "cls" not in members:
        raise ValueError(f"{reader.describe(key)}: the sample has no identity (.cls)")
    text = reader.read(members["cls"]).decode("utf-8", errors="replace").strip()
    if not text.isdecimal():
        where = reader.describe(members["cls"])
        raise ValueError(f"{where} must be a whole number from 0 on, got {text[:20]!r}")
    return int(text)


def _join(path: Path, parts: Mapping[str, tuple[Storage, Labels, Names]]) -> SampleIndex:
    """Join modalities by their keys; all must name the same identities."""
    labels = next(iter(parts.values()))[1]
    if any(other != labels for _, other, _ in parts.values()):
        raise ValueError(f"{path}: the files of {' and '.join(parts)} hold other identities")
    if not labels:
        raise ValueError(f"{path}: no images in it")
    columns: dict[str, dict[str, str]] = {}
    for root, (_, _, names) in parts.items():
        for modality, found in names.items():
            column = columns.setdefault(modality, {})
            column.update({key: f"{root}/{name}" for key, name in found.items()})
    width = len(str(max(labels.values())))
    base = Directory(path if path.is_dir() else path.parent)
    storage = Mounts({root: storage for root, (storage, _, _) in parts.items()})
    identities = tuple(f"{label:0{width}d}" for label in labels.values())
    samples = index_files(base, storage, columns, labels)
    return replace(samples, name=path.name, identities=identities)


def _modality_of(path: Path) -> str:
    """Return the modality whose folder a file lies in; RGB elsewhere."""
    return next((m.name for m in MODALITIES if path.parent.name in m.folders), MODALITIES[0].name)
