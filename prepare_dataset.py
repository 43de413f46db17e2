"""Makes and checks data sets of paired RGB and NIR images."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from data.check import CheckReport, check_pairs
from data.importing.faces import SHEET_FILE, FaceTools
from data.importing.options import FaceMethod, ImportOptions, OutputFormat
from data.importing.plan import build_plan
from data.importing.writer import check_outdir, run_import
from dnnlib.cli import CONTEXT, config_option, friendly_errors
from renderer.writer import ExampleOptions, write_example_dataset

_MAX_SHOWN = 20


@click.group(context_settings=CONTEXT)
def main() -> None:
    """Make a data set of paired RGB and NIR images, or check one.

    \b
    Examples:
      python prepare_dataset.py example --outdir DATASETS/example_dataset --resolution 64
      python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256
      python prepare_dataset.py check DATASETS/faces
    """


@main.command("import", context_settings=CONTEXT)
@click.option(
    "--source",
    metavar="DIR|ZIP",
    help="Data set or zip archive with the folders VIS and NIR, or images and NIR; with "
    "--pair-regex groups for the modalities, any folder or archive.",
)
@click.option("--rgb", metavar="DIR|ZIP", help="Folder of RGB images, instead of --source.")
@click.option("--nir", metavar="DIR|ZIP", help="Folder of NIR images, instead of --source.")
@click.option("--outdir", type=click.Path(path_type=Path), metavar="DIR", required=True)
@click.option(
    "--resolution",
    type=int,
    metavar="PIXELS",
    help="Side of the written images, a power of two; smaller pairs are left out.  [default: the "
    "largest that fits all pairs]",
)
@click.option(
    "--crop",
    default="center",
    metavar="center|none|X,Y,W,H",
    help="Which square is taken: the largest in the middle, all of an image that is square, or "
    "a box in pixels.",
)
@click.option(
    "--pair-regex",
    metavar="REGEX",
    help="Where names differ: the group `id` (or the first group), searched in the path without "
    "ending, names the pair. With groups called `rgb` and `nir`, an image belongs to the one "
    "that takes part in the match, and all images may lie in one folder.",
)
@click.option("--format", "format_", type=click.Choice(["png", "jpg"]), default="png")
@click.option("--quality", type=int, default=95, metavar="1..100", help="Of JPEG files.")
@click.option("--max-images", type=int, metavar="PAIRS", help="Take only the first by name.")
@click.option(
    "--align",
    type=click.Choice([method.value for method in FaceMethod]),
    default=FaceMethod.NONE.value,
    help="mtcnn: find the face on the RGB image and bring both images to ArcFace's template by one "
    "similarity transform, instead of --crop; needs --resolution.",
)
@click.option(
    "--align-margin",
    type=float,
    default=0.0,
    metavar="FRACTION",
    help="Added on each side of ArcFace's crop, in widths of it: 0 for recognition, about 0.3 to "
    "show hair and chin.",
)
@click.option(
    "--align-max-upscale",
    type=float,
    default=1.5,
    metavar="FACTOR",
    help="Smaller faces are left out instead of being enlarged further.",
)
@click.option(
    "--align-max-outside",
    type=float,
    default=0.2,
    metavar="FRACTION",
    help="Part of an aligned image that may lie beyond the border, where it is mirrored.",
)
@click.option(
    "--align-several", is_flag=True, help="Of several faces, take the likeliest; else none."
)
@click.option(
    "--face-check",
    type=click.Choice([method.value for method in FaceMethod]),
    help="Recorded with the data set, for generation to follow. mtcnn: leave out images that do "
    "not show one likely, frontal face as written; none: drawings, eyes.  [default: no record]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="cpu",
    help="Of the face detector; aligned images may differ in single bits between devices.",
)
@click.option("--strict", is_flag=True, help="Leave nothing out: what cannot be used is an error.")
@click.option("--workers", type=click.IntRange(1), metavar="THREADS", help="[default: processors]")
@click.option("-n", "--dry-run", is_flag=True, help="Print the plan as JSON and write nothing.")
@config_option()
def import_(
    rgb: str | None,
    nir: str | None,
    outdir: Path,
    format_: str,
    align: str,
    face_check: str | None,
    device: str,
    strict: bool,
    workers: int | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Import pairs from anywhere: matched by name, cropped or aligned, resized, reported.

    Pairs that cannot be used are left out, counted and listed in import_report.json; those left out
    for their faces are shown in left_out_faces.png. Labels in identity_features.json and
    dataset.json are kept. Repeating the command continues it.

    \b
    Examples:
      python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256
      python prepare_dataset.py import --rgb colour --nir infrared --outdir DATASETS/faces \\
          --pair-regex "(.+)_(?:vis|nir)" --crop 80,0,480,480
      python prepare_dataset.py import --source photos --outdir DATASETS/faces --resolution 256 \\
          --align mtcnn --align-margin 0.3
    """
    with friendly_errors():
        folders = {name: path for name, path in (("rgb", rgb), ("nir", nir)) if path is not None}
        resolved = ImportOptions(
            folders=folders,
            format=OutputFormat(format_),
            align=FaceMethod(align),
            face_check=None if face_check is None else FaceMethod(face_check),
            **options,
        )
        check_outdir(outdir, resolved)
        faces = _face_tools(resolved, device)
        plan = build_plan(resolved, workers)
        if dry_run:
            click.echo(json.dumps({"outdir": str(outdir), **plan.to_dict()}, indent=2))
            return
        with _progress_bar(len(plan.source)) as bar:
            summary = run_import(
                resolved,
                plan,
                outdir,
                faces=faces,
                is_strict=strict,
                workers=workers,
                progress=bar.update,
            )
    if not summary.is_new:
        click.echo(f"{outdir}: this import was done before; nothing to do")
    _print_import(summary.outdir, summary.report)


