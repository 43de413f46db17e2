"""Pairs of images to compare: LFW's pairs.txt, CSV lists, and `.bin` archives of faces.

A `.bin` is a pickle of (encoded images, whether images 2 i and 2 i + 1 show one identity); nothing
in it is executed.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from biometrics.alignment import template_offset
from biometrics.comparisons import Comparisons, exact_comparisons
from biometrics.detection import FaceDetector
from biometrics.embedding import Embedder, Embeddings
from data.modalities import MODALITIES
from data.pairs import stem_of
from data.pixels import decode_image, image_suffixes
from data.sample_index import SampleIndex
from metrics.estimates import Floats
from metrics.folds import pair_distances
from torch_utils.safe_pickle import load_pickle

PAIR_FIELDS = ("first", "second", "same")
_LOOKED_AT = 24  # images of an archive, at least, whose alignment is checked
_LARGEST_OFFSET = 0.06
_ANSWERS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images (modality, stem) to compare, and whether they show one identity."""

    first: tuple[str, str]
    second: tuple[str, str]
    is_same: bool


def read_pair_list(path: Path) -> list[Pair]:
    """Read a list of pairs.

    A .csv file has the columns first, second and same (1 or 0); images are named by their stem, or
    by a file name such as NIR/0001_000.png that says the modality too. Anything else is read as
    LFW's pairs.txt: "name 1 2" are images name/name_0001 and name/name_0002, "name 1 other 3" are
    of two identities, and first lines with other numbers of fields are skipped.

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


def check_pairs(pairs: list[Pair], samples: SampleIndex, path: Path) -> None:
    """Check that a set has a list's images. Raises: ValueError; also for pairs of one kind only."""
    stems = set(samples.stems)
    for number, pair in enumerate(pairs, start=1):
        for modality, stem in (pair.first, pair.second):
            if modality not in samples.modalities or stem not in stems:
                raise ValueError(f"{path}, pair {number}: no {modality} image {stem!r}")
    if len({pair.is_same for pair in pairs}) < 2:
        raise ValueError(f"{path}: pairs must be of both kinds")


def compare_pairs(pairs: list[Pair], embedded: Mapping[str, Embeddings]) -> Comparisons:
    """Return the scores of a checked list's pairs, failed where an image has no embedding.

    Args:
        pairs: after `check_pairs`.
        embedded: modality -> embeddings of a data set.
    """
    rows = {name: {s: i for i, s in enumerate(e.samples.stems)} for name, e in embedded.items()}
    scores, identities = [], []
    for pair in pairs:
        sides = [(embedded[m], rows[m][stem]) for m, stem in (pair.first, pair.second)]
        first, second = (side.vectors[row].astype(np.float64) for side, row in sides)
        score = float(first @ second)
        scores.append(score if np.isfinite(score) else -np.inf)
        identities.append([side.samples.identities[row] for side, row in sides])
    is_same = [pair.is_same for pair in pairs]
    return exact_comparisons(np.array(scores), is_same, *zip(*identities, strict=True))


def _from_csv(text: str, path: Path) -> list[Pair]:
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in PAIR_FIELDS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: the first line must name {', '.join(PAIR_FIELDS)}")
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
    has_ending = path.suffix.lower() in image_suffixes()
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
                images = [(name, first), (name, second)]
            case [name, first, other, second] if first.isdigit() and second.isdigit():
                images = [(name, first), (other, second)]
            case fields if not fields or (not pairs and len(fields) < 3):
                continue
            case _:
                raise ValueError(
                    f"{path}, line {number}: expected 'name n n' or 'name n name n', got "
                    f"{line[:80]!r}"
                )
        first, second = ((MODALITIES[0].name, f"{n}/{n}_{int(k):04d}") for n, k in images)
        pairs.append(Pair(first=first, second=second, is_same=images[0][0] == images[1][0]))
    return pairs


# Archives


def read_pair_archive(path: Path) -> tuple[list[bytes], np.ndarray]:
    """Read a `.bin` of pairs without executing anything in it.

    Images may be bytes of Python 2 or 3, or NumPy arrays of bytes.

    Returns: encoded images, two a pair; [P] bool, whether a pair shows one identity.
    Raises: FileNotFoundError; ValueError naming the file for anything else than such a pickle.
    """
    try:
        return _archive_of(load_pickle(path))
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not a .bin of pairs: {reason}") from error


def describe_misalignment(
    images: Sequence[bytes], where: str, detector: FaceDetector | None
) -> str | None:
    """Return why the images of an archive look as if they were not aligned, None for no sign of it.

    Args:
        images: encoded; some of them are looked at.
        where: the file, for messages.
        detector: of faces; without one only sizes are compared.
    Raises: ValueError naming an image that is damaged.
    """
    chosen = range(0, len(images), max(len(images) // _LOOKED_AT, 1))
    decoded = [decode_image(images[i], 3, f"{where}, image {i}").transpose(1, 2, 0) for i in chosen]
    sizes = {image.shape[1::-1] for image in decoded}
    width, height = min(sizes)
    if len(sizes) > 1 or width != height:
        shown = ", ".join(f"{w}x{h}" for w, h in sorted(sizes)[:3])
        return f"aligned faces are squares of one size, these are {shown}"
    offset = None if detector is None else template_offset(decoded, detector)
    if offset is None or offset < _LARGEST_OFFSET:
        return None
    return f"eyes, nose and mouth are {offset:.0%} of the width away from ArcFace's template"


def embed_distances(images: Sequence[bytes], embedder: Embedder, where: str) -> Floats:
    """Return the squared distance of the two embeddings of each pair: [P] float64.

    Args:
        images: encoded, two a pair.
        where: the file, for messages.
    Raises: ValueError naming an image that is damaged.
    """
    decoded = (
        torch.from_numpy(decode_image(content, 3, f"{where}, image {number}"))
        for number, content in enumerate(images)
    )
    vectors = embedder.embed(decoded).numpy()
    return pair_distances(vectors[0::2], vectors[1::2])


def _archive_of(content: Any) -> tuple[list[bytes], np.ndarray]:
    match content:
        case [list() | tuple() as images, list() | tuple() | np.ndarray() as answers]:
            if not images or len(images) != 2 * len(answers):
                raise ValueError(f"it has {len(images)} images and {len(answers)} answers")
            return [*map(_image_of, images)], np.array([*map(_answer_of, answers)])
    raise ValueError("it is not two lists, of images and of answers")


def _image_of(image: Any) -> bytes:
    match image:
        case bytes():
            return image
        case str():
            return image.encode("latin-1")  # Python 2 wrote it
        case np.ndarray(dtype=np.dtype(kind="u" | "i", itemsize=1), ndim=1):
            return image.tobytes()
    raise ValueError("an image is neither bytes nor a NumPy array of bytes")


def _answer_of(answer: Any) -> bool:
    if isinstance(answer, bool | np.bool_ | int | np.integer) and answer in (0, 1):
        return bool(answer)
    raise ValueError("an answer is neither true nor false")
