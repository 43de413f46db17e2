"""Writes a planned import: decodes, crops and resizes pairs, keeps labels, reports the rest.

Pairs are written one by one, each under a note of the content that it is made from. A repeated
command goes on where an interrupted or failed one ended, and makes changed pairs again.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data import pixels
from data.importing.options import ImportOptions
from data.importing.plan import (
    Plan,
    Reason,
    SkipPair,
    Skipped,
    build_plan,
    count_reasons,
    describe_skipped,
    find_square,
    skip_unreadable,
)
from data.info import FACE_CHECK_KEY, INFO_FILE, REPORT_FILE
from data.labels import IDENTITY_FILE
from data.modalities import MODALITIES, RGB
from data.sample_index import hash_rows
from data.sheets import ContactSheet, save_image
from data.storage import Directory, map_in_threads
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import LOCK_FILE, FolderJob, find_output

FORMAT = "biface-import"
VERSION = 2
SHEET_FILE = "skipped_faces.png"
NOTES_FILE = ".sources.jsonl"

_THUMBNAIL_PX = 128
_MAX_SHOWN = 64
_MAX_LETTERS = 20
_BACKGROUND, _FRAME = (32, 32, 32), (255, 64, 64)


class FaceTools(Protocol):
    """Finds, checks and aligns faces; called in several threads at once."""

    def align(self, images: Mapping[str, Image.Image], resolution: int) -> dict[str, Image.Image]:
        """Return the images of a pair with the face in its place. Raises: SkipPair."""

    def check(self, image: Image.Image) -> None:
        """Look for one face on an RGB image as it is written. Raises: SkipPair."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""


