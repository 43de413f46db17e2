"""Writes a planned import: decodes, crops and resizes pairs, keeps labels, reports the rest.

All goes to a hidden neighbour of the final folder, named by the options, and is renamed when it
is whole. A repeated command goes on where an interrupted or failed one ended.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from data import pixels
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
from data.importing.stage import Stage
from data.info import FACE_CHECK_KEY, INFO_FILE
from data.labels import IDENTITY_FILE
from data.modalities import MODALITIES
from data.storage import Directory, Mounts, map_in_threads
from dnnlib.config import to_dict
from dnnlib.files import read_json, write_json

FORMAT = "biface-import"
VERSION = 1
REPORT_FILE = "import_report.json"

_GOING_ON = "what is done is kept, the repeated command goes on with it"


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
        is_strict: whether anything left out is an error; the first one ends the work.
        workers: threads; None is one a processor.
        progress: called with the number of pairs that were finished since the last call.
    Raises: ValueError where `outdir` holds something else or lies among the images, where no pair
        can be written, or for anything left out with `is_strict`. Images that were written by then
        stay in the hidden folder, and the repeated import takes those of unchanged files.
    """
    outdir = outdir.resolve()
    check_outdir(outdir, options)
    _check_apart(outdir, plan)
    if outdir.exists() and any(outdir.iterdir()):
        report = read_json(outdir / REPORT_FILE)
        if report.get("source_fingerprint") != plan.fingerprint:
            raise ValueError(f"--outdir {outdir}: the source has changed since it was imported")
        return ImportSummary(outdir=outdir, is_new=False, report=report)
    if is_strict and plan.left_out:
        raise ValueError(f"--strict: {describe_left_out(plan.left_out)}")
    if options.needs_faces and faces is None:
        raise ValueError("--align and --face-check need a face detector, got none")
    stage = Stage(_stage_path(outdir, options, faces))
    try:
        report = _fill_stage(options, plan, stage, faces, is_strict, workers, progress)
    except ValueError:
        stage.discard_if_empty()
        raise
    if outdir.exists():
        outdir.rmdir()
    stage.path.rename(outdir)
    return ImportSummary(outdir=outdir, is_new=True, report=report)


