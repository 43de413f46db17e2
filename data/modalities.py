"""The image modalities of a pair, in their fixed order. Everything else loops over this list."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of image of a pair.

    Attributes:
        name: key of tensors, heads and options, such as "rgb".
        channels: channels of its images.
        folders: folder names under which data sets keep it; the first is the one we write.
        suffix: ending of published statistic and file names, such as "_NIR".
    """

    name: str
    channels: int
    folders: tuple[str, ...]
    suffix: str


RGB = Modality("rgb", 3, ("VIS", "images"), "")
NIR = Modality("nir", 1, ("NIR",), "_NIR")
MODALITIES = (RGB, NIR)
