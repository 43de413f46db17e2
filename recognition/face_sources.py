"""Images of known people: pair trees and archives, folders of people, our data sets, .rec, .tar."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

from data.grouping import MANIFEST, ImageGroup, group_images
from data.identities import identity_of
from data.modalities import MODALITIES
from data.pairs import open_pairs
from recognition.face_places import FaceSample, FaceSource, FilePlace, PairPlace, fingerprint_of
from recognition.options import LabelKind
from recognition.packed_faces import open_packed
from torch_utils.seeding import generator_for

Item = TypeVar("Item")


def open_faces(path: Path, labels: LabelKind = LabelKind.PEOPLE) -> FaceSource:
    """Find the images of a data set, and whom they show.

    Args:
        path: pairs (folders VIS and NIR, or a zip of them), a folder of new people with its
            manifest, a folder a person, a .rec file, a .tar file, or a folder of one of these
            (train.rec or *.tar, also below VIS and NIR).
        labels: parents needs a manifest that names them.
    Raises: FileNotFoundError; ValueError for a folder without images, a person without images, or
        a damaged index.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such data set")
    if path.is_dir() and (path / MANIFEST).is_file():
        return _open_manifest(path, labels)
    if labels is LabelKind.PARENTS:
        raise ValueError(f"{path}: has no {MANIFEST} that names the parents of mixed people")
    packed = open_packed(path)
    if packed is not None:
        return packed
    if path.is_file() or _has_pair_folders(path):
        return _open_pairs(path)
    return _open_folder(path)


def _has_pair_folders(path: Path) -> bool:
    present = {entry.name for entry in path.iterdir() if entry.is_dir()}
    return all(present & set(modality.folders) for modality in MODALITIES)


def _open_pairs(path: Path) -> FaceSource:
    pairs = open_pairs(path)
    samples = tuple(
        FaceSample(
            person=identity_of(stem),
            places={name: PairPlace(pairs, name, index) for name in pairs.files},
        )
        for index, stem in enumerate(pairs.stems)
    )
    rows = ([s, [pairs.size(m, i) for m in pairs.files]] for i, s in enumerate(pairs.stems))
    return FaceSource(name=pairs.layout.name, samples=samples, fingerprint=fingerprint_of(rows))


def _open_folder(path: Path) -> FaceSource:
    groups = group_images(path)
    _check_empty_folders(path)
    return _source_of(path, groups, [(identity_of(group.name), None, 1.0) for group in groups])


def _open_manifest(path: Path, labels: LabelKind) -> FaceSource:
    groups = group_images(path)
    read = _parents_of if labels is LabelKind.PARENTS else _person_of
    return _source_of(path, groups, [read(path, group) for group in groups])


def _source_of(
    path: Path, groups: Sequence[ImageGroup], people: Sequence[tuple[str, str | None, float]]
) -> FaceSource:
    samples, rows = [], []
    for group, (person, other, share) in zip(groups, people, strict=True):
        places = {m: FilePlace(path / name) for m, name in group.images.items()}
        samples.append(FaceSample(person=person, places=places, other=other, share=share))
        files = [[name, _size_of(path / name)] for name in group.images.values()]
        rows.append([person, other, share, files])
    return FaceSource(name=path.name, samples=tuple(samples), fingerprint=fingerprint_of(rows))


def _size_of(path: Path) -> int:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path.stat().st_size


def _person_of(path: Path, group: ImageGroup) -> tuple[str, str | None, float]:
    identity = (group.entry or {}).get("identity")
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise ValueError(f"{path / MANIFEST}: sample {group.name} names no person (identity)")
    return f"id_{identity}", None, 1.0


def _parents_of(path: Path, group: ImageGroup) -> tuple[str, str | None, float]:
    origin = (group.entry or {}).get("origin")
    mixed = origin.get("mixed") if isinstance(origin, dict) else None
    phi = origin.get("phi") if isinstance(origin, dict) else None
    is_pair = isinstance(mixed, list) and len(mixed) == 2
    if not is_pair or not isinstance(phi, int | float) or not 0 <= phi <= 1:
        raise ValueError(
            f"{path / MANIFEST}: sample {group.name} names no two parents and phi (origin.mixed, "
            "origin.phi); --identity-source=interpolate writes them"
        )
    return identity_of(str(mixed[0])), identity_of(str(mixed[1])), float(phi)


def _check_empty_folders(path: Path) -> None:
    """Refuse the folder of a person in which there is nothing."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not any(file.is_file() for file in entry.rglob("*")):
            raise ValueError(f"{entry}: the folder of a person without images")


def take_part(
    source: FaceSource, people: int | None, samples: int | None, seed: int = 0
) -> FaceSource:
    """Return some people of a source, with some samples of each, as drawn by a seed.

    The people of a smaller number are among those of a larger one, and so are the samples.

    Args:
        source: of images.
        people: how many; None for all.
        samples: most of each person; None for all.
        seed: of the choice.
    Raises: ValueError for more people than there are, or a number below 1.
    """
    if people is None and samples is None:
        return source
    names = sorted({sample.person for sample in source.samples})
    for name, count, most in (("people", people, len(names)), ("samples", samples, None)):
        if count is not None and (count < 1 or (most is not None and count > most)):
            raise ValueError(f"{source.name}: {name} must be 1..{most or 'any'}, got {count}")
    chosen = set(_shuffled(names, seed, "people")[:people])
    places: dict[str, list[int]] = {name: [] for name in chosen}
    for index, sample in enumerate(source.samples):
        if sample.person in chosen:
            places[sample.person].append(index)
    kept = sorted(
        index
        for name, own in places.items()
        for index in _shuffled(own, seed, f"samples of {name}")[:samples]
    )
    return FaceSource(
        name=source.name,
        samples=tuple(source.samples[index] for index in kept),
        fingerprint=fingerprint_of([source.fingerprint, kept]),
    )


def _shuffled(items: Sequence[Item], seed: int, stream: str) -> list[Item]:
    order = torch.randperm(len(items), generator=generator_for(seed, stream))
    return [items[place] for place in order.tolist()]
