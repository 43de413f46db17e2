"""Class masks in GIMP's .xcf, flattened or indexed PNG and .npy files, and their images.

.xcf files are read through the optional library gimpformats.
"""

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.class_list import ClassList, unique_colours
from data.modalities import MODALITIES
from data.numbers import open_numbers
from data.pixels import check_area, open_image, raw_mode
from dnnlib import files

# In the folder that make_training_data.py writes.
IMAGE_FOLDER = "images_to_annotate"
SELECTION_FILE = "selection.json"

# Of several annotations of one image, the one with most information is taken.
_ENDINGS = (".xcf", ".npy", ".png")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_MASK_WORDS = ("mask", "label")
_INSTALL_HINT = "pip install -r requirements-extras.txt"
_OPAQUE = 128
_PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_PHOTO_COLOURS = 256  # more than that, and mostly no classes' colours: a photograph
_logger = logging.getLogger(__name__)


def find_annotations(folder: Path) -> dict[int, Path]:
    """Return the annotation of each image that counts, see `list_annotations`.

    Raises: FileNotFoundError; ValueError where there is none, or an image has two of one kind.
    """
    found = {k: first_annotation(k, paths) for k, paths in list_annotations(folder).items()}
    if not found:
        raise ValueError(
            f"{folder}: no annotations; expected names like image_3.xcf, image_3_mask.png or "
            "image_mask3.npy"
        )
    return found


def list_annotations(folder: Path) -> dict[int, list[Path]]:
    """Return all annotations of each image by the number in their names, in numeric order.

    Taken are .xcf and .npy files, and .png files with "mask" or "label" in the name. Where an
    image has several, .xcf goes before .npy and .png.

    Raises: FileNotFoundError.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of annotations")
    found: dict[int, list[Path]] = {}
    candidates = [path for path in folder.iterdir() if _is_annotation(path)]
    for path in sorted(candidates, key=lambda p: (_ENDINGS.index(p.suffix.lower()), p.name)):
        number = image_number(path)
        if number is not None:
            found.setdefault(number, []).append(path)
    return dict(sorted(found.items()))


def first_annotation(number: int, paths: Sequence[Path]) -> Path:
    """Return the one of an image's annotations that counts, of those of `list_annotations`.

    Raises: ValueError where there are two of its kind.
    """
    first, *others = paths
    for path in others:
        if path.suffix.lower() == first.suffix.lower():
            raise ValueError(f"{path}: image {number} is also annotated by {first.name}")
    return first


def find_images(folders: Sequence[Path], number: int) -> dict[str, Path]:
    """Return the first file of each modality of an image that the folders have, by modality."""
    paths = {}
    for modality in MODALITIES:
        stem = f"image_{number}{modality.suffix}"
        names = [folder / f"{stem}{end}" for folder in folders for end in _IMAGE_ENDINGS]
        present = [path for path in names if path.is_file()]
        if present:
            paths[modality.name] = present[0]
    return paths


def image_number(path: Path) -> int | None:
    """Return the last number in a file's name without its ending, or None.

    >>> image_number(Path("image_20_mask.png")), image_number(Path("image_mask3.npy"))
    (20, 3)
    """
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def read_selection(path: Path) -> list[int]:
    """Return the numbers of the images that a selection file proposes, in its order.

    Raises: FileNotFoundError; ValueError naming the file.
    """
    numbers = files.read_object(path, images=list)["images"]
    try:
        return [_whole_number(value) for value in numbers]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: images must be whole numbers: {numbers!r:.80}") from error


def read_annotation(path: Path, classes: ClassList) -> np.ndarray:
    """Read a mask from any of the known kinds of files.

    - .xcf: see `read_xcf_mask`.
    - .npy: [H, W] class numbers.
    - indexed PNG: by its colours where all of them are classes' colours, else indices are classes.
    - grey PNG: by `ClassList.classes_of_greys`; 16-bit values are classes.
    - colour PNG: by colour; where red, green and blue are equal everywhere and not all are
      classes' colours, as grey.
    Where a PNG's alpha is below 128, class 0, except where indices are classes.

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


