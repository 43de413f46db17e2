"""Makes an LFW-style `.bin` of a data set's own pairs, in ten folds, and the list of them."""

import csv
import io
import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from biometrics.alignment import Aligner, build_aligner
from biometrics.detection import FaceMethod
from data.modalities import MODALITIES
from data.sample_index import SampleIndex
from data.samples import open_samples
from dnnlib.files import atomic_write, check_place
from dnnlib.options import Job, Progress
from evaluation.options import PairArchiveOptions
from evaluation.pairs import PAIR_FIELDS
from metrics.folds import FOLDS
from torch_utils.devices import resolve_device

_POOL = 2000  # images of a fold that pairs are chosen from, at least, where there are so many
_MOST = _POOL // 4  # of one identity: others are left to compare it with
_PROTOCOL = 4
_logger = logging.getLogger(__name__)

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairArchiveJob(Job):
    """Pairs of images of a data set, of each fold mated and non-mated ones, to be written."""

    options: PairArchiveOptions
    samples: SampleIndex
    folds: Sequence[tuple[Pairs, Pairs]]
    aligner: Aligner | None

    def describe(self) -> dict[str, Any]:
        """Return what is written."""
        return {
            "out": str(self.options.out),
            "folds": len(self.folds),
            "mated_per_fold": len(self.folds[0][0]),
            "non_mated_per_fold": len(self.folds[0][1]),
        }

    def run(self, progress: Progress) -> str:
        """Align and encode the images, write both files."""
        used = sorted({i for fold in self.folds for pairs in fold for p in pairs for i in p})
        advance = progress(0, len(used))
        answers: dict[int, bytes | str] = {}
        for index in used:
            answers[index] = self._encode(index)
            advance(1)
        images = {i: answer for i, answer in answers.items() if isinstance(answer, bytes)}
        failures = {i: answer for i, answer in answers.items() if isinstance(answer, str)}
        if failures:
            first = next(iter(failures))
            _logger.warning(
                "%d images were left out, %s first: %s",
                *(len(failures), self.samples.stems[first], failures[first]),
            )
        folds = _of_one_size(
            [
                tuple([p for p in pairs if not failures.keys() & set(p)] for pairs in fold)
                for fold in self.folds
            ]
        )
        chosen = [(*p, kind == 0) for fold in folds for kind in (0, 1) for p in fold[kind]]
        content = [images[index] for pair in chosen for index in pair[:2]], [p[2] for p in chosen]
        target = self.options.out
        with atomic_write(target) as file:
            pickle.dump(content, file, protocol=_PROTOCOL)
        with atomic_write(_list_of(target), "w") as file:
            file.write(self._list_text(chosen))
        return (
            f"{target} and {_list_of(target).name}: {len(chosen)} pairs of {len(images)} images in "
            f"{len(folds)} folds, {len(folds[0][0])} mated and {len(folds[0][1])} non-mated each; "
            "no identity is in two folds"
        )

    def _encode(self, index: int) -> bytes | str:
        """Return an image as a PNG file, or why not."""
        try:
            image = self.samples.image(self.options.modality, index).transpose(1, 2, 0)
        except ValueError as error:
            return str(error)
        if self.aligner is not None:
            moved = self.aligner(image)
            if isinstance(moved, str):
                return moved
            image = moved
        picture = Image.fromarray(np.repeat(image, 3 // image.shape[2], axis=2))
        size = (self.options.size, self.options.size)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        with io.BytesIO() as file:
            picture.save(file, "PNG")
            return file.getvalue()

    def _list_text(self, pairs: Sequence[tuple[int, int, bool]]) -> str:
        """Return the list that evaluate.py verification --pairs takes."""
        folder = next(m.folders[0] for m in MODALITIES if m.name == self.options.modality)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PAIR_FIELDS)
        for first, second, is_same in pairs:
            names = (f"{folder}/{self.samples.stems[index]}" for index in (first, second))
            writer.writerow([*names, int(is_same)])
        return text.getvalue()


def prepare(options: PairArchiveOptions) -> PairArchiveJob:
    """Choose the pairs.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    for path in (options.out, _list_of(options.out)):
        check_place(path)
        if path.exists() and not options.fresh:
            raise ValueError(f"--out {options.out}: {path} is there; --fresh replaces it")
    samples = open_samples(options.data)
    if options.modality not in samples.modalities:
        raise ValueError(f"--data {options.data}: has no {options.modality} images")
    return PairArchiveJob(
        options=options,
        samples=samples,
        folds=choose_pairs(samples.identities, options.pairs, options.seed),
        aligner=build_aligner(
            FaceMethod(options.align), options.size, resolve_device(options.device)
        ),
    )


def choose_pairs(identities: Sequence[str], count: int, seed: int) -> list[tuple[Pairs, Pairs]]:
    """Return mated and non-mated pairs of indices of each of ten folds, equally many of each kind.

    Identities are dealt to folds at random, so that none is in two: thresholds chosen on nine folds
    are tried on strangers.

    Args:
        identities: of each image.
        count: pairs, at most; what remains of division by 20 is left out.
        seed: of the choice.
    Raises: ValueError where there are too few identities or images.
    """
    names, numbers = np.unique(np.asarray(identities), return_inverse=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    folds = [_pairs_of(numbers, order[k::FOLDS], count // (2 * FOLDS), rng) for k in range(FOLDS)]
    return _of_one_size(folds)


def _pairs_of(
    numbers: np.ndarray, chosen: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[Pairs, Pairs]:
    """Return at most `count` random pairs of each kind among some identities' images."""
    counts = np.bincount(numbers, minlength=int(numbers.max()) + 1)
    sizes = np.cumsum(counts[chosen].clip(max=_MOST))
    taken = chosen[: np.searchsorted(sizes, _POOL) + 1]
    pool = np.flatnonzero(np.isin(numbers, taken))
    for identity in taken[counts[taken] > _MOST]:
        own = pool[numbers[pool] == identity]
        pool = np.setdiff1d(pool, rng.permutation(own)[_MOST:], assume_unique=True)
    first, second = np.triu_indices(len(pool), 1)
    is_mated = numbers[pool[first]] == numbers[pool[second]]
    found = []
    for kind in (is_mated, ~is_mated):
        rows = np.flatnonzero(kind)
        rows = rng.choice(rows, min(count, len(rows)), replace=False)
        ends = pool[first[rows]].tolist(), pool[second[rows]].tolist()
        found.append([*zip(*ends, strict=True)])
    return found[0], found[1]


def _of_one_size(folds: Sequence[tuple[Pairs, ...]]) -> list[tuple[Pairs, Pairs]]:
    """Return folds with as many pairs of each kind as the smallest one allows."""
    count = min(len(pairs) for fold in folds for pairs in fold)
    if count < 1:
        raise ValueError(
            f"--data: {FOLDS} folds of disjoint identities need two identities each, one of them "
            "with two images; evaluate.py verification --data compares all images without folds"
        )
    return [(fold[0][:count], fold[1][:count]) for fold in folds]


def _list_of(path: Path) -> Path:
    return path.with_suffix(".csv")
