"""Looks a whole data set through: every file decoded, sizes, labels, and whether pairs fit."""

import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data import doctor, labels, pixels, stored
from data.info import SPLITS
from data.modalities import MIN_RESOLUTION, MODALITIES, NIR, RGB, is_resolution
from data.numbers import DEFAULT_FEATURE_SCALE
from data.pairs import (
    Layout,
    Matching,
    find_layout,
    index_matching,
    layout_in,
    list_stems,
    match_stems,
)
from data.sample_index import SampleIndex, shorten
from data.sheets import ContactSheet, resize, save_image, side_by_side, spread_indices
from data.storage import map_in_threads
from data.stored import AS_STORED, Reading
from dnnlib import files
from dnnlib.options import Job, Options, Progress, option

_MAX_LISTED = 20
_MAX_SHOWN = 40  # pairs on the sheet
_SHOWN_PER_CHECK = 8
_TILE_PX = 128
_MAX_LETTERS = 40
_IMPORT_HINT = "`prepare_dataset.py import` crops and resizes to one power of two"
_AS_STORED = {modality.name: AS_STORED for modality in MODALITIES}
Images = Mapping[str, Image.Image]  # modality -> image
_log = logging.getLogger(__name__)
RECORD_FILE, SHEET_FILE = "check.json", "worst.jpg"


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Decode every image of a data set and measure what may be wrong with its pairs.

    Splits in the folders heldout, test and audit are looked at, too. The exit code is 2 where
    training would refuse the set.
    """

    root: Path = option(help="Data set.", metavar="DIR|ZIP", is_argument=True)
    against: tuple[Path, ...] = option(
        (),
        metavar="DIR|ZIP",
        help="Another data set, such as the test set in a folder of its own, that is looked at as "
        "a split of this one: copies and identities in both are leaks.",
    )
    outdir: Path | None = option(
        None,
        metavar="DIR",
        help=f"Write the findings as {RECORD_FILE}, and the worst pairs as {SHEET_FILE}, here.",
    )
    strict: bool = option(False, help="Warnings end with exit code 2, too.")
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
        """Return the report. Raises: ValueError where there are problems; the report is logged."""
        options = self.options
        checked = check_pairs(options.root, progress, options.workers, options.against)
        lines, problems, findings = checked.lines, checked.problems, checked.findings
        warnings = [finding.warning for finding in findings if finding.warning]
        lines = [*lines, *format_findings(findings)]
        if options.outdir is not None:
            lines.append(f"written: {', '.join(map(str, write_findings(options.outdir, checked)))}")
        elif any(finding.worst for finding in findings if finding.warning):
            lines.append("--outdir shows the worst pairs")
        more = len(problems) - _MAX_LISTED
        errors = [*problems[:_MAX_LISTED], *[f"and {more} more problems"] * (more > 0)]
        if warnings and options.strict:
            errors.append(f"--strict: {len(warnings)} checks warn")
        if errors:
            _log.warning("\n".join(lines))
            raise ValueError("; ".join(errors))
        return "\n".join(lines)


def prepare(options: CheckOptions) -> CheckJob:
    """Return the job.

    Raises: FileNotFoundError or ValueError where a data set is none; OSError where --outdir cannot
        be written.
    """
    find_splits(options.root, options.against)
    if options.outdir is not None:
        for name in (RECORD_FILE, SHEET_FILE):
            files.check_place(options.outdir / name)
    return CheckJob(options=options)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What `check_pairs` finds.

    Attributes:
        lines: what is in the set.
        problems: what keeps it from training.
        findings: what may be wrong with its pairs.
        pairs: split ("" for none) and number in `samples[split]` of each pair in the findings.
        samples: the pairs of each split.
    """

    lines: list[str]
    problems: list[str]
    findings: list[doctor.Finding]
    pairs: list[tuple[str, int]]
    samples: Mapping[str, SampleIndex]

    def name(self, pair: int) -> str:
        """Return the name of a pair in the findings."""
        split, number = self.pairs[pair]
        return f"{split}/" * bool(split) + self.samples[split].stems[number]


def find_splits(root: Path, against: Sequence[Path] = ()) -> dict[str, Layout]:
    """Return the layouts of a data set (""), of the splits in it, and of others by their paths.

    Raises: FileNotFoundError; ValueError for a layout that is not known, or a set that is there
        twice.
    """
    layouts = {"": find_layout(root)}
    base = layouts[""].base
    for split in SPLITS:
        layout = layout_in(base.enter(split)) if split in base.folders() else None
        layouts |= {split: layout} if layout is not None else {}
    for path in against:
        layout = find_layout(path)
        if _place(layout) in map(_place, layouts.values()):
            raise ValueError(f"--against {path}: is looked at already")
        layouts["./" * (str(path) in SPLITS) + str(path)] = layout
    return layouts