def prepare(options: ImportOptions, faces: FaceTools | None = None) -> "ImportJob":
    """Check that an import can be written; `faces` are needed where the options say so.

    Raises: FileNotFoundError; ValueError, also where the folder holds something else or lies among
        the images, where no pair can be written, or for anything skipped with --strict.
    """
    assert faces is not None or not options.needs_faces, "--align and --face-check need a detector"
    detector = None if faces is None else faces.describe()
    identity = {"version": VERSION, "import": options.identity(), "faces": detector}
    output = find_output(options.outdir, REPORT_FILE, identity, fresh=options.fresh)
    plan = build_plan(options)
    for folder in plan.pairs.image_folders.values():
        inside = isinstance(folder, Directory) and folder.path.resolve()
        if inside and output.path.resolve().is_relative_to(inside):
            raise ValueError(f"--outdir {output.path}: must not lie in {folder.describe()}")
    if options.strict and plan.skipped:
        raise ValueError(f"--strict: {describe_skipped(plan.skipped)}")
    if output.is_finished:
        report = files.read_object(output.path / REPORT_FILE)
        if report.get("source_fingerprint") != plan.fingerprint:
            where = f"--outdir {output.path}"
            raise ValueError(f"{where}: the source has changed since it was imported")
    return ImportJob(output=output, facts=plan.facts(), options=options, plan=plan, faces=faces)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportJob(FolderJob):
    """An import to be written or continued."""

    options: ImportOptions
    plan: Plan
    faces: FaceTools | None = None  # where --align or --face-check asks for them

    def work(self, progress: Progress) -> str:
        """Write pairs, labels and report."""
        options, plan, folder = self.options, self.plan, self.output.path
        with self.output.at_work():
            failed: dict[int, Skipped] = {}
            advance = progress(0, len(plan.pairs), "pair")
            write = partial(self._write_pair, notes=_Notes(folder / NOTES_FILE))
            results = map_in_threads(write, range(len(plan.pairs)), options.workers)
            with contextlib.closing(results):
                for pair, why in enumerate(results):
                    if why is not None:
                        failed[pair] = why
                        if options.strict:
                            raise ValueError(
                                f"--strict: {describe_skipped([why])}; what is done is kept, the "
                                "repeated command goes on with it"
                            )
                    advance(1)
            skipped = [*plan.skipped, *failed.values()]
            kept = [pair for pair in range(len(plan.pairs)) if pair not in failed]
            if not kept:
                raise ValueError(f"no pair can be imported; skipped: {describe_skipped(skipped)}")
            report = self._write_records(kept, skipped)
            _write_sheet(folder / SHEET_FILE, plan, failed)
            images = [path for pair in kept for path in self._paths(pair).values()]
            records = (INFO_FILE, REPORT_FILE, SHEET_FILE, LOCK_FILE, *plan.labels)
            _keep_only(folder, [*images, *(folder / name for name in records)])
            self.output.finish(report)
        return _summary(folder, report, skipped)

    def _write_pair(self, pair: int, notes: "_Notes") -> Skipped | None:
        """Write a pair where it is not there already; return why it is skipped."""
        pairs, side = self.plan.pairs, self.plan.resolution
        stem, paths, contents = pairs.stems[pair], self._paths(pair), {}
        try:
            for name in pairs.modalities:
                with skip_unreadable(pairs, pair, name):
                    contents[name] = pairs.read(name, pair)
            rows = [hashlib.sha256(content).hexdigest() for content in contents.values()]
            record = self.plan.decided.record(stem)
            digest = hash_rows([*rows, record] if record else rows)
            is_there = all(_has_side(path, side) for path in paths.values())
            if is_there and notes.is_made_from(stem, digest):
                return None
            images = self._make_pair(pair, contents)
        except SkipPair as why:
            return Skipped.of(pairs, pair, why)
        notes.begin(stem, digest, paths.values())
        for name, image in images.items():
            self._save(image, paths[name])
        return None

    def _make_pair(self, pair: int, contents: Mapping[str, bytes]) -> dict[str, Image.Image]:
        """Decode a pair's files and bring it to its final form. Raises: SkipPair."""
        options, side, images = self.options, self.plan.resolution, {}
        for modality in MODALITIES:
            with skip_unreadable(self.plan.pairs, pair, modality.name):
                content = contents[modality.name]
                images[modality.name] = self.plan.load(modality.name, pair, content)
        images = self.plan.decided.register(images)
        square = find_square([image.size for image in images.values()], options.crop)
        if self.faces is not None and options.align != "none":
            final = self.faces.align(images, side)
        else:
            final = {name: _resize(image, square, side) for name, image in images.items()}
        if self.faces is not None and options.face_check == "mtcnn":
            self.faces.check(final[RGB.name])
        return final

    def _save(self, image: Image.Image, path: Path) -> None:
        with files.atomic_write(path) as file:
            kind = {"jpg": "JPEG", "png": "PNG"}[self.options.format]  # PNG takes no quality
            image.save(file, kind, quality=self.options.quality, subsampling=0)

    def _paths(self, pair: int) -> dict[str, Path]:
        name = f"{self.plan.pairs.stems[pair]}.{self.options.format}"
        return {m.name: self.output.path / m.folders[0] / name for m in MODALITIES}

    def _write_records(self, kept: Sequence[int], skipped: Sequence[Skipped]) -> dict[str, Any]:
        """Write labels and what the data set says of itself; return the report."""
        plan, options = self.plan, self.options
        facts = {"format": FORMAT, "version": VERSION}
        facts |= {"resolution": plan.resolution, "pairs": len(kept)}
        aligned = {"template": "arcface", "margin": options.align_margin}
        info = {
            **facts,
            FACE_CHECK_KEY: options.face_check,
            "alignment": None if options.align == "none" else aligned,
            "faces": self.output.identity["faces"],
        }
        files.write_json(self.output.path / INFO_FILE, info)
        return {
            **facts,
            "source_fingerprint": plan.fingerprint,
            "smallest_image": plan.smallest or None,
            "found": dict(plan.num_found),
            "reading": list(plan.decided.notes),
            "warnings": list(plan.decided.warnings),
            "labels": {kind: self._write_labels(kind, kept) for kind in plan.labels},
            "skipped": count_reasons(skipped),
            "skipped_files": [
                {"name": entry.name, "reason": entry.reason.value, "detail": entry.detail}
                for entry in skipped
            ],
        }

    def _write_labels(self, kind: str, kept: Sequence[int]) -> dict[str, int]:
        """Write the labels of the pairs that were kept; return how many have one."""
        stems = [self.plan.pairs.stems[pair] for pair in kept]
        found = self.plan.labels[kind]
        entries = {f"{s}.{self.options.format}": found[s] for s in stems if s in found}
        is_vectors = kind == IDENTITY_FILE
        content = entries if is_vectors else {"labels": [list(e) for e in entries.items()]}
        files.write_json(self.output.path / kind, content, indent=None)
        return {"kept": len(entries), "missing": len(kept) - len(entries)}


