"""What an import would write: pairs, their crop, the resolution, and what is skipped and why."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from PIL import Image

from data import labels, stored
from data.importing.options import ImportOptions, NameRule, parse_crop
from data.importing.reading import Headers, SetReading, decide_reading
from data.modalities import MIN_RESOLUTION, MODALITIES, RGB
from data.pairs import (
    Layout,
    find_layout,
    index_matching,
    layout_in,
    match_stems,
    need_stems,
    stem_of,
)
from data.sample_index import SampleIndex, hash_rows, shorten
from data.storage import Directory, map_in_threads, open_storage

Box = tuple[float, float, float, float]  # left, upper, right, lower in pixels of the source


class Reason(Enum):
    """Why a file or pair is skipped; the value is shown."""

    NO_NAME = "name does not match --pair-regex"
    UNPAIRED = "no partner"
    SAME_NAME = "several files of one name"
    UNREADABLE = "not a whole, readable image"
    SIZES_DIFFER = "images of the pair differ in size"
    NO_SQUARE = "no such square in the image"
    TOO_SMALL = "smaller than the resolution"
    NO_FACE = "no face"
    SEVERAL_FACES = "several faces"
    UNLIKELY_FACE = "low face probability"
    NOT_FRONTAL = "face not frontal"
    SMALL_FACE = "face too small"
    CUT_FACE = "face at the border"


@dataclass(eq=False)
class SkipPair(Exception):  # noqa: N818  # an answer, not an error
    """Says why a pair is skipped."""

    reason: Reason
    detail: str = ""  # the values that it is about
    boxes: Sequence[Box] = ()  # of the faces found
    modality: str = MODALITIES[0].name  # whose image it is about


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file or pair that is not imported."""

    name: str  # of the file or files
    reason: Reason
    detail: str = ""  # the values that it is about
    boxes: Sequence[Box] = ()  # of the faces that a detector found

    @classmethod
    def of(cls, pairs: SampleIndex, pair: int, why: SkipPair) -> "Skipped":
        """Return the record of a pair that is skipped."""
        name = pairs.describe(why.modality, pair)
        return cls(name=name, reason=why.reason, detail=why.detail, boxes=why.boxes)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an import would write."""

    pairs: SampleIndex  # what is written; their stems are the names to write
    resolution: int  # side of the written images in pixels
    smallest: str  # the image that decided on the resolution, "" where an option did
    skipped: Sequence[Skipped]  # in order of reason and name
    num_found: Mapping[str, int]  # modality -> number of image files
    num_usable: int  # pairs that could be written; more than in `pairs` with --max-images
    fingerprint: str  # 64 hex digits of the names and sizes of all image files
    labels: Mapping[str, Mapping[str, Any]]  # label file -> label by stem
    decided: SetReading  # how the images are read

    def facts(self) -> dict[str, Any]:
        """Return what a dry run tells of it, as plain JSON values."""
        return {
            "pairs": len(self.pairs),
            "usable_pairs": self.num_usable,
            "found": dict(self.num_found),
            "resolution": self.resolution,
            "smallest_image": self.smallest or None,
            "skipped": count_reasons(self.skipped),
            "reading": list(self.decided.notes),
            "warnings": list(self.decided.warnings),
        }

    def load(self, modality: str, pair: int, content: bytes) -> Image.Image:
        """Decode the content of one of a pair's files. Raises: ValueError that names it."""
        channels = next(m.channels for m in MODALITIES if m.name == modality)
        reading = self.decided.reading(modality, self.pairs.stems[pair])
        name = self.pairs.describe(modality, pair)
        return stored.load_image(content, channels, name, reading)


