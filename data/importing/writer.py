"""Writes a planned import: decodes, crops and resizes pairs, keeps labels, reports the rest.

All goes to a hidden neighbour of the final folder, named by options and source, and is renamed
when it is whole. A repeated command goes on where an interrupted one ended.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from data import labels, pixels
from data.importing.faces import SHEET_FILE, FaceTools, Refusal, save_sheet
from data.importing.options import Crop, FaceMethod, ImportOptions, OutputFormat
from data.importing.plan import (
    LeftOut,
    Plan,
    Reason,
    cause_of,
    count_reasons,
    describe_left_out,
    find_square,
)
from data.info import FACE_CHECK_KEY, INFO_FILE
from data.modalities import MODALITIES
from data.pairs import stem_of
from data.parallel import map_in_threads
from data.storage import DirectoryStorage
from dnnlib.config import to_dict
from dnnlib.files import read_json, write_json

FORMAT = "biface-import"
VERSION = 1
REPORT_FILE = "import_report.json"


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """What an import did.

    Attributes:
        outdir: the data set.
        is_new: False where the same import had been done before.
        report: content of its REPORT_FILE.
    """

    outdir: Path
    is_new: bool
    report: Mapping[str, Any]


def check_outdir(outdir: Path, options: ImportOptions) -> None:
    """Refuse an output folder that holds anything but an import with the same options.

    Raises: ValueError naming the folder.
    """
    if not outdir.exists() or (outdir.is_dir() and not any(outdir.iterdir())):
        return
    report = read_json(outdir / REPORT_FILE) if (outdir / REPORT_FILE).is_file() else None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise ValueError(f"--outdir {outdir}: must be absent or empty, got other content")
    made, wanted = report.get("options"), _options_dict(options)
    if not isinstance(made, dict) or report.get("version") != VERSION:
        raise ValueError(f"--outdir {outdir}: made by another version, choose another folder")
    made = {**_later_options(), **made}
    differing = sorted(key for key in wanted | made if wanted.get(key) != made.get(key))
    if differing:
        listed = ", ".join(f"{key} {made.get(key)} -> {wanted.get(key)}" for key in differing)
        raise ValueError(f"--outdir {outdir}: was made with other options ({listed})")


def run_import(
    options: ImportOptions,
    plan: Plan,
    outdir: Path,
    *,
    faces: FaceTools | None = None,
    is_strict: bool = False,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportSummary:
    """Write the planned pairs into `outdir`.

    Args:
        options: of the import.
        plan: made with the same options.
        outdir: must be absent or empty, or hold this very import; then nothing is done.
        faces: finds and aligns faces where the options say so; else None.
        is_strict: whether anything left out is an error.
        workers: threads; None is one a processor.
        progress: called with the number of pairs that were finished since the last call.
    Raises: ValueError where `outdir` holds something else or lies among the images, where no pair
        can be written, or for anything left out with `is_strict`. Then nothing is left behind.
    """
    outdir = outdir.resolve()
    check_outdir(outdir, options)
    _check_apart(outdir, plan)
    if outdir.exists() and any(outdir.iterdir()):
        report = read_json(outdir / REPORT_FILE)
        if report.get("source_fingerprint") != plan.fingerprint:
            raise ValueError(f"--outdir {outdir}: the source has changed since it was imported")
        return ImportSummary(outdir=outdir, is_new=False, report=report)
    if is_strict:
        _refuse_left_out(plan.left_out)
    if options.needs_faces and faces is None:
        raise ValueError("--align and --face-check need a face detector, got none")
    stage = _stage_for(outdir, options, plan)
    try:
        report = _fill_stage(options, plan, stage, faces, is_strict, workers, progress)
    except ValueError:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    if outdir.exists():
        outdir.rmdir()
    stage.rename(outdir)
    return ImportSummary(outdir=outdir, is_new=True, report=report)


def _fill_stage(
    options: ImportOptions,
    plan: Plan,
    stage: Path,
    faces: FaceTools | None,
    is_strict: bool,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Write images, labels and report; return the report."""
    failed = _write_pairs(options, plan, stage, faces, workers, progress)
    if is_strict:
        _refuse_left_out(list(failed.values()))
    left_out = [*plan.left_out, *failed.values()]
    kept = [pair for pair in range(len(plan.source)) if pair not in failed]
    if not kept:
        raise ValueError(f"no pair can be imported; left out: {describe_left_out(left_out)}")
    label_counts = _write_labels(plan, kept, stage, options.format)
    for leftover in stage.rglob(".*.part"):  # of an interrupted run
        leftover.unlink()
    report = {
        "format": FORMAT,
        "version": VERSION,
        "options": _options_dict(options),
        "source_fingerprint": plan.fingerprint,
        "resolution": plan.resolution,
        "smallest_image": plan.smallest or None,
        "found": dict(plan.num_found),
        "pairs": len(kept),
        "labels": label_counts,
        "left_out": count_reasons(left_out),
        "left_out_files": [
            {"name": entry.name, "reason": entry.reason.value, "detail": entry.detail}
            for entry in left_out
        ],
    }
    save_sheet(stage / SHEET_FILE, plan, failed)
    write_json(stage / INFO_FILE, _info(options, report, faces))
    write_json(stage / REPORT_FILE, report)
    return report