class _Notes:
    """Notes of what each pair in an unfinished folder was made from; serves several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._digests: dict[str, str] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            with contextlib.suppress(ValueError, TypeError):  # a kill cut the line short
                pair, digest = json.loads(line)
                self._digests[pair] = digest
        files.write_json_lines(path, self._digests.items())

    def is_made_from(self, pair: str, digest: str) -> bool:
        """Return whether the images of `pair` that are there come from this content."""
        return self._digests.get(pair) == digest

    def begin(self, pair: str, digest: str, images: Iterable[Path]) -> None:
        """Remove a pair's images and note what the new ones are made from.

        In this order images and note agree after a kill at any instant, or images are missing.
        """
        for path in images:
            path.unlink(missing_ok=True)
        with self._lock:
            self._digests[pair] = digest
            with self._path.open("a", encoding="utf-8") as notes:
                notes.write(json.dumps([pair, digest]) + "\n")


def _has_side(path: Path, side: int) -> bool:
    try:
        header = pixels.verify_image(path)
    except (FileNotFoundError, ValueError):
        return False
    return (header.width, header.height) == (side, side)


def _resize(image: Image.Image, square: tuple[int, int, int], resolution: int) -> Image.Image:
    """Return the square at `resolution`; at its own size the pixels stay as they are.

    Pillow's Lanczos filter widens with the scale, so that nothing aliases.
    """
    x, y, side = square
    box = (x, y, x + side, y + side)
    if side == resolution:
        return image.crop(box)
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)


def _keep_only(folder: Path, paths: Iterable[Path]) -> None:
    """Remove everything else: notes, parts of files, and what the source no longer has."""
    # By number, because some file systems give names back in another Unicode form.
    kept = {_number_of(path) for path in paths if path.exists()}
    for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds goes first
        if not path.is_dir() and _number_of(path) not in kept:
            path.unlink()
        elif path.is_dir():
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


def _number_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _write_sheet(path: Path, plan: Plan, failed: Mapping[int, Skipped]) -> None:
    """Show the pairs that were skipped for their faces, each with its name and reason."""
    path.unlink(missing_ok=True)
    shown = [(p, entry) for p, entry in failed.items() if entry.reason is not Reason.UNREADABLE]
    if not shown:
        return
    sheet = ContactSheet(min(len(shown), _MAX_SHOWN), _THUMBNAIL_PX, _THUMBNAIL_PX, lines=2)
    for pair, entry in shown[:_MAX_SHOWN]:
        name = plan.pairs.stems[pair][-_MAX_LETTERS:]
        sheet.add(f"{name}\n{entry.reason.value[:_MAX_LETTERS]}", _thumbnail(plan, pair, entry))
    save_image(path, sheet.pixels())


def _thumbnail(plan: Plan, pair: int, entry: Skipped) -> np.ndarray:
    """Return the RGB image, reduced to a square, with a frame around each face."""
    image = plan.load(RGB.name, pair, plan.pairs.read(RGB.name, pair))
    scale = _THUMBNAIL_PX / max(image.size)
    image = ImageOps.pad(image, (_THUMBNAIL_PX, _THUMBNAIL_PX), color=_BACKGROUND, centering=(0, 0))
    draw = ImageDraw.Draw(image)
    for box in entry.boxes:
        draw.rectangle([edge * scale for edge in box], outline=_FRAME)
    return np.asarray(image).transpose(2, 0, 1)


def _summary(folder: Path, report: Mapping[str, Any], skipped: Sequence[Skipped]) -> str:
    """Return what the user is told."""
    side = report["resolution"]
    found = ", ".join(f"{count} {modality}" for modality, count in report["found"].items())
    lines = [f"{folder}: {report['pairs']} pairs of {side}x{side} pixels, from {found} images"]
    if report["smallest_image"]:
        lines.append(f"resolution {side} is the largest that fits {report['smallest_image']}")
    lines += report.get("reading", [])  # reports of before have none
    lines += [f"Warning: {line}" for line in report.get("warnings", [])]
    for file, counts in report["labels"].items():
        lines.append(f"{file}: {counts['kept']} labels kept, {counts['missing']} pairs without")
    if skipped:
        lines.append(f"skipped: {describe_skipped(skipped)}; all are in {REPORT_FILE}")
    if (folder / SHEET_FILE).is_file():
        lines.append(f"skipped for their faces: see {folder / SHEET_FILE}")
    return "\n".join(lines)