def _place(layout: Layout) -> Path:
    return Path(layout.folders[RGB.name].describe()).resolve()


def check_pairs(
    root: Path, progress: Progress, workers: int | None = None, against: Sequence[Path] = ()
) -> Checked:
    """Decode every image of a data set and of the splits in it.

    Args:
        root: folder or zip archive, see data.pairs.find_layout.
        progress: shows the pairs that are finished.
        workers: threads; None is one a processor.
        against: other data sets, which are looked at as splits of this one.
    Raises: see `find_splits`.
    """
    layouts = find_splits(root, against)
    matched = {
        split: match_stems({name: list_stems(f) for name, f in layout.folders.items()})
        for split, layout in layouts.items()
    }
    samples = {split: index_matching(layouts[split], found) for split, found in matched.items()}
    pairs = [(split, pair) for split, own in samples.items() for pair in range(len(own))]
    advance = progress(0, len(pairs), "pair")
    lines, problems = [], []
    views: dict[tuple[str, int], View] = {}
    for split, own in samples.items():
        compared = frozenset(spread_indices(len(own), doctor.COMPARED_PAIRS))

        def look(pair: int, own: SampleIndex = own, compared: frozenset[int] = compared) -> View:
            return view_pair(own, pair, _AS_STORED, is_compared=pair in compared)

        for pair, view in enumerate(map_in_threads(look, range(len(own)), workers)):
            views[split, pair] = view
            advance(1)
        own_views = [views[split, pair] for pair in range(len(own))]
        found = _describe(layouts[split], matched[split], own, own_views)
        lines += found[0]
        problems += found[1]
    whole = [pair for pair in pairs if not views[pair].damage]
    checked = Checked(lines=lines, problems=problems, findings=[], pairs=whole, samples=samples)
    names = [checked.name(number) for number in range(len(whole))]
    identities = [samples[split].identities[pair] for split, pair in whole]
    splits = [split for split, _ in whole]
    checked.findings.extend(examine([views[p] for p in whole], names, identities, splits))
    return checked


def format_findings(findings: Sequence[doctor.Finding]) -> list[str]:
    """Return a table of all checks, and their warnings below it."""
    if not findings:
        return []
    width = max(len(finding.check) for finding in findings)
    rows = []
    for finding in findings:
        answer = "look" if finding.warning else "ok" if finding.is_measured else "-"
        rows.append(f"{finding.check:{width}}  {answer:4}  {finding.found}")
    return [*rows, *(f"Warning: {f.warning}" for f in findings if f.warning)]


def write_findings(outdir: Path, checked: Checked) -> list[Path]:
    """Write the findings as JSON, and a sheet of the worst pairs where there are some."""
    outdir.mkdir(parents=True, exist_ok=True)
    record, sheet = outdir / RECORD_FILE, outdir / SHEET_FILE
    shown = [
        (pair, f"{finding.check}: {words}")
        for finding in checked.findings
        if finding.warning
        for pair, words in finding.worst[:_SHOWN_PER_CHECK]
    ][:_MAX_SHOWN]
    findings = [
        {
            "check": finding.check,
            "found": finding.found,
            "warning": finding.warning,
            "worst": [[checked.name(pair), words] for pair, words in finding.worst],
        }
        for finding in checked.findings
    ]
    content = {"pairs": len(checked.pairs), "problems": checked.problems, "findings": findings}
    files.write_json(record, content)
    sheet.unlink(missing_ok=True)
    if not shown:
        return [record]
    picture = ContactSheet(len(shown), _TILE_PX, len(MODALITIES) * _TILE_PX, lines=2)
    for pair, words in shown:
        split, number = checked.pairs[pair]
        own = checked.samples[split]
        pictures = [resize(own.image(m.name, number), _TILE_PX, _TILE_PX) for m in MODALITIES]
        caption = f"{words[:_MAX_LETTERS]}\n{checked.name(pair)[-_MAX_LETTERS:]}"
        picture.add(caption, side_by_side(pictures))
    save_image(sheet, picture.pixels())
    return [record, sheet]


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


@dataclass(kw_only=True)
class View:
    """What is kept of a pair, by modality.

    Attributes:
        headers, looks: of the images; looks are there where all of them can be decoded.
        used: largest stored value as a part of the range, of images with more than 8 bits.
        alpha: share of partly transparent pixels, of images with alpha over black.
        damage: what is wrong with files.
        edges: [2, P] of RGB and NIR, where pairs are compared.
        shift: see doctor.measure_shift.
    """

    headers: dict[str, pixels.ImageHeader] = field(default_factory=dict)
    looks: dict[str, doctor.Look] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    alpha: dict[str, float] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    edges: np.ndarray | None = None
    shift: tuple[float, float] = (np.nan, np.nan)


