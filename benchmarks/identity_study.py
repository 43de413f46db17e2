"""Do new identities hold, vary and are they new? Generators, and what is asked of them.

benchmarks/study.py says what a study is. A cell is a run of train_db_stylegan2.py, or a snapshot
that is there already ("network"), with a data set of generate_recognition_data.py for each of
"sets". Runs and data sets know themselves whether they are done; what lacks a snapshot of "kimg" is
left out. No network of the study may have seen the auditor's identities.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import generate_recognition_data
import train_db_stylegan2
from benchmarks.common import format_table
from benchmarks.pair_critic import (
    VIEWS,
    compute_view_moments,
    find_network,
    load_pairs,
    time_iterations,
)
from benchmarks.study import Row, Study, StudyKind, cell, read_studies, study_command, train_cell
from biometrics.comparisons import Side, compare
from biometrics.embedding import Embedder, load_embedder
from biometrics.verification import score_comparisons
from data.modalities import NIR, RGB
from data.numbers import DEFAULT_FEATURE_SCALE
from data.samples import MANIFEST, open_samples
from dnnlib import files
from dnnlib.runs import slug
from evaluation.extractors import build_extractors
from evaluation.names import Role
from identities.recognition_dataset import REJECTED
from metrics.distances import frechet_distance
from metrics.estimates import Estimate, clustered, clustered_share, weighted_mean
from metrics.privacy import Group, nearer_training
from networks.sampling import IndexedSampler
from networks.snapshot import load_generator

REAL = "real"

Numbers = dict[str, Estimate | float]


def read(path: Path, words: Iterable[str]) -> list[Study]:
    """Read a study.

    Besides the common keys: "samples" of each network, the files "recogniser" (of the conditions)
    and "auditor", "sets" with "base_set" (options of generate_recognition_data.py).
    """
    return read_studies(path, words, ("samples", "recogniser", "auditor", "sets", "base_set"))


def train(study: Study, name: str, outdir: Path, device: str) -> None:
    """Train a cell where its network is not given, then write its data sets."""
    if "network" not in study["train"][name]:
        train_cell(study, name, outdir, train_db_stylegan2.main, device)
    network = find(study, name, outdir)
    about = {"base": study["base_set"], "train": study["sets"], "seed": study["seed"]}
    for kind in study["sets"] if network else ():
        folder = sets_folder(outdir, name, network)
        train_cell(about, kind, folder, generate_recognition_data.main, device, gen_model=network)


def find(study: Study, name: str, outdir: Path) -> Path | None:
    """Return a cell's snapshot, if it is there."""
    given = study["train"][name].get("network")
    return find_network(study, name, outdir) if given is None else Path(given)


def sets_folder(outdir: Path, name: str, network: Path) -> Path:
    """Return where the data sets of a snapshot lie: a longer training writes others."""
    return outdir / "sets" / slug(name) / network.stem


# Measures


class Judge:
    """Measures of networks and data sets; "real" are identities that no network saw."""

    def __init__(self, study: Study, device: str) -> None:
        self.count, self.device = study["samples"], "cpu" if device == "auto" else device
        self.recogniser, self.auditor = (
            load_embedder(Path(study[name]), device=self.device)
            for name in ("recogniser", "auditor")
        )
        self.recogniser.backbone.requires_grad_(False)  # the loss trains others
        (self.extractor,) = build_extractors("standin", {Role.FEATURES}).values()
        places = {"training": study["base"]["data"], REAL: next(iter(study["test"].values()))}
        self.pairs = {name: load_pairs(Path(place)) for name, place in places.items()}
        self.groups = {
            name: Group(vectors=_embed(self.auditor, images[RGB.name]), identities=identities)
            for name, (images, identities) in self.pairs.items()
        }
        self.moments = compute_view_moments(self.extractor, self.pairs["training"][0])

    def measure_network(self, path: Path) -> Numbers:
        """Return how well a network follows the conditions of both kinds of identities, and FD."""
        generator, snapshot = load_generator(path, self.device)
        scale = snapshot.feature_scale or DEFAULT_FEATURE_SCALE
        row: Numbers = {}
        for kind, (images, identities) in self.pairs.items():
            features = torch.from_numpy(_embed(self.recogniser, images[RGB.name]))
            sampler = IndexedSampler(generator, features * scale, name=path.name)
            samples = sampler.sample(range(self.count))
            asked = [sampler.label(index) for index in range(self.count)]
            names = [identities[index] for index in asked]
            for modality in (RGB.name, NIR.name):
                found = _embed(self.recogniser, samples[modality])
                cosines = (found * features[asked].numpy()).sum(axis=1)
                row[f"cosine {modality}, {kind}"] = clustered(cosines, names, weighted_mean)
            found = _embed(self.auditor, samples[RGB.name])
            side = Side(vectors=found, identities=names)
            row[f"EER to {kind} images"] = score_comparisons(
                compare(Side(**vars(self.groups[kind])), side)
            ).eer
            if kind == "training":
                moments = compute_view_moments(self.extractor, samples)
                row |= {f"FD {v}": frechet_distance(self.moments[v], moments[v]) for v in VIEWS}
        return row

    def measure_set(self, folder: Path) -> Numbers:
        """Return the numbers of a data set of new identities, by the auditor."""
        samples = open_samples(folder)
        vectors = _embed(self.auditor, (samples.image(RGB.name, i) for i in range(len(samples))))
        judged = [e for name in (MANIFEST, REJECTED) for e in files.read_json_lines(folder / name)]
        group = Group(vectors=vectors, identities=samples.identities)
        return {
            "candidates": len(judged),
            "share kept": clustered_share(
                np.array([entry["decision"] == "accepted" for entry in judged]),
                [str(entry["identity"]) for entry in judged],
            ),
            **hold_and_vary(group),
            "nearer to training": nearer_training(
                group, self.groups["training"], self.groups[REAL]
            ),
        }


