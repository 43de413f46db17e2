"""Annotated images: from what people painted to the folder that training reads, and back."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import sheets
from data.class_list import (
    OCULAR_CLASSES,
    ClassList,
    class_list_as_json,
    class_list_from_json,
    load_class_list,
)
from data.modalities import MODALITIES
from data.numbers import load_rows, save_array
from data.pixels import decode_image
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from dnnlib.text import parse_numbers
from interpreter.annotation_images import IMAGE_FOLDER, LABEL_FILE, LATENT_FILE, SELECTION_FILE
from interpreter.annotation_images import RECORD as TRAINING_DATA_RECORD
from interpreter.mask_files import AnnotationFile, find_annotations, image_number, read_mask
from interpreter.options import AnnotationOptions
from renderer import auto_annotate

RECORD = "annotations.json"
CLASSES_FILE = "classes.json"
CHECK_SHEET = "check_sheet.jpg"
_ENDINGS = (".jpg", ".jpeg", ".png")
# Makes the mask [H, W] uint8 of images [C, H, W] uint8 by modality.
Annotate = Callable[[Mapping[str, np.ndarray]], np.ndarray]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatedImage:
    """One annotated sample.

    Attributes:
        number: of the image among those that were drawn.
        source: file of the annotation; None for one that was computed.
        mask: [H, W] uint8.
        images: image files by modality; RGB is always there.
        latent: its z (or w), as stored.
        condition: [c_dim] float32, or None.
    """

    number: int
    source: Path | None
    mask: np.ndarray
    images: dict[str, Path]
    latent: np.ndarray
    condition: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class AnnotationSources:
    """Where annotations and what belongs to them are.

    Attributes:
        annotations: folder of .xcf, .png or .npy files.
        images: folder of image_N.jpg and image_N_NIR.jpg; None looks beside the annotations.
        latents: .npy with the latents.
        rows_by_number: row N belongs to image N; otherwise row k to the k-th annotation.
        labels: .npy with conditions, rows as those of `latents`; None for none.
        training_data: record of make_training_data.py; None where the images are older.
    """

    annotations: Path
    images: Path | None
    latents: Path
    rows_by_number: bool = True
    labels: Path | None = None
    training_data: Path | None = None


def sources_beside(annotations: Path, drawn: Path | None, **changes: Any) -> AnnotationSources:
    """Return sources in the layout of make_training_data.py.

    Args:
        annotations: folder of the painted files.
        drawn: folder that make_training_data.py wrote, or None.
        changes: fields that are given explicitly.
    """
    found: dict[str, Any] = {"annotations": annotations, "images": None}
    if drawn is not None:
        found |= {"images": drawn / IMAGE_FOLDER, "latents": drawn / LATENT_FILE}
        for field, name in (("labels", LABEL_FILE), ("training_data", TRAINING_DATA_RECORD)):
            found[field] = drawn / name if (drawn / name).is_file() else None
    found |= {key: value for key, value in changes.items() if value is not None}
    if "latents" not in found:
        raise ValueError("--latents must name the .npy file of the drawn images' latents")
    return AnnotationSources(**found)


def collect_annotations(sources: AnnotationSources, classes: ClassList) -> list[AnnotatedImage]:
    """Read all annotations with what belongs to them, in numeric order; nothing is written.

    Raises: FileNotFoundError; ValueError for a mask without latent or image, a mask of another
        size than its image, or whatever `read_mask` refuses.
    """
    found = find_annotations(sources.annotations)
    rows = _RowPicker(sources, len(found))
    images = _ImageFinder(sources)
    collected = []
    for place, annotation in enumerate(found):
        latent, condition = rows.pick(place, annotation)
        paths = images.find(annotation)
        mask = read_mask(annotation.path, classes)
        for path in paths.values():
            _check_size(annotation.path, mask, path)
        collected.append(
            AnnotatedImage(
                number=annotation.number,
                source=annotation.path,
                mask=mask,
                images=paths,
                latent=latent,
                condition=condition,
            )
        )
    return collected


def annotate_drawn(
    drawn: Path, numbers: Sequence[int] | None, build: Callable[[int], Annotate]
) -> list[AnnotatedImage]:
    """Annotate images that make_training_data.py wrote without people.

    Args:
        drawn: its folder.
        numbers: which images; None takes selection.json's, or all where there is none.
        build: makes what annotates, for the images' side in pixels.
    Raises: FileNotFoundError; ValueError for a number without an image.
    """
    record = drawn / TRAINING_DATA_RECORD
    if not files.read_json(record).get("finished"):
        raise ValueError(f"{drawn}: is not finished; repeat make_training_data.py")
    latents = load_rows(drawn / LATENT_FILE, "--latents")
    labels = drawn / LABEL_FILE
    conditions = load_rows(labels, "--labels") if labels.is_file() else None
    if numbers is None:
        proposed = drawn / SELECTION_FILE
        numbers = range(len(latents))
        if proposed.is_file():
            numbers = [int(number) for number in files.read_json(proposed)["images"]]
    found = {number: _drawn_paths(drawn, number, len(latents)) for number in sorted(numbers)}
    annotate = None
    collected = []
    for number, paths in found.items():
        images = {m.name: decode_image(paths[m.name], m.channels) for m in MODALITIES}
        annotate = annotate or build(images["rgb"].shape[1])
        collected.append(
            AnnotatedImage(
                number=number,
                source=None,
                mask=annotate(images),
                images=paths,
                latent=latents[number],
                condition=None if conditions is None else conditions[number].astype(np.float32),
            )
        )
    return collected


def _drawn_paths(drawn: Path, number: int, count: int) -> dict[str, Path]:
    if not 0 <= number < count:
        raise ValueError(f"--select: {drawn} has images 0 to {count - 1}, got {number}")
    paths = {m.name: drawn / IMAGE_FOLDER / f"image_{number}{m.suffix}.jpg" for m in MODALITIES}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; --auto needs all modalities")
    return paths


def annotations_identity(
    collected: list[AnnotatedImage], classes: ClassList, training_data: Path | None
) -> dict[str, Any]:
    """Return what decides a processed folder, as plain JSON values."""
    digest = hashlib.sha256()
    for item in collected:
        digest.update(item.mask.tobytes())
        digest.update(np.ascontiguousarray(item.latent).tobytes())
        if item.condition is not None:
            digest.update(np.ascontiguousarray(item.condition).tobytes())
    record = {} if training_data is None else files.read_json(training_data)["identity"]
    return {
        "images": [item.number for item in collected],
        "sources": [None if item.source is None else item.source.name for item in collected],
        "classes": class_list_as_json(classes),
        "content_sha256": digest.hexdigest(),
        "drawn_with": record,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationsJob(FolderJob):
    """Annotations to be written in the published layout.

    Attributes:
        collected: annotated images, in numeric order.
        classes: of the masks.
    """

    collected: list[AnnotatedImage]
    classes: ClassList

    def work(self, progress: Progress) -> str:
        """Write masks, images, latents and a check sheet."""
        path, count = self.output.path, len(self.collected)
        with self.output.at_work():
            write_annotations(self.collected, self.classes, path)
            self.output.finish()
        return f"{path}: wrote {count} masks; look at {CHECK_SHEET}"


def prepare(options: AnnotationOptions) -> AnnotationsJob:
    """Read or make the annotations.

    With --auto, which trains a network the first time, that is kept in --drawn.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    if options.annotations is None:
        collected, classes, record = _annotate_automatically(options)
    else:
        sources = sources_beside(
            options.annotations,
            options.drawn,
            images=options.images,
            latents=options.latents,
            labels=options.labels,
            rows_by_number=options.latent_rows == "number",
        )
        classes = ClassList(OCULAR_CLASSES, options.max_distance)
        if options.classes is not None:
            classes = load_class_list(options.classes, options.max_distance)
        collected, record = collect_annotations(sources, classes), sources.training_data
    identity = annotations_identity(collected, classes, record)
    output = find_output(options.outdir, RECORD, identity, fresh=options.fresh)
    return AnnotationsJob(output=output, collected=collected, classes=classes)


