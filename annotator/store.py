"""The files of an annotation: images, masks of three kinds of progress, and class list.

ANNOTATIONS/classes.json, image_N_mask.png   finished masks, as preprocess_annotations.py reads
ANNOTATIONS/drafts/image_N_mask.png          masks in work, which it does not see
ANNOTATIONS/originals/                       GIMP's files whose masks were changed here
ANNOTATIONS/suggestions/                     what the interpreter makes of the other images
"""

import hashlib
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.class_list import ClassList, class_list_as_json
from data.mask_files import find_images, list_annotations, read_mask, save_mask
from data.pixels import ImageHeader, read_header
from data.sample_index import shorten
from dnnlib import files

CLASSES_FILE = "classes.json"
DRAFT_FOLDER = "drafts"
ORIGINAL_FOLDER = "originals"
SUGGESTION_FOLDER = "suggestions"
_IMAGE_NAME = re.compile(r"image_(0|[1-9]\d{0,8})\.(jpe?g|png)")
_log = logging.getLogger(__name__)


class ConflictError(Exception):
    """A mask on disk is another one than the page believes."""


@dataclass(frozen=True)
class PairFiles:
    """The image files of a pair."""

    paths: dict[str, Path]  # by modality; RGB is always there
    width: int
    height: int


class AnnotationStore:
    """Masks of a folder of images. Methods may be called by several threads.

    Args:
        images: folder of image_N.jpg and image_N_NIR.jpg.
        folder: of the annotations; it is made with the first mask.
        classes: of the masks.

    Attributes:
        images: pairs by number, in numeric order.
    Raises: FileNotFoundError; ValueError where there is no image, a pair differs in size, or a
        mask that is there does not fit.
    """

    def __init__(self, images: Path, folder: Path, classes: ClassList) -> None:
        self.folder, self.classes = folder, classes
        self.images = _find_pairs(images)
        self._lock = threading.RLock()
        unknown = [str(number) for number in self._finished() if number not in self.images]
        if unknown:
            raise ValueError(f"{folder}: annotates images that {images} lacks: {shorten(unknown)}")
        for number in self.images:
            self.mask(number)

    def status(self) -> dict[int, str]:
        """Return "empty", "draft" or "done" of each image."""
        with self._lock:
            finished = self._finished()
            states = {}
            for number in self.images:
                is_draft = self._draft(number).is_file()
                states[number] = "draft" if is_draft else "done" if number in finished else "empty"
            return states

    def mask(self, number: int) -> np.ndarray:
        """Return an image's mask [H, W] uint8, all 0 where it has none.

        Raises: ValueError for a mask of another size, or that `read_mask` refuses.
        """
        pair = self.images[number]
        with self._lock:
            path = self._path(number)
            if path is None:
                return np.zeros([pair.height, pair.width], np.uint8)
            mask = read_mask(path, self.classes)
        if mask.shape != (pair.height, pair.width):
            raise ValueError(
                f"{path}: the mask must have the size of its image, {pair.width}x{pair.height}, "
                f"got {mask.shape[1]}x{mask.shape[0]}"
            )
        return mask

    def save(self, number: int, mask: np.ndarray, based_on: str | None = None) -> None:
        """Write a mask: a finished one stays finished, any other one is a draft.

        Args:
            number: of the image.
            mask: [H, W] uint8.
            based_on: `version` of the mask that was changed; None writes over any.
        Raises: ConflictError where the mask on disk is another one.
        """
        with self._lock:
            if based_on is not None and version(self.mask(number)) != based_on:
                raise ConflictError(f"image {number} was changed elsewhere")
            self._write_classes()
            if self.status()[number] == "done":
                self._write_finished(number, mask)
            else:
                save_mask(self._draft(number), mask, self.classes)

    def finish(self, number: int) -> None:
        """Make an image's draft, or an empty mask, its finished mask."""
        with self._lock:
            if self.status()[number] != "done":
                self._write_classes()
                self._write_finished(number, self.mask(number))

    def reopen(self, number: int) -> None:
        """Make a finished mask a draft again."""
        with self._lock:
            if self.status()[number] == "done":
                save_mask(self._draft(number), self.mask(number), self.classes)
            while (source := self._finished().get(number)) is not None:
                if source == self._final(number):
                    source.unlink()
                else:
                    self._keep_original(source)

    def finished_masks(self) -> dict[int, np.ndarray]:
        """Return the masks of all images that are done, by number."""
        with self._lock:
            return {k: self.mask(k) for k, state in self.status().items() if state == "done"}

    def _write_finished(self, number: int, mask: np.ndarray) -> None:
        """Write a finished mask; whatever file stood for it before is kept.

        Killed at any instant, this leaves the mask as a draft or finished, never neither.
        """
        source, draft = self._finished().get(number), self._draft(number)
        final = self._final(number)
        if source is not None and source != final:
            save_mask(draft, mask, self.classes)
            self._keep_original(source)
        save_mask(final, mask, self.classes)
        draft.unlink(missing_ok=True)

    def _keep_original(self, source: Path) -> None:
        target = self.folder / ORIGINAL_FOLDER / source.name
        count = 2
        while target.exists():
            target = target.with_name(f"{source.stem}-{count}{source.suffix}")
            count += 1
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        _log.info("%s: moved to %s, its mask was changed in the browser", source, target)

    def _write_classes(self) -> None:
        path, content = self.folder / CLASSES_FILE, class_list_as_json(self.classes)
        if not path.is_file():
            files.write_json(path, content)

    def _finished(self) -> dict[int, Path]:
        return list_annotations(self.folder) if self.folder.is_dir() else {}

    def _path(self, number: int) -> Path | None:
        draft = self._draft(number)
        return draft if draft.is_file() else self._finished().get(number)

    def _draft(self, number: int) -> Path:
        return self.folder / DRAFT_FOLDER / f"image_{number}_mask.png"

    def _final(self, number: int) -> Path:
        return self.folder / f"image_{number}_mask.png"


def version(mask: np.ndarray) -> str:
    """Return a name of a mask's content, 16 hex digits."""
    return hashlib.sha256(mask.tobytes()).hexdigest()[:16]


def _find_pairs(folder: Path) -> dict[int, PairFiles]:
    if not folder.is_dir():
        raise FileNotFoundError(f"--drawn: {folder}: no such folder of images")
    names = [
        re.fullmatch(r"image_(0|[1-9]\d{0,8})\.(jpe?g|png)", path.name) for path in folder.iterdir()
    ]
    pairs = {}
    for number in sorted({int(name[1]) for name in names if name}):
        paths = find_images([folder], number)
        sizes = {name: (header.width, header.height) for name, header in _headers(paths)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"{folder}: image {number} differs in size from its pair: {sizes}")
        pairs[number] = PairFiles(paths, *sizes["rgb"])
    if not pairs:
        raise ValueError(f"--drawn: {folder}: has no image_N.jpg")
    return pairs


def _headers(paths: dict[str, Path]) -> list[tuple[str, ImageHeader]]:
    return [(name, read_header(path)) for name, path in paths.items()]