def view_pair(
    samples: SampleIndex,
    pair: int,
    readings: Mapping[str, Reading],
    *,
    is_compared: bool,
    register: Callable[[Images], Images] = dict,
) -> View:
    """Decode a pair, each modality by its reading, and measure it as `register` moves it."""
    view, images = View(), {}
    for modality, reading in readings.items():
        name = samples.describe(modality, pair)
        try:
            stream = io.BytesIO(samples.read(modality, pair))
            header = stored.read_header(stream, name, reading)
            view.headers[modality] = header
            images[modality] = stored.load_image(stream, RGB.channels, name, reading)
            has_alpha = header.mode in ("LA", "RGBA") and not reading.bands
            if has_alpha or header.bits > 8:
                values, alpha = stored.split_alpha(stored.read_values(stream, name, reading))
                if has_alpha:
                    view.alpha[modality] = doctor.partial_share(alpha)
                if header.bits > 8:
                    limits = reading.limits or stored.FULL_16_BIT
                    view.used[modality] = float((values.max() - limits[0]) / np.ptp(limits))
        except ValueError as error:
            view.damage.append(str(error))
    if not view.damage:
        images = register(images)
        view.looks = {name: doctor.look_at(image) for name, image in images.items()}
        if is_compared:
            compared = [images[RGB.name], images[NIR.name]]
            view.edges = np.stack([doctor.measure_edges(image) for image in compared])
            view.shift = doctor.measure_shift(*compared)
    return view


def examine(
    views: Sequence[View], names: Sequence[str], identities: Sequence[str], splits: Sequence[str]
) -> list[doctor.Finding]:
    """Return the findings on undamaged pairs; names, identities and splits are theirs."""
    if not views:
        return []
    modalities = [modality.name for modality in MODALITIES]
    looks = {name: [view.looks[name] for view in views] for name in modalities}
    frames = {name: [view.headers[name].frames for view in views] for name in modalities}
    alpha = {name: [view.alpha.get(name, 0.0) for view in views] for name in modalities}
    used = {
        name: max(found)
        for name in modalities
        if (found := [view.used[name] for view in views if name in view.used])
    }
    compared = [pair for pair, view in enumerate(views) if view.edges is not None]
    side = max(max(h.width, h.height) for view in views for h in view.headers.values())
    shifts = np.array([views[pair].shift for pair in compared])
    edges = np.stack([views[pair].edges for pair in compared])
    return [
        doctor.check_registration(shifts, compared, side),
        doctor.check_contents(edges, doctor.find_offset(shifts, side), compared, names),
        doctor.check_colours(looks, names),
        doctor.check_exposure(looks, names),
        doctor.check_range(used),
        doctor.check_layers(frames, alpha, names),
        doctor.check_duplicates(looks, names, identities, splits),
        doctor.check_identities(names, identities, splits),
    ]


def _describe(
    layout: Layout, matching: Matching, samples: SampleIndex, views: Sequence[View]
) -> tuple[list[str], list[str]]:
    """Return lines on what is in a set, and on what keeps it from training."""
    places = {name: folder.describe() for name, folder in layout.folders.items()}
    names = {name: list_stems(folder) for name, folder in layout.folders.items()}
    problems = [f"{places[name]}: no images in it" for name in names if not names[name]]
    problems += matching.problems(places)
    problems += [line for view in views for line in view.damage]
    sizes = {
        samples.describe(name, pair): (header.width, header.height)
        for pair, view in enumerate(views)
        for name, header in view.headers.items()
    }
    shown = ""
    if sizes:
        try:
            side = check_sizes(sizes, layout.base.describe())
            shown = f" of {side}x{side}"
        except ValueError as error:
            problems.append(str(error))
    lines = [f"{samples.name}: {len(samples)} pairs{shown}"]
    for name, place in places.items():
        own = [view.headers[name] for view in views if name in view.headers]
        kinds = Counter(f"{h.format} {h.mode} {h.width}x{h.height}" for h in own)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"{name}: {place}: {listed or 'no images'}")
    try:
        lines.append(f"labels: {_describe_labels(samples)}")
    except ValueError as error:
        lines.append("labels: unusable")
        problems.append(str(error))
    ignored = sum(len(f.names()) - len(names[name]) for name, f in layout.folders.items())
    return [*lines, *[f"{ignored} other files are ignored"] * (ignored > 0)], problems


def _describe_labels(samples: SampleIndex) -> str:
    tables = labels.read_label_tables(samples)
    if not tables or not len(samples):
        return "none"
    # With a length as training asks for, which a vector of zeros cannot have.
    count, width = labels.load_labels(samples, DEFAULT_FEATURE_SCALE).shape
    return f"{tables[0].file}: {count} of {width} numbers"
