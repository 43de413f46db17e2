"""The condition vectors of identities, from feature files and from data sets of new identities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biometrics.features import mixed_direction, random_direction, read_identity_features
from data.info import SUMMARY
from data.samples import MANIFEST
from dnnlib import files
from metrics.nearest import unit_rows
from networks.snapshot import Snapshot

_LARGEST_SCALE = 1e6  # published ones are 1 to 4


def read_conditions(
    path: Path, identities: Sequence[str], width: int, parents: Path | None = None
) -> np.ndarray:
    """Return a unit vector for each identity.

    Args:
        path: identity_features.json (the mean direction of an identity's images), or the folder of
            a data set of new identities, whose manifest tells how their vectors came about.
        identities: names, as `identity_of` gives them; "id_N" in a data set of new identities.
        width: numbers a vector.
        parents: identity_features.json of the training identities, where new ones were mixed of two
            of them; None where they were drawn at random.
    Returns: [I, E] float32.
    Raises: ValueError for identities without a vector, another width, or an unknown origin.
    """
    known: dict[str, np.ndarray] = _of_manifest(path, width, parents) if path.is_dir() else {}
    if not path.is_dir():
        features = read_identity_features(path)
        for identity, row in zip(features.identities, unit_rows(features.vectors), strict=True):
            known[identity] = known.get(identity, 0) + row
    lacking = [identity for identity in identities if identity not in known]
    if lacking:
        raise ValueError(
            f"{path}: no vector for {len(lacking)} of {len(identities)} identities, such as "
            f"{lacking[0]}"
        )
    rows = np.stack([known[identity] for identity in identities])
    if rows.shape[1] != width:
        raise ValueError(f"{path}: vectors must have {width} numbers, got {rows.shape[1]}")
    return unit_rows(rows)


def condition_scale(path: Path, snapshot: Snapshot) -> float:
    """Return the length that conditions have: of the data set of new identities, else in training.

    Args:
        path: as in `read_conditions`.
        snapshot: conditional.
    Raises: ValueError where the network was trained with features of their own lengths, and `path`
        has no features that tell them.
    """
    record = path / SUMMARY
    if path.is_dir() and record.is_file():
        people = files.read_object(record, identity=dict)["identity"].get("people")
        scale = people.get("scale") if isinstance(people, dict) else None
        if not isinstance(scale, int | float) or not 0 < scale <= _LARGEST_SCALE:
            raise ValueError(f"{record}: the scale of its people must be positive, got {scale!r}")
        return float(scale)
    features = None
    if snapshot.feature_scale is None and path.is_file():
        features = read_identity_features(path).vectors
    return snapshot.new_feature_scale(features)


def _of_manifest(folder: Path, width: int, parents: Path | None) -> dict[str, np.ndarray]:
    path = folder / MANIFEST
    features = None if parents is None else read_identity_features(parents)
    rows = {}
    if features is not None:
        units = unit_rows(features.vectors)
        rows = dict(zip(features.stems, units, strict=True))
    found: dict[str, np.ndarray] = {}
    for entry in files.read_json_lines(path):
        try:
            identity, origin = f"id_{entry['identity']}", entry["origin"]
            if identity not in found:
                found[identity] = _vector_of(width, int(entry["identity"]), origin, rows)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: an entry does not tell how its identity came about ({error}); mixed "
                "identities need the features that they were mixed of: give --parents"
            ) from error
    return found


def _vector_of(
    width: int, identity: int, origin: Mapping[str, Any], rows: Mapping[str, np.ndarray]
) -> np.ndarray:
    if "mixed" in origin:
        first, second = (rows[stem] for stem in origin["mixed"])
        return mixed_direction(first, second, float(origin["phi"]))
    if "name" in origin:  # of a file that the manifest does not know
        raise KeyError(origin["name"])
    return random_direction(width, int(origin["seed"]), identity, int(origin["vector"]))
