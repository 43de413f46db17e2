"""Names, colours and aliases of the classes that people paint, and pixels of colours to classes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.sample_index import shorten
from dnnlib import files

Colour = tuple[int, int, int]
MAX_CLASSES = 255
CLASSES_FILE = "classes.json"  # of a folder of masks
DEFAULT_MAX_DISTANCE = 30.0
_LUMA = (299, 587, 114)  # ITU-R BT.601, in thousandths


@dataclass(frozen=True, kw_only=True)
class AnnotationClass:
    """One class; its number is its index in the list."""

    name: str  # in file and layer names
    colour: Colour  # red, green, blue 0..255
    aliases: tuple[str, ...] = ()  # further layer names
    grey: int | None = None  # value in grey images; None is the colour's luma
    mirror: str | None = None  # what it becomes in a flipped image, such as right_eye of left_eye

    @property
    def grey_value(self) -> int:
        """Value 0..255 in grey images.

        >>> AnnotationClass(name="iris", colour=(0, 0, 255)).grey_value
        29
        """
        if self.grey is not None:
            return self.grey
        return sum(w * c for w, c in zip(_LUMA, self.colour, strict=True)) // 1000


OCULAR_CLASSES = (
    AnnotationClass(name="background", colour=(0, 0, 0)),
    AnnotationClass(name="iris", colour=(0, 0, 255)),
    AnnotationClass(name="pupil", colour=(255, 0, 0)),
    AnnotationClass(name="sclera", colour=(0, 255, 0)),
)


@dataclass(frozen=True)
class ClassList:
    """All classes, class 0 first."""

    classes: tuple[AnnotationClass, ...] = OCULAR_CLASSES  # with names and colours of their own
    # Euclidean, in RGB: up to which another colour counts as the nearest class's.
    max_distance: float = DEFAULT_MAX_DISTANCE
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"classes: 2 to {MAX_CLASSES} are possible, got {len(self.classes)}")
        for colour, count in Counter(entry.colour for entry in self.classes).items():
            if count > 1:
                raise ValueError(f"classes: colour {list(colour)} belongs to two classes")
        numbers: dict[str, int] = {}
        for number, entry in enumerate(self.classes):
            for name in (entry.name, *entry.aliases):
                if numbers.setdefault(name.casefold(), number) != number:
                    raise ValueError(f"classes: name {name!r} belongs to two classes")
        object.__setattr__(self, "_numbers", numbers)
        mirrored = self.mirrored()
        for number, other in enumerate(mirrored):
            if mirrored[other] != number:
                a, b = self.classes[number].name, self.classes[other].name
                raise ValueError(f"classes: {b!r} is the mirror of {a!r} but not the reverse")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, in order."""
        return tuple(entry.name for entry in self.classes)

    def number_of(self, name: str) -> int | None:
        """Return the class with this name or alias, in any case; None where there is none."""
        return self._numbers.get(name.strip().casefold())

    def mirrored(self) -> tuple[int, ...]:
        """Return the number that each class has in a flipped image.

        Raises: ValueError where a class has a mirror that is none of the classes.
        """
        numbers = []
        for number, entry in enumerate(self.classes):
            other = number if entry.mirror is None else self.number_of(entry.mirror)
            if other is None:
                raise ValueError(f"class {number}: its mirror {entry.mirror!r} is no class")
            numbers.append(other)
        return tuple(numbers)

    def palette(self) -> np.ndarray:
        """Return the colours, [K, 3] uint8."""
        return np.array([entry.colour for entry in self.classes], np.uint8)

    def is_class_colour(self, pixels: np.ndarray) -> np.ndarray:
        """Tell which colours [n, 3] uint8 are exactly those of a class."""
        return (pixels[:, None] == self.palette()).all(axis=2).any(axis=1)

    def classes_of_colours(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the classes of colours.

        Args:
            pixels: [n, 3] uint8.
            where: file, and layer if there are any, for messages.
        Returns: [n] uint8.
        Raises: ValueError that lists colours that are too far from all classes.
        """
        if len(pixels) == 0:
            return np.zeros(0, np.uint8)
        unique, inverse, counts = unique_colours(pixels)
        squared = ((unique[:, None].astype(np.int64) - self.palette()) ** 2).sum(axis=2)
        is_far = squared.min(axis=1) > self.max_distance**2
        if is_far.any():
            found = _counted(unique[is_far], counts[is_far])
            raise ValueError(f"{where}: colours that are no class's and near none: {found}")
        return squared.argmin(axis=1).astype(np.uint8)[inverse]

    def classes_of_greys(self, values: np.ndarray, where: str) -> np.ndarray:
        """Return the classes of grey values [n] uint8: [n] uint8.

        Where all values are classes' greys, they are these classes; else, where all are below the
        number of classes, they are class numbers; else greys that another program rounded to a
        neighbouring value.

        Raises: ValueError that lists values which fit neither way, or says that all fit both ways.
        """
        if len(values) == 0:
            return np.zeros(0, np.uint8)
        greys = np.array([entry.grey_value for entry in self.classes])
        used, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        distances = np.abs(used[:, None].astype(int) - greys)
        found, is_number = distances.argmin(axis=1), used < len(self)
        rounding = np.where((greys > 0) & (greys < 255), min(1, self.max_distance), 0)[found]
        is_exact, is_near = distances.min(axis=1) == 0, distances.min(axis=1) <= rounding
        if not is_exact.all() and is_number.all():
            found = used
        elif len(np.unique(greys)) < len(self):
            raise ValueError(f"{where}: two classes have the same grey value; give each its own")
        elif is_number.all() and (found != used).any():
            raise ValueError(
                f"{where}: the values {used.tolist()} are other classes as class numbers than as "
                "greys; save class numbers as .npy, or give the classes other greys"
            )
        elif not is_near.all():
            fits = is_near if counts[is_near].sum() > counts[is_number].sum() else is_number
            raise ValueError(
                f"{where}: values that are no class's: {_counted(used[~fits], counts[~fits])}; a "
                f"grey mask holds class numbers, 0 to {len(self) - 1}, or the classes' greys, "
                f"{', '.join(map(str, greys))}"
            )
        return found.astype(np.uint8)[inverse.ravel()]


def unique_colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the colours [u, 3] that pixels [n, 3] uint8 have, which each has, and their counts.

    As `np.unique` of rows does, which takes ten times as long.
    """
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    unique, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=1)
    return colours.astype(np.uint8), inverse, counts


