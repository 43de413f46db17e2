"""Writes the example data set: a tree of aligned RGB, NIR and mask images with attributes.

The tree is built in a hidden neighbour of its place and renamed when it is whole.
"""

import logging
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.info import FACE_CHECK_KEY, INFO_FILE
from data.modalities import MODALITIES, NIR, RGB
from data.pixels import decode_image
from data.sheets import image_grid, save_image, strip
from dnnlib.files import read_json, write_json
from renderer.classes import FACE_4, flat_palette, merge_face, palette_for
from renderer.identity import SEED_LIMIT
from renderer.render import check_resolution, check_style, render_sample

FORMAT = "biface-example"
VERSION = 1
ATTRIBUTES_FILE = "attributes.json"
SHEET_FILE = "contact_sheet.png"
MASK_FOLDER = "masks"

_SHEET_ROWS = 8
_SHEET_COLUMNS = 4
_MIN_PEOPLE_TO_SPLIT = 3
_logger = logging.getLogger(__name__)


class Split(Enum):
    """Parts of the data set; each person is in one. The value is its folder's name."""

    TRAIN = "train"
    HELDOUT = "heldout"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """What the data set's bytes depend on.

    Attributes:
        identities: people in all splits together.
        samples: images of each.
        resolution: width and height in pixels.
        seed: of everything random.
        style: "photo" or "plain" (flat-shaded other people).
        classes: 10, or 4 (see classes.merge_face).
        heldout_fraction: share of the people that training never sees.
        test_fraction: share of the people on which masks and verification are scored.
    """

    identities: int
    samples: int
    resolution: int
    seed: int = 0
    style: str = "photo"
    classes: int = 10
    heldout_fraction: float = 0.1
    test_fraction: float = 0.1

    def __post_init__(self) -> None:
        for name in ("identities", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise ValueError(f"seed: must be 0 .. 2**32 - 1, got {self.seed}")
        check_resolution(self.resolution)
        check_style(self.style)
        palette_for(self.classes)
        for name in ("heldout_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: must be 0 .. 1, without 1, got {getattr(self, name)}")
        if self.heldout_fraction + self.test_fraction >= 1:
            raise ValueError(
                "heldout_fraction + test_fraction: must leave people to train on (below 1), "
                f"got {self.heldout_fraction} + {self.test_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was written.

    Attributes:
        outdir: the data set.
        is_new: False where the same data set was there already.
        images: pairs in each split, by its name.
        people: identities in each split, by its name.
    """

    outdir: Path
    is_new: bool
    images: dict[str, int]
    people: dict[str, int]


def write_example_dataset(
    outdir: Path,
    *,
    identities: int,
    samples: int,
    resolution: int,
    seed: int = 0,
    style: str = "photo",
    classes: int = 10,
    heldout_fraction: float = 0.1,
    test_fraction: float = 0.1,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Render a data set into `outdir`; the same options give the same bytes.

    Train people lie in VIS, NIR and masks; held-out and test people in the same folders below
    `heldout` and `test`.

    Args:
        outdir: the new folder. It must not exist or be empty, or be made with the same options;
            then nothing is done.
        workers: processes that render; 1 renders in this one. The bytes do not depend on it.
        progress: called with the number of pairs that were finished since the last call.
    Other arguments: see ExampleOptions.
    Raises: ValueError for bad options or an `outdir` that holds something else.
    """
    options = ExampleOptions(
        identities=identities,
        samples=samples,
        resolution=resolution,
        seed=seed,
        style=style,
        classes=classes,
        heldout_fraction=heldout_fraction,
        test_fraction=test_fraction,
    )
    if workers < 1:
        raise ValueError(f"workers: must be 1 or more, got {workers}")
    outdir = Path(outdir)
    if _is_already_there(outdir, options):
        _logger.info("%s is there already, made with the same options", outdir)
        return _summary(outdir, options, is_new=False)
    outdir.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=outdir.parent, prefix=f".{outdir.name}.", suffix=".part"))
    try:
        tree = part / "tree"
        tree.mkdir()
        _write_tree(tree, options, workers, progress)
        tree.rename(outdir)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _summary(outdir, options, is_new=True)


def split_people(options: ExampleOptions) -> dict[Split, range]:
    """Return the identity numbers of each split: train first, then held-out, then test.

    From three people on, a split with a fraction above 0 has at least one.
    """
    count = options.identities
    counts = {}
    for split, fraction in (
        (Split.HELDOUT, options.heldout_fraction),
        (Split.TEST, options.test_fraction),
    ):
        least = int(fraction > 0 and count >= _MIN_PEOPLE_TO_SPLIT)
        counts[split] = max(least, int(fraction * count + 0.5)) if least else 0
    train = max(1, count - sum(counts.values()))
    heldout = min(counts[Split.HELDOUT], count - train)
    return {
        Split.TRAIN: range(train),
        Split.HELDOUT: range(train, train + heldout),
        Split.TEST: range(train + heldout, count),
    }


def split_folder(root: Path, split: Split) -> Path:
    """Return the folder that holds VIS, NIR and masks of a split."""
    return root if split is Split.TRAIN else root / split.value


