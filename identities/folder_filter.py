"""Filters any folder of images into a view of it: links to what is kept, and a list of the rest.

Nothing is ever deleted or changed in the folder itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset_card import CARD_FILE, write_card
from data.sample_index import SampleIndex, hash_rows
from data.samples import MANIFEST, open_samples
from data.storage import link_or_copy, map_in_threads
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from identities.decisions import Decision
from identities.filter_loading import LoadedFilter, load_filter
from identities.filtering import PairScorer
from identities.options import FolderFilterOptions
from identities.reports import count_reasons, describe_scores, training_score
from identities.rules import Reason
from torch_utils.devices import resolve_repeatable

RECORD = "filter_summary.json"
SCORES = "filter_scores.jsonl"
REJECTED = "rejected.jsonl"
KEPT_LIST = "kept.txt"
_BATCH = 64
_COPIED = ("dataset_info.json",)
Entry = dict[str, Any]


@dataclass(frozen=True)
class _Loaded:
    """A sample's images, or why they cannot be read."""

    index: int
    images: Mapping[str, np.ndarray]
    error: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderFilterJob(FolderJob):
    """A view of a folder, to be made."""

    options: FolderFilterOptions
    samples: SampleIndex  # of the folder
    loaded: LoadedFilter

    def work(self, progress: Progress) -> str:
        """Decide on all samples, and write lists and view."""
        target, samples = self.output.path, self.samples
        with self.output.at_work():
            self.loaded.save_calibration()
            done = progress(0, len(samples))
            is_strict = self.options.strict
            entries = judge_samples(samples, self.loaded.scorer, done, is_strict=is_strict)
            kept = [i for i, entry in enumerate(entries) if not entry["reasons"]]
            names = [name for i in kept for name in samples.files_of(i)]
            copies = 0 if self.options.list_only else self._link(names)
            files.write_json_lines(target / SCORES, (entries[i] for i in kept))
            rejected = [entry for entry in entries if entry["reasons"]]
            files.write_json_lines(target / REJECTED, rejected)
            with files.atomic_write(target / KEPT_LIST, "w") as file:
                file.writelines(f"{name}\n" for name in names)
            if kept and samples.entries:
                files.write_json_lines(target / MANIFEST, (samples.entries[i] for i in kept))
            agreements = describe_scores(entry["agreement"] for entry in entries)
            rejections = {"total": len(rejected), **count_reasons(rejected)}
            summary = {
                "samples": len(entries),
                "kept": len(kept),
                "rejected": rejections,
                "copied_files": copies,
                "scores": {
                    "training": describe_scores(map(training_score, entries)),
                    "training_of_kept": describe_scores(training_score(entries[i]) for i in kept),
                    "agreement": agreements,
                },
                "audit": self._audit(kept),
            }
            self._write_card(summary)
            self.output.finish(summary)
        reasons = rejections["by_first_reason"].items()
        why = ", ".join(f"{reason} {count}" for reason, count in reasons) or "none"
        return f"{target}: {len(kept)} of {len(entries)} samples kept; rejected: {why}"

    def _write_card(self, summary: Mapping[str, Any]) -> None:
        counts = {name: summary[name] for name in ("samples", "kept")}
        sections = {
            "Source": {
                "folder": self.options.data.resolve().name,
                "files_sha256": self.output.identity["files_sha256"],
                "has_its_own_card": (self.options.data / CARD_FILE).is_file(),
            },
            "Samples": {**counts, "rejected_first_by": summary["rejected"]["by_first_reason"]},
            **self.loaded.card_sections(summary["audit"]),
        }
        title = "What a filter of training identities keeps of a data set"
        write_card(self.output.path, title, sections, papers=("identities",), cited_file=KEPT_LIST)

    def _audit(self, kept: Sequence[int]) -> dict[str, Any] | None:
        if self.loaded.auditor is None:
            return None
        samples, names = self.samples, []
        for index in kept:
            first = next(name for name in samples.modalities if samples.has(name, index))
            names.append(samples.file(first, index))
        return self.loaded.auditor.report(self.options.data, names)

    def _link(self, names: Sequence[str]) -> int:
        """Link kept files into the view; return how many had to be copied."""
        folder, target = self.options.data, self.output.path
        present = [name for name in (*names, *_COPIED) if (folder / name).is_file()]
        return sum(not link_or_copy(folder / name, target / name) for name in present)


def prepare(options: FolderFilterOptions) -> FolderFilterJob:
    """Read the filter and look at the folder.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = resolve_repeatable(options.device, options.gpu_device_number)
    check_disjoint(options.data, options.outdir)
    if not options.data.is_dir():
        raise FileNotFoundError(f"--data {options.data}: no such folder")
    samples = open_samples(options.data, is_complete=False)
    loaded = load_filter(replace(options.filter, device=device), options.audit)
    identity = {
        "files_sha256": fingerprint(samples),
        "list_only": options.list_only,
        "filter": loaded.describe(),
        "audit": None if loaded.auditor is None else loaded.auditor.embedder.hash,
    }
    return FolderFilterJob(
        output=find_output(options.outdir, RECORD, identity, fresh=options.fresh),
        facts={"samples": len(samples)},
        options=options,
        samples=samples,
        loaded=loaded,
    )


def judge_samples(
    samples: SampleIndex, scorer: PairScorer, progress: Callable[[int], None], *, is_strict: bool
) -> list[Entry]:
    """Return an entry per sample, in order: scores, and reasons, which are empty for kept ones.

    Raises: ValueError for an unreadable image, where `is_strict`.
    """
    entries: dict[int, Entry] = {}
    for batch in _batches(samples):
        if (error := batch[0].error) is not None:
            if is_strict:
                raise ValueError(f"--strict: {error}")
            scores = {"training": {}, "agreement": None}
            decided = [
                (Decision(reasons=(Reason.UNREADABLE,)), {**scores, "error": loaded.error})
                for loaded in batch
            ]
        else:
            decisions, found = scorer.decide([loaded.images for loaded in batch])
            described = [scorer.describe(found, row) for row in range(len(batch))]
            decided = list(zip(decisions, described, strict=True))
        for loaded, (decision, scores) in zip(batch, decided, strict=True):
            entries[loaded.index] = {
                "name": samples.stems[loaded.index],
                "files": samples.files_of(loaded.index),
                **decision.describe(),
                **scores,
            }
        progress(len(batch))
    return [entries[index] for index in range(len(samples))]


def _batches(samples: SampleIndex) -> Iterator[list[_Loaded]]:
    """Yield samples whose images have the same modalities and sizes; unreadable ones have none."""

    def load(index: int) -> _Loaded:
        present = [name for name in samples.modalities if samples.has(name, index)]
        try:
            return _Loaded(index, {name: samples.image(name, index) for name in present})
        except (ValueError, OSError) as error:
            return _Loaded(index, {}, str(error))

    waiting: dict[tuple[Any, ...], list[_Loaded]] = {}
    for loaded in map_in_threads(load, range(len(samples))):
        key = tuple((name, image.shape) for name, image in loaded.images.items())
        batch = waiting.setdefault(key, [])
        batch.append(loaded)
        if len(batch) == _BATCH:
            yield waiting.pop(key)
    yield from waiting.values()


def check_disjoint(folder: Path, outdir: Path) -> None:
    """Check that a view lies neither inside its source nor around it. Raises: ValueError."""
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