def load_class_list(path: Path, max_distance: float = DEFAULT_MAX_DISTANCE) -> ClassList:
    """Read a JSON list of objects with name, color and, where wanted, aliases, grey and mirror.

    An object with such a list under "classes", such as an example data set's dataset_info.json,
    is read too.

    Raises: FileNotFoundError; ValueError that names the file and what is wrong in it.
    """
    content = files.read_json(path)
    if isinstance(content, dict):
        content = content.get("classes")
    return class_list_from_json(content, str(path), max_distance)


def class_list_from_json(
    content: Any, where: str, max_distance: float = DEFAULT_MAX_DISTANCE
) -> ClassList:
    """Return the class list of a JSON list, see `load_class_list`; `where` is named in messages."""
    if not isinstance(content, list):
        raise ValueError(f"{where}: expected a list of classes with name and color")
    try:
        entries = tuple(_read_class(entry, number) for number, entry in enumerate(content))
        return ClassList(entries, max_distance)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def class_list_as_json(classes: ClassList) -> list[dict[str, Any]]:
    """Return what `load_class_list` reads."""
    return [
        {
            "name": entry.name,
            "color": list(entry.colour),
            "aliases": list(entry.aliases),
            "grey": entry.grey_value,
            **({} if entry.mirror is None else {"mirror": entry.mirror}),
        }
        for entry in classes.classes
    ]


def _read_class(entry: Any, number: int) -> AnnotationClass:
    where = f"class {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {type(entry).__name__}")
    unknown = sorted(entry.keys() - {"id", "name", "color", "aliases", "grey", "mirror"})
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}")
    if entry.get("id", number) != number:
        raise ValueError(f"{where}: its id must be its index in the list, got {entry['id']!r}")
    name, colour, aliases = entry.get("name"), entry.get("color"), entry.get("aliases", [])
    grey, mirror = entry.get("grey"), entry.get("mirror")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: name must be a text, got {name!r}")
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise ValueError(f"{where}: aliases must be a list of texts, got {aliases!r}")
    if not isinstance(colour, list) or len(colour) != 3 or not all(map(_is_byte, colour)):
        raise ValueError(f"{where}: color must be [red, green, blue] 0..255, got {colour!r}")
    if grey is not None and not _is_byte(grey):
        raise ValueError(f"{where}: grey must be from 0 to 255, got {grey!r}")
    if mirror is not None and not isinstance(mirror, str):
        raise ValueError(f"{where}: mirror must be the name of a class, got {mirror!r}")
    return AnnotationClass(
        name=name, colour=tuple(colour), aliases=tuple(aliases), grey=grey, mirror=mirror
    )


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _counted(values: np.ndarray, counts: np.ndarray) -> str:
    order = np.argsort(-counts, kind="stable")
    return shorten([f"{values[i].tolist()} ({counts[i]} pixels)" for i in order])
