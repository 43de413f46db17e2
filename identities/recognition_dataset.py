"""Writes data sets of new identities: images, what each is like, and what was rejected.

A step's candidates are generated and embedded in chunks that any process can compute; the first
process decides the step from the scores; each process writes what was accepted of its chunks.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from biometrics.faces import FaceReason
from biometrics.thresholds import THRESHOLDS_FILE, write_thresholds
from data.dataset_card import write_card
from data.info import SUMMARY
from data.modalities import MODALITIES
from data.numbers import save_array
from data.samples import MANIFEST
from data.sheets import encode_png, save_image
from data.storage import map_in_threads
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import JobError, Progress
from dnnlib.runs import FolderJob
from identities.candidates import CandidateSampler
from identities.decisions import Candidate, Decision, PairScores, judge_alone
from identities.export import export_manifest
from identities.filter_loading import LoadedFilter
from identities.filtering import PairScorer
from identities.options import IdentityDataOptions
from identities.reports import (
    SCORES_PLOT,
    image_name,
    plot_dataset,
    summarise_dataset,
    write_identity_sheets,
    write_overview,
)
from identities.selection import Selection
from metrics.nearest import Nearest
from torch_utils.distributed import World, at_work_together, init_distributed

RECORD = SUMMARY
REJECTED = "rejected.jsonl"
FEATURES = "features.npy"
WORK_FOLDER = ".work"
CHUNK = 64
_FACES = list(FaceReason)
_MOST_STEP = 1024
_FULL_SIDE = 256
Entry = dict[str, Any]
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


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityDataJob(FolderJob):
    """A data set of new identities, to be written or continued."""

    options: IdentityDataOptions
    sampler: CandidateSampler  # of candidates
    loaded: LoadedFilter
    source: Mapping[str, Any]  # of the generator, for the data set's card

    def run(self, progress: Progress) -> str | None:
        """Write what is missing; a finished data set is told of again."""
        if self.output.is_finished:
            return self._tell(files.read_json(self.output.path / RECORD))
        return self.work(progress)

    def work(self, progress: Progress) -> str | None:
        """Write the data set, in several processes where there are."""
        amount = self.options.amount
        with init_distributed(self.sampler.generator.device) as world:
            if world.is_first:
                self.loaded.save_calibration()
            total = amount.identities * amount.samples
            done = progress(0, total) if world.is_first else lambda _: None
            with at_work_together(self.output, world):
                summary = self._write(world, done)
        return None if summary is None else self._tell(summary)

    def _write(self, world: World, done: Callable[[int], None]) -> dict[str, Any] | None:
        """Write everything; return the summary in the first process."""
        samples, folder = self.options.amount.samples, self.output.path
        selection, results = self._new_selection(), []
        sink = DatasetSink(folder, self.sampler, self.loaded.scorer)
        while candidates := selection.next_step():
            before, step = selection.accepted, StepFiles(folder, len(results))
            decisions = self._run_step(step, candidates, selection, sink, world)
            results.append((step, decisions))
            done(selection.accepted - before)
        world.barrier()
        counts, places = selection.counts(), tuple(sink.places.values())
        for identity in range(world.rank, len(counts), world.size):
            if found := counts[identity][0]:
                write_identity_sheets(folder, identity, found, samples, places)
        world.barrier()
        if not world.is_first:
            return None
        entries, rejected = sink.write_lists(results)
        write_overview(folder, counts, places)
        surplus = sum(d.is_surplus for _, decisions in results for d in decisions)
        summary = summarise_dataset(entries, rejected, counts, samples, surplus)
        summary |= self._describe(entries)
        self._write_card(summary)
        self.output.finish(summary)
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        return summary

    def _describe(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Write exports, thresholds and plot; return what the summary says of rules and audit."""
        folder, loaded, rules = self.output.path, self.loaded, self.loaded.scorer.rules
        export_manifest(folder, entries, self.options.export)
        if loaded.thresholds is not None:
            write_thresholds(folder / THRESHOLDS_FILE, loaded.thresholds)
        if entries:
            save_image(folder / SCORES_PLOT, plot_dataset(entries, rules, loaded.thresholds))
        names = [next(iter(entry["files"].values()))["name"] for entry in entries]
        audit = None if loaded.auditor is None else loaded.auditor.report(folder, names)
        return {"rules": configs.to_dict(rules), "audit": audit}

    def _write_card(self, summary: Mapping[str, Any]) -> None:
        identity, counts = self.output.identity, dict(summary["identities"])
        counts["incomplete"] = len(counts["incomplete"])
        counts["failed_to_enrol"] = len(counts["failed_to_enrol"])
        decisive = ("network_sha256", "truncation", "modalities", "people")
        sections = {
            "Source": {**self.source, **{name: identity[name] for name in decisive}},
            "Samples": {
                "identities": counts,
                "accepted": summary["accepted"],
                "rejected": summary["rejected"]["total"],
                "rejected_first_by": summary["rejected"]["by_first_reason"],
            },
            **self.loaded.card_sections(summary["audit"]),
            "Attributes": "None are known.",
        }
        papers = ("generator", "identities")
        write_card(
            self.output.path,
            "Images of new identities",
            sections,
            papers=papers,
            cited_file=MANIFEST,
        )

    def _tell(self, summary: dict[str, Any]) -> str:
        found = summary["identities"]
        text = (
            f"{self.output.path}: {summary['accepted']} samples of {found['complete']} complete "
            f"identities; {len(found['incomplete'])} have fewer than "
            f"{self.options.amount.samples}, {len(found['failed_to_enrol'])} none; "
            f"{summary['rejected']['total']} candidates rejected"
        )
        if self.options.strict and found["complete"] < found["requested"]:
            raise JobError(f"--strict: {text}")
        return text

    def _new_selection(self) -> Selection:
        side, rules = self.sampler.generator.resolution, self.loaded.scorer.rules
        amount = self.options.amount
        return Selection(
            rules,
            identities=amount.identities,
            samples=amount.samples,
            tries=self.sampler.source.tries,
            step=min(_MOST_STEP, max(CHUNK, int(_MOST_STEP * (_FULL_SIDE / side) ** 2))),
            most=amount.most or amount.identities * rules.max_attempts,
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
                kept[chunk] = self.sampler.sample(_part(candidates, chunk))
                step.save_scores(chunk, self.loaded.scorer.score(kept[chunk]))
        world.barrier()
        decisions = _decide(step, candidates, selection, world)
        for chunk in own_chunks:
            if step.images(chunk).is_file():
                continue
            images = kept.pop(chunk, None)
            if images is None:
                images = self.sampler.sample(_part(candidates, chunk))
                self._check_again(images, _part(decisions, chunk))
            step.save_images(chunk, sink.write_images(images, _part(decisions, chunk)))
        return decisions

    def _check_again(self, images: Mapping[str, Tensor], decisions: Sequence[Decision]) -> None:
        """Check that images that were generated anew still pass: what is saved is what is judged.

        Raises: ValueError; another device, or number of threads, gives slightly other images.
        """
        scores, rules = self.loaded.scorer.score(images), self.loaded.scorer.rules
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