def _annotate_automatically(
    options: AnnotationOptions,
) -> tuple[list[AnnotatedImage], ClassList, Path]:
    """Return annotated images, their classes, and the record of the images."""
    drawn, seed, numbers = options.drawn, options.seed, None
    assert drawn is not None, "the options say so"
    classes = 4 if options.auto == "example4" else 10
    if options.select == "all":
        numbers = range(len(load_rows(drawn / LATENT_FILE, "--latents")))
    elif options.select is not None:
        try:
            numbers = list(dict.fromkeys(parse_numbers(options.select)))
        except ValueError as error:
            raise ValueError(f"--select: {error}") from error

    def build(resolution: int) -> Annotate:
        wanted = auto_annotate.AnnotatorOptions(resolution=resolution, classes=classes, seed=seed)
        folder = drawn / f"annotator_{classes}_classes_seed_{seed}"
        return auto_annotate.build_annotator(wanted, folder).annotate

    collected = annotate_drawn(drawn, numbers, build)
    return collected, auto_annotate.example_classes(classes), drawn / TRAINING_DATA_RECORD


def write_annotations(collected: list[AnnotatedImage], classes: ClassList, folder: Path) -> None:
    """Write the published layout: image_maskK.npy, image_K.jpg, image_K_NIR.jpg and latents.

    K counts the annotated images in numeric order; annotations.json names the image behind each.
    """
    palette = classes.palette()
    cells = []
    for place, item in enumerate(collected):
        save_array(folder / f"image_mask{place}.npy", item.mask)
        for modality in MODALITIES:
            source = item.images.get(modality.name)
            if source is not None:
                name = f"image_{place}{modality.suffix}{source.suffix.lower()}"
                with files.atomic_write(folder / name) as file:
                    file.write(source.read_bytes())
        rgb = decode_image(item.images["rgb"], 3)
        shown = sheets.side_by_side([rgb, sheets.overlay(rgb, item.mask, palette)])
        cells.append((f"{place}: image {item.number}", shown))
    save_array(folder / LATENT_FILE, np.stack([item.latent for item in collected]))
    conditions = [item.condition for item in collected if item.condition is not None]
    if conditions:
        save_array(folder / LABEL_FILE, np.stack(conditions))
    files.write_json(folder / CLASSES_FILE, class_list_as_json(classes))
    sheets.save_image(folder / CHECK_SHEET, sheets.contact_sheet(cells))


