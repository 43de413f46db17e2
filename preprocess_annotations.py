"""Turn painted annotations into class masks with their images and latents, ready for training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from data.class_list import ClassList
    from interpreter.annotations import Annotate

EPILOG = """\b
Examples:
  python preprocess_annotations.py --annotations=out/painted --drawn=out/annotate \\
      --classes=classes.json --outdir=out/processed
  python preprocess_annotations.py --annotations=eyes_GIMP --latents=back_latent_stylegan.npy \\
      --outdir=eyes_processed
  python preprocess_annotations.py --auto=example --drawn=out/annotate --outdir=out/processed

\b
Annotations are image_N.xcf (GIMP), image_N_mask.png or image_maskN.npy; see docs/interpreter.md."""

PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Sources",
    click.option("--annotations", type=PATH, metavar="DIR", help="Folder of painted files."),
    click.option("--drawn", type=PATH, metavar="DIR", help="What make_training_data.py wrote."),
    click.option("--images", type=PATH, metavar="DIR", help="Images, if they are elsewhere."),
    click.option("--latents", type=PATH, metavar="FILE.npy", help="Latents, if not in --drawn."),
    click.option(
        "--latent-rows",
        type=click.Choice(["number", "order"]),
        default="number",
        help="Row N is image N's, or row k is the k-th annotation's (a published"
        " latent_stylegan.npy, taken as it is).",
    ),
    click.option("--labels", type=PATH, metavar="FILE.npy", help="Conditions of the latents."),
)
@cli.option_group(
    "Classes",
    click.option(
        "--classes",
        type=PATH,
        metavar="JSON",
        help="List of name, color, aliases; without it black, blue iris, red pupil, green sclera.",
    ),
    click.option(
        "--max-distance",
        type=click.FloatRange(min=0),
        default=30.0,
        metavar="RGB",
        help="Other colours count as the nearest class up to this distance.",
    ),
    click.option(
        "--auto",
        type=click.Choice(["example", "example4"]),
        help="No people: a network that knows rendered faces annotates, in 10 classes or in 4.",
    ),
    click.option(
        "--select",
        metavar="LIST",
        help="With --auto: image numbers, such as 0,3,5-9, or all; without it those in"
        " selection.json.",
    ),
)
@cli.option_group(
    "Output",
    click.option("--outdir", type=PATH, metavar="DIR", required=True, help="Folder."),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    click.option("--seed", type=int, default=0, help="Of --auto's classifier."),
)
def main(**given: Any) -> None:
    """Write image_maskK.npy, image_K.jpg, image_K_NIR.jpg, latents and a check sheet.

    K counts the annotated images in numeric order.
    """
    cli.start_logging()
    with cli.friendly_errors():
        _run(given)


def _run(given: dict[str, Any]) -> None:
    from dnnlib.runs import find_output  # noqa: PLC0415
    from interpreter import annotations  # noqa: PLC0415  # NumPy is slow

    if (given["annotations"] is None) == (given["auto"] is None):
        raise ValueError("one of --annotations and --auto must say where masks come from")
    if given["auto"] is None and given["select"] is not None:
        raise ValueError("--select is used with --auto only")
    collected, classes, drawn_record = _collect_auto(given) if given["auto"] else _collect(given)
    identity = annotations.annotations_identity(collected, classes, drawn_record)
    output = find_output(given["outdir"], annotations.RECORD, identity, fresh=given["fresh"])
    if given["dry_run"]:
        click.echo(json.dumps({"outdir": str(output.path), **output.identity}, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: all {len(collected)} masks are there")
        return
    annotations.write_annotations(collected, classes, output)
    click.echo(f"{output.path}: wrote {len(collected)} masks; look at {annotations.CHECK_SHEET}")


def _collect(given: dict[str, Any]) -> tuple[list[Any], "ClassList", Path | None]:
    from interpreter.annotations import collect_annotations, sources_beside  # noqa: PLC0415

    sources = sources_beside(
        given["annotations"],
        given["drawn"],
        images=given["images"],
        latents=given["latents"],
        labels=given["labels"],
        rows_by_number=given["latent_rows"] == "number",
    )
    classes = _classes(given)
    return collect_annotations(sources, classes), classes, sources.training_data


def _collect_auto(given: dict[str, Any]) -> tuple[list[Any], "ClassList", Path | None]:
    from interpreter.annotation_images import RECORD  # noqa: PLC0415  # torch is slow
    from interpreter.annotations import annotate_drawn  # noqa: PLC0415
    from renderer import auto_annotate  # noqa: PLC0415

    if given["drawn"] is None:
        raise ValueError("--auto needs --drawn, the folder that make_training_data.py wrote")
    if given["classes"] is not None:
        raise ValueError("--classes: --auto has the example renderer's classes, leave it out")
    drawn, seed = given["drawn"], given["seed"]
    classes = 4 if given["auto"] == "example4" else 10

    def build(resolution: int) -> "Annotate":
        options = auto_annotate.AnnotatorOptions(resolution=resolution, classes=classes, seed=seed)
        folder = drawn / f"annotator_{classes}_classes_seed_{seed}"
        return auto_annotate.build_annotator(options, folder).annotate

    collected = annotate_drawn(drawn, _numbers(given["select"], drawn), build)
    return collected, auto_annotate.example_classes(classes), drawn / RECORD


def _numbers(text: str | None, drawn: Path) -> list[int] | None:
    from data.number_files import load_rows  # noqa: PLC0415
    from dnnlib.text import parse_numbers  # noqa: PLC0415
    from interpreter.annotation_images import LATENT_FILE  # noqa: PLC0415  # torch is slow

    if text is None:
        return None
    if text == "all":
        return list(range(len(load_rows(drawn / LATENT_FILE, "--latents"))))
    try:
        return list(dict.fromkeys(parse_numbers(text)))
    except ValueError as error:
        raise ValueError(f"--select: {error}") from error


def _classes(given: dict[str, Any]) -> "ClassList":
    from data.class_list import OCULAR_CLASSES, ClassList, load_class_list  # noqa: PLC0415

    if given["classes"] is None:
        return ClassList(OCULAR_CLASSES, given["max_distance"])
    return load_class_list(given["classes"], given["max_distance"])


if __name__ == "__main__":
    main()
