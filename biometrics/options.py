"""Options of the jobs of this package; no torch here, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnnlib.options import Device, Options, device_option, fresh_option, gpu_option, option


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(Options):
    """Embed the images of a data set with a recogniser.

    Writes identity_features.json, the identity features that a generator can be conditioned on.
    """

    data_folder: Path = option(
        metavar="DIR", heading="Data", help="Data set of pairs, with the folders VIS and NIR."
    )
    all_or_one: Literal["all", "one"] = option(
        "all",
        help="all: each image gets its own vector. one: all images of an identity get the vector of"
        " the image that is most like the others.",
    )
    modality: Literal["rgb", "nir"] = option("rgb", help="Images to embed.")
    out: Path | None = option(
        None, metavar="JSON", help="Output file, by default in the data folder."
    )
    fresh: bool = fresh_option(
        "Replace features that were made with other options or of more images."
    )
    strict: bool = option(False, help="Stop at the first image that gives no features.")
    rec_model: Path = option(metavar="PTH", heading="Recogniser", help="Weights of the recogniser.")
    align: Literal["none", "mtcnn"] = option(
        "none",
        help="mtcnn: detect each face and align it to ArcFace's template. none: the images are"
        " aligned already.",
    )
    flip: bool = option(False, help="Add the embedding of the mirrored image.")
    batch: int = option(64, ge=1, metavar="IMAGES", help="Images decoded at once.")
    device: Device = device_option()
    gpu_device_number: int | None = gpu_option()
