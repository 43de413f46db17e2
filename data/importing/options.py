"""Options of an import, the crop rule and the rule that names pairs."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from data.modalities import MIN_RESOLUTION, MODALITIES, is_resolution
from dnnlib.options import Options, device_option, fresh_option, option, outdir_option

FaceMethod = Literal["none", "mtcnn"]
_CROP_RULE = "center, none or X,Y,W,H with W = H"


@dataclass(frozen=True, kw_only=True)
class ImportOptions(Options):
    """Import pairs from anywhere: matched by name, cropped or aligned, resized, reported.

    Pairs that cannot be used are skipped, counted and listed in import_report.json; those skipped
    for their faces are shown in skipped_faces.png. Labels in identity_features.json and
    dataset.json are kept. Repeating the command continues it.
    """

    source: Path | None = option(
        None,
        metavar="DIR|ZIP",
        help="Data set or zip archive with the folders VIS and NIR, or images and NIR; with "
        "--pair-regex groups for the modalities, any folder or archive.",
        heading="Images",
    )
    rgb: Path | None = option(
        None, metavar="DIR|ZIP", help="Folder of RGB images, instead of --source."
    )
    nir: Path | None = option(
        None, metavar="DIR|ZIP", help="Folder of NIR images, instead of --source."
    )
    pair_regex: str | None = option(
        None,
        metavar="REGEX",
        help="Where names differ: the group `id` (or the first group), searched in the path "
        "without ending, names the pair. With groups called `rgb` and `nir`, an image belongs to "
        "the one that takes part in the match, and all images may lie in one folder.",
    )
    max_images: int | None = option(
        None, ge=1, metavar="PAIRS", help="Take only the first pairs by name."
    )
    outdir: Path = outdir_option("Directory of the data set.")
    resolution: int | None = option(
        None,
        metavar="PIXELS",
        help="Side of the written images, a power of two; smaller pairs are skipped.",
        shown_default="the largest that fits all pairs",
        heading="Pixels",
    )
    crop: str = option(
        "center",
        metavar="center|none|X,Y,W,H",
        help="Square to take: the largest in the middle, all of an image that is square, or a box "
        "in pixels.",
    )
    format: Literal["png", "jpg"] = option("png", help="Format of the written images.")
    quality: int = option(95, ge=1, le=100, help="Quality of JPEG files.")
    align: FaceMethod = option(
        "none",
        help="mtcnn: find the face on the RGB image and bring both images to ArcFace's template "
        "by one similarity transform, instead of --crop; needs --resolution.",
        heading="Faces",
    )
    align_margin: float = option(
        0.0,
        ge=0,
        le=4,
        metavar="FRACTION",
        help="Added on each side of ArcFace's crop, in widths of it: 0 for recognition, about 0.3 "
        "to show hair and chin.",
    )
    align_max_upscale: float = option(
        1.5,
        gt=0,
        metavar="FACTOR",
        help="Smaller faces are skipped instead of being enlarged further.",
    )
    align_max_outside: float = option(
        0.2,
        ge=0,
        le=1,
        metavar="FRACTION",
        help="Part of an aligned image that may lie beyond the border, where it is mirrored.",
    )
    align_several: bool = option(False, help="Of several faces, take the likeliest; else none.")
    face_check: FaceMethod | None = option(
        None,
        help="Recorded with the data set. mtcnn: skip images that do not show one likely, frontal "
        "face as written; none: drawings, eyes.",
        shown_default="no record",
    )
    device: Literal["auto", "cpu", "cuda"] = device_option(
        "cpu",
        help="Device of the face detector; aligned images may differ in single bits between "
        "devices.",
    )
    strict: bool = option(
        False, help="Skip nothing: what cannot be used is an error.", heading="General"
    )
    workers: int | None = option(
        None, ge=1, metavar="THREADS", help="Threads.", shown_default="one a processor"
    )
    fresh: bool = fresh_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.square_rule()
        self.name_rule()
        if self.resolution is not None and not is_resolution(self.resolution):
            raise ValueError(
                f"--resolution must be a power of two of at least {MIN_RESOLUTION}, "
                f"got {self.resolution}"
            )
        if self.align != "none" and self.resolution is None:
            raise ValueError(f"--align={self.align} needs --resolution, got none")
        if self.align != "none" and self.crop != "center":
            raise ValueError(f"--crop: leave it out with --align={self.align}, got {self.crop!r}")
        given = {name for name in ("source", "rgb", "nir") if getattr(self, name) is not None}
        if given not in ({"source"}, {m.name for m in MODALITIES}):
            names = ", ".join(f"--{name}" for name in sorted(given)) or "none"
            raise ValueError(f"either --source or --rgb and --nir must be given, got {names}")

    @property
    def needs_faces(self) -> bool:
        """Whether a face detector has work to do."""
        return "mtcnn" in (self.align, self.face_check)

    def square_rule(self) -> "Crop":
        """Return the rule of --crop."""
        return Crop.parse(self.crop)

    def name_rule(self) -> "NameRule":
        """Return the rule of --pair-regex."""
        return NameRule(self.pair_regex)

    def identity(self) -> dict[str, Any]:
        """Return what decides the content beside the source's files, as plain JSON values."""
        others = ("outdir", "device", "strict", "workers", "fresh")
        values = {name: value for name, value in vars(self).items() if name not in others}
        for name in ("source", "rgb", "nir"):
            path = values[name]
            values[name] = path and os.path.abspath(path)  # noqa: PTH100 - keeps links
        return values


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Which square of an image is taken, the same of all images of a pair.

    Attributes:
        kind: the largest one in the middle, the whole image (which must be square), or a box.
        x: left edge of the box in pixels.
        y: upper edge.
        side: of the box.
    """

    kind: Literal["center", "none", "box"]
    x: int = 0
    y: int = 0
    side: int = 0

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Read "center", "none" or "x,y,w,h".

        Raises: ValueError for anything else.
        """
        if text in ("center", "none"):
            return cls(kind=text)
        match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
        if match is None:
            raise ValueError(f"--crop must be {_CROP_RULE}, got {text!r}")
        x, y, width, height = map(int, match.groups())
        if width != height or width < MIN_RESOLUTION:
            raise ValueError(
                f"--crop must be {_CROP_RULE}, at least {MIN_RESOLUTION} pixels, got {text!r}"
            )
        return cls(kind="box", x=x, y=y, side=width)

    def square_in(self, width: int, height: int) -> tuple[int, int, int] | None:
        """Return (x, y, side) of the square in an image, or None where there is none.

        >>> Crop.parse("center").square_in(10, 7)
        (1, 0, 7)
        """
        if self.kind == "center":
            side = min(width, height)
            return (width - side) // 2, (height - side) // 2, side
        if self.kind == "none":
            return (0, 0, width) if width == height else None
        is_inside = self.x + self.side <= width and self.y + self.side <= height
        return (self.x, self.y, self.side) if is_inside else None


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
