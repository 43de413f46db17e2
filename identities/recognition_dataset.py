"""Writes data sets of new people: images, what each is like, and what was turned away.

A step's candidates are drawn and embedded in chunks that any process can compute; the first process
decides the step from the scores; each process writes what was accepted of its chunks.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from data.modalities import MODALITIES
from data.numbers import save_array
from data.samples import SUMMARY
from data.sheets import encode_png
from data.storage import map_in_threads
from dnnlib import files
from dnnlib.runs import OutputFolder
from identities.candidates import Candidate, CandidateDrawer
from identities.filtering import PairScorer, PairScores, reasons_alone
from identities.options import AmountOptions
from identities.people_sheets import write_overview, write_person_sheets
from identities.selection import Decision, Selection
from identities.step_files import WORK_FOLDER, StepFiles
from identities.summary import summarise_dataset
from torch_utils.distributed import World, at_work_together

RECORD = SUMMARY
MANIFEST = "manifest.jsonl"
REJECTED = "rejected.jsonl"
FEATURES = "features.npy"
CHUNK = 64
_MOST_STEP = 1024
_FULL_SIDE = 256
Entry = dict[str, Any]
Finish = Callable[[Path, list[Entry]], dict[str, Any]]
Item = TypeVar("Item")


@dataclass(frozen=True)
class StepResult:
    """A step as it stands on disk.

    Attributes:
        step: its files.
        decisions: of its candidates.
        chunks: number of chunks.
    """

    step: StepFiles
    decisions: list[Decision]
    chunks: int


class RecognitionWriter:
    """Draws, judges and writes new people.

    Args:
        drawer: of candidates.
        scorer: of images.
        options: how much is written.
    """

    def __init__(self, drawer: CandidateDrawer, scorer: PairScorer, options: AmountOptions) -> None:
        self._drawer, self._scorer, self._options = drawer, scorer, options
        side = drawer.generator.resolution
        self._step = min(_MOST_STEP, max(CHUNK, int(_MOST_STEP * (_FULL_SIDE / side) ** 2)))
        present = drawer.generator.modalities
        self._folders = {m.name: m.folders[0] for m in MODALITIES if m.name in present}

    def write(
        self,
        output: OutputFolder,
        world: World,
        progress: Callable[[int], None],
        finish: Finish | None = None,
    ) -> dict[str, Any] | None:
        """Write everything; a folder that was begun is continued.

        Args:
            output: folder that is not finished.
            world: processes that do this together.
            progress: called with the number of further samples; those that were there count.
            finish: called with the folder and the manifest's entries when all samples are there;
                what it returns goes into the summary.
        Returns: the summary; None in processes other than the first.
        """
        with at_work_together(output, world):
            return self._write(output, world, progress, finish)

    def _write(
        self,
        output: OutputFolder,
        world: World,
        progress: Callable[[int], None],
        finish: Finish | None,
    ) -> dict[str, Any] | None:
        selection = self._new_selection()
        results = list(self._run_steps(output.path, selection, world, progress))
        world.wait()
        self._write_sheets(output.path, selection, world)
        world.wait()
        if not world.is_first:
            return None
        entries, rejected, vectors = self._collect(results)
        files.write_json_lines(output.path / MANIFEST, entries)
        files.write_json_lines(output.path / REJECTED, rejected)
        save_array(output.path / FEATURES, vectors)
        write_overview(output.path, selection.counts(), tuple(self._folders.values()))
        extra = {} if finish is None else finish(output.path, entries)
        requested = (self._options.identities, self._options.samples)
        surplus = sum(_is_surplus(d) for result in results for d in result.decisions)
        summary = summarise_dataset(entries, rejected, selection.counts(), requested, surplus)
        files.remove_parts(output.path)
        output.finish({**summary, **extra})
        shutil.rmtree(output.path / WORK_FOLDER, ignore_errors=True)
        return {**summary, **extra}

    def _new_selection(self) -> Selection:
        return Selection(
            self._scorer.rules,
            identities=self._options.identities,
            samples=self._options.samples,
            tries=self._drawer.source.tries,
            step=self._step,
            most=self._options.most or self._options.identities * self._scorer.rules.max_attempts,
        )

    def _run_steps(
        self, folder: Path, selection: Selection, world: World, progress: Callable[[int], None]
    ) -> Iterator[StepResult]:
        number = 0
        while candidates := selection.next_step():
            step = StepFiles(folder, number)
            before = selection.accepted
            decisions = self._run_step(step, candidates, selection, world, folder)
            yield StepResult(step, decisions, _chunk_count(candidates))
            progress(selection.accepted - before)
            number += 1

    def _run_step(
        self,
        step: StepFiles,
        candidates: Sequence[Candidate],
        selection: Selection,
        world: World,
        folder: Path,
    ) -> list[Decision]:
        mine = range(world.rank, _chunk_count(candidates), world.size)
        kept: dict[int, Mapping[str, Tensor]] = {}
        for chunk in mine:
            if not step.has_scores(chunk):
                kept[chunk] = self._drawer.draw(_part(candidates, chunk))
                step.save_scores(chunk, self._scorer.score(kept[chunk]))
        world.wait()
        decisions = self._decide(step, candidates, selection, world)
        for chunk in mine:
            if step.has_images(chunk):
                continue
            images = kept.pop(chunk, None)
            if images is None:
                images = self._drawer.draw(_part(candidates, chunk))
                self._check_again(images, _part(decisions, chunk))
            step.save_images(chunk, self._write_images(folder, images, _part(decisions, chunk)))
        return decisions

    def _check_again(self, images: Mapping[str, Tensor], decisions: Sequence[Decision]) -> None:
        """Refuse images that were drawn anew and no longer pass: what is saved is what is judged.

        Raises: ValueError; another device, or number of threads, draws a little differently.
        """
        scores, rules = self._scorer.score(images), self._scorer.rules
        changed = [
            index
            for index, decision in enumerate(decisions)
            if decision.sample is not None and reasons_alone(scores, index, rules)
        ]
        if changed:
            raise ValueError(
                f"--outdir: {len(changed)} samples that were accepted before the interruption come "
                "out differently now and do not pass; continue on the same kind of device with as "
                "many threads, or start another folder with --fresh"
            )

    def _decide(
        self,
        step: StepFiles,
        candidates: Sequence[Candidate],
        selection: Selection,
        world: World,
    ) -> list[Decision]:
        """Decide in the first process; the others read it."""
        is_decided = step.has_decisions()
        scores = step.load_scores(_chunk_count(candidates)) if world.is_first else None
        if scores is not None and not is_decided:
            decisions = selection.decide(candidates, scores)
            step.save_decisions(decisions)
            world.wait()
            return decisions
        world.wait()
        decisions = step.load_decisions()
        selection.repeat(decisions, None if scores is None else scores.vectors)
        return decisions

    def _write_images(
        self, folder: Path, images: Mapping[str, Tensor], decisions: Sequence[Decision]
    ) -> dict[str, str]:
        """Write accepted samples; return {name: SHA-256}."""
        jobs = [
            (_image_name(decision, place), images[name][index].numpy())
            for index, decision in enumerate(decisions)
            if decision.sample is not None
            for name, place in self._folders.items()
        ]

        def save(job: tuple[str, np.ndarray]) -> tuple[str, str]:
            data = encode_png(job[1])
            with files.atomic_write(folder / job[0]) as file:
                file.write(data)
            return job[0], hashlib.sha256(data).hexdigest()

        return dict(map_in_threads(save, jobs))

    def _write_sheets(self, folder: Path, selection: Selection, world: World) -> None:
        counts = selection.counts()
        for identity in range(world.rank, len(counts), world.size):
            samples = counts[identity][0]
            if samples:
                places = tuple(self._folders.values())
                write_person_sheets(folder, identity, samples, self._options.samples, places)

    def _collect(
        self, results: Sequence[StepResult]
    ) -> tuple[list[Entry], list[Entry], np.ndarray]:
        """Return the entries of manifest and rejections, and the features of the former."""
        accepted: list[tuple[Entry, np.ndarray]] = []
        rejected: list[Entry] = []
        for result in results:
            scores = result.step.load_scores(result.chunks)
            sums: dict[str, str] = {}
            for chunk in range(result.chunks):
                sums |= result.step.load_images(chunk)
            for index, decision in enumerate(result.decisions):
                if _is_surplus(decision):
                    continue
                entry = self._entry(decision, scores, index)
                if decision.sample is None:
                    rejected.append(entry)
                    continue
                names = {n: _image_name(decision, place) for n, place in self._folders.items()}
                entry["files"] = {n: {"name": f, "sha256": sums[f]} for n, f in names.items()}
                accepted.append((entry, scores.vectors[index]))
        accepted.sort(key=lambda pair: (pair[0]["identity"], pair[0]["sample"]))
        rejected.sort(key=lambda entry: (entry["identity"], entry["origin"]["attempt"]))
        width = self._scorer.embedder.width
        vectors = np.array([v for _, v in accepted], np.float32).reshape(-1, width)
        return [entry for entry, _ in accepted], rejected, vectors

    def _entry(self, decision: Decision, scores: PairScores, index: int) -> Entry:
        candidate = decision.candidate
        nearest = {
            name: {
                "score": _plain(found.scores[index]),
                "image": self._scorer.people_of(name).stems[found.indices[index]],
            }
            for name, found in scores.training.items()
        }
        other = {"score": decision.other, "identity": decision.other_identity}
        entry: Entry = {
            "identity": candidate.identity,
            "sample": decision.sample,
            "origin": self._drawer.origin(candidate),
            "own_first": decision.own,
            "own_nearest": decision.own_nearest,
            "training": nearest,
            "other": other if decision.other is not None else None,
            "agreement": _plain(scores.agreement[index]),
            "decision": "accepted" if decision.sample is not None else "rejected",
        }
        if decision.sample is None:
            entry["reasons"] = [reason.value for reason in decision.reasons]
            entry["face"] = None if decision.face is None else decision.face.value
        return entry


def _is_surplus(decision: Decision) -> bool:
    return decision.sample is None and not decision.reasons


def _image_name(decision: Decision, place: str) -> str:
    identity, sample = decision.candidate.identity, decision.sample
    return f"id_{identity}/{place}/sample_{sample}_{place}.png"


def _plain(score: np.floating[Any]) -> float | None:
    value = float(score)
    return None if not np.isfinite(value) else round(value, 6)


def _part(items: Sequence[Item], chunk: int) -> Sequence[Item]:
    return items[chunk * CHUNK : (chunk + 1) * CHUNK]


def _chunk_count(candidates: Sequence[Candidate]) -> int:
    return -(-len(candidates) // CHUNK)
