"""Reads class masks from .xcf, flattened or indexed PNG, and .npy files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.class_list import ClassList
from data.numbers import open_numbers
from interpreter.gimp import OPAQUE, read_xcf_mask

# Of several annotations of one image, the one with most information is taken.
_ENDINGS = (".xcf", ".npy", ".png")
_MASK_WORDS = ("mask", "label")


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation and the number of its image.

    Attributes:
        number: of the image, and of its latent's row.
        path: .xcf, .npy or .png.
    """

    number: int
    path: Path


def find_annotations(folder: Path) -> list[AnnotationFile]:
    """Return one annotation an image, by the number in its name, in numeric order.

    Taken are .xcf and .npy files, and .png files with "mask" or "label" in the name. Where an
    image has several, .xcf goes before .npy and .png.

    Raises: FileNotFoundError; ValueError where there is none, or two of the same kind.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of annotations")
    found: dict[int, Path] = {}
    candidates = [path for path in folder.iterdir() if _is_annotation(path)]
    for path in sorted(candidates, key=lambda p: (_ENDINGS.index(p.suffix.lower()), p.name)):
        number = image_number(path)
        if number is None:
            continue
        other = found.setdefault(number, path)
        if other != path and other.suffix.lower() == path.suffix.lower():
            raise ValueError(f"{path}: image {number} is also annotated by {other.name}")
    if not found:
        raise ValueError(
            f"{folder}: no annotations; expected names like image_3.xcf, image_3_mask.png or "
            "image_mask3.npy"
        )
    return [AnnotationFile(number, found[number]) for number in sorted(found)]


def image_number(path: Path) -> int | None:
    """Return the last number in a file's name without its ending, or None.

    >>> image_number(Path("image_20_mask.png")), image_number(Path("image_mask3.npy"))
    (20, 3)
    """
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def read_mask(path: Path, classes: ClassList) -> np.ndarray:
    """Read a mask from any of the known kinds of files.

    - .xcf: see `gimp.read_xcf_mask`.
    - .npy: [H, W] class numbers.
    - indexed PNG: by its colours where all of them are classes' colours, else indices are classes.
    - grey PNG: by the classes' grey values where all are among them; else, where all are below the
      number of classes, values are classes; else by the nearest grey value.
    - colour PNG: by colour; where alpha is below 128, class 0.

    Returns: [H, W] uint8, below the number of classes.
    Raises: FileNotFoundError; ValueError naming the file for a class beyond the list, unknown
        colours, or an unreadable file.
    """
    ending = path.suffix.lower()
    if ending == ".xcf":
        return read_xcf_mask(path, classes)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if ending == ".npy":
        array = open_numbers(path, str(path), kinds="biuf")
        if array.dtype.kind == "f" or array.ndim != 2:
            raise ValueError(f"{path}: a mask must be whole numbers of shape [H, W]")
        return _checked(np.array(array), classes, path)
    return _read_png(path, classes)


def _is_annotation(path: Path) -> bool:
    stem, ending = path.stem.lower(), path.suffix.lower()
    if ending == ".png":
        return any(word in stem for word in _MASK_WORDS)
    return ending in _ENDINGS and "latent" not in stem


def _checked(values: np.ndarray, classes: ClassList, path: Path) -> np.ndarray:
    if values.size == 0 or int(values.min()) < 0 or int(values.max()) >= len(classes):
        found = "nothing" if values.size == 0 else f"{int(values.min())}..{int(values.max())}"
        raise ValueError(f"{path}: classes must be from 0 to {len(classes) - 1}, got {found}")
    return values.astype(np.uint8)


def _read_png(path: Path, classes: ClassList) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            picture = image.copy()
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a PNG image") from error
    except Exception as error:  # damaged bytes raise OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{path}: damaged image: {error}") from error
    if picture.mode == "P" and not _has_class_palette(picture, classes):
        return _checked(np.asarray(picture), classes, path)
    if picture.mode in ("1", "L"):
        return _from_greys(np.asarray(picture.convert("L")), classes, path)
    if picture.mode.startswith("I"):
        return _checked(np.asarray(picture), classes, path)
    pixels = np.asarray(picture.convert("RGBA"))
    mask = np.zeros(pixels.shape[:2], np.uint8)
    is_opaque = pixels[..., 3] >= OPAQUE
    mask[is_opaque] = classes.classes_of_colours(pixels[..., :3][is_opaque], str(path))
    return mask


def _has_class_palette(image: Image.Image, classes: ClassList) -> bool:
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return bool(classes.is_class_colour(np.unique(colours, axis=0)).all())


def _from_greys(values: np.ndarray, classes: ClassList, path: Path) -> np.ndarray:
    used = set(np.unique(values).tolist())
    greys = {entry.grey_value for entry in classes.classes}
    if used - greys and max(used) < len(classes):
        return values.astype(np.uint8)
    if len(greys) < len(classes):
        raise ValueError(f"{path}: two classes have the same grey value; give each its own grey")
    return classes.classes_of_greys(values.ravel(), str(path)).reshape(values.shape)
