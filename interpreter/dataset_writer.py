"""Writes labelled data sets of any size: images, class masks, uncertainty and a manifest.

Sample i is a function of network, models, options and i. Work is done in micro-batches i // M; a
batch's record is its last file, so that a restart, or another process, knows what is there. The
process that finds all records writes the manifest.
"""

import hashlib
import json
import math
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.class_list import ClassList, class_list_as_json
from data.dataset_card import write_card
from data.shards import Sample, write_shard
from data.sheets import encode_png
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, lock_folder
from interpreter.ensemble import PixelEnsemble, models_sha256
from interpreter.experiment import conditions_sha256
from interpreter.native import Labelling, NativeInterpreter
from interpreter.options import Archive, DatasetOptions
from networks.sampling import FeatureSample, IndexedSampler
from torch_utils.distributed import World

RECORD = "dataset_info.json"
MANIFEST = "manifest.jsonl"
DROPPED = "dropped.jsonl"
STREAM = "sample"
_BATCH_FOLDER = ".batches"
_VIS_FOLDER = "vis"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
Entry = dict[str, Any]


class SampleFilter(Protocol):
    """Says which samples must not be kept, such as those too near a training identity."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers, as plain JSON values."""

    def __call__(self, samples: Sequence[dict[str, np.ndarray]]) -> Sequence[str | None]:
        """Return a reason to drop each sample, or None.

        Args:
            samples: images [C, R, R] uint8 0..255 by modality, as they would be saved.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetJob(FolderJob):
    """A labelled data set to be generated and written, by one process or several."""

    sampler: IndexedSampler  # of the samples
    interpreter: NativeInterpreter  # for its features
    options: DatasetOptions  # what to write
    classes: ClassList  # names and colours, as many as the models know
    source: Mapping[str, Any]  # of the networks, for the data set's card
    sample_filter: SampleFilter | None = None  # drops samples; None keeps all
    world: World = World()  # processes of which each writes every `size`-th batch

    @property
    def batches(self) -> range:
        """Numbers of all micro-batches that hold a wanted sample."""
        first, last = self.options.start, self.options.start + self.options.count - 1
        return range(first // self.sampler.micro_batch, last // self.sampler.micro_batch + 1)

    def work(self, progress: Progress) -> str:
        """Write this process's share, and the manifest where everything is there."""
        path, world = self.output.path, self.world
        done = progress(0, self.options.count // world.size)
        self.output.begin()
        for batch in self.batches:
            if batch % world.size != world.rank:
                continue
            wanted = self._wanted(batch)
            if not _record_path(path, batch).is_file():
                entries = self._write_batch(path, batch, wanted)
                files.write_json(_record_path(path, batch), entries, indent=None)
            done(len(wanted))
        info = self._complete()
        if info is None:
            return f"{path}: this process is done, others are not"
        return f"{path}: {info['samples']} samples, {info['dropped']} dropped"

    def _wanted(self, batch: int) -> range:
        options, size = self.options, self.sampler.micro_batch
        low, high = batch * size, (batch + 1) * size
        return range(max(low, options.start), min(high, options.start + options.count))

    def _write_batch(self, folder: Path, batch: int, wanted: range) -> list[Entry]:
        size = self.sampler.micro_batch
        indices = range(batch * size, (batch + 1) * size)
        features = self.sampler.features(self.sampler.ws(indices))
        samples = dict(zip(indices, features, strict=True))
        reasons: Sequence[str | None] = [None] * len(wanted)
        if self.sample_filter is not None:
            reasons = self.sample_filter([samples[index].images for index in wanted])
        entries = []
        for index, reason in zip(wanted, reasons, strict=True):
            entry: Entry = {
                "index": index,
                "seed": self.options.seed,
                "latent": {"stream": [self.options.seed, STREAM, "latent", index]},
                "label": self.sampler.label(index),
            }
            if reason is None:
                labelling = self.interpreter.label(samples[index].maps)
                entry |= self._write_sample(folder, index, samples[index], labelling)
            entries.append({**entry, "dropped": reason})
        return entries

    def _write_sample(
        self, folder: Path, index: int, sample: FeatureSample, labelling: Labelling
    ) -> Entry:
        mask = labelling.labels.cpu().numpy()
        planes = {f"{index}_{name.upper()}.png": image for name, image in sample.images.items()}
        planes[f"image_{index}_label.png"] = mask[None]
        kinds = [*sample.images, "label"]
        if self.options.save_uncertainty:
            planes[f"{index}_uncertainty.png"] = labelling.uncertainty(self.interpreter.classes)
            kinds.append("uncertainty")
        if self.options.save_vis:
            first = next(iter(sample.images.values()))
            mixed = sheets.overlay(first, mask, self.classes.palette())
            planes[f"{_VIS_FOLDER}/vis_{index}.png"] = mixed
            kinds.append("vis")
        written = {}
        for kind, (name, pixels) in zip(kinds, planes.items(), strict=True):
            data = encode_png(pixels)
            with files.atomic_write(folder / name) as file:
                file.write(data)
            written[kind] = {"name": name, "sha256": hashlib.sha256(data).hexdigest()}
        counts = np.bincount(mask.ravel(), minlength=self.interpreter.classes)
        return {
            "score": round(labelling.score, 9),
            "histogram": counts.tolist(),
            "files": written,
        }

    def _complete(self) -> dict[str, Any] | None:
        """Write the manifest if all batches are there and no other process is at it."""
        folder = self.output.path
        if not all(_record_path(folder, batch).is_file() for batch in self.batches):
            return None
        try:
            lock = lock_folder(folder)
        except ValueError:
            return None
        with lock:
            return self._write_manifest(folder)

    def _write_manifest(self, folder: Path) -> dict[str, Any]:
        """Write manifest, archives and record; return what the record says of the data set."""
        entries = [
            entry
            for batch in self.batches
            for entry in files.read_json(_record_path(folder, batch))
        ]
        entries = drop_most_uncertain(entries, self.options.drop_uncertain)
        kept = [entry for entry in entries if entry["dropped"] is None]
        dropped = [entry for entry in entries if entry["dropped"] is not None]
        lines = [{name: entry[name] for name in entry if name != "dropped"} for entry in kept]
        files.write_json_lines(folder / MANIFEST, lines)
        for entry in dropped:
            for file in entry.pop("files", {}).values():
                (folder / file["name"]).unlink(missing_ok=True)
        if dropped:
            files.write_json_lines(folder / DROPPED, dropped)
        write_archive(folder, kept, self.options.archive, self.options.shard_size)
        files.remove_parts(folder)
        info = {
            "samples": len(kept),
            "dropped": len(dropped),
            "micro_batch": self.sampler.micro_batch,
            "classes": class_list_as_json(self.classes),
            "threads": torch.get_num_threads(),
        }
        self._write_card(folder, kept, dropped)
        self.output.finish(info)
        return info

    def _write_card(self, folder: Path, kept: Sequence[Entry], dropped: Sequence[Entry]) -> None:
        identity = self.output.identity
        pixels = sum((np.array(e["histogram"]) for e in kept), np.zeros(len(self.classes)))
        shares = zip(self.classes.names, pixels / max(pixels.sum(), 1), strict=True)
        rules = identity["filter"]
        decisive = ("network_sha256", "models_sha256", "members", "seed", "truncation", "start")
        sections = {
            "Source": {**self.source, **{name: identity[name] for name in decisive}},
            "Samples": {
                "kept": len(kept),
                "dropped": {"all": len(dropped), **Counter(entry["dropped"] for entry in dropped)},
            },
            "Classes, as shares of all pixels": {name: f"{s:.2%}" for name, s in shares},
            "Filter": rules or "None: no sample was compared with the training identities.",
            "Audit": "None by the command that made it: `filter_dataset.py --audit-model` does it.",
        }
        title, papers = "Labelled images of a generator", ["generator", "interpreter"]
        papers += ["identities"] * (rules is not None)
        write_card(folder, title, sections, papers=papers, cited_file=MANIFEST)


def dataset_identity(
    options: DatasetOptions,
    network_sha256: str,
    ensemble: PixelEnsemble,
    conditions: Tensor | None,
    sample_filter: SampleFilter | None = None,
) -> dict[str, Any]:
    """Return what decides a data set's bytes, as plain JSON values."""
    return {
        "network_sha256": network_sha256,
        "models_sha256": models_sha256(ensemble),
        "members": ensemble.members,
        "conditions_sha256": conditions_sha256(conditions),
        "filter": None if sample_filter is None else sample_filter.identity(),
        **configs.to_dict(options),
    }


def drop_most_uncertain(entries: list[Entry], share: float) -> list[Entry]:
    """Mark the samples with the highest scores as dropped, of equal ones the later first.

    Args:
        entries: of all samples, in order; those that are dropped already do not count.
        share: 0..1 of the samples that are not dropped yet, rounded down.
    Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3, which removes 10 %.
    """
    candidates = [entry for entry in entries if entry["dropped"] is None]
    worst = sorted(candidates, key=lambda entry: (-entry["score"], -entry["index"]))
    marked = {entry["index"] for entry in worst[: math.floor(len(candidates) * share + 1e-9)]}
    return [
        {**entry, "dropped": "uncertain"} if entry["index"] in marked else entry
        for entry in entries
    ]


def _record_path(folder: Path, batch: int) -> Path:
    return folder / _BATCH_FOLDER / f"{batch:08d}.json"


# Archives: equal content, equal bytes


def write_archive(
    folder: Path, entries: list[dict[str, Any]], archive: Archive, shard_size: int
) -> None:
    """Write shards of `shard_size` samples beside the files; nothing for Archive.NONE.

    Args:
        folder: of the data set.
        entries: of the manifest, in order.
        archive: kind.
        shard_size: samples a shard.
    """
    if archive is Archive.NONE:
        return
    ending, write = (".zip", _write_zip) if archive is Archive.ZIP else (".tar", _write_tar)
    for number, start in enumerate(range(0, len(entries), shard_size)):
        with files.atomic_write(folder / f"shard-{number:06d}{ending}") as file:
            write(file, folder, entries[start : start + shard_size])


def _write_zip(file: IO[bytes], folder: Path, entries: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, _ZIP_DATE), lines)
        for entry in entries:
            for written in entry["files"].values():
                data = (folder / written["name"]).read_bytes()
                archive.writestr(zipfile.ZipInfo(written["name"], _ZIP_DATE), data)


def _write_tar(file: IO[bytes], folder: Path, entries: list[dict[str, Any]]) -> None:
    def sample(entry: dict[str, Any]) -> Sample:
        written = entry["files"].items()
        parts = {f"{kind}.png": (folder / one["name"]).read_bytes() for kind, one in written}
        return f"{entry['index']:09d}", {**parts, "json": json.dumps(entry).encode()}

    write_shard(file, map(sample, entries))