def save_mask(path: Path, mask: np.ndarray, classes: ClassList) -> None:
    """Write a mask [H, W] uint8 as an indexed PNG in the classes' colours, atomically."""
    with files.atomic_write(path) as file:
        file.write(encode_mask(mask, classes))


def encode_mask(mask: np.ndarray, classes: ClassList) -> bytes:
    """Return the bytes of the file that `save_mask` writes."""
    image = Image.fromarray(mask)
    image.putpalette(classes.palette().ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _whole_number(value: Any) -> int:
    """Return a number that may also be written as "3" or 3.0."""
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError("not a whole number")
    return int(value)


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
    with open_image(path, kind="PNG") as image:
        # Of 16-bit colour Pillow keeps the upper byte.
        is_wide = raw_mode(image).endswith("16B")
        picture = image.copy()
    if picture.mode == "P" and not _has_class_palette(picture, classes, path):
        return _checked(np.asarray(picture), classes, path)
    if picture.mode.startswith("I"):
        return _checked(np.asarray(picture), classes, path)
    pixels = np.asarray(picture.convert("RGBA"))
    if is_wide and not pixels[..., :3].any():
        raise ValueError(f"{path}: 16-bit colours without an upper byte; save 8 bits, or grey")
    mask = np.zeros(pixels.shape[:2], np.uint8)
    is_opaque = pixels[..., 3] >= _OPAQUE
    mask[is_opaque] = _classes_of(pixels[..., :3][is_opaque], picture.mode, classes, str(path))
    return mask


def _classes_of(colours: np.ndarray, mode: str, classes: ClassList, where: str) -> np.ndarray:
    """Return the classes of a PNG's colours [n, 3] uint8; `mode` is Pillow's: [n] uint8."""
    is_grey = mode in ("1", "L", "LA")
    are_classes = bool(classes.is_class_colour(unique_colours(colours)[0]).all())
    if not is_grey and (colours == colours[:, :1]).all():
        is_grey = not are_classes
    if is_grey:
        return classes.classes_of_greys(colours[:, 0], where)
    if not are_classes and 0 < colours.max(initial=0) < len(classes):
        raise ValueError(f"{where}: class numbers in one channel of a colour PNG; save it as grey")
    return classes.classes_of_colours(colours, where)


def _has_class_palette(image: Image.Image, classes: ClassList, path: Path) -> bool:
    """Tell whether the palette's used colours are all classes' colours, so that they decide."""
    indices, first = np.unique(np.asarray(image), return_index=True)
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)[first]
    if classes.is_class_colour(colours).all():
        return True
    try:
        nearest = classes.classes_of_colours(colours, "")
    except ValueError:
        return False
    is_one_each = 1 < len(nearest) == len(np.unique(nearest))
    if is_one_each and (nearest != indices).any():
        raise ValueError(
            f"{path}: palette indices {indices.tolist()}, by their colours classes "
            f"{nearest.tolist()}; save it in RGB, or with exactly the classes' colours"
        )
    return False


# GIMP


@dataclass(frozen=True)
class Layer:
    """One layer that GIMP shows."""

    name: str  # as in GIMP
    pixels: np.ndarray  # [h, w, 4] uint8: red, green, blue, alpha
    # Position of its first pixel in the image.
    left: int
    top: int


def read_xcf_mask(path: Path, classes: ClassList) -> np.ndarray:
    """Return the class mask that an .xcf file's layers paint.

    Visible layers are taken from the bottom up. Where a layer's alpha is at least 128, the pixel
    takes the class that the layer is named after, or else that of its colour. Photographs are
    ignored: layers named like an image file, and layers of more than 256 colours of which most
    are no class's. What no layer covers is class 0. A layer's opacity does not count.

    Returns: [H, W] uint8.
    Raises: FileNotFoundError; ValueError for an unreadable file, unknown colours, or where the
        library is not installed.
    """
    size, layers = _read_layers(path)
    return flatten_layers(size, layers, classes, str(path))