def hold_and_vary(samples: Group) -> Numbers:
    """Return the error rate and the variation of samples of some identities."""
    return {
        "EER": score_comparisons(compare(Side(**vars(samples)))).eer,
        "variation": variation(samples.vectors, samples.identities),
    }


def variation(vectors: np.ndarray, identities: Sequence[str]) -> Estimate:
    """Return the mean 1 - cosine of two images of an identity, a mean over identities.

    Args:
        vectors: [N, E] float32 of unit length.
        identities: of each; those of one image do not count.
    """
    names, means = np.asarray(identities), {}
    for name in dict.fromkeys(identities):
        own = vectors[names == name].astype(np.float64)
        if len(own) > 1:
            means[name] = 1 - (own @ own.T)[np.triu_indices(len(own), 1)].mean()
    return clustered(np.array([*means.values()]), [*means], weighted_mean)


def _embed(embedder: Embedder, images: Any) -> np.ndarray:
    images = images if isinstance(images, torch.Tensor) else map(torch.from_numpy, images)
    return embedder.embed(images).numpy()


def measure(studies: Sequence[Study], outdir: Path, device: str) -> dict[str, Any]:
    """Return the numbers of all networks that are trained, and of their data sets."""
    judge = Judge(studies[0], device)
    networks: list[Row] = []
    sets: list[Row] = [{"set": REAL, **_plain(hold_and_vary(judge.groups[REAL]))}]
    trained: dict[str, Path] = {}
    for study in studies:
        for name in study["train"]:
            path = find(study, name, outdir)
            if path is None:
                click.echo(f"{name}, seed {study['seed']}: not trained yet", err=True)
                continue
            about = {"train": name, "seed": study["seed"]}
            networks.append({**about, **_plain(judge.measure_network(path))})
            if "network" not in study["train"][name]:
                trained.setdefault(name, path)
            for kind in study["sets"]:
                folder = cell(sets_folder(outdir, name, path), kind, study["seed"])
                sets.append({**about, "set": kind, **_plain(judge.measure_set(folder))})
    if not networks:
        raise ValueError(f"--outdir {outdir}: no network of {studies[0]['base']['kimg']} kimg")
    seconds = time_iterations(trained, device, judge.recogniser.embed_float) if trained else {}
    for row in networks:
        if row["train"] in seconds:
            row["s/kimg"] = seconds[row["train"]]
    return {"networks": networks, "sets": sets}


def _plain(numbers: Numbers) -> Row:
    return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in numbers.items()}


def format_results(results: Mapping[str, Any]) -> str:
    """Return Markdown tables of networks and of data sets, means over replicates."""
    return "\n\n".join(_table(results[key]) for key in ("networks", "sets")) + "\n"


def _table(rows: Sequence[Row]) -> str:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.get("train", ""), row.get("set", "")), []).append(row)
    shown = []
    for names, cells in groups.items():
        labels = dict(zip(("network", "set"), names, strict=True))
        keys = [key for key in cells[0] if key not in ("train", "set", "seed")]
        numbers = {key: _number([entry[key] for entry in cells]) for key in keys}
        shown.append({**labels, "replicates": len(cells), **numbers})
    columns = {key: "" for row in shown for key in row}
    return format_table([{**columns, **row} for row in shown])


def _number(values: Sequence[Any]) -> str:
    """Return the mean over replicates, their deviation, and the mean ends of the intervals."""
    entries = [value if isinstance(value, dict) else {"value": value} for value in values]
    plain = [entry["value"] for entry in entries]
    text = f"{mean(plain):.4g}" + (f" ± {stdev(plain):.3f}" if len(plain) > 1 else "")
    ends = [(entry["low"], entry["high"]) for entry in entries if entry.get("low") is not None]
    if not ends:
        return text
    low, high = (mean(end) for end in zip(*ends, strict=True))
    return f"{text} [{low:.3f}, {high:.3f}]"


EXAMPLES = """
  python -m benchmarks.identity_study EXPERIMENTS/identity_study/study.json --set kimg=16 \\
      --set real=DATASETS/example_32 --set recogniser=recogniser/recogniser.pth \\
      --set auditor=auditor/recogniser.pth --outdir=identities
"""
KIND = StudyKind(read=read, train=train, model="", measure=measure, show=format_results)
main = study_command(KIND, EXAMPLES)

if __name__ == "__main__":
    main()
