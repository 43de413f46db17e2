"""Writes the example data set: a tree of aligned RGB, NIR and mask images with attributes.

Every file appears whole; the record in dataset_info.json says when all of them are there.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from data.info import FACE_CHECK_KEY, INFO_FILE, SPLITS
from data.mask_files import save_mask
from data.modalities import MODALITIES
from data.pairs import MASK_FOLDER
from data.pixels import decode_image
from data.sheets import Pixels, image_grid, save_image, strip
from dnnlib.files import write_json
from dnnlib.options import Options, Progress, fresh_option, option, outdir_option, seed_option
from dnnlib.runs import FolderJob, find_output
from renderer.classes import CLASSES, merge_mask
from renderer.identity import SEED_LIMIT
from renderer.render import check_resolution, render_sample

FORMAT = "biface-example"
VERSION = 1
ATTRIBUTES_FILE = "attributes.json"
SHEET_FILE = "contact_sheet.png"

TRAIN, (HELDOUT, TEST, AUDIT) = "train", SPLITS

_SHEET_ROWS = 8
_SHEET_COLUMNS = 4
_MIN_IDENTITIES_TO_SPLIT = 3


@dataclass(frozen=True, kw_only=True)
class ExampleOptions(Options):
    """Render a data set of procedural faces, with masks and attributes.

    Training identities lie in VIS, NIR and masks; held-out and test identities in the same folders
    below `heldout` and `test`, those for an auditor below `audit`. The same options give the same
    images.
    """

    outdir: Path = outdir_option(
        "Directory of the data set.", default=Path("DATASETS/example_dataset")
    )
    identities: int = option(200, ge=1, help="Identities in all splits together.")
    samples: int = option(5, ge=1, metavar="IMAGES", help="Pairs of each identity.")
    resolution: int = option(
        64, metavar="PIXELS", help="Side of the images: a power of two, 16 to 256."
    )
    seed: int = seed_option(ge=0, le=SEED_LIMIT - 1)
    style: Literal["photo", "plain"] = option(
        "photo",
        help="plain: flat-shaded faces of other identities, the rendered side of refinement.",
    )
    classes: Literal[10, 4] = option(10, help="Classes of the masks.")
    heldout_fraction: float = option(
        0.1, ge=0, lt=1, metavar="SHARE", help="Share of the identities that training never sees."
    )
    test_fraction: float = option(
        0.1,
        ge=0,
        lt=1,
        metavar="SHARE",
        help="Share of the identities on which masks and verification are scored.",
    )
    audit_identities: int = option(
        0,
        ge=0,
        metavar="N",
        help="Further identities, for a recogniser that audits: neither a generator nor a filter"
        " that is made from the others has seen them.",
    )
    workers: int | None = option(
        None, ge=1, metavar="PROCESSES", help="Processes.", shown_default="one a processor"
    )
    fresh: bool = fresh_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_resolution(self.resolution)
        if self.heldout_fraction + self.test_fraction >= 1:
            raise ValueError(
                "--heldout-fraction and --test-fraction must leave identities to train on (below "
                f"1), got {self.heldout_fraction} + {self.test_fraction}"
            )

    def identity(self) -> dict[str, Any]:
        """Return what the images depend on, as plain JSON values."""
        others = ["outdir", "workers", "fresh"]
        others += [] if self.audit_identities else ["audit_identities"]  # as sets of before
        return {name: value for name, value in vars(self).items() if name not in others}


def prepare(options: ExampleOptions) -> "ExampleJob":
    """Check that a data set can be rendered. Raises: ValueError."""
    identity = {"version": VERSION, **options.identity()}
    output = find_output(options.outdir, INFO_FILE, identity, fresh=options.fresh)
    return ExampleJob(output=output, options=options)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleJob(FolderJob):
    """A data set to be rendered."""

    options: ExampleOptions

    def work(self, progress: Progress) -> str:
        """Render all images; those that an earlier command left are rendered again."""
        options, root = self.options, self.output.path
        numbers = split_identities(options)
        jobs = [(split, identity) for split in numbers for identity in numbers[split]]
        write = partial(_write_identity, root, options)
        attributes: dict[str, Any] = {}
        advance = progress(0, len(jobs) * options.samples, "pair")
        with self.output.at_work():
            for entries in _map_in_processes(write, jobs, options.workers):
                attributes.update(entries)
                advance(len(entries))
            write_json(root / ATTRIBUTES_FILE, attributes)
            save_image(root / SHEET_FILE, _sheet(root, options, numbers[TRAIN]))
            info = _info(options)
            self.output.finish(info)
        counts = ", ".join(f"{count} {split}" for split, count in info["images"].items())
        return f"{root}: rendered; pairs: {counts}"


def split_identities(options: ExampleOptions) -> dict[str, range]:
    """Return the identity numbers of each split: train, held-out, test, and audit where wanted.

    From three identities on, a split with a fraction above 0 has at least one.
    """
    count, counts = options.identities, []
    for fraction in (options.heldout_fraction, options.test_fraction):
        is_split = fraction > 0 and count >= _MIN_IDENTITIES_TO_SPLIT
        counts.append(max(1, int(fraction * count + 0.5)) if is_split else 0)
    train = max(1, count - sum(counts))
    heldout = min(counts[0], count - train)
    splits = {
        TRAIN: range(train),
        HELDOUT: range(train, train + heldout),
        TEST: range(train + heldout, count),
        AUDIT: range(count, count + options.audit_identities),
    }
    return {name: numbers for name, numbers in splits.items() if numbers or name != AUDIT}


def stem_of(options: ExampleOptions, identity: int, sample: int) -> str:
    """Return the file name of an image without its ending, such as 0007_012."""
    digits = max(4, len(str(options.identities + options.audit_identities - 1)))
    return f"{identity:0{digits}d}_{sample:0{max(3, len(str(options.samples - 1)))}d}"


def _sheet(root: Path, options: ExampleOptions, identities: range) -> Pixels:
    """Return a row an identity with RGB, NIR and mask of some of its images."""
    folders = [*(modality.folders[0] for modality in MODALITIES), MASK_FOLDER]
    columns = range(min(options.samples, _SHEET_COLUMNS))
    stems = [stem_of(options, i, k) for i in identities[:_SHEET_ROWS] for k in columns]
    cells = [strip(decode_image(root / f / f"{s}.png", 3) for f in folders) for s in stems]
    return image_grid(cells, len(columns))


def _map_in_processes(
    work: Callable[[tuple[str, int]], dict[str, Any]],
    jobs: list[tuple[str, int]],
    workers: int | None,
) -> Iterator[dict[str, Any]]:
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(work, jobs, chunksize=max(1, min(8, len(jobs) // (4 * workers))))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_identity(root: Path, options: ExampleOptions, job: tuple[str, int]) -> dict[str, Any]:
    """Write all images of one subject of a split; return their attributes by stem."""
    split, identity = job
    folder = root if split == TRAIN else root / split
    entries = {}
    for sample in range(options.samples):
        stem = stem_of(options, identity, sample)
        picture = render_sample(options.seed, identity, sample, options.resolution, options.style)
        for modality in MODALITIES:
            path = folder / modality.folders[0] / f"{stem}.png"
            save_image(path, picture.images[modality.name])
        mask = merge_mask(picture.mask, options.classes)
        save_mask(folder / MASK_FOLDER / f"{stem}.png", mask, CLASSES[options.classes])
        entries[stem] = {"split": split, **picture.attributes}
    return entries


def _info(options: ExampleOptions) -> dict[str, Any]:
    counts = {split: len(numbers) for split, numbers in split_identities(options).items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "options": options.identity(),
        FACE_CHECK_KEY: "none",  # what a detector says of drawings says nothing about the pictures
        "classes": [
            {"id": number, "name": entry.name, "color": list(entry.colour)}
            for number, entry in enumerate(CLASSES[options.classes].classes)
        ],
        "images": {name: count * options.samples for name, count in counts.items()},
        "people": counts,
    }
