"""The files of an annotation: images, masks of three kinds of progress, and class list.

ANNOTATIONS/classes.json, image_N_mask.png   finished masks, as preprocess_annotations.py reads
ANNOTATIONS/drafts/image_N_mask.png          masks in work, which it does not see
ANNOTATIONS/originals/                       files of other programs whose masks were changed here
ANNOTATIONS/suggestions/                     what the interpreter makes of the other images

Of a draft and a finished mask of one image, the one that was written last counts.
"""

import hashlib
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.class_list import CLASSES_FILE, ClassList, class_list_as_json
from data.mask_files import (
    encode_mask,
    find_images,
    first_annotation,
    list_annotations,
    read_annotation,
    save_mask,
)
from data.pixels import read_header
from data.sample_index import shorten
from dnnlib import files

DRAFT_FOLDER = "drafts"
ORIGINAL_FOLDER = "originals"
SUGGESTION_FOLDER = "suggestions"
_IMAGE_NAME = re.compile(r"image_(0|[1-9]\d{0,8})\.(jpe?g|png)")
_log = logging.getLogger(__name__)


class ConflictError(Exception):
    """A mask on disk is another one than the page believes."""


class AbsentError(Exception):
    """What was asked for is not there."""


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
        folder: of the annotations, which need not be there.
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
        finished = self._finished()
        unknown = [str(number) for number in finished if number not in self.images]
        if unknown:
            raise ValueError(f"{folder}: annotates images that {images} lacks: {shorten(unknown)}")
        for number in self.images:
            self._mask(number, finished)

    def pair(self, number: int) -> PairFiles:
        """Return an image's files. Raises: AbsentError."""
        if number not in self.images:
            raise AbsentError(f"there is no image {number}")
        return self.images[number]

    def status(self) -> dict[int, str]:
        """Return "empty", "draft" or "done" of each image."""
        with self._lock:
            return self._status(self._finished())

    def mask(self, number: int) -> np.ndarray:
        """Return an image's mask [H, W] uint8, all 0 where it has none.

        Raises: AbsentError; ValueError for a mask of another size, that `read_annotation` refuses,
            or where there are two.
        """
        with self._lock:
            return self._mask(number, self._finished())

    def save(self, number: int, mask: np.ndarray, based_on: str | None = None) -> None:
        """Write a mask: a finished one stays finished, any other one is a draft.

        Args:
            number: of the image.
            mask: [H, W] uint8.
            based_on: `version` of the mask that was changed; None writes over any.
        Raises: ConflictError where the mask on disk is another one.
        """
        with self._lock:
            self._check(number, based_on)
            self._write_classes()
            if self.status()[number] == "done":
                self._write_finished(number, mask)
            else:
                save_mask(self._draft(number), mask, self.classes)

    def finish(self, number: int, based_on: str | None = None) -> None:
        """Make an image's draft, or an empty mask, its finished mask; see `save`."""
        with self._lock:
            self._check(number, based_on)
            if self.status()[number] != "done":
                self._write_classes()
                self._write_finished(number, self.mask(number))

    def reopen(self, number: int) -> None:
        """Make a finished mask a draft again."""
        with self._lock:
            if self.status()[number] == "done":
                self._to_draft(number, self.mask(number))

    def finished_masks(self) -> dict[int, np.ndarray]:
        """Return the masks of all images that are done, by number."""
        with self._lock:
            finished = self._finished()
            states = self._status(finished)
            return {k: self._mask(k, finished) for k in self.images if states[k] == "done"}

    def _status(self, finished: dict[int, list[Path]]) -> dict[int, str]:
        states = {}
        for number in self.images:
            paths = self._newest(number, finished.get(number, []))
            is_draft = paths == [self._draft(number)]
            states[number] = "draft" if is_draft else "done" if paths else "empty"
        return states

    def _mask(self, number: int, finished: dict[int, list[Path]]) -> np.ndarray:
        pair = self.pair(number)
        paths = self._newest(number, finished.get(number, []))
        if not paths:
            return np.zeros([pair.height, pair.width], np.uint8)
        path = first_annotation(number, paths)
        mask = read_annotation(path, self.classes)
        if mask.shape != (pair.height, pair.width):
            raise ValueError(
                f"{path}: the mask must have the size of its image, {pair.width}x{pair.height}, "
                f"got {mask.shape[1]}x{mask.shape[0]}"
            )
        return mask

    def _check(self, number: int, based_on: str | None) -> None:
        if based_on is not None and version(self.mask(number)) != based_on:
            raise ConflictError(f"image {number} was changed elsewhere")

    def _write_finished(self, number: int, mask: np.ndarray) -> None:
        """Write a finished mask. Killed at any instant, this leaves it as a draft or finished."""
        sources, draft = self._finished().get(number, []), self._draft(number)
        if sources and (draft.is_file() or not self._are_own(number, sources)):
            self._to_draft(number, mask)
        save_mask(self._final(number), mask, self.classes)
        draft.unlink(missing_ok=True)

    def _to_draft(self, number: int, mask: np.ndarray) -> None:
        """Write a draft and take finished masks away; what was not written here is kept."""
        sources, draft = self._finished()[number], self._draft(number)
        if draft.is_file() and self._newest(number, sources) != [draft]:
            self._keep_original(draft)
        save_mask(draft, mask, self.classes)
        are_own = self._are_own(number, sources)
        for source in sources:
            if are_own:
                source.unlink()
            else:
                self._keep_original(source)

    def _are_own(self, number: int, sources: list[Path]) -> bool:
        """Tell whether finished masks are one that is, byte for byte, as it is written here."""
        if sources != [self._final(number)]:
            return False
        mask = read_annotation(sources[0], self.classes)
        return sources[0].read_bytes() == encode_mask(mask, self.classes)

    def _keep_original(self, source: Path) -> None:
        target = self.folder / ORIGINAL_FOLDER / source.name
        count = 2
        while target.exists():
            target = target.with_name(f"{source.stem}-{count}{source.suffix}")
            count += 1
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        _log.info("%s: moved to %s, the mask was changed in the browser", source, target)

    def _write_classes(self) -> None:
        path, content = self.folder / CLASSES_FILE, class_list_as_json(self.classes)
        if not path.is_file():
            files.write_json(path, content)

    def _finished(self) -> dict[int, list[Path]]:
        return list_annotations(self.folder) if self.folder.is_dir() else {}

    def _newest(self, number: int, finished: list[Path]) -> list[Path]:
        """Return the draft alone where it was written after all finished masks, else those."""
        draft = self._draft(number)
        if not draft.is_file():
            return finished
        written = [path.stat().st_mtime_ns for path in (draft, *finished)]
        return [draft] if written[0] == max(written) else finished

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
    names = [_IMAGE_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_file()]
    pairs = {}
    for number in sorted({int(name[1]) for name in names if name}):
        paths = find_images([folder], number)
        headers = {name: read_header(path) for name, path in paths.items()}
        sizes = {name: (header.width, header.height) for name, header in headers.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"{folder}: image {number} differs in size from its pair: {sizes}")
        pairs[number] = PairFiles(paths, *sizes["rgb"])
    if not pairs:
        raise ValueError(f"--drawn: {folder}: has no image_N.jpg")
    return pairs
