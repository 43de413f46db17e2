"""Write identity_features.json: what a recogniser sees in each image of a data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from biometrics.embedding import Embedder
    from biometrics.extraction import Extraction
    from data.pairs import PairSource

EPILOG = """\b
Examples:
  python create_identity_features.py --data_folder=DATASETS/example_dataset \\
      --rec_model=EXPERIMENTS/runs/recogniser/recogniser.pth
  python create_identity_features.py --data-folder=DATASETS/faces --rec-model=r100.pth \\
      --all-or-one=one --flip=1 --device=cuda

\b
The file lies in the data folder, beside VIS and NIR, and with identity_features.info.json, which
names the recogniser. The person of an image is its folder, or what stands before the last "_" of
its name. train_db_stylegan2.py --data=THAT_FOLDER then conditions on it."""

PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Data",
    click.option(
        "--data-folder", "--data_folder", type=PATH, required=True, metavar="DIR", help="Pairs."
    ),
    click.option(
        "--all-or-one",
        "--all_or_one",
        type=click.Choice(["all", "one"]),
        default="all",
        show_default=True,
        help="one: all images of a person get the vector of the one most like the others.",
    ),
    click.option("--modality", type=click.Choice(["rgb", "nir"]), default="rgb"),
    click.option("--out", type=PATH, metavar="JSON", help="Instead of the data folder's."),
    click.option(
        "--fresh", is_flag=True, help="Replace features made otherwise, or of more images."
    ),
    click.option("--strict", is_flag=True, help="One image without features ends it."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group(
    "Recogniser",
    click.option(
        "--rec-model", "--rec_model", type=PATH, required=True, metavar="PTH", help="Weights."
    ),
    click.option(
        "--align",
        type=click.Choice(["none", "mtcnn"]),
        default="none",
        show_default=True,
        help="mtcnn: find each face and move it to ArcFace's place; none: images are aligned.",
    ),
    cli.bool_option("--flip", default=False, help="Add the embedding of the mirrored image."),
    click.option("--batch", type=click.IntRange(min=1), default=64, help="Images read at once."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--gpu-device-number", "--gpu_device_number", type=int, help="Which GPU; published."
    ),
)
def main(**given: Any) -> None:
    """Embed the images of a data set with a recogniser."""
    cli.start_logging()
    with cli.friendly_errors():
        _run(given)


def _run(given: dict[str, Any]) -> None:
    from biometrics import extraction  # noqa: PLC0415  # torch is slow
    from biometrics.embedding import load_embedder  # noqa: PLC0415
    from biometrics.features import check_writable, write_identity_features  # noqa: PLC0415
    from data.pairs import open_pairs  # noqa: PLC0415
    from torch_utils.devices import (  # noqa: PLC0415
        resolve_device,
        use_repeatable_arithmetic,
    )

    place = _place(given)
    check_writable(place)
    source = open_pairs(given["data_folder"])
    device = resolve_device(given["device"], given["gpu_device_number"])
    if device != "cpu":
        use_repeatable_arithmetic()  # as the filter, which compares with these features
    embedder = load_embedder(
        given["rec_model"], device=device, flip=given["flip"], align=given["align"]
    )
    check_failures = _failure_rule(given, place, source, embedder)
    check_failures({})
    if given["dry_run"]:
        content = {"out": str(place), "images": len(source), "width": embedder.width}
        click.echo(json.dumps({**content, "recogniser": embedder.hash}, indent=2))
        return
    found = extraction.extract_features(
        source,
        embedder,
        vectors=extraction.Vectors(given["all_or_one"]),
        modality=given["modality"],
        batch=given["batch"],
        progress=cli.progress_bar(0, len(source)),
        on_failure=check_failures,
    )
    _report_failures(found)
    write_identity_features(place, found.features, found.file_names)
    people = extraction.describe_people(found.features.stems)
    click.echo(f"{place}: {len(found.file_names)} vectors of {embedder.width} numbers; {people}")


def _failure_rule(
    given: dict[str, Any], place: Path, source: "PairSource", embedder: "Embedder"
) -> "Callable[[Mapping[str, str]], None]":
    """Return what judges the images without features: whether the work may go on, and be kept."""
    from biometrics.extraction import Vectors, describe_features  # noqa: PLC0415
    from biometrics.features import check_replaceable  # noqa: PLC0415

    vectors = Vectors(given["all_or_one"])

    def check(failures: "Mapping[str, str]") -> None:
        first = "".join(f"; {name} gave none: {why}" for name, why in [*failures.items()][:1])
        if failures and given["strict"]:
            raise ValueError(f"--strict: every image must give features{first}")
        if not given["fresh"]:
            count = len(source) - len(failures)
            info = describe_features(embedder, vectors, given["modality"], count)
            check_replaceable(place, info, first)

    return check


def _place(given: dict[str, Any]) -> Path:
    from biometrics.features import FEATURES_FILE  # noqa: PLC0415  # torch is slow

    if given["out"] is not None:
        return given["out"]
    if given["data_folder"].is_file():
        raise ValueError(f"--data-folder {given['data_folder']}: an archive needs --out, too")
    return given["data_folder"] / FEATURES_FILE


def _report_failures(found: "Extraction") -> None:
    if found.failures:
        name, reason = next(iter(found.failures.items()))
        click.echo(
            f"{len(found.failures)} images gave no features, {name} first: {reason}", err=True
        )


if __name__ == "__main__":
    main()
