"""Lists of pairs to compare: LFW's pairs.txt, and CSV files."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from biometrics.comparisons import ExactComparisons
from data.modalities import MODALITIES
from data.pairs import stem_of
from evaluation.embeddings import Embedded

_FIELDS = ("first", "second", "same")
_ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images to compare.

    Attributes:
        first, second: (modality, stem).
        is_same: whether they show one person.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    is_same: bool


def read_pair_list(path: Path) -> list[Pair]:
    """Read a list of pairs.

    A .csv file has the columns first, second and same (1 or 0); images are named by their stem, or
    by a file name such as NIR/0001_000.png that says the modality too. Anything else is read as
    LFW's pairs.txt: "name 1 2" are images name/name_0001 and name/name_0002, "name 1 other 3" are
    of two people, and first lines with other numbers of fields are skipped.

    Raises: FileNotFoundError; ValueError naming file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start})") from error
    pairs = _from_csv(text, path) if path.suffix.lower() == ".csv" else _from_lfw(text, path)
    if not pairs:
        raise ValueError(f"{path}: no pairs in it")
    return pairs


def compare_pairs(
    pairs: list[Pair], embedded: Mapping[str, Embedded], where: str
) -> ExactComparisons:
    """Return the scores of a list's pairs, failed where an image has no embedding.

    Args:
        embedded: modality -> embeddings of a data set.
        where: the list, for messages.
    Raises: ValueError for images that the set does not have, or pairs of one kind only.
    """
    places = {name: {s: i for i, s in enumerate(e.images.stems)} for name, e in embedded.items()}
    scores: dict[bool, list[float]] = {True: [], False: []}
    people: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for number, pair in enumerate(pairs, start=1):
        rows, names = [], []
        for modality, stem in (pair.first, pair.second):
            if modality not in places or stem not in places[modality]:
                raise ValueError(f"{where}, pair {number}: no {modality} image {stem!r}")
            place = places[modality][stem]
            rows.append(embedded[modality].vectors[place].astype(np.float64))
            names.append(embedded[modality].images.identities[place])
        score = float(rows[0] @ rows[1])
        scores[pair.is_same].append(score if np.isfinite(score) else -np.inf)
        people[pair.is_same].append((names[0], names[1]))
    if not scores[True] or not scores[False]:
        raise ValueError(f"{where}: pairs must be of both kinds")
    first, second = zip(*people[False], strict=True)
    return ExactComparisons(
        np.array(scores[True]),
        [name for name, _ in people[True]],
        np.array(scores[False]),
        (first, second),
    )


def _from_csv(text: str, path: Path) -> list[Pair]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in _FIELDS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: the first line must name {', '.join(_FIELDS)}")
    pairs = []
    try:
        for row in reader:
            answer = _ANSWERS.get((row["same"] or "").strip().lower())
            if answer is None or not row["first"] or not row["second"]:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected two images and same = 1 or 0"
                )
            pairs.append(
                Pair(first=_image(row["first"]), second=_image(row["second"]), is_same=answer)
            )
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return pairs


def _image(name: str) -> tuple[str, str]:
    """Return modality and stem of an image's name."""
    path = PurePosixPath(name.strip())
    has_ending = path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif")
    parts = PurePosixPath(stem_of(str(path)) if has_ending else str(path)).parts
    for modality in MODALITIES:
        if parts[0] in modality.folders and len(parts) > 1:
            return modality.name, "/".join(parts[1:])
    return MODALITIES[0].name, "/".join(parts)


def _from_lfw(text: str, path: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        match line.split():
            case [name, first, second] if first.isdigit() and second.isdigit():
                people = [(name, first), (name, second)]
            case [name, first, other, second] if first.isdigit() and second.isdigit():
                people = [(name, first), (other, second)]
            case fields if not fields or (not pairs and len(fields) < 3):
                continue
            case _:
                raise ValueError(
                    f"{path}, line {number}: expected 'name n n' or 'name n name n', got "
                    f"{line[:80]!r}"
                )
        images = [(MODALITIES[0].name, f"{n}/{n}_{int(k):04d}") for n, k in people]
        is_same = people[0][0] == people[1][0]
        pairs.append(Pair(first=images[0], second=images[1], is_same=is_same))
    return pairs
