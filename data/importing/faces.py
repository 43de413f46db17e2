"""What an import asks of a face detector: the interface, and the sheet of what it refused.

The tools themselves come from the right of this package; the script hands them over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data import pixels
from data.importing.plan import LeftOut, Plan, Reason
from data.modalities import MODALITIES
from data.sheets import ContactSheet, save_image

SHEET_FILE = "left_out_faces.png"
REASONS = (
    Reason.NO_FACE,
    Reason.SEVERAL_FACES,
    Reason.UNLIKELY_FACE,
    Reason.NOT_FRONTAL,
    Reason.SMALL_FACE,
    Reason.CUT_FACE,
)

_THUMBNAIL_PX = 128
_MAX_SHOWN = 64
_MAX_LETTERS = 20
_BACKGROUND, _FRAME = (32, 32, 32), (255, 64, 64)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a pair is not imported.

    Attributes:
        reason: one of REASONS.
        detail: the values that it is about.
        boxes: left, upper, right, lower of the faces in pixels of the source image.
    """

    reason: Reason
    detail: str
    boxes: Sequence[tuple[float, float, float, float]] = field(default=())


class FaceTools(Protocol):
    """Finds, judges and aligns faces; called in several threads at once."""

    def align(
        self, images: Mapping[str, Image.Image], resolution: int
    ) -> dict[str, Image.Image] | Refusal:
        """Return the images of a pair with the face in its place, or why not."""

    def check(self, image: Image.Image) -> Refusal | None:
        """Return why an RGB image as it is written is refused, or None."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""


def save_sheet(path: Path, plan: Plan, failed: Mapping[int, LeftOut]) -> None:
    """Draw the pairs that were left out for their faces, each with its name and reason.

    Args:
        path: the PNG to write; nothing is written where no pair was left out for its face.
        plan: of the import.
        failed: pair -> why it is left out.
    """
    shown = [(pair, entry) for pair, entry in failed.items() if entry.reason in REASONS]
    if not shown:
        return
    shown = shown[:_MAX_SHOWN]
    sheet = ContactSheet(len(shown), _THUMBNAIL_PX, _THUMBNAIL_PX, lines=2)
    for pair, entry in shown:
        name = plan.source.stems[pair][-_MAX_LETTERS:]
        sheet.add(f"{name}\n{entry.reason.value[:_MAX_LETTERS]}", _thumbnail(plan, pair, entry))
    save_image(path, sheet.pixels())


def _thumbnail(plan: Plan, pair: int, entry: LeftOut) -> np.ndarray:
    """Return the first modality's image, reduced to a square, with a frame around each face."""
    modality = MODALITIES[0]
    name = plan.source.describe(modality.name, pair)
    with plan.source.open(modality.name, pair) as file:
        image = pixels.load_image(file, modality.channels, name)
    scale = _THUMBNAIL_PX / max(image.size)
    image = ImageOps.pad(image, (_THUMBNAIL_PX, _THUMBNAIL_PX), color=_BACKGROUND, centering=(0, 0))
    draw = ImageDraw.Draw(image)
    for box in entry.boxes:
        draw.rectangle([edge * scale for edge in box], outline=_FRAME)
    return np.asarray(image).transpose(2, 0, 1)