def _fill_stage(
    options: ImportOptions,
    plan: Plan,
    stage: Stage,
    faces: FaceTools | None,
    is_strict: bool,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Write images, labels and report; return the report."""
    failed = {}
    with contextlib.closing(_write_pairs(options, plan, stage, faces, workers)) as results:
        for pair, result in enumerate(results):
            if result is not None:
                failed[pair] = result
            if is_strict and result is not None:
                raise ValueError(f"--strict: {describe_left_out([result])}; {_GOING_ON}")
            if progress is not None:
                progress(1)
    left_out = [*plan.left_out, *failed.values()]
    kept = [pair for pair in range(len(plan.source)) if pair not in failed]
    if not kept:
        raise ValueError(f"no pair can be imported; left out: {describe_left_out(left_out)}")
    report = _write_records(options, plan, stage.path, faces, kept, left_out)
    sheet = stage.path / SHEET_FILE
    sheet.unlink(missing_ok=True)
    save_sheet(sheet, plan, failed)
    images = [
        path
        for pair in kept
        for path in _output_paths(plan, pair, stage.path, options.format).values()
    ]
    records = (INFO_FILE, REPORT_FILE, SHEET_FILE, *(entry.kind for entry in plan.labels))
    stage.keep_only([*images, *(stage.path / name for name in records)])
    return report


def _write_records(
    options: ImportOptions,
    plan: Plan,
    folder: Path,
    faces: FaceTools | None,
    kept: Sequence[int],
    left_out: Sequence[LeftOut],
) -> dict[str, Any]:
    """Write labels, report and what the data set says about itself; return the report."""
    report = {
        "format": FORMAT,
        "version": VERSION,
        "options": _options_dict(options),
        "source_fingerprint": plan.fingerprint,
        "resolution": plan.resolution,
        "smallest_image": plan.smallest or None,
        "found": dict(plan.num_found),
        "pairs": len(kept),
        "labels": _write_labels(plan, kept, folder, options.format),
        "left_out": count_reasons(left_out),
        "left_out_files": [
            {"name": entry.name, "reason": entry.reason.value, "detail": entry.detail}
            for entry in left_out
        ],
    }
    write_json(folder / INFO_FILE, _info(options, report, faces))
    write_json(folder / REPORT_FILE, report)
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
    assert isinstance(plan.source.storage, Mounts), "pairs lie in a folder a modality"
    for folder in plan.source.storage.places.values():
        if isinstance(folder, Directory) and outdir.is_relative_to(folder.path.resolve()):
            raise ValueError(f"--outdir {outdir}: must not lie in {folder.describe()}")


def _stage_path(outdir: Path, options: ImportOptions, faces: FaceTools | None) -> Path:
    """Return the hidden folder of this import, and of none with other options."""
    detector = faces.describe() if faces is not None and options.needs_faces else None
    key = json.dumps([VERSION, _options_dict(options), detector], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return outdir.parent / f".{outdir.name}.{digest}.part"


def _write_pairs(
    options: ImportOptions,
    plan: Plan,
    stage: Stage,
    faces: FaceTools | None,
    workers: int | None,
) -> Generator[LeftOut | None, None, None]:
    """Write all pairs, in their order; yield why one is left out, None where it is written."""

    def write_one(pair: int) -> LeftOut | None:
        contents = _read_files(plan, pair)
        if isinstance(contents, LeftOut):
            return contents
        name, digest = plan.source.stems[pair], _digest_of(contents)
        paths = _output_paths(plan, pair, stage.path, options.format)
        if stage.is_made_from(name, digest) and all(
            _is_written(path, plan.resolution) for path in paths.values()
        ):
            return None
        images = _make_pair(plan, pair, contents, options, faces)
        if isinstance(images, LeftOut):
            return images
        stage.begin(name, digest, paths.values())
        for modality, image in images.items():
            _save(image, paths[modality], options)
        return None

    yield from map_in_threads(write_one, range(len(plan.source)), workers)


def _read_files(plan: Plan, pair: int) -> dict[str, bytes] | LeftOut:
    contents = {}
    for modality in MODALITIES:
        name = plan.source.describe(modality.name, pair)
        try:
            with plan.source.open(modality.name, pair) as file:
                contents[modality.name] = file.read()
        except ValueError as error:
            return LeftOut(name=name, reason=Reason.UNREADABLE, detail=cause_of(error, name))
    return contents


def _digest_of(contents: Mapping[str, bytes]) -> str:
    parts = [[name, hashlib.sha256(content).hexdigest()] for name, content in contents.items()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _output_paths(plan: Plan, pair: int, stage: Path, format: OutputFormat) -> dict[str, Path]:  # noqa: A002
    name = f"{plan.source.stems[pair]}.{format.value}"
    return {modality.name: stage / modality.folders[0] / name for modality in MODALITIES}


def _is_written(path: Path, resolution: int) -> bool:
    try:
        header = pixels.verify_image(path)
    except (FileNotFoundError, ValueError):
        return False
    return (header.width, header.height) == (resolution, resolution)


def _make_pair(
    plan: Plan,
    pair: int,
    contents: Mapping[str, bytes],
    options: ImportOptions,
    faces: FaceTools | None,
) -> dict[str, Image.Image] | LeftOut:
    """Decode a pair's files and bring it to its final form."""
    images = {}
    for modality in MODALITIES:
        name = plan.source.describe(modality.name, pair)
        try:
            images[modality.name] = pixels.load_image(
                contents[modality.name], modality.channels, name
            )
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
    folder: Path,
    format: OutputFormat,  # noqa: A002
) -> dict[str, dict[str, int]]:
    """Write the label files that the source has, for the pairs that were kept.

    Returns: label file -> {"kept": number of labels, "missing": number of pairs without}.
    """
    counts = {}
    for table in plan.labels:
        entries = {
            f"{plan.source.stems[pair]}.{format.value}": table.values[pair]
            for pair in kept
            if pair in table.values
        }
        is_vectors = table.kind == IDENTITY_FILE
        content = entries if is_vectors else {"labels": [list(e) for e in entries.items()]}
        write_json(folder / table.kind, content, indent=None)
        counts[table.kind] = {"kept": len(entries), "missing": len(kept) - len(entries)}
    return counts
