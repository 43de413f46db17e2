"""Options of the interpreter's scripts; no torch here, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnnlib.options import (
    Device,
    Options,
    device_option,
    fresh_option,
    option,
    outdir_option,
    seed_option,
)


@dataclass(frozen=True, kw_only=True)
class AnnotationImageOptions(Options):
    """Generate image pairs for annotation; repeating the command continues or proposes again."""

    exp: Path = option(metavar="JSON", heading="Images", help="Experiment file.")
    network: Path | None = option(
        None, metavar="FILE", help="Snapshot, instead of the experiment's stylegan_checkpoint."
    )
    num_sample: int = option(100, ge=1, metavar="PAIRS", help="Number of image pairs.")
    seed: int = seed_option(1111, "Random seed of the latents.")
    labels: Path | None = option(
        None,
        metavar="FILE",
        help="Conditions of a conditional network, of which each sample gets one: a .npy file of"
        " [n, c_dim] numbers or identity_features.json.",
    )
    select: int | None = option(
        None, metavar="IMAGES", heading="Proposals", help="Propose this many images to annotate."
    )
    interpreter: Path | None = option(
        None,
        metavar="DIR",
        needs="select",
        help="Trained models: propose the images that they are least certain of.",
    )
    sv_path: Path = outdir_option(heading="Output")
    fresh: bool = fresh_option()
    device: Device = device_option()


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions(Options):
    """Turn painted annotations into class masks with their images and latents.

    Writes image_maskK.npy, image_K.jpg, image_K_NIR.jpg, latents and a check sheet. K counts the
    annotated images in numeric order.
    """

    annotations: Path | None = option(
        None, metavar="DIR", heading="Sources", help="Folder of painted files."
    )
    drawn: Path | None = option(
        None, metavar="DIR", help="Output directory of make_training_data.py."
    )
    images: Path | None = option(
        None, metavar="DIR", help="Folder of the images, where they are not in --drawn."
    )
    latents: Path | None = option(
        None, metavar="FILE.npy", help="Latents, where they are not in --drawn."
    )
    latent_rows: Literal["number", "order"] = option(
        "number",
        help="number: row N belongs to image N. order: row k belongs to the k-th annotation, as in"
        " a published latent_stylegan.npy.",
    )
    labels: Path | None = option(
        None, metavar="FILE.npy", help="Conditions, where they are not in --drawn."
    )
    classes: Path | None = option(
        None,
        metavar="JSON",
        heading="Classes",
        help="List of name, color, aliases; by default black background, blue iris, red pupil,"
        " green sclera.",
    )
    max_distance: float = option(
        30.0,
        ge=0,
        metavar="RGB",
        help="Other colours count as the nearest class up to this distance.",
    )
    auto: Literal["example", "example4"] | None = option(
        None,
        help="Annotate automatically, by a network trained on rendered faces, in 10 classes"
        " (example) or in 4 (example4).",
    )
    select: str | None = option(
        None,
        metavar="LIST",
        needs="auto",
        help="Numbers of the images to annotate, such as 0,3,5-9, or all; by default those in"
        " selection.json.",
    )
    outdir: Path = outdir_option(heading="Output")
    fresh: bool = fresh_option()
    seed: int = seed_option(help="Random seed of --auto's network.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.annotations is None) == (self.auto is None):
            raise ValueError("one of --annotations and --auto must say where masks come from")
        if self.auto is not None and self.drawn is None:
            raise ValueError("--auto needs --drawn, the folder that make_training_data.py wrote")
        if self.auto is not None and self.classes is not None:
            raise ValueError("--classes: --auto has the example renderer's classes, leave it out")
