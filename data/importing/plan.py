"""What an import would write: pairs, their crop, the resolution, and what is left out and why."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from data import labels, pixels
from data.importing.options import Crop, CropKind, FaceMethod, ImportOptions
from data.modalities import MIN_RESOLUTION, MODALITIES, largest_resolution
from data.pairs import Layout, find_layout, index_matching, list_images, match_stems, stem_of
from data.sample_index import SampleIndex, shorten
from data.storage import Directory, map_in_threads, open_storage


class Reason(Enum):
    """Why a file or pair is left out; the value is shown."""

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


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file or pair that is not imported.

    Attributes:
        name: of the file or files.
        reason: kind of problem.
        detail: the values that it is about, or "".
        boxes: left, upper, right, lower of the faces that a detector found, in pixels.
    """

    name: str
    reason: Reason
    detail: str = ""
    boxes: Sequence[tuple[float, float, float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedLabels:
    """What a label file of the source says about the pairs.

    Attributes:
        kind: name of the file to write.
        values: pair, as an index in the plan's source -> label, of those that have one.
    """

    kind: str
    values: Mapping[int, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an import would write.

    Attributes:
        source: the pairs to write; their stems are the names to write.
        resolution: side of the written images in pixels.
        smallest: the image that decided on the resolution, "" where an option did.
        left_out: what is not written, in order of reason and name.
        num_found: modality -> number of image files.
        num_usable: pairs that could be written; more than in `source` with --max-images.
        fingerprint: 64 hex digits of the names and sizes of all image files.
        labels: of the pairs, one entry a label file.
    """

    source: SampleIndex
    resolution: int
    smallest: str
    left_out: Sequence[LeftOut]
    num_found: Mapping[str, int]
    num_usable: int
    fingerprint: str
    labels: Sequence[PlannedLabels] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain containers for people to read."""
        return {
            "pairs": len(self.source),
            "usable_pairs": self.num_usable,
            "found": dict(self.num_found),
            "resolution": self.resolution,
            "smallest_image": self.smallest or None,
            "left_out": count_reasons(self.left_out),
        }


def build_plan(options: ImportOptions, workers: int | None = None) -> Plan:
    """Match the files, read their headers and decide what to write. Nothing is written.

    Args:
        options: of the import.
        workers: threads; None is one a processor.
    Raises: FileNotFoundError; ValueError where a place has no images, no pair can be used, or a
        label file is broken or holds numbers that are not finite.
    """
    layout = _open_layout(options)
    names, found, unnamed = _list_names(layout, options)
    matching = match_stems(
        {name: list(files) for name, files in names.items()},
        key=lambda modality, file: names[modality][file],
    )
    left_out = list(unnamed)
    for modality, files in matching.alone.items():
        describe = layout.folders[modality].describe
        left_out += [LeftOut(name=describe(f), reason=Reason.UNPAIRED) for f in files]
    for modality, stem, files in matching.duplicates:
        where = layout.folders[modality].describe()
        left_out.append(
            LeftOut(name=f"{where}: {', '.join(files)}", reason=Reason.SAME_NAME, detail=stem)
        )
    source = index_matching(layout, matching)
    tables = labels.read_label_tables(source)
    sides, bad = _measure(source, Crop.parse(options.crop), workers)
    kept, resolution, smallest, small = _choose_resolution(source, sides, options)
    left_out += [*bad, *small]
    left_out.sort(key=lambda entry: (list(Reason).index(entry.reason), entry.name))
    if not kept:
        raise ValueError(f"no pair can be imported; left out: {describe_left_out(left_out)}")
    source = source.select(kept[: options.max_images])
    return Plan(
        source=source,
        resolution=resolution,
        smallest=smallest,
        left_out=left_out,
        num_found=found,
        num_usable=len(kept),
        fingerprint=_fingerprint(layout, names),
        labels=[_plan_labels(table, source) for table in tables],
    )


def count_reasons(left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Return {reason: number of files or pairs}, without those of zero."""
    counts = {r.value: sum(entry.reason is r for entry in left_out) for r in Reason}
    return {reason: count for reason, count in counts.items() if count}


def describe_left_out(left_out: Sequence[LeftOut]) -> str:
    """Return counts and the first few names of each reason in one line."""
    parts = []
    for reason, count in count_reasons(left_out).items():
        names = [
            f"{entry.name} ({entry.detail})" if entry.detail else entry.name
            for entry in left_out
            if entry.reason.value == reason
        ]
        parts.append(f"{count} {reason}: {shorten(names)}")
    return "; ".join(parts) or "nothing"


def cause_of(error: ValueError, name: str) -> str:
    """Return an error's message without the name of the file that it begins with."""
    return str(error).removeprefix(f"{name}: ")


def _open_layout(options: ImportOptions) -> Layout:
    """Return one place a modality; with groups for modalities in the regex, the same for all."""
    if options.source is not None and not options.name_rule().has_modalities:
        return find_layout(options.source)
    paths = options.folders or {m.name: str(options.source) for m in MODALITIES}
    storages = {path: open_storage(path) for path in paths.values()}
    folders = {m.name: storages[paths[m.name]] for m in MODALITIES}
    first = folders[MODALITIES[0].name]
    is_split = options.source is None and isinstance(first, Directory)
    base = Directory(first.path.parent) if is_split else first  # type: ignore[union-attr]
    return Layout(name=base.name, base=base, folders=folders)


def _list_names(
    layout: Layout, options: ImportOptions
) -> tuple[dict[str, dict[str, str]], dict[str, int], list[LeftOut]]:
    """Return modality -> {file: pair's name}, the number of files, and those without a name."""
    rule = options.name_rule()
    names: dict[str, dict[str, str]] = {}
    unnamed: dict[str, LeftOut] = {}
    for modality, folder in layout.folders.items():
        images = list_images(folder)
        if not images:
            raise ValueError(f"{folder.describe()}: no images in it ({len(folder.names())} files)")
        names[modality] = {}
        for file in images:
            found = rule.apply(stem_of(file))
            if found is None:
                name = folder.describe(file)
                unnamed[name] = LeftOut(name=name, reason=Reason.NO_NAME)
            elif found[1] in (None, modality):
                names[modality][file] = found[0]
    return names, {name: len(files) for name, files in names.items()}, list(unnamed.values())


def _measure(
    source: SampleIndex, crop: Crop, workers: int | None
) -> tuple[dict[int, int], list[LeftOut]]:
    """Return pair -> side of its crop in pixels, and the pairs that have none."""

    def measure_one(pair: int) -> int | LeftOut:
        sizes = []
        for modality in source.files:
            name = source.describe(modality, pair)
            try:
                with source.open(modality, pair) as file:
                    header = pixels.read_header(file, name)
            except ValueError as error:
                return LeftOut(name=name, reason=Reason.UNREADABLE, detail=cause_of(error, name))
            sizes.append((header.width, header.height))
        square = find_square(source, pair, sizes, crop)
        return square if isinstance(square, LeftOut) else square[2]

    sides, bad = {}, []
    for pair, result in enumerate(map_in_threads(measure_one, range(len(source)), workers)):
        if isinstance(result, LeftOut):
            bad.append(result)
        else:
            sides[pair] = result
    return sides, bad


def find_square(
    source: SampleIndex, pair: int, sizes: Sequence[tuple[int, int]], crop: Crop
) -> tuple[int, int, int] | LeftOut:
    """Return (x, y, side) of a pair's crop, or why there is none.

    Args:
        source: the pairs.
        pair: index in it.
        sizes: (width, height) of its images, in the order of the modalities.
        crop: which square is taken.
    """
    name = source.describe(MODALITIES[0].name, pair)
    shown = " and ".join(f"{width}x{height}" for width, height in dict.fromkeys(sizes))
    if len(set(sizes)) > 1:
        return LeftOut(name=name, reason=Reason.SIZES_DIFFER, detail=shown)
    square = crop.square_in(*sizes[0])
    if square is None:
        rule = "not square" if crop.kind is CropKind.NONE else "box reaches outside"
        return LeftOut(name=name, reason=Reason.NO_SQUARE, detail=f"{rule}: {shown}")
    if square[2] < MIN_RESOLUTION:
        return LeftOut(name=name, reason=Reason.TOO_SMALL, detail=shown)
    return square


def _choose_resolution(
    source: SampleIndex, sides: Mapping[int, int], options: ImportOptions
) -> tuple[list[int], int, str, list[LeftOut]]:
    """Return the pairs to keep, the resolution, what decided on it, and what is too small."""
    first = MODALITIES[0].name
    wanted = options.resolution
    if wanted is not None and options.align is not FaceMethod.NONE:
        return list(sides), wanted, "", []  # the face's size counts, which is found later
    if wanted is None:
        smallest = min(sides, key=lambda pair: sides[pair], default=None)
        if smallest is None:
            return [], 0, "", []
        return (
            list(sides),
            largest_resolution(sides[smallest]),
            source.describe(first, smallest),
            [],
        )
    small = [
        LeftOut(
            name=source.describe(first, pair),
            reason=Reason.TOO_SMALL,
            detail=f"{side} of {wanted} pixels",
        )
        for pair, side in sides.items()
        if side < wanted
    ]
    return [pair for pair, side in sides.items() if side >= wanted], wanted, "", small


def _plan_labels(table: labels.LabelTable, source: SampleIndex) -> PlannedLabels:
    first = MODALITIES[0].name
    stems = [stem_of(file).removeprefix(f"{first}/") for file in map(str, source.files[first])]
    found = labels.find_labels(table, stems)
    labels.check_writable(found, table.file)
    values = {pair: found[stem] for pair, stem in enumerate(stems) if stem in found}
    return PlannedLabels(kind=table.kind, values=values)


def _fingerprint(layout: Layout, names: Mapping[str, Mapping[str, str]]) -> str:
    digest = hashlib.sha256()
    for modality, files in names.items():
        folder = layout.folders[modality]
        for file in sorted(files):
            digest.update(json.dumps([modality, file, folder.size(file)]).encode())
    return digest.hexdigest()