def stem_of(options: ExampleOptions, identity: int, sample: int) -> str:
    """Return the file name of an image without its ending, such as 0007_012."""
    digits = max(4, len(str(options.identities - 1)))
    return f"{identity:0{digits}d}_{sample:0{max(3, len(str(options.samples - 1)))}d}"


def _write_tree(
    root: Path, options: ExampleOptions, workers: int, progress: Callable[[int], None] | None
) -> None:
    people = split_people(options)
    jobs = [(split, identity) for split in Split for identity in people[split]]
    for split in Split:
        if people[split]:
            for folder in (*(modality.folders[0] for modality in MODALITIES), MASK_FOLDER):
                (split_folder(root, split) / folder).mkdir(parents=True)
    attributes: dict[str, Any] = {}
    for entries in _run(partial(_write_person, root, options), jobs, workers):
        attributes.update(entries)
        if progress is not None:
            progress(len(entries))
    write_json(root / ATTRIBUTES_FILE, attributes)
    write_json(root / INFO_FILE, _info(options))
    columns = range(min(options.samples, _SHEET_COLUMNS))
    folders = [*(modality.folders[0] for modality in MODALITIES), MASK_FOLDER]
    cells = [
        strip(
            decode_image(root / folder / f"{stem_of(options, i, k)}.png", 3) for folder in folders
        )
        for i in people[Split.TRAIN][:_SHEET_ROWS]
        for k in columns
    ]
    save_image(root / SHEET_FILE, image_grid(cells, len(columns)))


def _run(
    work: Callable[[tuple[Split, int]], dict[str, Any]],
    jobs: list[tuple[Split, int]],
    workers: int,
) -> Iterator[dict[str, Any]]:
    if workers == 1 or len(jobs) == 1:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context)
    try:
        yield from pool.map(work, jobs, chunksize=max(1, min(8, len(jobs) // (4 * workers))))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_person(
    root: Path, options: ExampleOptions, job: tuple[Split, int]
) -> dict[str, dict[str, Any]]:
    """Write all images of one person; return their attributes by stem."""
    split, identity = job
    folder = split_folder(root, split)
    entries = {}
    for sample in range(options.samples):
        stem = stem_of(options, identity, sample)
        picture = render_sample(options.seed, identity, sample, options.resolution, options.style)
        for modality, pixels in ((RGB, picture.rgb), (NIR, picture.nir)):
            Image.fromarray(pixels).save(folder / modality.folders[0] / f"{stem}.png")
        _save_mask(folder / MASK_FOLDER / f"{stem}.png", picture.mask, options.classes)
        entries[stem] = {"split": split.value, **picture.attributes}
    return entries


def _save_mask(path: Path, mask: np.ndarray, classes: int) -> None:
    """Save class numbers as a palette PNG, whose pixel values are the classes."""
    if classes == len(FACE_4):
        mask = merge_face(mask)
    image = Image.fromarray(mask)
    image.putpalette(flat_palette(palette_for(classes)))
    image.save(path)


def _info(options: ExampleOptions) -> dict[str, Any]:
    summary = _summary(Path(), options, is_new=True)
    return {
        "format": FORMAT,
        "version": VERSION,
        "options": asdict(options),
        FACE_CHECK_KEY: "none",  # what a detector says of drawings says nothing about the pictures
        "classes": [
            {"id": number, "name": name, "color": list(color)}
            for number, (name, color) in enumerate(palette_for(options.classes))
        ],
        "images": summary.images,
        "people": summary.people,
    }


def _summary(outdir: Path, options: ExampleOptions, *, is_new: bool) -> Summary:
    people = {split.value: len(numbers) for split, numbers in split_people(options).items()}
    images = {name: count * options.samples for name, count in people.items()}
    return Summary(outdir=outdir, is_new=is_new, images=images, people=people)


def _is_already_there(outdir: Path, options: ExampleOptions) -> bool:
    """Return whether `outdir` was made with these options.

    Raises: ValueError where it holds anything else.
    """
    if not outdir.exists():
        return False
    if not outdir.is_dir():
        raise ValueError(f"{outdir}: must be a folder or absent, got a file")
    if not any(outdir.iterdir()):
        return False
    if not (outdir / INFO_FILE).is_file():
        raise ValueError(f"{outdir}: must be absent or empty, got a folder with other content")
    info = read_json(outdir / INFO_FILE)
    made = info.get("options") if isinstance(info, dict) else None
    if not isinstance(made, dict) or info.get("format") != FORMAT:
        raise ValueError(f"{outdir}: must be absent or empty, got a folder with other content")
    if info.get("version") != VERSION:
        raise ValueError(
            f"{outdir}: made by version {info.get('version')} of the renderer, this is {VERSION}; "
            "choose another folder"
        )
    wanted = asdict(options)
    differing = sorted(key for key in wanted | made if wanted.get(key) != made.get(key))
    if differing:
        listed = ", ".join(f"{key} {made.get(key)} -> {wanted.get(key)}" for key in differing)
        raise ValueError(f"{outdir}: was made with other options ({listed}); choose another folder")
    return True
