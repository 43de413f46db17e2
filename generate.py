"""Draw images, style mixing grids and videos from a snapshot of ours or a published one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli
from dnnlib.config import to_dict

if TYPE_CHECKING:
    from networks.generation import GenerationOptions

EPILOG = """\b
Examples:
  python generate.py --network=network-snapshot-000100.pkl --seeds=0-9 --truncation=0.7 \\
      --outdir=out
  python generate.py --network=network-snapshot-000100.pkl --seeds=1,5,6 --mix-seeds=2,3 \\
      --mix-layers=0-6 --outdir=out/mix
  python generate.py --network=published.pkl --convert-to=ours.pkl
  python generate.py --network=ours.pkl --convert-to=generator.onnx --truncation=0.7

\b
Published pickles are read without running anything in them. Repeating a command gives the same
bytes on the same device, whatever --batch is."""

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)

SAMPLES = cli.option_group(
    "What to draw",
    click.option("--network", type=PATH, metavar="FILE", required=True, help="Snapshot."),
    click.option("--seeds", metavar="LIST", help="Seeds, such as 0,3,5-9."),
    click.option(
        "--latents", type=PATH, metavar="FILE.npy", help="[N, z_dim] latents instead of --seeds."
    ),
    click.option(
        "--labels",
        type=PATH,
        metavar="FILE",
        help="Conditions: .npy [N or 1, c_dim], or identity_features.json to draw from.",
    ),
    click.option(
        "--class", "class_index", type=int, metavar="INDEX", help="Condition: one-hot of INDEX."
    ),
    click.option(
        "--use-raw-g/--use-ema", default=False, help="Draw from G instead of its average G_ema."
    ),
)
LOOK = cli.option_group(
    "How to draw",
    click.option(
        "--truncation",
        "--trunc",
        type=float,
        default=1.0,
        metavar="PSI",
        help="1 leaves w as it is, 0 gives the mean image.",
    ),
    click.option(
        "--truncation-cutoff",
        type=click.IntRange(min=0),
        metavar="LAYERS",
        help="Truncate only this many first layers.",
    ),
    click.option(
        "--noise-mode",
        type=click.Choice(["const", "random", "none"]),
        default="const",
        help="Noise in each layer.",
    ),
    click.option("--seed", type=int, default=0, help="Of random noise."),
)
OUTPUT = cli.option_group(
    "Output",
    click.option("--outdir", type=PATH, metavar="DIR", help="Folder of the images."),
    click.option(
        "--raw/--no-raw", default=False, help="Also write images.npz: float32, not clipped."
    ),
    click.option(
        "--mix-seeds", metavar="LIST", help="Mix styles: --seeds are rows, these are columns."
    ),
    click.option(
        "--mix-layers",
        metavar="LIST",
        help="Layers that come from the column; by default the first 7.",
    ),
    click.option(
        "--video",
        type=PATH,
        metavar="FILE",
        help="Interpolate through all samples and back: .mp4, .gif, .webp or .apng.",
    ),
    click.option("--frames", type=COUNT, default=60, help="Video frames from sample to sample."),
    click.option(
        "--fps", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Frames a second."
    ),
    click.option(
        "--convert-to",
        type=PATH,
        metavar="FILE",
        help="Write no images but the snapshot: .pkl is our form, .safetensors has a .json beside"
        " it, .onnx is the generator with truncation and noise as given.",
    ),
    click.option(
        "-n", "--dry-run", is_flag=True, help="Check everything, print it, write nothing."
    ),
)
PERFORMANCE = cli.option_group(
    "Performance",
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--batch", type=COUNT, default=16, hidden=True, help="Ignored; accepted before."),
    cli.bool_option("--fp32", default=False, help="No 16-bit blocks on CUDA."),
    cli.config_option(),
)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@SAMPLES
@LOOK
@OUTPUT
@PERFORMANCE
def main(convert_to: Path | None, dry_run: bool, **given: Any) -> None:
    """Draw aligned RGB and NIR images from a snapshot.

    Writes seedNNNN_RGB.png, seedNNNN_NIR.png where the network has that head, and grid.png with
    the modalities side by side.
    """
    with cli.friendly_errors():
        if convert_to is not None:
            _convert(given, convert_to, dry_run)
        else:
            _draw(_options(given), dry_run)


def _options(given: dict[str, Any]) -> "GenerationOptions":
    from dnnlib.text import parse_numbers  # noqa: PLC0415  # torch is slow
    from networks.generation import GenerationOptions  # noqa: PLC0415
    from networks.generator import NoiseMode  # noqa: PLC0415

    if given["outdir"] is None:
        raise ValueError("--outdir must say where the images go")
    for name in ("seeds", "mix_seeds", "mix_layers"):
        try:
            given[name] = None if given[name] is None else parse_numbers(given[name])
        except ValueError as error:
            raise ValueError(f"--{name.replace('_', '-')}: {error}") from error
    given["noise_mode"] = NoiseMode(given["noise_mode"])
    given.pop("batch")
    return GenerationOptions(**{**given, "seeds": given["seeds"] or ()})


def _draw(options: "GenerationOptions", dry_run: bool) -> None:
    from networks.generation import prepare, run  # noqa: PLC0415  # torch is slow

    job = prepare(options)
    if dry_run:
        plan = {"options": to_dict(options), "generator": to_dict(job.sampler.generator.config)}
        plan["samples"] = list(job.samples.names)
        click.echo(json.dumps(plan, indent=2, default=str))
        return
    paths = run(job, cli.progress_bar)
    click.echo(f"wrote {len(paths)} files, the last is {paths[-1]}")


def _convert(given: dict[str, Any], target: Path, dry_run: bool) -> None:
    from networks.export import ConversionOptions, convert  # noqa: PLC0415  # torch is slow
    from networks.generator import NoiseMode  # noqa: PLC0415

    options = ConversionOptions(
        network=given["network"],
        target=target,
        truncation=given["truncation"],
        truncation_cutoff=given["truncation_cutoff"],
        noise_mode=NoiseMode(given["noise_mode"]),
        use_raw_g=given["use_raw_g"],
    )
    snapshot = convert(options, dry_run=dry_run)
    names = ", ".join(snapshot.networks)
    click.echo(f"{options.network}: {names} in the {snapshot.origin} form -> {target}")


if __name__ == "__main__":
    main()