def build_plan(options: ImportOptions) -> Plan:
    """Match the files, read their headers and decide what to write. Nothing is written.

    Raises: FileNotFoundError; ValueError where a place has no images, no pair can be used, or a
        label file is broken or holds numbers that are not finite.
    """
    rule = NameRule(options.pair_regex)
    layout = _open_layout(options, rule)
    names, unnamed = _list_names(layout, rule)
    matching = match_stems(names)
    skipped = list(unnamed.values())
    for modality, files in matching.alone.items():
        describe = layout.folders[modality].describe
        skipped += [Skipped(name=describe(f), reason=Reason.UNPAIRED) for f in files]
    for modality, stem, files in matching.duplicates:
        name = f"{layout.folders[modality].describe()}: {', '.join(files)}"
        skipped.append(Skipped(name=name, reason=Reason.SAME_NAME, detail=stem))
    pairs = index_matching(layout, matching)
    tables = labels.read_label_tables(pairs)
    headers, bad = _read_headers(pairs, options)
    skipped += bad
    decided = decide_reading(pairs, headers, options)
    sides, bad = _measure(pairs, decided, headers, options)
    skipped += bad
    skipped.sort(key=lambda entry: (list(Reason).index(entry.reason), entry.name))
    if not sides:
        raise ValueError(f"no pair can be imported; skipped: {describe_skipped(skipped)}")
    smallest = min(sides, key=lambda pair: sides[pair])
    decisive = "" if options.resolution else pairs.describe(MODALITIES[0].name, smallest)
    pairs = pairs.select([*sides][: options.max_images])
    return Plan(
        pairs=pairs,
        resolution=options.resolution or 1 << (sides[smallest].bit_length() - 1),
        smallest=decisive,
        skipped=skipped,
        num_found={modality: len(files) for modality, files in names.items()},
        num_usable=len(sides),
        fingerprint=_fingerprint(layout, names),
        labels={table.kind: _find_labels(table, pairs) for table in tables},
        decided=decided,
    )


