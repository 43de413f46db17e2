"""`evaluate.py masks`: agreement of class masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.cli import CONTEXT, friendly_errors
from evaluation.commands import shared

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.report.content import Section

_TOLERANCE = 0.0075  # as metrics.segmentation has it


@dataclass(frozen=True, kw_only=True)
class OpenMasks:
    """Two folders of masks that fit together.

    Attributes:
        sets: the true masks, and those to judge, of the same samples.
        classes: names, class 0 first.
        names: of the folders, for tables.
    """

    sets: tuple["SampleIndex", "SampleIndex"]
    classes: list[str]
    names: tuple[str, str]


@click.command(context_settings=CONTEXT)
@click.option("--true", "truth", type=shared.PATH, required=True, metavar="DIR", help="Masks.")
@click.option("--found", type=shared.PATH, required=True, metavar="DIR", help="Masks to judge.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=0.1),
    default=_TOLERANCE,
    metavar="SHARE",
    help="Of boundaries, as a share of the image's diagonal; at least one pixel.",
)
@shared.outdir
@shared.seed
@shared.dry_run
def masks(
    truth: Path, found: Path, tolerance: float, outdir: Path, seed: int, *, dry_run: bool
) -> None:
    """Compare class masks: IoU, pixel accuracy, boundary F1, confusion matrix.

    Masks are indexed or grey PNG files whose numbers are the classes, in a folder, in its folder
    "masks", or named as ours (image_3_label.png). Both folders hold the same samples. Names of
    classes come from dataset_info.json where there is one. Writes masks.html and masks.json.

    \b
    Examples:
      python evaluate.py masks --true=DATASETS/example_dataset/test --found=predicted \\
          --outdir=EXPERIMENTS/masks
      python evaluate.py masks --true=annotated/masks --found=samples_200 --outdir=out
    """
    with friendly_errors():
        opened = open_masks(truth, found)
        if dry_run:
            shared.print_plan({"masks": len(opened.sets[0]), "classes": opened.classes})
            return
        section = build_section(opened, tolerance=tolerance, seed=seed)
        subtitle = f"{found} against {truth}"
        shared.finish("Masks", subtitle, [section], {}, (outdir, "masks"), seed)


def open_masks(truth: Path, found: Path) -> OpenMasks:
    """Return the masks of two folders, which hold the same samples.

    Raises: FileNotFoundError, ValueError as the functions of `evaluation.mask_sets`.
    """
    from evaluation import mask_sets  # noqa: PLC0415

    sets = mask_sets.open_mask_sets(truth, found)
    names = (str(truth), str(found))
    return OpenMasks(sets=sets, classes=mask_sets.class_names(*sets), names=names)


def build_section(masks: OpenMasks, *, tolerance: float = _TOLERANCE, seed: int = 0) -> "Section":
    """Return the section on the masks of two folders."""
    from evaluation.mask_sets import mask_pairs  # noqa: PLC0415
    from evaluation.report.mask_section import mask_section  # noqa: PLC0415
    from metrics.segmentation import score_masks  # noqa: PLC0415

    score = score_masks(
        mask_pairs(*masks.sets),
        masks.classes,
        groups=masks.sets[0].identities,
        tolerance=tolerance,
        seed=seed,
    )
    return mask_section(score, *masks.names)
