"""Looks a whole data set through: every file decoded, sizes, labels, and whether pairs fit."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import labels, pixels
from data.modalities import MIN_RESOLUTION, MODALITIES, is_resolution
from data.pairs import find_layout, index_matching, list_images, match_stems
from data.sample_index import SampleIndex, shorten
from data.storage import map_in_threads
from dnnlib.options import Job, Options, Progress, option

_EDGE_SIDE = 32  # edges are compared at this size, where small misalignments do not matter
_MAX_COMPARED = 256
_MIN_COMPARED = 8
_MIN_STANDARD_ERRORS = 2.0
_MAX_LISTED = 20
_IMPORT_HINT = "`prepare_dataset.py import` crops and resizes to one power of two"


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a data set holds and what is wrong with it.

    Attributes:
        name: of the data set.
        folders: modality -> where its images are.
        num_pairs: matched pairs.
        resolution: side of the images in pixels, None where they differ or do not fit.
        kinds: modality -> {"PNG RGB 64x64": number of files}.
        labels: one line: their file, number and width.
        num_ignored: files in the folders whose ending is not an image's.
        problems: what keeps the set from being trained on, one line each.
        warnings: what may be wrong, one line each.
    """

    name: str
    folders: Mapping[str, str]
    num_pairs: int
    resolution: int | None
    kinds: Mapping[str, Mapping[str, int]]
    labels: str
    num_ignored: int
    problems: Sequence[str] = field(default_factory=list)
    warnings: Sequence[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield what the user is told, without the problems."""
        side = f" of {self.resolution}x{self.resolution}" if self.resolution else ""
        yield f"{self.name}: {self.num_pairs} pairs{side}"
        for modality, folder in self.folders.items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds[modality].items())
            yield f"{modality}: {folder}: {kinds or 'no images'}"
        yield f"labels: {self.labels}"
        if self.num_ignored:
            yield f"{self.num_ignored} other files are ignored"
        yield from (f"Warning: {warning}" for warning in self.warnings)


def check_pairs(
    root: str, workers: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Decode every image of a data set and report what is in it.

    Args:
        root: folder or zip archive, see data.pairs.find_layout.
        workers: threads; None is one a processor.
        progress: shows the pairs that are finished.
    Raises: FileNotFoundError and ValueError where the layout is none that is known; everything
        else is reported.
    """
    layout = find_layout(root)
    names = {name: list_images(folder) for name, folder in layout.folders.items()}
    matching = match_stems(names)
    problems = [
        f"{folder.describe()}: no images in it"
        for name, folder in layout.folders.items()
        if not names[name]
    ]
    problems += matching.problems({name: f.describe() for name, f in layout.folders.items()})
    samples = index_matching(layout, matching)
    advance = progress(0, len(samples), "pair") if progress is not None else lambda _: None
    scan = _scan(samples, workers, advance)
    problems += scan.problems
    resolution = None
    if scan.sizes:
        try:
            resolution = check_sizes(scan.sizes, root)
        except ValueError as error:
            problems.append(str(error))
    label_line, label_problems = _check_labels(samples)
    return CheckReport(
        name=layout.name,
        folders={name: folder.describe() for name, folder in layout.folders.items()},
        num_pairs=len(samples),
        resolution=resolution,
        kinds={name: dict(sorted(kinds.items())) for name, kinds in scan.kinds.items()},
        labels=label_line,
        num_ignored=sum(len(f.names()) - len(names[m]) for m, f in layout.folders.items()),
        problems=[*problems, *label_problems],
        warnings=_check_pairing(scan.edges),
    )


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Decode every image of a data set; exit with code 2 where training would refuse it."""

    root: Path = option(help="Data set.", metavar="DIR|ZIP", is_argument=True)
    workers: int | None = option(
        None, ge=1, metavar="THREADS", help="Threads.", shown_default="one a processor"
    )


@dataclass(frozen=True, kw_only=True)
class CheckJob(Job):
    """A data set to be looked through.

    Attributes:
        options: as checked.
    """

    options: CheckOptions

    def describe(self) -> dict[str, Any]:
        """Return what is looked through."""
        return {"root": str(self.options.root)}

    def run(self, progress: Progress) -> str:
        """Return the report. Raises: ValueError with the report where there are problems."""
        report = check_pairs(str(self.options.root), self.options.workers, progress)
        lines = list(report.lines())
        problems = list(report.problems[:_MAX_LISTED])
        if len(report.problems) > _MAX_LISTED:
            problems.append(f"and {len(report.problems) - _MAX_LISTED} more problems")
        if problems:
            raise ValueError("\n".join([*lines, *(f"Problem: {line}" for line in problems)]))
        return "\n".join(lines)


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


@dataclass(frozen=True, kw_only=True)
class _Scan:
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    edges: list[np.ndarray] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _scan(samples: SampleIndex, workers: int | None, advance: Callable[[int], None]) -> _Scan:
    def look(pair: int) -> list[tuple[pixels.ImageHeader, np.ndarray] | str]:
        return [_look(samples, modality.name, pair) for modality in MODALITIES]

    scan = _Scan(kinds={modality.name: Counter() for modality in MODALITIES})
    step = max(1, len(samples) // _MAX_COMPARED)
    for pair, found in enumerate(map_in_threads(look, range(len(samples)), workers)):
        edges = []
        for modality, image in zip(MODALITIES, found, strict=True):
            if isinstance(image, str):
                scan.problems.append(image)
                continue
            header = image[0]
            scan.sizes[samples.describe(modality.name, pair)] = (header.width, header.height)
            kind = f"{header.format} {header.mode} {header.width}x{header.height}"
            scan.kinds[modality.name][kind] += 1
            edges.append(image[1])
        if pair % step == 0 and len(edges) == len(MODALITIES):
            scan.edges.append(np.stack(edges))
        advance(1)
    return scan


def _look(
    samples: SampleIndex, modality: str, pair: int
) -> tuple[pixels.ImageHeader, np.ndarray] | str:
    """Return an image's header and the strength of its edges, [P] float64, or what is wrong."""
    name = samples.describe(modality, pair)
    try:
        content = samples.read(modality, pair)
        header, image = pixels.read_header(content, name), pixels.load_image(content, 1, name)
    except ValueError as error:
        return str(error)
    small = image.resize((_EDGE_SIDE, _EDGE_SIDE), Image.Resampling.BOX)
    return header, np.hypot(*np.gradient(np.asarray(small, dtype=np.float64))).ravel()


def _check_labels(samples: SampleIndex) -> tuple[str, list[str]]:
    """Return a line about the labels, and their problems; a set without labels has none."""
    try:
        tables = labels.read_label_tables(samples)
        if not tables or not len(samples):
            return "none", []
        matrix = labels.load_labels(samples)
    except ValueError as error:
        return "unusable", [str(error)]
    return f"{tables[0].file}: {matrix.shape[0]} of {matrix.shape[1]} numbers", []


def _check_pairing(edges: Sequence[np.ndarray]) -> list[str]:
    """Warn where images of a pair are no more alike than images of different pairs."""
    if len(edges) < _MIN_COMPARED:
        return []
    own, others, error = pairing_score(np.stack(edges))
    if own - others > _MIN_STANDARD_ERRORS * error:
        return []
    return [
        f"pairs may be wrongly matched: over {len(edges)} pairs, edges correlate by {own:.3f} "
        f"within pairs and by {others:.3f} across pairs"
    ]
