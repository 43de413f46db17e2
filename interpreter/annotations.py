"""Annotated images: from what was painted to the folder that training reads."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import sheets
from data.class_list import (
    CLASSES_FILE,
    OCULAR_CLASSES,
    ClassList,
    class_list_as_json,
    load_class_list,
)
from data.mask_files import (
    IMAGE_FOLDER,
    SELECTION_FILE,
    find_annotations,
    find_images,
    read_annotation,
    read_selection,
)
from data.modalities import MODALITIES
from data.numbers import load_rows, save_array
from data.pixels import decode_image
from data.sample_index import shorten
from dnnlib import files
from dnnlib.options import Job, Progress
from dnnlib.runs import FolderJob, find_output
from dnnlib.text import parse_numbers
from interpreter.annotation_images import LABEL_FILE, LATENT_FILE
from interpreter.annotation_images import RECORD as TRAINING_DATA_RECORD
from interpreter.options import AnnotationOptions
from renderer import auto_annotate
from renderer.classes import CLASSES as EXAMPLE_CLASSES

RECORD = "annotations.json"
CHECK_SHEET = "check_sheet.jpg"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """One annotated sample."""

    number: int  # of the image among those that were generated
    source: Path | None  # file of the annotation; None for one that was computed
    mask: np.ndarray  # [H, W] uint8
    images: dict[str, Path]  # image files by modality; RGB is always there
    latent: np.ndarray  # its z (or w), as stored
    condition: np.ndarray | None  # [c_dim] float32, or None


def collect_annotations(options: AnnotationOptions, classes: ClassList) -> list[AnnotatedImage]:
    """Read painted annotations with what belongs to them, in numeric order.

    Raises: FileNotFoundError; ValueError for a mask without latent or image, a mask of another
        size than its image, or whatever `read_annotation` refuses.
    """
    assert options.annotations is not None, "the caller says so"
    rows, found = _Rows(options), find_annotations(options.annotations)
    folders = _image_folders(options, options.annotations)
    if options.latent_rows == "order" and len(rows.latents) != len(found):
        raise ValueError(
            f"--latents {rows.path}: one row an annotation is wanted ({len(found)}), "
            f"got {len(rows.latents)}"
        )
    collected = []
    for index, (number, path) in enumerate(found.items()):
        row = number if options.latent_rows == "number" else index
        if row >= len(rows.latents):
            raise ValueError(
                f"{path}: image {row} has no latent, --latents {rows.path} has rows 0"
                f" to {len(rows.latents) - 1}"
            )
        images = find_images(folders, number)
        if "rgb" not in images:
            searched = ", ".join(str(folder) for folder in folders)
            raise FileNotFoundError(f"{path}: its image image_{number}.jpg is not in {searched}")
        mask = read_annotation(path, classes)
        for image in images.values():
            height, width = decode_image(image, 1).shape[1:]
            if mask.shape != (height, width):
                raise ValueError(
                    f"{path}: the mask must have the size of {image.name}, {width}x{height}, "
                    f"got {mask.shape[1]}x{mask.shape[0]}"
                )
        collected.append(rows.annotated(row, number, mask, images, path))
    return collected


class _Rows:
    """Latents and conditions, those of --drawn or given by themselves."""

    def __init__(self, options: AnnotationOptions) -> None:
        path, labels = options.latents, options.labels
        if options.drawn is not None:
            path = path or options.drawn / LATENT_FILE
            if labels is None and (options.drawn / LABEL_FILE).is_file():
                labels = options.drawn / LABEL_FILE
        if path is None:
            raise ValueError("--latents must name the .npy file of the images' latents")
        self.path, self.latents = path, load_rows(path, "--latents")
        self._labels = None if labels is None else load_rows(labels, "--labels")
        if self._labels is not None and len(self._labels) != len(self.latents):
            raise ValueError(
                f"--labels {labels}: {len(self.latents)} rows wanted, one a latent, "
                f"got {len(self._labels)}"
            )

    def annotated(
        self, row: int, number: int, mask: np.ndarray, images: dict[str, Path], source: Path | None
    ) -> AnnotatedImage:
        """Return a mask with its row."""
        condition = None if self._labels is None else self._labels[row].astype(np.float32)
        return AnnotatedImage(number, source, mask, images, self.latents[row], condition)


def _image_folders(options: AnnotationOptions, annotations: Path) -> list[Path]:
    """Return where images may be: --images, or those of --drawn, then beside the annotations."""
    images = options.images
    if images is None and options.drawn is not None:
        images = options.drawn / IMAGE_FOLDER
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f"--images {images}: no such folder")
    return [annotations] if images is None else [images, annotations]


def _chosen_numbers(select: str | None, drawn: Path, count: int) -> Sequence[int]:
    """Return the numbers of --select or selection.json, sorted; all where neither says any."""
    if select is not None and select != "all":
        try:
            return sorted(set(parse_numbers(select)))
        except ValueError as error:
            raise ValueError(f"--select: {error}") from error
    proposed = drawn / SELECTION_FILE
    if select == "all" or not proposed.is_file():
        return range(count)
    return sorted(set(read_selection(proposed)))


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
    record = {}
    if training_data is not None and training_data.is_file():
        record = files.read_object(training_data, identity=dict)["identity"]
    return {
        "images": [item.number for item in collected],
        "sources": [None if item.source is None else item.source.name for item in collected],
        "classes": class_list_as_json(classes),
        "content_sha256": digest.hexdigest(),
        "drawn_with": record,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationsJob(FolderJob):
    """Annotations to be written in the published layout."""

    collected: list[AnnotatedImage]  # annotated images, in numeric order
    classes: ClassList  # of the masks

    def work(self, progress: Progress) -> str:
        """Write masks, images, latents and a check sheet."""
        with self.output.at_work():
            self._write()
            self.output.finish()
        return f"{self.output.path}: wrote {len(self.collected)} masks; look at {CHECK_SHEET}"

    def _write(self) -> None:
        """Write the published layout: image_maskK.npy, image_K.jpg, image_K_NIR.jpg and latents.

        K counts the annotated images in numeric order; annotations.json names their images.
        """
        folder, palette, cells = self.output.path, self.classes.palette(), []
        for index, item in enumerate(self.collected):
            save_array(folder / f"image_mask{index}.npy", item.mask)
            for modality in MODALITIES:
                source = item.images.get(modality.name)
                if source is not None:
                    name = f"image_{index}{modality.suffix}{source.suffix.lower()}"
                    with files.atomic_write(folder / name) as file:
                        file.write(source.read_bytes())
            rgb = decode_image(item.images["rgb"], 3)
            shown = sheets.side_by_side([rgb, sheets.overlay(rgb, item.mask, palette)])
            cells.append((f"{index}: image {item.number}", shown))
        save_array(folder / LATENT_FILE, np.stack([item.latent for item in self.collected]))
        conditions = [item.condition for item in self.collected if item.condition is not None]
        if conditions:
            save_array(folder / LABEL_FILE, np.stack(conditions))
        files.write_json(folder / CLASSES_FILE, class_list_as_json(self.classes))
        sheets.save_image(folder / CHECK_SHEET, sheets.contact_sheet(cells))


class AutomaticAnnotation(Job):
    """Images of make_training_data.py to be annotated by a network.

    The network is trained the first time that the job runs, and kept beside the images.

    Args:
        options: folder of the images and which of them.
    Raises: FileNotFoundError; ValueError for a number without an image.
    """

    def __init__(self, options: AnnotationOptions) -> None:
        drawn = options.drawn
        assert drawn is not None, "the options say so"
        if not files.read_object(drawn / TRAINING_DATA_RECORD).get("finished"):
            raise ValueError(f"{drawn}: is not finished; repeat make_training_data.py")
        self._options, self._drawn, self._rows = options, drawn, _Rows(options)
        count = len(self._rows.latents)
        numbers = _chosen_numbers(options.select, drawn, count)
        self._images = {number: _drawn_paths(drawn, number, count) for number in numbers}

    def describe(self) -> dict[str, Any]:
        """Return which images are annotated."""
        return {"outdir": str(self._options.outdir), "images": list(self._images)}

    def run(self, progress: Progress) -> str | None:
        """Train or read the network, annotate the images and write them."""
        classes = 4 if self._options.auto == "example4" else 10
        annotator, collected = None, []
        for number, paths in self._images.items():
            images = {m.name: decode_image(paths[m.name], m.channels) for m in MODALITIES}
            annotator = annotator or self._annotator(images["rgb"].shape[1], classes)
            mask = annotator.annotate(images)
            collected.append(self._rows.annotated(number, number, mask, paths, None))
        return _write_job(self._options, collected, EXAMPLE_CLASSES[classes]).run(progress)

    def _annotator(self, resolution: int, classes: int) -> auto_annotate.AutoAnnotator:
        seed = self._options.seed
        wanted = auto_annotate.AnnotatorOptions(resolution=resolution, classes=classes, seed=seed)
        folder = self._drawn / f"annotator_{classes}_classes_seed_{seed}"
        return auto_annotate.build_annotator(wanted, folder)


def prepare(options: AnnotationOptions) -> Job:
    """Read the annotations, or check what --auto is to annotate.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    if options.annotations is None:
        return AutomaticAnnotation(options)
    classes = ClassList(OCULAR_CLASSES, options.max_distance)
    if options.classes is not None:
        classes = load_class_list(options.classes, options.max_distance)
    return _write_job(options, collect_annotations(options, classes), classes)