def find_square(sizes: Sequence[tuple[int, int]], crop: str) -> tuple[int, int, int]:
    """Return (x, y, side) of a pair's crop.

    Args:
        sizes: (width, height) of its images, in the order of the modalities.
        crop: as the option --crop.
    Raises: SkipPair where there is none.
    """
    shown = " and ".join(f"{width}x{height}" for width, height in dict.fromkeys(sizes))
    if len(set(sizes)) > 1:
        raise SkipPair(Reason.SIZES_DIFFER, shown)
    width, height = sizes[0]
    if crop == "none" and width != height:
        raise SkipPair(Reason.NO_SQUARE, f"not square: {shown}")
    side = min(width, height)
    x, y, side = parse_crop(crop) or ((width - side) // 2, (height - side) // 2, side)
    if x + side > width or y + side > height:
        raise SkipPair(Reason.NO_SQUARE, f"box reaches outside: {shown}")
    if side < MIN_RESOLUTION:
        raise SkipPair(Reason.TOO_SMALL, shown)
    return x, y, side


@contextlib.contextmanager
def skip_unreadable(pairs: SampleIndex, pair: int, modality: str) -> Iterator[None]:
    """Turn an error in reading an image into a reason to skip its pair. Raises: SkipPair."""
    try:
        yield
    except ValueError as error:
        detail = str(error).removeprefix(f"{pairs.describe(modality, pair)}: ")
        raise SkipPair(Reason.UNREADABLE, detail, modality=modality) from error


def count_reasons(skipped: Sequence[Skipped]) -> dict[str, int]:
    """Return {reason: number of files or pairs}, without those of zero."""
    counts = {r.value: sum(entry.reason is r for entry in skipped) for r in Reason}
    return {reason: count for reason, count in counts.items() if count}


def describe_skipped(skipped: Sequence[Skipped]) -> str:
    """Return counts and the first few names of each reason in one line."""
    parts = []
    for reason, count in count_reasons(skipped).items():
        names = [
            f"{entry.name} ({entry.detail})" if entry.detail else entry.name
            for entry in skipped
            if entry.reason.value == reason
        ]
        parts.append(f"{count} {reason}: {shorten(names)}")
    return "; ".join(parts)


def _open_layout(options: ImportOptions, rule: NameRule) -> Layout:
    """Return one place a modality; the same for all with groups for them, or NIR in RGB's file."""
    if options.nir_from is not None:
        if rule.modalities:
            raise ValueError("--pair-regex: leave out groups for modalities with --nir-from")
        base = open_storage(options.source or options.rgb)
        inside = layout_in(base, [RGB]) if options.source is not None else None
        folder = inside.folders[RGB.name] if inside is not None else base
        return Layout(base=base, folders={m.name: folder for m in MODALITIES})
    if options.source is not None:
        if not rule.modalities:
            return find_layout(options.source)
        base = open_storage(options.source)
        return Layout(base=base, folders={m.name: base for m in MODALITIES})
    folders = {m.name: open_storage(getattr(options, m.name)) for m in MODALITIES}
    first = folders[MODALITIES[0].name]
    base = Directory(first.path.parent) if isinstance(first, Directory) else first
    return Layout(base=base, folders=folders)


def _list_names(
    layout: Layout, rule: NameRule
) -> tuple[dict[str, dict[str, str]], dict[str, Skipped]]:
    """Return modality -> {file: pair's name}, and the files without a name."""
    names: dict[str, dict[str, str]] = {}
    unnamed: dict[str, Skipped] = {}
    for modality, folder in layout.folders.items():
        names[modality] = {}
        for file, stem in need_stems(folder).items():
            found = rule.apply(stem)
            if found is None:
                name = folder.describe(file)
                unnamed[name] = Skipped(name=name, reason=Reason.NO_NAME)
            elif found[1] in (None, modality):
                names[modality][file] = found[0]
    return names, unnamed


def _read_headers(
    pairs: SampleIndex, options: ImportOptions
) -> tuple[dict[int, Headers], list[Skipped]]:
    """Return the headers of each pair's images, and the pairs without."""
    readings = options.parse_readings()

    def read(pair: int) -> Headers | Skipped:
        found = {}
        try:
            for modality, reading in readings.items():
                name = pairs.describe(modality, pair)
                with skip_unreadable(pairs, pair, modality), pairs.open(modality, pair) as file:
                    found[modality] = stored.read_header(file, name, reading)
        except SkipPair as why:
            return Skipped.of(pairs, pair, why)
        return found

    results = dict(enumerate(map_in_threads(read, range(len(pairs)), options.workers)))
    bad = [found for found in results.values() if isinstance(found, Skipped)]
    return {p: found for p, found in results.items() if not isinstance(found, Skipped)}, bad


def _measure(
    pairs: SampleIndex,
    decided: SetReading,
    headers: Mapping[int, Headers],
    options: ImportOptions,
) -> tuple[dict[int, int], list[Skipped]]:
    """Return pair -> side of its crop in pixels, and the pairs that have none or a small one.

    Raises: ValueError where --resolution fits no pair.
    """
    # The size of an aligned face is found later.
    least = 0 if options.align != "none" else options.resolution or 0
    sides: dict[int, int] = {}
    bad = []
    for pair, found in headers.items():
        sizes = decided.sizes(pairs.stems[pair], found)
        try:
            sides[pair] = find_square(sizes, options.crop)[2]
        except SkipPair as why:
            bad.append(Skipped.of(pairs, pair, why))
    if sides and max(sides.values()) < least:
        fitting = 1 << (min(sides.values()).bit_length() - 1)
        raise ValueError(
            f"--resolution {least}: no pair has so many pixels a side; {fitting} fits all of them"
        )
    for pair in [pair for pair, side in sides.items() if side < least]:
        why = SkipPair(Reason.TOO_SMALL, f"{sides.pop(pair)} of {least} pixels")
        bad.append(Skipped.of(pairs, pair, why))
    return sides, bad


def _find_labels(table: labels.LabelTable, pairs: SampleIndex) -> dict[str, Any]:
    """Return the label of each pair that has one; the file names those of the source."""
    first = MODALITIES[0].name
    stems = [
        stem_of(pairs.file(first, pair)).removeprefix(f"{first}/") for pair in range(len(pairs))
    ]
    found = labels.find_labels(table, stems)
    for stem, label in found.items():
        try:
            json.dumps(label, allow_nan=False)  # Python reads NaN and infinities from JSON
        except ValueError as error:
            where = f"{table.file}: label of {stem!r}"
            raise ValueError(f"{where}: numbers must be finite") from error
    renamed = zip(pairs.stems, stems, strict=True)
    return {name: found[stem] for name, stem in renamed if stem in found}


def _fingerprint(layout: Layout, names: Mapping[str, Mapping[str, str]]) -> str:
    return hash_rows(
        [modality, file, layout.folders[modality].size(file)]
        for modality, files in names.items()
        for file in sorted(files)
    )