def flatten_layers(
    size: tuple[int, int], layers: Sequence[Layer], classes: ClassList, where: str
) -> np.ndarray:
    """Paint layers over each other, the first one lowest; see `read_xcf_mask`.

    Args:
        size: height and width of the image.
        layers: visible ones, from the bottom up.
        classes: what names and colours mean.
        where: named in messages.
    Raises: ValueError for unknown colours, or where no layer is an annotation.
    """
    mask = np.zeros(size, np.uint8)
    painted = 0
    for layer in layers:
        number = classes.number_of(layer.name)
        if number is None and _is_photograph(layer, classes):
            _logger.info("%s: layer %r is a photograph, ignored", where, layer.name)
            continue
        region, pixels = _clipped(layer, size)
        is_opaque = pixels[..., 3] >= _OPAQUE
        if not is_opaque.any():
            _logger.warning("Warning: %s: layer %r covers no pixel of the image", where, layer.name)
        if number is None:
            colours = pixels[..., :3][is_opaque]
            mask[region][is_opaque] = classes.classes_of_colours(
                colours, f"{where}, layer {layer.name!r}"
            )
        else:
            mask[region][is_opaque] = number
        painted += 1
    if painted == 0:
        raise ValueError(f"{where}: no visible layer with an annotation")
    return mask


def _is_photograph(layer: Layer, classes: ClassList) -> bool:
    if layer.name.strip().lower().endswith(_PHOTO_ENDINGS):
        return True
    colours = layer.pixels[layer.pixels[..., 3] >= _OPAQUE][:, :3]
    if len(unique_colours(colours)[0]) <= _PHOTO_COLOURS:
        return False
    return bool(classes.is_class_colour(colours).mean() < 0.5)


def _clipped(layer: Layer, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the layer's region of the image and its pixels there."""
    height, width = layer.pixels.shape[:2]
    top, bottom = max(layer.top, 0), min(layer.top + height, size[0])
    left, right = max(layer.left, 0), min(layer.left + width, size[1])
    region = slice(top, max(top, bottom)), slice(left, max(left, right))
    rows = slice(top - layer.top, region[0].stop - layer.top)
    columns = slice(left - layer.left, region[1].stop - layer.left)
    return region, layer.pixels[rows, columns]


def _read_layers(path: Path) -> tuple[tuple[int, int], list[Layer]]:
    """Return height and width, and the visible layers from the bottom up."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        from gimpformats.gimpXcfDocument import GimpDocument  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ValueError(
            f"{path}: .xcf files need the library gimpformats ({_INSTALL_HINT}); "
            "or export flattened PNGs from GIMP"
        ) from error
    try:
        document = GimpDocument(str(path))
        check_area(document.width, document.height)
        layers = [_read_layer(layer) for layer in _visible(document.raw_layers)]
        size = int(document.height), int(document.width)
    except Exception as error:  # damaged files make the library raise whatever comes
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path}: not a readable .xcf file: {reason}") from error
    return size, layers[::-1]


def _visible(layers: Sequence[Any]) -> list[Any]:
    """Return layers that are shown, and are in no hidden group, in the file's order, top first."""
    hidden = [tuple(g.itemPath or ()) for g in layers if g.isGroup and not g.visible]
    shown = []
    for layer in layers:
        item_path = tuple(layer.itemPath or ())
        in_hidden_group = any(group and item_path[: len(group)] == group for group in hidden)
        if layer.visible and not layer.isGroup and not in_hidden_group:
            shown.append(layer)
    return shown


def _read_layer(layer: Any) -> Layer:
    pixels = np.array(layer.image.convert("RGBA"))
    if layer.mask is not None:
        mask = np.asarray(layer.mask.image.convert("L"))
        pixels[..., 3] = np.minimum(pixels[..., 3], mask)
    return Layer(str(layer.name), pixels, int(layer.xOffset), int(layer.yOffset))
