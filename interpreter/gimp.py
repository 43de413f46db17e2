"""Reads GIMP's .xcf files through the optional library gimpformats: layers to classes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.class_list import ClassList

INSTALL_HINT = "pip install -r requirements-extras.txt"
OPAQUE = 128
_PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_PHOTO_COLOURS = 256  # more than that, and mostly no classes' colours: a photograph
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """One layer that GIMP shows.

    Attributes:
        name: as in GIMP.
        pixels: [h, w, 4] uint8: red, green, blue, alpha.
        left, top: position of its first pixel in the image.
    """

    name: str
    pixels: np.ndarray
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
        is_opaque = pixels[..., 3] >= OPAQUE
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
    colours = layer.pixels[layer.pixels[..., 3] >= OPAQUE][:, :3]
    if len(np.unique(colours, axis=0)) <= _PHOTO_COLOURS:
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
            f"{path}: .xcf files need the library gimpformats ({INSTALL_HINT}); "
            "or export flattened PNGs from GIMP"
        ) from error
    try:
        document = GimpDocument(str(path))
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
