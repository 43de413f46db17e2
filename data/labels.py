"""Labels of pairs: identity features or classes, read beside the images and keyed by file name.

`identity_features.json` holds {file name: [numbers]}; `dataset.json` holds {"labels": [[file
name, class number or [numbers]], ...]} or {"labels": null}. A file name may come with or without
ending, subfolder and the folder of its modality.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from data import pixels
from data.modalities import MODALITIES
from data.numbers import rows_of
from data.sample_index import MODALITY_FOLDERS, SampleIndex, shorten
from data.storage import Directory, Folder

IDENTITY_FILE = "identity_features.json"
CLASS_FILE = "dataset.json"

_MAX_CLASSES = 65536  # a one-hot matrix of more is surely a mistaken identity number
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The labels of one file, as they stand in it."""

    file: str  # shown in messages
    kind: str  # IDENTITY_FILE or CLASS_FILE
    values: Mapping[str, Any]  # file name without ending and modality folder -> label


def has_identity_features(samples: SampleIndex) -> bool:
    """Return whether the data set has the folders VIS and NIR and an identity_features.json."""
    names = [samples.image_folders[m.name].name for m in MODALITIES]
    return names == [m.folders[0] for m in MODALITIES] and takes_identity_features(samples)


def takes_identity_features(samples: SampleIndex) -> bool:
    """Return whether the labels of the data set are identity features, not classes."""
    return find_labels_file(samples, IDENTITY_FILE) is not None


def read_label_tables(samples: SampleIndex) -> list[LabelTable]:
    """Read all label files of a data set of pairs; identity features come first.

    Raises: ValueError where a file is no JSON or of another form.
    """
    tables = []
    for kind, entries_of in ((IDENTITY_FILE, _identity_entries), (CLASS_FILE, _class_entries)):
        found = find_labels_file(samples, kind)
        if found is None:
            continue
        folder, name = found
        file = folder.describe(name)
        entries = entries_of(folder.read_json(name), file)
        if entries is not None:
            values = _by_stem(entries, samples, file)
            tables.append(LabelTable(file=file, kind=kind, values=values))
    return tables


def load_labels(samples: SampleIndex, feature_scale: float | None = None) -> np.ndarray:
    """Return the labels of all pairs of a data set.

    Where both files exist, identity features are taken.

    Args:
        samples: the pairs.
        feature_scale: length that identity features get; None leaves them as they are. Classes
            have none.
    Returns: [N, c_dim] float32; class numbers become one-hot rows, c_dim is the largest plus 1.
    Raises: ValueError where there are no labels, or a label is missing, of another length than
        the others, not finite or not a number. Messages name the label file and the image.
    """
    tables = read_label_tables(samples)
    if not tables:
        raise ValueError(
            f"{samples.base.describe()}: labels were asked for, but there is neither "
            f"{IDENTITY_FILE} nor a {CLASS_FILE} with labels"
        )
    _log.info("labels from %s", tables[0].file)
    labels = find_labels(tables[0], samples.stems)
    missing = [stem for stem in samples.stems if stem not in labels]
    if missing:
        raise ValueError(
            f"{tables[0].file}: no label for {len(missing)} of {len(samples)} images: "
            f"{shorten(missing)}"
        )
    if isinstance(next(iter(labels.values())), list):
        scale = feature_scale if tables[0].kind == IDENTITY_FILE else None
        return rows_of(labels, tables[0].file, scale)
    classes = [_checked_class(label, stem, tables[0].file) for stem, label in labels.items()]
    return (np.array(classes)[:, None] == np.arange(max(classes) + 1)).astype(np.float32)


def find_labels(table: LabelTable, stems: Sequence[str]) -> dict[str, Any]:
    """Return {stem: label} for the stems that have one.

    A label without subfolder serves where no other stem has the same last part.
    """
    last = {stem: PurePosixPath(stem).name for stem in stems}
    counts = Counter(last.values())
    is_own = {stem: stem in table.values or counts[last[stem]] > 1 for stem in stems}
    keys = {stem: stem if is_own[stem] else last[stem] for stem in stems}
    return {stem: table.values[key] for stem, key in keys.items() if key in table.values}


def find_labels_file(samples: SampleIndex, name: str) -> tuple[Folder, str] | None:
    """Return folder and name of the first label file: above the modalities, or in the first's.

    The published create_training_identity_features.py joins folder and file name without a
    separator, so that its file lies beside the folder: that is where is looked last.
    """
    base = samples.base
    known = [(base, name), (samples.image_folders[MODALITIES[0].name], name)]
    if isinstance(base, Directory):
        known.append((Directory(base.path.parent), f"{base.name}{name}"))
    return next((found for found in known if found[0].exists(found[1])), None)


def _identity_entries(content: Any, file: str) -> Iterable[tuple[Any, Any]]:
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected an object {{file name: [numbers]}}")
    return content.items()


def _class_entries(content: Any, file: str) -> Iterable[tuple[Any, Any]] | None:
    if not isinstance(content, dict) or "labels" not in content:
        raise ValueError(f'{file}: expected an object with the key "labels"')
    entries = content["labels"]
    if entries is None:
        return None
    if isinstance(entries, dict):
        return entries.items()
    if not isinstance(entries, list):
        raise ValueError(f'{file}: "labels" must be a list or null, got {type(entries).__name__}')
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2:
            raise ValueError(f"{file}: each label must be [file name, label], got {entry!r:.80}")
    return [(name, label) for name, label in entries]


def _by_stem(entries: Iterable[tuple[Any, Any]], samples: SampleIndex, file: str) -> dict[str, Any]:
    folders = MODALITY_FOLDERS | {folder.name for folder in samples.image_folders.values()}
    suffixes = pixels.image_suffixes()
    values: dict[str, Any] = {}
    for name, label in entries:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{file}: file names must be text, got {name!r:.80}")
        stem = stem_of_key(name, folders, suffixes)
        if stem in values and values[stem] != label:
            raise ValueError(f"{file}: two different labels for {stem!r}")
        values[stem] = label
    return values


def stem_of_key(name: str, folders: Collection[str], suffixes: Collection[str]) -> str:
    """Return an image's name as a stem.

    Args:
        name: of a label file, with either kind of slash.
        folders: of modalities, not part of a stem.
        suffixes: of images, see `data.pixels.image_suffixes`.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    parts = path.parts[1:] if len(path.parts) > 1 and path.parts[0] in folders else path.parts
    stem = "/".join(parts)
    return stem.removesuffix(path.suffix) if path.suffix.lower() in suffixes else stem


def _checked_class(label: Any, stem: str, file: str) -> int:
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < _MAX_CLASSES:
        raise ValueError(
            f"{file}: label of {stem!r} must be a class number in 0..{_MAX_CLASSES - 1}, or all "
            f"labels lists of numbers, got {label!r:.80}"
        )
    return label
