"""Filters any folder of images into a view of it: links to what may stay, and a list of the rest.

Nothing is ever deleted or changed in the folder itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.faces import FaceReason
from data.sample_index import SampleIndex, hash_rows
from data.samples import MANIFEST
from data.storage import link_or_copy, map_in_threads
from dnnlib import files
from dnnlib.runs import OutputFolder
from identities.filtering import PairScorer, PairScores, reasons_alone
from identities.rules import Reason
from identities.summary import count_reasons, describe_scores

RECORD = "filter_summary.json"
SCORES = "filter_scores.jsonl"
REJECTED = "rejected.jsonl"
_BATCH = 64
_COPIED = ("dataset_info.json",)
Entry = dict[str, Any]


@dataclass(frozen=True)
class _Loaded:
    """A sample's images, or why they cannot be read."""

    index: int
    images: Mapping[str, np.ndarray]
    error: str | None = None


class FolderFilter:
    """Judges the samples of a folder.

    Args:
        folder: of the images.
        samples: in it.
        scorer: with its rules.
        is_strict: an unreadable image ends the work.
    """

    def __init__(
        self, folder: Path, samples: SampleIndex, scorer: PairScorer, *, is_strict: bool
    ) -> None:
        self._folder, self._samples, self._scorer = folder, samples, scorer
        self._is_strict = is_strict

    def judge(self, progress: Callable[[int], None]) -> list[Entry]:
        """Return an entry a sample, in order: scores, and reasons, which are empty for good ones.

        Raises: ValueError for an unreadable image, where that is fatal.
        """
        entries: dict[int, Entry] = {}
        for batch in self._batches():
            for loaded in batch:
                if loaded.error is not None:
                    entries[loaded.index] = self._unreadable(loaded)
            good = [loaded for loaded in batch if loaded.error is None]
            if good:
                entries |= self._judge_batch(good)
            progress(len(batch))
        return [entries[index] for index in range(len(self._samples))]

    def write(
        self,
        output: OutputFolder,
        progress: Callable[[int], None],
        *,
        is_list_only: bool,
        finish: Callable[[Path, list[str]], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Judge, and write the view.

        Args:
            output: folder that is not finished.
            progress: called with the number of further samples.
            is_list_only: write no links, only lists.
            finish: called with the folder that holds the kept images and their names; what it
                returns goes into the summary.
        Returns: the summary.
        """
        entries = self.judge(progress)
        kept = [i for i, entry in enumerate(entries) if not entry["reasons"]]
        copies = 0 if is_list_only else self._place(output.path, kept)
        files.write_json_lines(output.path / SCORES, (entries[i] for i in kept))
        rejected = [entry for entry in entries if entry["reasons"]]
        files.write_json_lines(output.path / REJECTED, rejected)
        lines = [name for i in kept for name in self._samples.files_of(i)]
        with files.atomic_write(output.path / "kept.txt", "w") as file:
            file.writelines(f"{name}\n" for name in lines)
        if kept and self._samples.entries:
            lines_kept = (self._samples.entries[i] for i in kept)
            files.write_json_lines(output.path / MANIFEST, lines_kept)
        names = [self._first_image(i) for i in kept]
        summary = {
            "samples": len(entries),
            "kept": len(kept),
            "rejected": {"total": len(rejected), **count_reasons(rejected)},
            "copied_files": copies,
            "scores": {
                "training": describe_scores(_training_scores(entries)),
                "training_of_kept": describe_scores(_training_scores(entries[i] for i in kept)),
                "agreement": describe_scores(entry["agreement"] for entry in entries),
            },
            **({} if finish is None else finish(self._folder, names)),
        }
        files.remove_parts(output.path)
        output.finish(summary)
        return summary

    def _batches(self) -> Iterator[list[_Loaded]]:
        """Yield samples whose images have the same modalities and sizes, and unreadable ones."""
        waiting: dict[tuple[Any, ...], list[_Loaded]] = {}
        for loaded in map_in_threads(self._load, range(len(self._samples))):
            key = tuple((name, image.shape) for name, image in loaded.images.items())
            batch = waiting.setdefault(key, [])
            batch.append(loaded)
            if len(batch) == _BATCH:
                yield waiting.pop(key)
        yield from waiting.values()

    def _load(self, index: int) -> _Loaded:
        try:
            images = {
                modality: self._samples.image(modality, index)
                for modality in self._samples.modalities
                if self._samples.has(modality, index)
            }
        except (ValueError, OSError) as error:
            return _Loaded(index, {}, str(error))
        return _Loaded(index, images)

    def _unreadable(self, loaded: _Loaded) -> Entry:
        if self._is_strict:
            raise ValueError(f"--strict: {loaded.error}")
        entry = self._entry(loaded.index, [Reason.UNREADABLE])
        return {**entry, "error": loaded.error}

    def _judge_batch(self, batch: Sequence[_Loaded]) -> dict[int, Entry]:
        stacks = {
            name: torch.from_numpy(np.stack([loaded.images[name] for loaded in batch]))
            for name in batch[0].images
        }
        scores = self._scorer.score(stacks)
        return {
            loaded.index: self._scored_entry(loaded.index, scores, index)
            for index, loaded in enumerate(batch)
        }

    def _scored_entry(self, sample: int, scores: PairScores, index: int) -> Entry:
        face = _face(scores, index)
        reasons = [Reason.FACE] if face is not None else []
        reasons += reasons_alone(scores, index, self._scorer.rules)
        entry = self._entry(sample, reasons)
        agreement = float(scores.agreement[index])
        return {
            **entry,
            "face": None if face is None else face.value,
            "training": {
                name: {
                    "score": round(float(found.scores[index]), 6),
                    "image": self._scorer.people_of(name).stems[found.indices[index]],
                }
                for name, found in scores.training.items()
            },
            "agreement": None if np.isnan(agreement) else round(agreement, 6),
        }

    def _entry(self, sample: int, reasons: Sequence[Reason]) -> Entry:
        order = list(Reason)
        return {
            "name": self._samples.stems[sample],
            "files": self._samples.files_of(sample),
            "reasons": [reason.value for reason in sorted(reasons, key=order.index)],
            "face": None,
            "training": {},
            "agreement": None,
        }

    def _first_image(self, sample: int) -> str:
        modalities = self._samples.modalities
        first = next(m for m in modalities if self._samples.has(m, sample))
        return self._samples.file(first, sample)

    def _place(self, target: Path, kept: Sequence[int]) -> int:
        """Link kept files into the view; return how many had to be copied."""
        names = [name for i in kept for name in self._samples.files_of(i)]
        names += [name for name in _COPIED if (self._folder / name).is_file()]
        names = [name for name in names if (self._folder / name).is_file()]
        return sum(not link_or_copy(self._folder / name, target / name) for name in names)


def check_apart(folder: Path, outdir: Path) -> None:
    """Refuse a view inside its own source, or the other way round. Raises: ValueError."""
    inside, outside = folder.resolve(), outdir.resolve()
    if inside == outside or inside in outside.parents or outside in inside.parents:
        raise ValueError(
            f"--outdir {outdir}: must lie beside the images, not in their folder or around it"
        )


def fingerprint(samples: SampleIndex) -> str:
    """Return a hash of names, sizes and times of all files: what a view was made from."""
    folder = Path(samples.base.describe())
    rows = []
    for index in range(len(samples)):
        for name in samples.files_of(index):
            path = folder / name
            known = path.stat() if path.is_file() else None
            size = None if known is None else (known.st_size, known.st_mtime_ns)
            rows.append([name, size])
    return hash_rows(rows)


def _face(scores: PairScores, index: int) -> FaceReason | None:
    return next((found[index] for found in scores.faces.values() if found[index]), None)


def _training_scores(entries: Any) -> list[float | None]:
    return [next((t["score"] for t in entry["training"].values()), None) for entry in entries]
