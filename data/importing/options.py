"""What an import does: options, the crop rule and the rule that names pairs."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath

from data.modalities import MIN_RESOLUTION, MODALITIES, is_resolution

_MAX_MARGIN = 4.0
_CROP_RULE = "center, none or X,Y,W,H with W = H"


class OutputFormat(Enum):
    """How images are written; the value is the file name's ending."""

    PNG = "png"
    JPG = "jpg"


class FaceMethod(Enum):
    """How faces are found; the value is the option's."""

    NONE = "none"
    MTCNN = "mtcnn"


class CropKind(Enum):
    """Which square of an image is taken."""

    CENTER = "center"
    NONE = "none"
    BOX = "box"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Which square of an image is taken, the same of all images of a pair.

    Attributes:
        kind: the largest one in the middle, the whole image (which must be square), or a box.
        x: left edge of the box in pixels.
        y: upper edge.
        side: of the box.
    """

    kind: CropKind
    x: int = 0
    y: int = 0
    side: int = 0

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Read "center", "none" or "x,y,w,h".

        Raises: ValueError for anything else.
        """
        if text in (CropKind.CENTER.value, CropKind.NONE.value):
            return cls(kind=CropKind(text))
        match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
        if match is None:
            raise ValueError(f"--crop must be {_CROP_RULE}, got {text!r}")
        x, y, width, height = map(int, match.groups())
        if width != height or width < MIN_RESOLUTION:
            raise ValueError(
                f"--crop must be {_CROP_RULE}, at least {MIN_RESOLUTION} pixels, got {text!r}"
            )
        return cls(kind=CropKind.BOX, x=x, y=y, side=width)

    def square_in(self, width: int, height: int) -> tuple[int, int, int] | None:
        """Return (x, y, side) of the square in an image, or None where there is none.

        >>> Crop.parse("center").square_in(10, 7)
        (1, 0, 7)
        """
        if self.kind is CropKind.CENTER:
            side = min(width, height)
            return (width - side) // 2, (height - side) // 2, side
        if self.kind is CropKind.NONE:
            return (0, 0, width) if width == height else None
        is_inside = self.x + self.side <= width and self.y + self.side <= height
        return (self.x, self.y, self.side) if is_inside else None


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the imported data set depends on, beside the files themselves.

    Attributes:
        source: data set or archive in one of the layouts of data/pairs.py, or None.
        folders: modality -> folder or archive with its images; instead of `source`.
        pair_regex: which part of a name the images of a pair share, see `NameRule`; None matches
            whole names without their ending.
        crop: see Crop.parse.
        resolution: side of the written images; None takes the largest power of two that fits all.
        format: of the written images.
        quality: of JPEG files, 1..100.
        max_images: how many pairs to take, the first by name; None takes all.
        align: how the face is found on the RGB image that both images of a pair are turned, scaled
            and moved by; NONE crops instead.
        align_margin: added on each side of ArcFace's crop, as a fraction of the crop's width.
        align_max_upscale: written pixels a source pixel, at most; smaller faces are left out.
        align_max_outside: part of the aligned image that may lie beyond the source's border, where
            it is mirrored.
        align_several: whether an image of several faces is taken, with the likeliest of them.
        face_check: how every written RGB image is checked for one frontal face; recorded with the
            data set. None checks nothing and records nothing, NONE records that there are none.
    """

    source: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    pair_regex: str | None = None
    crop: str = "center"
    resolution: int | None = None
    format: OutputFormat = OutputFormat.PNG
    quality: int = 95
    max_images: int | None = None
    align: FaceMethod = FaceMethod.NONE
    align_margin: float = 0.0
    align_max_upscale: float = 1.5
    align_max_outside: float = 0.2
    align_several: bool = False
    face_check: FaceMethod | None = None

    def __post_init__(self) -> None:
        Crop.parse(self.crop)
        self._check_alignment()
        names = [modality.name for modality in MODALITIES]
        if (self.source is None) != (sorted(self.folders) == sorted(names)) or (
            self.source is not None and self.folders
        ):
            options = " and ".join(f"--{name}" for name in names)
            given = [f"--{name}" for name in self.folders] + ["--source"] * bool(self.source)
            raise ValueError(
                f"either --source or {options} must be given, got {', '.join(given) or 'none'}"
            )
        if self.resolution is not None and not is_resolution(self.resolution):
            raise ValueError(
                f"--resolution must be a power of two of at least {MIN_RESOLUTION}, "
                f"got {self.resolution}"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality must be in 1..100, got {self.quality}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"--max-images must be at least 1, got {self.max_images}")
        self.name_rule()

    @property
    def needs_faces(self) -> bool:
        """Whether a face detector has work to do."""
        return FaceMethod.MTCNN in (self.align, self.face_check)

    def _check_alignment(self) -> None:
        if not 0 <= self.align_margin <= _MAX_MARGIN:
            raise ValueError(f"--align-margin must be in 0..{_MAX_MARGIN}, got {self.align_margin}")
        if not 0 < self.align_max_upscale < math.inf:
            raise ValueError(f"--align-max-upscale must be above 0, got {self.align_max_upscale}")
        if not 0 <= self.align_max_outside <= 1:
            raise ValueError(f"--align-max-outside must be in 0..1, got {self.align_max_outside}")
        if self.align is FaceMethod.NONE:
            return
        if self.resolution is None:
            raise ValueError(f"--align={self.align.value} needs --resolution, got none")
        if self.crop != CropKind.CENTER.value:
            raise ValueError(
                f"--crop must be left out with --align={self.align.value}, got {self.crop!r}"
            )

    def name_rule(self) -> "NameRule":
        """Return the rule that names pairs."""
        return NameRule(self.pair_regex)

    def with_absolute_paths(self) -> "ImportOptions":
        """Return the options so that they mean the same in any working directory."""
        return dataclasses.replace(
            self,
            source=self.source and os.path.abspath(self.source),  # noqa: PTH100 - keeps links
            folders={name: os.path.abspath(path) for name, path in self.folders.items()},  # noqa: PTH100
        )


class NameRule:
    """Finds a pair's name, and where asked the modality, in a file's name.

    The expression is searched in the path below the folder, without ending. The pair's name is
    the group `id`, or the first group. With groups called `rgb` and `nir`, a file belongs to the
    modality whose group takes part in the match, and all images may lie in one folder:
    `(?P<id>.+)_(?:(?P<rgb>vis)|(?P<nir>ir))`.

    Args:
        pattern: Python regular expression; None names pairs by the whole path.
    Raises: ValueError for an expression that is broken or lacks a group.
    """

    def __init__(self, pattern: str | None) -> None:
        self._pattern = None
        self.has_modalities = False
        if pattern is None:
            return
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"--pair-regex {pattern!r}: {error}") from error
        groups = self._pattern.groupindex
        modalities = [m.name for m in MODALITIES if m.name in groups]
        if modalities and len(modalities) != len(MODALITIES):
            raise ValueError(
                f"--pair-regex {pattern!r}: must have a group for every modality or for none, "
                f"got {', '.join(modalities)}"
            )
        self.has_modalities = bool(modalities)
        numbers = set(range(1, self._pattern.groups + 1)) - {groups[name] for name in modalities}
        if not numbers:
            raise ValueError(f"--pair-regex {pattern!r}: must have a group, such as (?P<id>...)")
        self._group = groups.get("id", min(numbers))

    def apply(self, stem: str) -> tuple[str, str | None] | None:
        """Return the pair's name and the modality (None where the rule does not tell).

        None where the expression does not match, or gives a name that no file may have.
        """
        if self._pattern is None:
            return stem, None
        match = self._pattern.search(stem)
        name = (match[self._group] or "").strip("/") if match else ""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if match is None or not parts or any(part.startswith((".", "/")) for part in parts):
            return None
        found = [m.name for m in MODALITIES if self.has_modalities and match[m.name] is not None]
        if self.has_modalities and len(found) != 1:
            return None
        return "/".join(parts), found[0] if found else None
