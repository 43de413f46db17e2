"""Looks a whole data set through: every file decoded, sizes, labels, and whether pairs fit."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import labels, pixels
from data.modalities import MIN_RESOLUTION, MODALITIES, is_resolution
from data.numbers import DEFAULT_FEATURE_SCALE
from data.pairs import find_layout, index_matching, list_stems, match_stems
from data.sample_index import SampleIndex, describe_unnamed, shorten
from data.storage import map_in_threads
from dnnlib.options import Job, Options, Progress, option

_EDGE_SIDE = 32  # edges are compared at this size, where small misalignments do not matter
_MAX_COMPARED = 256
_MIN_COMPARED = 8
_MIN_STANDARD_ERRORS = 2.0
_MAX_LISTED = 20
_IMPORT_HINT = "`prepare_dataset.py import` crops and resizes to one power of two"

_Look = tuple[pixels.ImageHeader, np.ndarray]  # and strength of edges, [P] float64


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Decode every image of a data set; exit with code 2 where training would refuse it."""

    root: Path = option(help="Data set.", metavar="DIR|ZIP", is_argument=True)
    workers: int | None = option(
        None, ge=1, metavar="THREADS", help="Threads.", shown_default="one a processor"
    )


@dataclass(frozen=True, kw_only=True)
class CheckJob(Job):
    """A data set to be looked through."""

    options: CheckOptions

    def describe(self) -> dict[str, Any]:
        """Return what is looked through."""
        return {"root": str(self.options.root)}

    def run(self, progress: Progress) -> str:
        """Return the report. Raises: ValueError with the report where there are problems."""
        lines, problems = check_pairs(str(self.options.root), progress, self.options.workers)
        if problems:
            lines += [f"Problem: {line}" for line in problems[:_MAX_LISTED]]
            more = len(problems) - _MAX_LISTED
            raise ValueError("\n".join([*lines, *[f"and {more} more problems"] * (more > 0)]))
        return "\n".join(lines)


def check_pairs(
    root: str, progress: Progress, workers: int | None = None
) -> tuple[list[str], list[str]]:
    """Decode every image of a data set.

    Args:
        root: folder or zip archive, see data.pairs.find_layout.
        progress: shows the pairs that are finished.
        workers: threads; None is one a processor.
    Returns: lines on what is in it and what may be wrong, and on what keeps it from training.
    Raises: FileNotFoundError and ValueError where the layout is none that is known.
    """
    layout = find_layout(root)
    names = {name: list_stems(folder) for name, folder in layout.folders.items()}
    places = {name: folder.describe() for name, folder in layout.folders.items()}
    matching = match_stems(names)
    samples = index_matching(layout, matching)
    advance = progress(0, len(samples), "pair")
    headers, edges, damaged = _scan(samples, workers, advance)
    problems = [f"{places[name]}: no images in it" for name in names if not names[name]]
    problems += [*matching.problems(places), *damaged]
    shown = ""
    if headers:
        try:
            sizes = {samples.describe(*key): (h.width, h.height) for key, h in headers.items()}
            side = check_sizes(sizes, root)
            shown = f" of {side}x{side}"
        except ValueError as error:
            problems.append(str(error))
    lines = [f"{samples.name}: {len(samples)} pairs{shown}"]
    for name, place in places.items():
        own = [header for (modality, _), header in headers.items() if modality == name]
        kinds = Counter(f"{h.format} {h.mode} {h.width}x{h.height}" for h in own)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"{name}: {place}: {listed or 'no images'}")
    try:
        lines.append(f"labels: {_describe_labels(samples)}")
    except ValueError as error:
        lines.append("labels: unusable")
        problems.append(str(error))
    unnamed = describe_unnamed(samples.stems, samples.identities)
    lines += [f"identities: {unnamed}"] * bool(unnamed)
    ignored = sum(len(f.names()) - len(names[name]) for name, f in layout.folders.items())
    lines += [f"{ignored} other files are ignored"] * (ignored > 0)
    return [*lines, *_check_pairing(edges)], problems


