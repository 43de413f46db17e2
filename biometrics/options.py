"""Options of the jobs of this package; no torch here, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnnlib.options import Device, Options, device_option, fresh_option, gpu_option, option


def parse_numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as "123.7,116.3,103.5". Raises: ValueError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--mean and --std are 1 or 3 numbers, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class RecogniserOptions(Options):
    """Show what images a recogniser takes, check that on a data set, and record what is missing.

    What is given is written to FILE.json beside the recogniser, where every command finds it.
    Without --size, --order, --mean, --std and --centre nothing is written.
    """

    rec_model: Path = option(
        metavar="FILE", help="The recogniser: .pth, .safetensors, .onnx or TorchScript."
    )
    size: int | None = option(
        None, ge=1, metavar="PIXELS", heading="Format", help="Width and height of its images."
    )
    order: Literal["rgb", "bgr", "grey"] | None = option(
        None, help="Order of its channels; grey is one channel."
    )
    mean: tuple[float, ...] | None = option(
        None,
        metavar="NUMBERS",
        parse=parse_numbers,
        help="Subtracted from pixels 0..255; one number or one a channel, in the order of --order.",
    )
    std: tuple[float, ...] | None = option(
        None, metavar="NUMBERS", parse=parse_numbers, help="Divides what is left."
    )
    data: Path | None = option(
        None,
        metavar="DIR",
        heading="Measurement",
        help="Data set of aligned images on which the format is checked.",
    )
    centre: bool = option(
        False,
        needs="data",
        help="Subtract the mean embedding of --data from all embeddings: for recognisers whose"
        " images of different identities have high cosines.",
    )
    device: Device = device_option()


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(Options):
    """Embed the images of a data set with a recogniser.

    Writes identity_features.json, the identity features that a generator can be conditioned on.
    """

    data_folder: Path = option(
        metavar="DIR", heading="Data", help="Data set of pairs, with the folders VIS and NIR."
    )
    all_or_one: Literal["all", "one", "mean"] = option(
        "all",
        help="all: each image gets its own vector. one: all images of an identity get the vector of"
        " the image that is most like the others. mean: all get the mean of their vectors, at unit"
        " length, and images unlike the others of their identity are named.",
    )
    modality: Literal["rgb", "nir"] = option("rgb", help="Images to embed.")
    out: Path | None = option(
        None, metavar="JSON", help="Output file, by default in the data folder."
    )
    fresh: bool = fresh_option(
        "Replace features that were made with other options or of more images."
    )
    strict: bool = option(False, help="Stop at the first image that gives no features.")
    rec_model: Path = option(metavar="FILE", heading="Recogniser", help="The recogniser.")
    align: Literal["none", "mtcnn"] = option(
        "none",
        help="mtcnn: detect each face and align it to ArcFace's template. none: the images are"
        " aligned already.",
    )
    flip: bool = option(False, help="Add the embedding of the mirrored image.")
    batch: int = option(64, ge=1, metavar="IMAGES", help="Images decoded at once.")
    device: Device = device_option()
    gpu_device_number: int | None = gpu_option()
