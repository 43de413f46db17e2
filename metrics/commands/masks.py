"""`evaluate.py masks`: agreement of class masks."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.cli import CONTEXT, friendly_errors
from metrics.commands import shared

if TYPE_CHECKING:
    from metrics.report.content import Section

_TOLERANCE = 0.0075  # as metrics.segmentation has it


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
        from metrics import mask_sets  # noqa: PLC0415

        if dry_run:
            sets = mask_sets.open_mask_set(truth), mask_sets.open_mask_set(found)
            samples = mask_sets.shared_samples(*sets)
            names = mask_sets.class_names(*sets, samples)
            shared.print_plan({"masks": len(samples), "classes": names})
            return
        section = build_section(truth, found, tolerance=tolerance, seed=seed)
        subtitle = f"{found} against {truth}"
        shared.finish("Masks", subtitle, [section], {}, (outdir, "masks"), seed)


def build_section(
    truth: Path, found: Path, *, tolerance: float = _TOLERANCE, seed: int = 0
) -> "Section":
    """Return the section on the masks of two folders."""
    from data.identities import identity_of  # noqa: PLC0415
    from metrics import mask_sets  # noqa: PLC0415
    from metrics.report.mask_section import mask_section  # noqa: PLC0415
    from metrics.segmentation import score_masks  # noqa: PLC0415

    sets = mask_sets.open_mask_set(truth), mask_sets.open_mask_set(found)
    samples = mask_sets.shared_samples(*sets)
    score = score_masks(
        mask_sets.mask_pairs(*sets, samples),
        mask_sets.class_names(*sets, samples),
        groups=[identity_of(sample) for sample in samples],
        tolerance=tolerance,
        seed=seed,
    )
    return mask_section(score, str(truth), str(found))