def check_sizes(
    sizes: Mapping[str, tuple[int, int]], root: str, expected: int | None = None
) -> int:
    """Return the side that all images share: one size for all, square, a power of two.

    Args:
        sizes: file -> (width, height), at least one.
        root: the data set, for messages.
        expected: the side that they must have, None for any.
    Raises: ValueError where sizes differ, or are not square, a power of two of at least
        MIN_RESOLUTION, or `expected`.
    """
    (usual, _), *others = Counter(sizes.values()).most_common()
    width, height = usual
    if others:
        odd = [f"{file} ({w}x{h})" for file, (w, h) in sizes.items() if (w, h) != usual]
        raise ValueError(
            f"{root}: all images must have one size; most have {width}x{height}, but {len(odd)} "
            f"not: {shorten(odd)}; {_IMPORT_HINT}"
        )
    if width != height or not is_resolution(width):
        raise ValueError(
            f"{root}: images must be square, with a side that is a power of two of at least "
            f"{MIN_RESOLUTION}, got {width}x{height}; {_IMPORT_HINT}"
        )
    if expected not in (None, width):
        raise ValueError(f"{root}: images must have {expected} pixels a side, got {width}")
    return width


def pairing_score(edges: np.ndarray) -> tuple[float, float, float]:
    """Compare how well edges agree within pairs and across pairs.

    Args:
        edges: [N, 2, P] float, N >= 2: strength of edges of both images of each pair.
    Returns: mean correlation of the images of a pair, mean correlation of images of different
        pairs, and the standard error of the mean of their differences (one per pair).
    """
    centred = edges - edges.mean(axis=2, keepdims=True)
    norms = np.linalg.norm(centred, axis=2, keepdims=True)
    unit = centred / np.where(norms > 0, norms, 1)
    correlations = unit[:, 0] @ unit[:, 1].T
    count = len(edges)
    own = np.diagonal(correlations)
    others = (correlations.sum(axis=1) - own) / (count - 1)
    error = float((own - others).std(ddof=1)) / count**0.5
    return float(own.mean()), float(others.mean()), error


def _scan(
    samples: SampleIndex, workers: int | None, advance: Callable[[int], None]
) -> tuple[dict[tuple[str, int], pixels.ImageHeader], list[np.ndarray], list[str]]:
    """Return (modality, pair) -> header, edges [2, P] of some pairs, and what is wrong."""
    headers: dict[tuple[str, int], pixels.ImageHeader] = {}
    edges, problems = [], []
    step = max(1, len(samples) // _MAX_COMPARED)
    names = [modality.name for modality in MODALITIES]

    def look(pair: int) -> list[_Look | str]:
        return [_look(samples, name, pair) for name in names]

    for pair, found in enumerate(map_in_threads(look, range(len(samples)), workers)):
        problems += [image for image in found if isinstance(image, str)]
        good = {m: i for m, i in zip(names, found, strict=True) if not isinstance(i, str)}
        headers |= {(name, pair): header for name, (header, _) in good.items()}
        if pair % step == 0 and len(good) == len(names):
            edges.append(np.stack([strength for _, strength in good.values()]))
        advance(1)
    return headers, edges, problems


def _look(samples: SampleIndex, modality: str, pair: int) -> _Look | str:
    """Return an image's header and the strength of its edges, or what is wrong."""
    name = samples.describe(modality, pair)
    try:
        content = samples.read(modality, pair)
        header, image = pixels.read_header(content, name), pixels.load_image(content, 1, name)
    except ValueError as error:
        return str(error)
    small = image.resize((_EDGE_SIDE, _EDGE_SIDE), Image.Resampling.BOX)
    return header, np.hypot(*np.gradient(np.asarray(small, dtype=np.float64))).ravel()


def _describe_labels(samples: SampleIndex) -> str:
    tables = labels.read_label_tables(samples)
    if not tables or not len(samples):
        return "none"
    # With a length as training asks for, which a vector of zeros cannot have.
    count, width = labels.load_labels(samples, DEFAULT_FEATURE_SCALE).shape
    return f"{tables[0].file}: {count} of {width} numbers"


def _check_pairing(edges: Sequence[np.ndarray]) -> list[str]:
    """Warn where images of a pair are no more alike than images of different pairs."""
    if len(edges) < _MIN_COMPARED:
        return []
    own, others, error = pairing_score(np.stack(edges))
    if own - others > _MIN_STANDARD_ERRORS * error:
        return []
    return [
        f"Warning: pairs may be wrongly matched: over {len(edges)} pairs, edges correlate by "
        f"{own:.3f} within pairs and by {others:.3f} across pairs"
    ]
