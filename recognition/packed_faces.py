"""People's images in RecordIO files and WebDataset shards, found without reading the images."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data.modalities import MODALITIES
from data.pixels import image_suffixes
from data.recordio import RecordReader
from recognition.face_places import (
    FaceSample,
    FaceSource,
    ImagePlace,
    RecordPlace,
    SpanPlace,
    fingerprint_of,
    modality_of,
)

Found = dict[str, tuple[int, dict[str, ImagePlace]]]  # key -> person's number, modality -> place


def open_packed(path: Path) -> FaceSource | None:
    """Open a .rec or .tar file, or a folder of them; None where the path is something else.

    Raises: ValueError for a damaged file, labels that are no whole numbers, or labels and people
        that do not agree.
    """
    for opener, pattern in ((_open_records, "*.rec"), (_open_shards, "*.tar")):
        if path.is_file():
            if path.suffix == pattern[1:]:
                return opener(path, {modality_of(path): [path]})
            continue
        files = _by_modality(path, pattern)
        if files:
            return opener(path, files)
    return None


def _by_modality(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Return the files of each modality: in the folder itself, or in VIS and NIR in it."""
    own = sorted(folder.glob(pattern))
    if own:
        return {modality_of(own[0]): own}
    places = {m.name: [folder / name for name in m.folders] for m in MODALITIES}
    found = {m: sorted(f for p in ps for f in p.glob(pattern)) for m, ps in places.items()}
    return {modality: files for modality, files in found.items() if files}


def _open_records(path: Path, files: Mapping[str, Sequence[Path]]) -> FaceSource:
    parts = []
    for modality, paths in files.items():
        if len(paths) > 1:
            raise ValueError(f"{paths[0].parent}: one .rec file is read, got {len(paths)}")
        parts.append(_read_records(paths[0], modality))
    return _joined(path, parts, files)


def _read_records(path: Path, modality: str) -> Found:
    reader = RecordReader(path)
    found: Found = {}
    for number, label in _labels_of(reader, path):
        found[str(number)] = (label, {modality: RecordPlace(reader, path, number)})
    _check_property(path, {label for label, _ in found.values()})
    return found


def _labels_of(reader: RecordReader, path: Path) -> Iterator[tuple[int, int]]:
    """Yield (number, label) of each image; with the records of ranges the images stay unread."""
    numbers = reader.numbers()
    first = reader.read(0) if numbers and numbers[0] == 0 else None
    if first is None or not first.has_list:
        for record in reader.images():
            yield record.number, _whole(record.labels[0], f"{path}: record {record.number}")
        return
    for number in range(int(first.labels[0]), int(first.labels[1])):
        start, stop = (int(value) for value in reader.read(number).labels[:2])
        if start < stop:
            label = _whole(reader.read(start).labels[0], f"{path}: record {start}")
            yield from ((image, label) for image in range(start, stop))


def _check_property(path: Path, labels: set[int]) -> None:
    """Compare labels with the number of people in the file `property`, where there is one."""
    place = path.with_name("property")
    if not place.is_file():
        return
    text = place.read_text(encoding="utf-8", errors="replace").strip()
    first = text.split(",", maxsplit=1)[0]
    if not first.isdecimal():
        raise ValueError(f"{place}: expected PEOPLE,HEIGHT,WIDTH, got {text[:60]!r}")
    people = int(first)
    outside = sorted(label for label in labels if label >= people)
    if outside:
        raise ValueError(f"{path}: label {outside[0]} is outside 0..{people - 1} of {place.name}")
    if len(labels) < people:
        empty = min(set(range(people)) - labels)
        raise ValueError(f"{path}: person {empty} of {people} in {place.name} has no image")


def _open_shards(path: Path, files: Mapping[str, Sequence[Path]]) -> FaceSource:
    parts: list[Found] = []
    for modality, shards in files.items():
        found: Found = {}
        for shard in shards:
            for key, members in _index(shard):
                number = f"{shard.name}/{key}"
                found[number] = (_class_of(shard, key, members), _images_of(members, modality))
                if not found[number][1]:
                    raise ValueError(f"{shard}: sample {key} has no image")
        parts.append(found)
    return _joined(path, parts, files)


def _index(path: Path) -> Iterator[tuple[str, dict[str, SpanPlace]]]:
    """Yield (key, ending -> place) of a shard's samples; see data/shards.py."""
    samples: dict[str, dict[str, SpanPlace]] = {}
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                place = SpanPlace(path, member.name, member.offset_data, member.size)
                samples.setdefault(folder + slash + stem, {})[ending] = place
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a whole tar file: {error}") from error
    yield from samples.items()


def _class_of(path: Path, key: str, members: Mapping[str, SpanPlace]) -> int:
    if "cls" not in members:
        raise ValueError(f"{path}: sample {key} has no person ({key}.cls)")
    text = members["cls"].read().decode("utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise ValueError(f"{path}: {key}.cls must be a whole number from 0 on, got {text[:20]!r}")
    return int(text)


def _images_of(members: Mapping[str, SpanPlace], modality: str) -> dict[str, ImagePlace]:
    """Return modality -> image of endings such as "png" (of the folder's modality) or "nir.png"."""
    names = {m.name for m in MODALITIES}
    images: dict[str, ImagePlace] = {}
    for ending, place in members.items():
        kind, dot, suffix = ending.rpartition(".")
        if f".{suffix.lower()}" in image_suffixes() and (not dot or kind in names):
            images[kind or modality] = place
    return images


def _whole(value: float, where: str) -> int:
    if value < 0 or value != int(value):
        raise ValueError(f"{where}: labels must be whole numbers from 0 on, got {value}")
    return int(value)


def _joined(path: Path, parts: Sequence[Found], files: Mapping[str, Sequence[Path]]) -> FaceSource:
    """Join modalities by their keys; both must name the same people."""
    first = parts[0]
    for other in parts[1:]:
        if {k: label for k, (label, _) in first.items()} != {k: n for k, (n, _) in other.items()}:
            raise ValueError(f"{path}: the files of {' and '.join(files)} hold other people")
    if not first:
        raise ValueError(f"{path}: no images in it")
    width = len(str(max(label for label, _ in first.values())))
    samples = tuple(
        FaceSample(
            person=f"{label:0{width}d}",
            places={m: place for part in parts for m, place in part[key][1].items()},
        )
        for key, (label, _) in first.items()
    )
    sizes = [[file.name, file.stat().st_size] for paths in files.values() for file in paths]
    labels = [[key, label] for key, (label, _) in first.items()]
    return FaceSource(name=path.name, samples=samples, fingerprint=fingerprint_of([sizes, labels]))