class _RowPicker:
    """Finds the rows of latents and conditions that belong to an annotation."""

    def __init__(self, sources: AnnotationSources, annotations: int) -> None:
        self._sources = sources
        self._latents = load_rows(sources.latents, "--latents")
        self._labels = None if sources.labels is None else load_rows(sources.labels, "--labels")
        rows = len(self._latents)
        if self._labels is not None and len(self._labels) != rows:
            raise ValueError(
                f"--labels {sources.labels}: {rows} rows wanted, one a latent, "
                f"got {len(self._labels)}"
            )
        if not sources.rows_by_number and rows != annotations:
            raise ValueError(
                f"--latents {sources.latents}: one row an annotation is wanted ({annotations}), "
                f"got {rows}"
            )

    def pick(self, place: int, annotation: AnnotationFile) -> tuple[np.ndarray, np.ndarray | None]:
        row = annotation.number if self._sources.rows_by_number else place
        if row >= len(self._latents):
            raise ValueError(
                f"{annotation.path}: image {row} has no latent, --latents "
                f"{self._sources.latents} has rows 0 to {len(self._latents) - 1}"
            )
        condition = None if self._labels is None else self._labels[row].astype(np.float32)
        return self._latents[row], condition


class _ImageFinder:
    """Finds the image files of an annotation."""

    def __init__(self, sources: AnnotationSources) -> None:
        self._folders = [sources.annotations]
        if sources.images is not None:
            if not sources.images.is_dir():
                raise FileNotFoundError(f"--images {sources.images}: no such folder")
            self._folders.insert(0, sources.images)

    def find(self, annotation: AnnotationFile) -> dict[str, Path]:
        """Return the first file of each modality.

        Raises: FileNotFoundError where there is no RGB image.
        """
        paths = {}
        for modality in MODALITIES:
            stem = f"image_{annotation.number}{modality.suffix}"
            names = [folder / f"{stem}{end}" for folder in self._folders for end in _ENDINGS]
            present = [path for path in names if path.is_file() and path != annotation.path]
            if present:
                paths[modality.name] = present[0]
        if "rgb" not in paths:
            folders = ", ".join(str(folder) for folder in self._folders)
            raise FileNotFoundError(
                f"{annotation.path}: its image image_{annotation.number}.jpg is not in {folders}"
            )
        return paths