def _info(
    options: ImportOptions, report: Mapping[str, Any], faces: FaceTools | None
) -> dict[str, Any]:
    """Return what the data set says about itself, wherever it is moved."""
    content = {key: report[key] for key in ("format", "version", "resolution", "pairs")}
    content[FACE_CHECK_KEY] = options.face_check and options.face_check.value
    is_aligned = options.align is not FaceMethod.NONE
    content["alignment"] = (
        {"template": "arcface", "margin": options.align_margin} if is_aligned else None
    )
    content["faces"] = faces.describe() if faces is not None and options.needs_faces else None
    return content


def _later_options() -> dict[str, Any]:
    """Return the defaults of options that older imports do not record."""
    defaults = _options_dict(ImportOptions(source="."))
    return {k: value for k, value in defaults.items() if k.startswith(("align", "face_"))}


def _options_dict(options: ImportOptions) -> dict[str, Any]:
    return to_dict(options.with_absolute_paths())


def _check_apart(outdir: Path, plan: Plan) -> None:
    for folder in plan.source.layout.folders.values():
        if isinstance(folder, DirectoryStorage) and outdir.is_relative_to(folder.path.resolve()):
            raise ValueError(f"--outdir {outdir}: must not lie in {folder.describe()}")


def _stage_for(outdir: Path, options: ImportOptions, plan: Plan) -> Path:
    """Return the hidden folder in which this import, and no other, grows."""
    key = json.dumps([VERSION, _options_dict(options), plan.fingerprint], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    stage = outdir.parent / f".{outdir.name}.{digest}.part"
    stage.mkdir(parents=True, exist_ok=True)
    return stage


def _refuse_left_out(left_out: Sequence[LeftOut]) -> None:
    if left_out:
        raise ValueError(f"--strict: {describe_left_out(left_out)}")


def _write_pairs(
    options: ImportOptions,
    plan: Plan,
    stage: Path,
    faces: FaceTools | None,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> dict[int, LeftOut]:
    """Write all pairs; return those that turned out to be unusable, by their index."""

    def write_one(pair: int) -> LeftOut | None:
        paths = _output_paths(plan, pair, stage, options.format)
        if all(_is_written(path, plan.resolution) for path in paths.values()):
            return None
        images = _read_pair(plan, pair, options, faces)
        if isinstance(images, LeftOut):
            return images
        for modality, image in images.items():
            _save(image, paths[modality], options)
        return None

    failed = {}
    for pair, result in enumerate(map_in_threads(write_one, range(len(plan.source)), workers)):
        if result is not None:
            failed[pair] = result
        if progress is not None:
            progress(1)
    return failed


def _output_paths(plan: Plan, pair: int, stage: Path, format: OutputFormat) -> dict[str, Path]:  # noqa: A002
    name = f"{plan.source.stems[pair]}.{format.value}"
    return {modality.name: stage / modality.folders[0] / name for modality in MODALITIES}


def _is_written(path: Path, resolution: int) -> bool:
    try:
        header = pixels.verify_image(path)
    except (FileNotFoundError, ValueError):
        return False
    return (header.width, header.height) == (resolution, resolution)


def _read_pair(
    plan: Plan, pair: int, options: ImportOptions, faces: FaceTools | None
) -> dict[str, Image.Image] | LeftOut:
    """Decode a pair and bring it to its final form."""
    images = {}
    for modality in MODALITIES:
        name = plan.source.describe(modality.name, pair)
        try:
            with plan.source.open(modality.name, pair) as file:
                images[modality.name] = pixels.load_image(file, modality.channels, name)
        except ValueError as error:
            return LeftOut(name=name, reason=Reason.UNREADABLE, detail=cause_of(error, name))
    square = find_square(
        plan.source, pair, [image.size for image in images.values()], Crop.parse(options.crop)
    )
    if isinstance(square, LeftOut):
        return square
    final: dict[str, Image.Image] | Refusal
    if faces is not None and options.align is not FaceMethod.NONE:
        final = faces.align(images, plan.resolution)
    else:
        final = {name: _resize(image, square, plan.resolution) for name, image in images.items()}
    refusal = final if isinstance(final, Refusal) else _check_face(final, options, faces)
    if refusal is None:
        assert not isinstance(final, Refusal), "a refusal is returned below"
        return final
    name = plan.source.describe(MODALITIES[0].name, pair)
    return LeftOut(name=name, reason=refusal.reason, detail=refusal.detail, boxes=refusal.boxes)


def _check_face(
    images: Mapping[str, Image.Image], options: ImportOptions, faces: FaceTools | None
) -> Refusal | None:
    if faces is None or options.face_check is not FaceMethod.MTCNN:
        return None
    return faces.check(images[MODALITIES[0].name])


def _resize(image: Image.Image, square: tuple[int, int, int], resolution: int) -> Image.Image:
    """Return the square at `resolution`; at its own size the pixels stay as they are.

    Pillow's Lanczos filter widens with the scale, so that nothing aliases.
    """
    x, y, side = square
    box = (x, y, x + side, y + side)
    if side == resolution:
        return image.crop(box)
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)


def _save(image: Image.Image, path: Path, options: ImportOptions) -> None:
    """Save an image so that it has its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    if options.format is OutputFormat.JPG:
        image.save(temporary, "JPEG", quality=options.quality, subsampling=0)
    else:
        image.save(temporary, "PNG")
    temporary.replace(path)


def _write_labels(
    plan: Plan,
    kept: Sequence[int],
    stage: Path,
    format: OutputFormat,  # noqa: A002
) -> dict[str, dict[str, int]]:
    """Write the label files that the source has, for the pairs that were kept.

    Returns: label file -> {"kept": number of labels, "missing": number of pairs without}.
    """
    counts = {}
    first = MODALITIES[0].name
    stems = [stem_of(plan.source.files[first][pair]) for pair in kept]
    for table in labels.read_label_tables(plan.source.layout):
        found = labels.find_labels(table, stems)
        entries = {
            f"{plan.source.stems[pair]}.{format.value}": found[stem]
            for pair, stem in zip(kept, stems, strict=True)
            if stem in found
        }
        is_vectors = table.kind == labels.IDENTITY_FILE
        content = entries if is_vectors else {"labels": [list(e) for e in entries.items()]}
        try:
            write_json(stage / table.kind, content, indent=None)
        except ValueError as error:  # NaN is no JSON, although Python reads it
            raise ValueError(f"{table.file}: {error}") from error
        counts[table.kind] = {"kept": len(entries), "missing": len(kept) - len(entries)}
    return counts
