"""Features of data sets on disk, so that a second evaluation does not compute them again."""

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dnnlib import downloads, files
from dnnlib.runs import slug
from evaluation.image_features import FeatureSet
from metrics.statistics import Moments

VERSION = 1

Key = Mapping[str, str | int | bool]

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of cached features: beside the downloads, as the environment says."""
    return downloads.download_folder().parent / "metrics"


class FeatureCache:
    """Features by everything that decides them: images, network, view, number and form.

    A damaged entry counts as absent and is written anew.

    Args:
        folder: of the entries; made where absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, name: str, key: Key) -> FeatureSet | None:
        """Return the features that were stored under a key; None without.

        Args:
            name: of the images, a part of the file's name for people.
            key: plain values.
        """
        path = self._path(name, key)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                if str(content["key"]) != _text(key):
                    raise ValueError("stored under another key")
                return _unpack(content)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("%s: damaged, computed anew (%s)", path, " ".join(str(error).split()))
            return None

    def store(self, name: str, key: Key, features: FeatureSet) -> None:
        """Keep features; where that is impossible, say so and go on."""
        path = self._path(name, key)
        try:
            with files.atomic_write(path) as file:
                np.savez(file, key=np.array(_text(key)), **_pack(features))
        except OSError as error:
            _log.warning("%s: not kept (%s)", path, os.strerror(error.errno or 0))

    def _path(self, name: str, key: Key) -> Path:
        digest = hashlib.sha256(_text(key).encode()).hexdigest()[:24]
        return self.folder / f"{slug(name)[:40]}-{slug(str(key.get('name', '')))[:40]}-{digest}.npz"


def _text(key: Key) -> str:
    return json.dumps({**key, "version": VERSION}, sort_keys=True)


def _pack(features: FeatureSet) -> dict[str, np.ndarray]:
    arrays = {"groups": features.groups}
    if features.rows is not None:
        return {**arrays, "rows": features.rows}
    arrays["counts"] = np.array([0 if m is None else m.count for m in features.moments])
    for number, moments in enumerate(features.moments):
        if moments is not None:
            arrays[f"mean{number}"], arrays[f"scatter{number}"] = moments.mean, moments.scatter
    return arrays


def _unpack(content: Mapping[str, np.ndarray]) -> FeatureSet:
    groups = content["groups"]
    if "rows" in content:
        rows = content["rows"]
        if rows.ndim != 2 or len(rows) != len(groups) or rows.dtype != np.float32:
            raise ValueError(f"rows are {rows.dtype} {rows.shape} for {len(groups)} images")
        return FeatureSet(groups, rows)
    counts = [int(count) for count in content["counts"]]
    moments = tuple(
        Moments(count, content[f"mean{number}"], content[f"scatter{number}"]) if count else None
        for number, count in enumerate(counts)
    )
    if sum(counts) != len(groups):
        raise ValueError(f"moments are of {sum(counts)} of {len(groups)} images")
    return FeatureSet(groups, None, moments)
