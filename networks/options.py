"""Options of generate.py; no torch here, so that --help is fast."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dnnlib.options import Device, Options, device_option, option, seed_option
from dnnlib.text import parse_numbers


class NoiseMode(StrEnum):
    """What is added to each layer: the stored constant noise, fresh noise, or nothing."""

    CONST = "const"
    RANDOM = "random"
    NONE = "none"


class HalfPrecision(StrEnum):
    """The 16-bit type of the blocks that do not need float32."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """How far w is drawn towards its mean.

    Attributes:
        psi: 1 leaves w as it is, 0 gives the mean image.
        cutoff: number of first layers to truncate; None is all.
    Source: Karras et al. 2019 (arXiv:1812.04948), appendix B.
    """

    psi: float = 1.0
    cutoff: int | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Options):
    """Generate aligned RGB and NIR images from a snapshot.

    Writes seedNNNN_RGB.png, seedNNNN_NIR.png where the network has that head, and grid.png with
    the modalities side by side.
    """

    network: Path = option(
        metavar="FILE", heading="Samples", help="Snapshot, ours or a published pickle."
    )
    seeds: tuple[int, ...] = option(
        (), metavar="LIST", parse=parse_numbers, help="Seeds, such as 0,3,5-9; one latent each."
    )
    latents: Path | None = option(
        None, metavar="FILE.npy", help="[N, z_dim] latents instead of --seeds."
    )
    projected_w: Path | None = option(
        None,
        metavar="FILE.npz",
        help="Projected latents instead of --seeds, as project_pairs.py and the published projector"
        " write them: ws [N, layers, w_dim] under the key w.",
    )
    labels: Path | None = option(
        None,
        metavar="FILE",
        help="Conditions: a .npy file of [N or 1, c_dim] numbers, or identity_features.json, of"
        " which each sample gets one.",
    )
    class_index: int | None = option(
        None, name="class", metavar="INDEX", help="Condition of all samples: one-hot of INDEX."
    )
    use_raw_g: bool = option(
        False, off=("--use-ema",), help="Use the generator G instead of its average G_ema."
    )
    truncation: float = option(
        1.0,
        aliases=("trunc",),
        metavar="PSI",
        heading="Sampling",
        help="Truncation: 1 leaves w as it is, 0 gives the mean image.",
    )
    truncation_cutoff: int | None = option(
        None, ge=0, metavar="LAYERS", help="Truncate only this many first layers; by default all."
    )
    noise_mode: NoiseMode = option(
        NoiseMode.CONST, help="Noise that is added in each layer: the stored one, fresh, or none."
    )
    seed: int = seed_option(help="Random seed of --noise-mode=random.")
    mix_seeds: tuple[int, ...] = option(
        (),
        metavar="LIST",
        parse=parse_numbers,
        help="Write a style mixing grid: --seeds are its rows, these its columns.",
    )
    mix_layers: tuple[int, ...] = option(
        (),
        metavar="LIST",
        parse=parse_numbers,
        help="Layers that come from the column; by default the first 7.",
    )
    outdir: Path | None = option(
        None, metavar="DIR", heading="Output", help="Output directory for the images."
    )
    raw: bool = option(False, help="Also write images.npz with the images as float32, not clipped.")
    video: Path | None = option(
        None,
        metavar="FILE",
        help="Write a video through all samples and back: .mp4, .gif, .webp or .apng.",
    )
    frames: int = option(60, ge=1, help="Video frames from one sample to the next.")
    fps: float = option(30.0, gt=0, help="Video frames per second.")
    convert_to: Path | None = option(
        None,
        metavar="FILE",
        help="Write the snapshot in another form instead of images: .pkl is our form, .safetensors"
        " has a .json beside it, .onnx is the generator with truncation and noise as given.",
    )
    device: Device = device_option(heading="Performance")
    fp32: bool = option(False, help="Compute in 32 bits throughout, on CUDA too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convert_to is not None:
            return
        if self.outdir is None:
            raise ValueError("--outdir must say where the images go")
        given = (bool(self.seeds), self.latents is not None, self.projected_w is not None)
        if sum(given) != 1:
            raise ValueError("one of --seeds, --latents, --projected-w must say what to generate")
        has_condition = self.labels is not None or self.class_index is not None
        is_truncated = self.truncation != 1 or self.truncation_cutoff is not None
        has_unused = is_truncated or (has_condition and not self.mix_seeds)
        if self.projected_w is not None and has_unused:
            raise ValueError(
                "--truncation, --truncation-cutoff, --labels and --class are for --seeds and"
                " --latents: --projected-w holds what becomes of them"
            )
        if self.labels is not None and self.class_index is not None:
            raise ValueError("--labels and --class are two ways to say the same; give one")
        if bool(self.mix_seeds) + (self.video is not None) + self.raw > 1:
            raise ValueError("--mix-seeds, --video and --raw cannot be combined")
