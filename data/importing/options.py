"""Options of an import, the crop rule and the rule that names pairs."""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from data.modalities import MIN_RESOLUTION, MODALITIES, NIR, RGB, is_resolution
from data.stored import ALPHA, Limits, Reading
from dnnlib.options import Options, device_option, fresh_option, option, outdir_option

# Without their defaults in what a folder is known by, as folders of before they were there.
_LATER_OPTIONS = ("nir_from", "rgb_bands", "value_range", "exif", "register")

FaceMethod = Literal["none", "mtcnn"]


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
    nir_from: str | None = option(
        None,
        metavar="alpha|band:N|page:N",
        help="NIR is in the RGB image's file: its alpha channel, or a band or page, counted from "
        "1. Then --source may be a folder of images, or --rgb is given alone.",
    )
    rgb_bands: str | None = option(
        None,
        metavar="R,G,B",
        help="Bands that are red, green and blue, counted from 1, in files of several.",
        shown_default="1,2,3 with --nir-from",
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
    value_range: tuple[str, ...] = option(
        (),
        name="range",
        metavar="[rgb=|nir=]LOW,HIGH",
        help="Stored values that become 0 and 255, in images of more than 8 bits.",
        shown_default="found over all images of a modality: 8, 10, 12, 14 or 16 bits, or 0..1",
    )
    exif: Literal["auto", "apply", "ignore", "both"] = option(
        "auto",
        help="Orientation that files state: applied or ignored; both turns the two images as that "
        "one says which states one. auto: applied where a pair's files state the same, else as the "
        "set's pairs agree better.",
    )
    register: bool = option(
        False,
        help="Correct the offset between the cameras, estimated over the set: NIR is moved by "
        "parts of a pixel and both images are cut to what both show.",
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
        parse_crop(self.crop)
        NameRule(self.pair_regex)
        if self.resolution is not None and not is_resolution(self.resolution):
            raise ValueError(
                f"--resolution must be a power of two of at least {MIN_RESOLUTION}, "
                f"got {self.resolution}"
            )
        if self.align != "none" and self.resolution is None:
            raise ValueError(f"--align={self.align} needs --resolution, got none")
        if self.align != "none" and self.crop != "center":
            raise ValueError(f"--crop: leave it out with --align={self.align}, got {self.crop!r}")
        if self.register and self.crop == "none":
            raise ValueError("--register cuts borders off, which --crop=none does not allow")
        self.parse_readings()
        given = {name for name in ("source", "rgb", "nir") if getattr(self, name) is not None}
        names = ", ".join(f"--{name}" for name in sorted(given)) or "none"
        if self.nir_from is not None and given not in ({"source"}, {RGB.name}):
            raise ValueError(f"--nir-from needs either --source or --rgb, got {names}")
        if self.nir_from is None and given not in ({"source"}, {m.name for m in MODALITIES}):
            raise ValueError(f"either --source or --rgb and --nir must be given, got {names}")

    def parse_readings(self) -> dict[str, Reading]:
        """Return how each modality is read, as far as the options say. Raises: ValueError."""
        readings = {m.name: Reading(limits=self._parse_range(m.name)) for m in MODALITIES}
        if self.rgb_bands is not None or self.nir_from is not None:
            bands = (self.rgb_bands or "1,2,3").replace(" ", "")
            if not re.fullmatch(r"([1-9]\d{0,3},){2}[1-9]\d{0,3}", bands):
                raise ValueError(f"--rgb-bands must be three numbers from 1, got {bands!r}")
            numbers = tuple(map(int, bands.split(",")))
            # A page of its own leaves those of the colours as they are.
            if self.rgb_bands is not None or not str(self.nir_from).startswith("page"):
                readings[RGB.name] = replace(readings[RGB.name], bands=numbers)
        if self.nir_from is None:
            return readings
        match = re.fullmatch(r"(alpha)|(band|page):([1-9]\d{0,3})", self.nir_from)
        if match is None:
            raise ValueError(f"--nir-from must be alpha, band:N or page:N, got {self.nir_from!r}")
        nir = readings[NIR.name]
        if match[2] == "page":
            readings[NIR.name] = replace(nir, page=int(match[3]))
        else:
            readings[NIR.name] = replace(nir, bands=(int(match[3]) if match[3] else ALPHA,))
        return readings

    def _parse_range(self, modality: str) -> Limits | None:
        """Return a modality's range, by its name before that of all. Raises: ValueError."""
        ranges: dict[str, Limits] = {}
        for text in self.value_range:
            name, _, numbers = text.rpartition("=")
            try:
                low, high = map(float, numbers.split(","))
            except ValueError:
                low = high = math.nan
            known = ("", *(m.name for m in MODALITIES))
            if name not in known or not (math.isfinite(high - low) and low < high):
                raise ValueError(f"--range must be LOW,HIGH or nir=LOW,HIGH, got {text!r}")
            ranges[name] = (low, high)
        return ranges.get(modality, ranges.get(""))

    @property
    def needs_faces(self) -> bool:
        """Whether a face detector has work to do."""
        return "mtcnn" in (self.align, self.face_check)

    def identity(self) -> dict[str, Any]:
        """Return what decides the content beside the source's files, as plain JSON values."""
        others = ("outdir", "device", "strict", "workers", "fresh")
        values = {name: value for name, value in vars(self).items() if name not in others}
        later = {name: getattr(type(self), name) for name in _LATER_OPTIONS}
        for name in [name for name, default in later.items() if values[name] == default]:
            del values[name]
        if self.value_range:
            values["value_range"] = list(self.value_range)
        for name in ("source", "rgb", "nir"):
            path = values[name]
            values[name] = path and os.path.abspath(path)  # noqa: PTH100 - keeps links
        return values


def parse_crop(text: str) -> tuple[int, int, int] | None:
    """Return left edge, upper edge and side in pixels of a box; None for "center" and "none".

    Raises: ValueError for anything else.
    """
    if text in ("center", "none"):
        return None
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", text.replace(" ", ""))
    x, y, width, height = map(int, match.groups()) if match else (0, 0, 0, 0)
    if width != height or width < MIN_RESOLUTION:
        raise ValueError(
            "--crop must be center, none or X,Y,W,H with W = H of at least "
            f"{MIN_RESOLUTION} pixels, got {text!r}"
        )
    return x, y, width


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
        where = f"--pair-regex {pattern!r}"
        try:
            self._pattern = re.compile("(?s)(.*)" if pattern is None else pattern)
        except re.error as error:
            raise ValueError(f"{where}: {error}") from error
        groups = self._pattern.groupindex
        self.modalities = [m.name for m in MODALITIES if m.name in groups]
        if len(self.modalities) not in (0, len(MODALITIES)):
            given = ", ".join(self.modalities)
            raise ValueError(
                f"{where}: must have a group for every modality or for none, got {given}"
            )
        others = set(range(1, self._pattern.groups + 1)) - {groups[m] for m in self.modalities}
        if not others:
            raise ValueError(f"{where}: must have a group, such as (?P<id>...)")
        self._group = groups.get("id", min(others))

    def apply(self, stem: str) -> tuple[str, str | None] | None:
        """Return the pair's name and the modality (None where the rule does not tell).

        None where the expression does not match, or gives a name that no file may have.
        """
        match = self._pattern.search(stem)
        name = (match[self._group] or "").strip("/") if match else ""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if match is None or not parts or any(part.startswith((".", "/")) for part in parts):
            return None
        found = [modality for modality in self.modalities if match[modality] is not None]
        if self.modalities and len(found) != 1:
            return None
        return "/".join(parts), found[0] if found else None
