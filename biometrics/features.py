"""identity_features.json: the embeddings that condition a generator and that a filter compares.

The file itself is as published, {file name: [numbers]}. Beside it lies INFO_FILE with the
recogniser's hash and preprocessing, so that embeddings of two recognisers are never compared.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from biometrics.embedding import Preprocessing
from data.labels import stem_of_key
from data.numbers import rows_of
from data.pixels import image_suffixes
from data.sample_index import MODALITY_FOLDERS, identity_of
from dnnlib.config import from_dict, to_dict
from dnnlib.files import atomic_write, check_place, read_json, sha256_file, write_json
from dnnlib.runs import first_difference
from metrics.nearest import unit_rows
from torch_utils.seeding import generator_for

INFO_FILE = "identity_features.info.json"


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """Where features come from.

    Attributes:
        recogniser: `Recogniser.hash`.
        features: SHA-256 of the features' file.
        preprocessing: of the images.
        vectors: "all" (one per image), or of an identity "one" (an image's) or "mean".
        modality: of the images, "rgb" or "nir".
        count: of the images.
    """

    recogniser: str
    preprocessing: Preprocessing
    vectors: str
    modality: str
    count: int
    features: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityFeatures:
    """Features of some images, [N, E] float32 as they stand in the file.

    `stems` are the images' names without ending; `info` is None for files of the published script.
    """

    stems: tuple[str, ...]
    vectors: np.ndarray
    info: FeatureInfo | None = None

    @property
    def recogniser(self) -> str | None:
        """Hash of the recogniser, None where it is not recorded."""
        return self.info.recogniser if self.info else None

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """The identity of each row."""
        return tuple(identity_of(stem) for stem in self.stems)

    def check_recogniser(self, recogniser: str, where: str) -> None:
        """Refuse features of another recogniser. Raises: ValueError."""
        if self.recogniser is not None and self.recogniser != recogniser:
            raise ValueError(
                f"{where}: features of the recogniser {self.recogniser[:12]}, but the given one "
                f"is {recogniser[:12]}; embeddings of two recognisers cannot be compared"
            )


def write_identity_features(path: Path, features: IdentityFeatures, file_names: list[str]) -> None:
    """Write features and, beside them, where they come from. Both appear whole or not at all.

    Raises: ValueError where `features` has no info.
    """
    if features.info is None:
        raise ValueError("features without their recogniser are not written")
    digest = hashlib.sha256()
    with atomic_write(path) as file:
        for piece in _as_json(features.vectors, file_names):
            file.write(piece)
            digest.update(piece)
        # First the info: without it features count as published, beside others it is refused.
        info = {**to_dict(features.info), "features": digest.hexdigest()}
        write_json(_info_path(path), info)


def check_writable(path: Path) -> None:
    """Refuse a path where features cannot be written. Raises: OSError."""
    check_place(path)
    check_place(_info_path(path))


def check_replaceable(path: Path, wanted: FeatureInfo, note: str = "") -> None:
    """Refuse to write over other features, on which a network may be conditioned.

    Those of the same recogniser, made alike and of no fewer images, take the place of the old.

    Args:
        path: of the features' file, which may be absent.
        wanted: of the new features; `count` may be the most that there can be.
        note: put at the message's end.
    Raises: ValueError naming what differs and the options that go on.
    """
    if not path.is_file():
        return
    made = _stated_info(path)
    if made is None:
        raise ValueError(
            f"{path}: holds features of unknown origin, there is no {_info_path(path).name} beside "
            "it; --fresh replaces them, --out=FILE writes elsewhere"
        )
    old, new = ({**to_dict(info), "count": None, "features": None} for info in (made, wanted))
    if old != new:
        difference = first_difference(old, new)
    elif made.count > wanted.count:
        difference = f"fewer images {made.count} -> {wanted.count}"
    else:
        return
    has_other_images = made.modality != wanted.modality
    other = path.with_name(f"{path.stem}_{wanted.modality}.json") if has_other_images else "FILE"
    raise ValueError(
        f"{path}: holds other features ({difference}); --fresh replaces them, "
        f"--out={other} writes elsewhere{note}"
    )


def read_identity_features(path: Path) -> IdentityFeatures:
    """Read a file of identity features, ours or published.

    Raises: FileNotFoundError; ValueError, naming the file, for unreadable JSON (with its line),
        for vectors that are empty, of unequal widths, zero or not finite, and where the info
        beside the file belongs to other features.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected an object {{file name: [numbers]}} that is not empty")
    suffixes = image_suffixes()
    stems = tuple(stem_of_key(name, MODALITY_FOLDERS, suffixes) for name in content)
    if len(set(stems)) < len(stems):
        repeated, _ = Counter(stems).most_common(1)[0]
        raise ValueError(f"{path}: two entries for {repeated!r}")
    vectors = rows_of(content, str(path))
    is_zero = ~vectors.any(axis=1)
    if is_zero.any():
        raise ValueError(
            f"{path}: {[*content][int(is_zero.argmax())]!r}: features must not be zero"
        )
    info = _stated_info(path)
    if info is not None and info.features != sha256_file(path):
        raise ValueError(
            f"{_info_path(path)}: written for other features than those in {path.name}"
        )
    return IdentityFeatures(stems=stems, vectors=vectors, info=info)


def _as_json(vectors: np.ndarray, names: Sequence[str]) -> Iterator[bytes]:
    """Yield {name: [numbers]}, with the shortest digits that are each float32."""
    for row, (name, vector) in enumerate(zip(names, vectors, strict=True)):
        numbers = json.dumps([float(str(value)) for value in vector], allow_nan=False)
        yield f"{', ' if row else '{'}{json.dumps(name)}: {numbers}".encode()
    yield b"}\n"


def _info_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.info.json")


def _stated_info(path: Path) -> FeatureInfo | None:
    """Return what the info file says, whether or not the features are those that it is for."""
    place = _info_path(path)
    return from_dict(FeatureInfo, read_json(place), str(place)) if place.exists() else None


def random_direction(width: int, seed: int, identity: int, attempt: int) -> np.ndarray:
    """Return the feature vector of a new, random identity: [width] float32.

    It has length 1, and is a function of (seed, identity, attempt).
    """
    random = generator_for(seed, "recognition", "identity", identity, attempt)
    numbers = torch.randn([1, width], generator=random, dtype=torch.float64)
    return unit_rows(numbers.numpy())[0]


def mixed_direction(first: np.ndarray, second: np.ndarray, phi: float) -> np.ndarray:
    """Return the feature vector of a mixture of two identities, of length 1: [width] float32.

    Args:
        first, second: [width] float32 of length 1.
        phi: share of the first, 0..1.
    """
    return unit_rows((phi * first + (1 - phi) * second)[None])[0]
