"""Writes data sets of new identities: images, what each is like, and what was rejected.

A step's candidates are generated and embedded in chunks that any process can compute; the first
process decides the step from the scores; each process writes what was accepted of its chunks.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from biometrics.faces import FaceReason
from data.info import SUMMARY
from data.modalities import MODALITIES
from data.numbers import save_array
from data.samples import MANIFEST
from data.sheets import encode_png
from data.storage import map_in_threads
from dnnlib import files
from dnnlib.runs import OutputFolder
from identities.candidates import CandidateSampler
from identities.decisions import Candidate, Decision, PairScores, judge_alone
from identities.filtering import PairScorer
from identities.options import AmountOptions
from identities.reports import (
    image_name,
    summarise_dataset,
    write_identity_sheets,
    write_overview,
)
from identities.selection import Selection
from metrics.nearest import Nearest
from torch_utils.distributed import World, at_work_together

RECORD = SUMMARY
REJECTED = "rejected.jsonl"
FEATURES = "features.npy"
WORK_FOLDER = ".work"
CHUNK = 64
_FACES = list(FaceReason)
_MOST_STEP = 1024
_FULL_SIDE = 256
Entry = dict[str, Any]
Finish = Callable[[Path, list[Entry]], dict[str, Any]]
Item = TypeVar("Item")


class StepFiles:
    """What a step leaves on disk, so that other processes and a continued run can go on.

    Args:
        folder: of the data set.
        number: of the step.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder / WORK_FOLDER / f"step-{number:06d}"
        self.decisions = self._folder / "decisions.json"

    def scores(self, chunk: int) -> Path:
        """Return the file of a chunk's scores."""
        return self._folder / f"scores-{chunk:03d}.npz"

    def images(self, chunk: int) -> Path:
        """Return the file that is there when a chunk's accepted images are."""
        return self._folder / f"images-{chunk:03d}.json"

    def save_scores(self, chunk: int, scores: PairScores) -> None:
        """Write a chunk's scores."""
        arrays: dict[str, np.ndarray] = {"vectors": scores.vectors, "agreement": scores.agreement}
        for name, nearest in scores.training.items():
            arrays |= {f"scores_{name}": nearest.scores, f"indices_{name}": nearest.indices}
            codes = [-1 if face is None else _FACES.index(face) for face in scores.faces[name]]
            arrays[f"faces_{name}"] = np.array(codes, np.int8)
        with files.atomic_write(self.scores(chunk)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load_scores(self, chunks: int) -> PairScores:
        """Read the scores of all chunks."""
        parts = []
        for chunk in range(chunks):
            with np.load(self.scores(chunk), allow_pickle=False) as content:
                parts.append({name: content[name] for name in content.files})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        names = [name.removeprefix("scores_") for name in joined if name.startswith("scores_")]
        return PairScores(
            vectors=joined["vectors"],
            training={n: Nearest(joined[f"scores_{n}"], joined[f"indices_{n}"]) for n in names},
            agreement=joined["agreement"],
            faces={
                n: [None if code < 0 else _FACES[code] for code in joined[f"faces_{n}"]]
                for n in names
            },
        )

    def save_decisions(self, decisions: Sequence[Decision]) -> None:
        """Write what became of the step's candidates."""
        rows = [decision.as_row() for decision in decisions]
        files.write_json(self.decisions, rows, indent=None)

    def load_decisions(self) -> list[Decision]:
        """Read what became of the step's candidates."""
        return [Decision.from_row(row) for row in files.read_json(self.decisions)]

    def save_images(self, chunk: int, sums: dict[str, str]) -> None:
        """Note that a chunk's images are written: {name: SHA-256}."""
        files.write_json(self.images(chunk), sums, indent=None)

    def load_images(self, chunks: int) -> dict[str, str]:
        """Read the names and SHA-256 of all chunks' images."""
        return {k: v for c in range(chunks) for k, v in files.read_json(self.images(c)).items()}


class DatasetSink:
    """The files of a data set.

    Args:
        folder: of the data set.
        sampler: of candidates.
        scorer: of images.
    """

    def __init__(self, folder: Path, sampler: CandidateSampler, scorer: PairScorer) -> None:
        self._folder, self._sampler, self._scorer = folder, sampler, scorer
        present = sampler.generator.modalities
        self.places = {m.name: m.folders[0] for m in MODALITIES if m.name in present}

    def write_images(
        self, images: Mapping[str, Tensor], decisions: Sequence[Decision]
    ) -> dict[str, str]:
        """Write accepted samples; return {name: SHA-256}."""
        jobs = [
            (file, images[name][index].numpy())
            for index, decision in enumerate(decisions)
            for name, file in self._names(decision).items()
        ]

        def save(job: tuple[str, np.ndarray]) -> tuple[str, str]:
            data = encode_png(job[1])
            with files.atomic_write(self._folder / job[0]) as file:
                file.write(data)
            return job[0], hashlib.sha256(data).hexdigest()

        return dict(map_in_threads(save, jobs))

    def write_lists(
        self, results: Sequence[tuple[StepFiles, Sequence[Decision]]]
    ) -> tuple[list[Entry], list[Entry]]:
        """Write manifest, rejections and features; return the entries of the former two."""
        accepted: list[tuple[Entry, np.ndarray]] = []
        rejected: list[Entry] = []
        for step, decisions in results:
            chunks = _chunk_count(decisions)
            scores, sums = step.load_scores(chunks), step.load_images(chunks)
            for index, decision in enumerate(decisions):
                if decision.is_surplus:
                    continue
                entry = self._entry(decision, scores, index)
                if decision.sample is not None:
                    named = self._names(decision).items()
                    entry["files"] = {n: {"name": f, "sha256": sums[f]} for n, f in named}
                    accepted.append((entry, scores.vectors[index]))
                else:
                    rejected.append(entry | decision.describe())
        accepted.sort(key=lambda pair: (pair[0]["identity"], pair[0]["sample"]))
        rejected.sort(key=lambda entry: (entry["identity"], entry["origin"]["attempt"]))
        entries, width = [entry for entry, _ in accepted], self._scorer.embedder.width
        vectors = np.array([vector for _, vector in accepted], np.float32).reshape(-1, width)
        files.write_json_lines(self._folder / MANIFEST, entries)
        files.write_json_lines(self._folder / REJECTED, rejected)
        save_array(self._folder / FEATURES, vectors)
        return entries, rejected

    def _names(self, decision: Decision) -> dict[str, str]:
        """Return an accepted sample's files by modality."""
        identity, sample = decision.candidate.identity, decision.sample
        if sample is None:
            return {}
        return {name: image_name(identity, place, sample) for name, place in self.places.items()}

    def _entry(self, decision: Decision, scores: PairScores, index: int) -> Entry:
        described = self._scorer.describe(scores, index)
        other = {"score": decision.other, "identity": decision.other_identity}
        return {
            "identity": decision.candidate.identity,
            "sample": decision.sample,
            "origin": self._sampler.origin(decision.candidate),
            "own_first": decision.own,
            "own_nearest": decision.own_nearest,
            "training": described["training"],
            "other": other if decision.other is not None else None,
            "agreement": described["agreement"],
            "decision": "accepted" if decision.sample is not None else "rejected",
        }


class RecognitionWriter:
    """Generates candidates, decides on them and writes the accepted ones.

    Args:
        sampler: of candidates.
        scorer: of images.
        options: how much is written.
    """

    def __init__(
        self, sampler: CandidateSampler, scorer: PairScorer, options: AmountOptions
    ) -> None:
        self._sampler, self._scorer, self._options = sampler, scorer, options

    def write(
        self,
        output: OutputFolder,
        world: World,
        progress: Callable[[int], None],
        finish: Finish = lambda _folder, _entries: {},
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
            selection, results = self._new_selection(), []
            sink = DatasetSink(output.path, self._sampler, self._scorer)
            while candidates := selection.next_step():
                before, step = selection.accepted, StepFiles(output.path, len(results))
                decisions = self._run_step(step, candidates, selection, sink, world)
                results.append((step, decisions))
                progress(selection.accepted - before)
            world.barrier()
            counts, places = selection.counts(), tuple(sink.places.values())
            for identity in range(world.rank, len(counts), world.size):
                found = counts[identity][0]
                if found:
                    write_identity_sheets(
                        output.path, identity, found, self._options.samples, places
                    )
            world.barrier()
            if not world.is_first:
                return None
            entries, rejected = sink.write_lists(results)
            write_overview(output.path, counts, places)
            extra = finish(output.path, entries)
            surplus = sum(d.is_surplus for _, decisions in results for d in decisions)
            samples = self._options.samples
            summary = summarise_dataset(entries, rejected, counts, samples, surplus) | extra
            files.remove_parts(output.path)
            output.finish(summary)
            shutil.rmtree(output.path / WORK_FOLDER, ignore_errors=True)
            return summary

    def _new_selection(self) -> Selection:
        side, rules = self._sampler.generator.resolution, self._scorer.rules
        return Selection(
            rules,
            identities=self._options.identities,
            samples=self._options.samples,
            tries=self._sampler.source.tries,
            step=min(_MOST_STEP, max(CHUNK, int(_MOST_STEP * (_FULL_SIDE / side) ** 2))),
            most=self._options.most or self._options.identities * rules.max_attempts,
        )

    def _run_step(
        self,
        step: StepFiles,
        candidates: Sequence[Candidate],
        selection: Selection,
        sink: DatasetSink,
        world: World,
    ) -> list[Decision]:
        own_chunks = range(world.rank, _chunk_count(candidates), world.size)
        kept: dict[int, Mapping[str, Tensor]] = {}
        for chunk in own_chunks:
            if not step.scores(chunk).is_file():
                kept[chunk] = self._sampler.sample(_part(candidates, chunk))
                step.save_scores(chunk, self._scorer.score(kept[chunk]))
        world.barrier()
        decisions = _decide(step, candidates, selection, world)
        for chunk in own_chunks:
            if step.images(chunk).is_file():
                continue
            images = kept.pop(chunk, None)
            if images is None:
                images = self._sampler.sample(_part(candidates, chunk))
                self._check_again(images, _part(decisions, chunk))
            step.save_images(chunk, sink.write_images(images, _part(decisions, chunk)))
        return decisions

    def _check_again(self, images: Mapping[str, Tensor], decisions: Sequence[Decision]) -> None:
        """Check that images that were generated anew still pass: what is saved is what is judged.

        Raises: ValueError; another device, or number of threads, gives slightly other images.
        """
        scores, rules = self._scorer.score(images), self._scorer.rules
        changed = [
            index
            for index, decision in enumerate(decisions)
            if decision.sample is not None
            and judge_alone(scores, index, rules, allowed=tuple(FaceReason)).reasons
        ]
        if changed:
            raise ValueError(
                f"--outdir: {len(changed)} samples that were accepted before the interruption come "
                "out differently now and do not pass; continue on the same kind of device with as "
                "many threads, or start another folder with --fresh"
            )


def _decide(
    step: StepFiles, candidates: Sequence[Candidate], selection: Selection, world: World
) -> list[Decision]:
    """Decide in the first process; the others read it."""
    is_decided = step.decisions.is_file()
    scores = step.load_scores(_chunk_count(candidates)) if world.is_first else None
    if scores is not None and not is_decided:
        decisions = selection.decide(candidates, scores)
        step.save_decisions(decisions)
        world.barrier()
        return decisions
    world.barrier()
    decisions = step.load_decisions()
    selection.repeat(decisions, None if scores is None else scores.vectors)
    return decisions


def _part(items: Sequence[Item], chunk: int) -> Sequence[Item]:
    return items[chunk * CHUNK : (chunk + 1) * CHUNK]


def _chunk_count(items: Sequence[Any]) -> int:
    return -(-len(items) // CHUNK)