@main.command(context_settings=CONTEXT)
@click.argument("root", metavar="DIR|ZIP")
@click.option("--workers", type=click.IntRange(1), metavar="THREADS", help="[default: processors]")
def check(root: str, workers: int | None) -> None:
    """Decode every image of a data set; exit with code 2 where training would refuse it.

    \b
    Examples:
      python prepare_dataset.py check DATASETS/faces
      python prepare_dataset.py check DATASETS/faces.zip
    """
    with friendly_errors(), _progress_bar(0) as bar:
        report = check_pairs(root, workers, on_start=bar.reset, progress=bar.update)
    _print_check(report)
    if report.problems:
        click.get_current_context().exit(2)


@main.command(context_settings=CONTEXT)
@click.option(
    "--outdir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("DATASETS/example_dataset"),
)
@click.option("--identities", type=int, default=200, metavar="PEOPLE")
@click.option("--samples", type=int, default=5, metavar="IMAGES", help="Pairs of each person.")
@click.option("--resolution", type=int, default=64, metavar="PIXELS", help="Power of two, 16..256.")
@click.option("--seed", type=int, default=0)
@click.option(
    "--style",
    type=click.Choice(["photo", "plain"]),
    default="photo",
    help="plain: flat-shaded faces of other people, the rendered side of refinement.",
)
@click.option("--classes", type=click.Choice(["10", "4"]), default="10", help="Of the masks.")
@click.option("--workers", type=click.IntRange(1), metavar="PROCESSES", help="[default: all]")
@click.option("-n", "--dry-run", is_flag=True, help="Print the options as JSON, write nothing.")
@config_option()
def example(outdir: Path, classes: str, workers: int | None, dry_run: bool, **options: Any) -> None:
    """Render a data set of procedural faces, with masks and attributes.

    \b
    Examples:
      python prepare_dataset.py example
      python prepare_dataset.py example --outdir DATASETS/tiny --identities 20 --resolution 32
    """
    with friendly_errors():
        resolved = ExampleOptions(classes=int(classes), **options)
        if dry_run:
            click.echo(json.dumps({"outdir": str(outdir), **vars(resolved)}, indent=2))
            return
        with _progress_bar(resolved.identities * resolved.samples) as bar:
            summary = write_example_dataset(
                outdir,
                **vars(resolved),
                workers=workers or os.cpu_count() or 1,
                progress=bar.update,
            )
    state = "rendered" if summary.is_new else "already there, made with the same options"
    parts = ", ".join(f"{count} {split}" for split, count in summary.images.items())
    click.echo(f"{outdir}: {state}; pairs: {parts}")


def _face_tools(options: ImportOptions, device: str) -> FaceTools | None:
    """Return the face detector that an import needs, None where it needs none."""
    if not options.needs_faces:
        return None
    import torch  # noqa: PLC0415  # not needed without faces

    from biometrics.import_faces import build_import_faces  # noqa: PLC0415
    from torch_utils.devices import resolve_device  # noqa: PLC0415

    torch.set_num_threads(1)  # images are what runs in parallel; sums round the same everywhere
    return build_import_faces(options, resolve_device(device))


def _progress_bar(total: int) -> tqdm:
    return tqdm(total=total, unit="pair", disable=None, leave=False)


def _print_import(outdir: Path, report: Mapping[str, Any]) -> None:
    side = report["resolution"]
    found = ", ".join(f"{count} {modality}" for modality, count in report["found"].items())
    click.echo(f"{outdir}: {report['pairs']} pairs of {side}x{side} pixels, from {found} images")
    if report["smallest_image"]:
        click.echo(f"resolution {side} is the largest that fits {report['smallest_image']}")
    for file, counts in report["labels"].items():
        click.echo(f"{file}: {counts['kept']} labels kept, {counts['missing']} pairs without")
    for reason, count in report["left_out"].items():
        click.echo(f"left out: {count} {reason}")
    for entry in report["left_out_files"][:_MAX_SHOWN]:
        detail = f" ({entry['detail']})" if entry["detail"] else ""
        click.echo(f"  {entry['name']}: {entry['reason']}{detail}")
    if len(report["left_out_files"]) > _MAX_SHOWN:
        click.echo(f"  and {len(report['left_out_files']) - _MAX_SHOWN} more in import_report.json")
    if (outdir / SHEET_FILE).is_file():
        click.echo(f"left out for their faces: see {outdir / SHEET_FILE}")


def _print_check(report: CheckReport) -> None:
    side = report.resolution
    click.echo(f"{report.name}: {report.num_pairs} pairs" + (f" of {side}x{side}" if side else ""))
    for modality, folder in report.folders.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds[modality].items())
        click.echo(f"{modality}: {folder}: {kinds or 'no images'}")
    click.echo(f"labels: {report.labels}")
    if report.num_ignored:
        click.echo(f"{report.num_ignored} other files are ignored")
    for warning in report.warnings:
        click.echo(f"Warning: {warning}", err=True)
    for problem in report.problems[:_MAX_SHOWN]:
        click.echo(f"Error: {problem}", err=True)
    if len(report.problems) > _MAX_SHOWN:
        click.echo(f"Error: and {len(report.problems) - _MAX_SHOWN} more problems", err=True)


if __name__ == "__main__":
    main()