def _check_size(where: Path, mask: np.ndarray, image: Path) -> None:
    height, width = decode_image(image, 1).shape[1:]
    if mask.shape != (height, width):
        raise ValueError(
            f"{where}: the mask must have the size of {image.name}, {width}x{height}, "
            f"got {mask.shape[1]}x{mask.shape[0]}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingAnnotations:
    """What training reads of a processed folder.

    Attributes:
        masks: [n, R, R] uint8.
        names: n files of the masks.
        latents: [n, ...] as stored.
        conditions: [n, c_dim] float32 or None.
        classes: the class list as JSON values; None for a published folder.
        drawn_with: record of the drawn images, empty for a published folder.
    """

    masks: np.ndarray
    names: list[str]
    latents: np.ndarray
    conditions: np.ndarray | None
    classes: list[dict[str, Any]] | None
    drawn_with: dict[str, Any]


def load_annotations(
    folder: Path, latents: Path, labels: Path | None, *, most: int, min_region_pixels: int
) -> TrainingAnnotations:
    """Read the first `most` masks by number, and as many rows of latents as they are.

    Args:
        folder: of image_maskN.npy.
        latents: row k belongs to the k-th mask.
        labels: conditions, row k belongs to the k-th mask; None takes labels.npy beside the
            latents, and none where there is no such file.
        most: number of masks to use.
        min_region_pixels: classes with fewer pixels in a mask become class 0, as published.
    Raises: FileNotFoundError; ValueError for masks of different sizes or without latents, or where
        a gap in their numbers leaves open which latents they belong to.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"annotation_mask_path {folder}: must be a folder of masks")
    paths = sorted(folder.glob("image_mask*.npy"), key=lambda path: image_number(path) or 0)
    if not paths:
        raise FileNotFoundError(f"annotation_mask_path {folder}: has no image_maskN.npy")
    rows = load_rows(latents, "annotation_image_latent_path")
    if len(rows) < len(paths):
        raise ValueError(
            f"annotation_image_latent_path {latents}: {paths[len(rows)].name} has no latent, "
            f"there are {len(rows)} rows for {len(paths)} masks"
        )
    numbers = [image_number(path) for path in paths]
    if len(rows) > len(paths) and numbers != list(range(len(paths))):
        raise ValueError(
            f"annotation_mask_path {folder}: masks must be numbered from 0 on without gaps where "
            f"there are more latents, got {len(paths)} masks and {len(rows)} rows in {latents}"
        )
    if len(paths) > most:
        _logger.warning(
            "max_training is %d: the first %d of %d masks are used", most, most, len(paths)
        )
    paths = paths[:most]
    masks = [drop_small_classes(_load_mask(path), min_region_pixels) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise ValueError(f"{path}: all masks must have one size, {paths[0].name} has another")
    if labels is None and latents.with_name(LABEL_FILE).is_file():
        labels = latents.with_name(LABEL_FILE)
    conditions = None if labels is None else load_rows(labels, "annotation_label_path")
    if conditions is not None and len(conditions) < len(paths):
        raise ValueError(f"annotation_label_path {labels}: fewer rows than masks")
    record = files.read_json(folder / RECORD)["identity"] if (folder / RECORD).is_file() else {}
    return TrainingAnnotations(
        masks=np.stack(masks),
        names=[path.name for path in paths],
        latents=rows[: len(paths)],
        conditions=None if conditions is None else conditions[: len(paths)].astype(np.float32),
        classes=record.get("classes"),
        drawn_with=record.get("drawn_with", {}),
    )


def drop_small_classes(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask with classes of fewer than `least` pixels turned into class 0."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return np.where(counts[mask] < least, 0, mask).astype(np.uint8)


def _load_mask(path: Path) -> np.ndarray:
    rows = load_rows(path, "annotation_mask_path")
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() > 254:
        raise ValueError(f"{path}: a mask must be [H, W] class numbers from 0 to 254")
    return rows.astype(np.uint8)


def class_list_of(classes: Any, count: int) -> ClassList:
    """Return the first classes of a list as JSON, or numbered ones in colours that differ."""
    if not isinstance(classes, list) or len(classes) < count:
        colours = sheets.default_palette(count).tolist()
        classes = [{"name": f"class {k}", "color": colours[k]} for k in range(count)]
    return class_list_from_json(classes[:count], "classes")