def _write_job(
    options: AnnotationOptions, collected: list[AnnotatedImage], classes: ClassList
) -> AnnotationsJob:
    _log_classes(collected, classes)
    record = None if options.drawn is None else options.drawn / TRAINING_DATA_RECORD
    identity = annotations_identity(collected, classes, record)
    output = find_output(options.outdir, RECORD, identity, fresh=options.fresh)
    return AnnotationsJob(output=output, collected=collected, classes=classes)


def _log_classes(collected: Sequence[AnnotatedImage], classes: ClassList) -> None:
    """Say how much of each mask each class has, and warn where that is probably a mistake."""
    counts = [np.bincount(item.mask.ravel(), minlength=len(classes)) for item in collected]
    for item, count in zip(collected, counts, strict=True):
        name = f"image {item.number}" if item.source is None else item.source.name
        present = [f"{classes.names[k]} {count[k] / count.sum():.1%}" for k in count.nonzero()[0]]
        if len(present) == 1:
            _logger.warning("Warning: %s: the whole mask is one class: %s", name, present[0])
        else:
            _logger.info("%s: %s", name, ", ".join(present))
    absent = [classes.names[k] for k in np.flatnonzero(np.sum(counts, axis=0) == 0)]
    if absent:
        _logger.warning("Warning: no mask has the classes %s", shorten(absent))
