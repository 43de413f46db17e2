"""Recognisers trained on real and on generated people, tested on both; several seeds each.

A JSON file says what is trained and tested. Every cell is a run of train_recognition.py in a folder
of its own, so that a study that was interrupted continues.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_recognition
from benchmarks.common import describe_machine, format_table
from biometrics.embedding import Embedder, load_embedder
from data.plots import plot_scatter, to_svg
from dnnlib import cli, files
from dnnlib.runs import slug
from recognition.face_sets import FaceSet
from recognition.face_sources import open_faces
from recognition.verification import verification_numbers
from torch_utils.devices import resolve_device

PATH = click.Path(path_type=Path)
MODEL = "recogniser.pth"
MDS_PEOPLE, MDS_SAMPLES = 12, 5
_KEYS = {"places", "base", "seeds", "train", "grid", "test", "reference", "distances"}

Row = dict[str, Any]


@click.command(context_settings=cli.CONTEXT)
@click.argument("config", type=PATH)
@click.option("--set", "places", multiple=True, metavar="NAME=PATH", help="Places of the config.")
@click.option("--outdir", type=PATH, required=True, metavar="DIR", help="Of cells and results.")
@click.option("--only", multiple=True, metavar="NAME", help="Train only these, test nothing.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
def main(
    config: Path,
    places: tuple[str, ...],
    outdir: Path,
    only: tuple[str, ...],
    device: str,
    threads: int | None,
) -> None:
    """Train all cells of a study, test them, and write table.md, results.json and mds.svg.

    \b
    Examples:
      python -m benchmarks.recognition_study EXPERIMENTS/recognition_example/mixups.json \\
          --set real=DATASETS/example_32 --set synthetic=new_people --outdir=study
      python -m benchmarks.recognition_study study.json --set real=faces --outdir=study --only=real
    """
    cli.start_logging()
    if threads is not None:
        torch.set_num_threads(threads)
    with cli.friendly_errors():
        study = read_study(config, dict(_split_place(place) for place in places))
        unknown = [name for name in only if name not in study["train"]]
        if unknown:
            raise ValueError(f"--only must be among {list(study['train'])}, got {unknown[0]!r}")
        _train(study, outdir, only or tuple(study["train"]), device)
        if only:
            return
        results = _test(study, outdir, device)
        results["distances"] = _distances(study, outdir, device)
        results["machine"] = describe_machine(torch.device("cpu" if device == "auto" else device))
        results["config"] = study
        files.write_json(outdir / "results.json", results)
        text = format_results(results)
        (outdir / "table.md").write_text(text, encoding="utf-8")
    click.echo(text)


def read_study(path: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """Read a study, with "{name}" replaced by places, and its grid as further trainings.

    Raises: ValueError for unknown keys or places, or where something is missing.
    """
    study = files.read_json(path)
    unknown = set(study) - _KEYS
    if unknown:
        raise ValueError(f"{path}: unknown key {min(unknown)!r}, known are {sorted(_KEYS)}")
    lacking = [name for name in study.get("places", []) if name not in places]
    if lacking:
        raise ValueError(f"{path}: needs --set {lacking[0]}=PATH")
    study = _filled(study, places)
    trains = {**study["train"], **_grid_trainings(study)}
    return {**study, "train": trains, "seeds": study.get("seeds", [0])}


def _grid_trainings(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training for each width and depth; all take as many steps as the largest one."""
    grid = study.get("grid")
    if not grid:
        return {}
    options = grid["options"]
    epochs = {**study["base"], **options}["epochs"]
    most = max(grid["people"]) * max(grid["samples"])
    return {
        f"{grid['name']} {people} x {samples}": {
            **options,
            "people": people,
            "samples": samples,
            "epochs": round(epochs * most / (people * samples)),
        }
        for people in grid["people"]
        for samples in grid["samples"]
    }


def _split_place(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set must be NAME=PATH, got {text!r}")
    return name, value


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, place in places.items():
            value = value.replace("{" + name + "}", place)
        return value
    if isinstance(value, dict):
        return {key: _filled(entry, places) for key, entry in value.items()}
    return [_filled(entry, places) for entry in value] if isinstance(value, list) else value


# Training


def _cell(outdir: Path, name: str, seed: int) -> Path:
    return outdir / "cells" / slug(name) / f"seed-{seed}"


def _train(study: Mapping[str, Any], outdir: Path, names: Sequence[str], device: str) -> None:
    for seed in study["seeds"]:
        for name in names:
            folder = _cell(outdir, name, seed)
            if (folder / MODEL).is_file():
                continue
            options = {**study["base"], **study["train"][name]}
            line = [word for key, value in options.items() for word in _words(key, value)]
            line += [f"--outdir={folder}", f"--seed={seed}", f"--device={device}"]
            click.echo(f"{name}, seed {seed}", err=True)
            train_recognition.main(line, standalone_mode=False)


def _words(key: str, value: Any) -> list[str]:
    """Return an option as words of a command line; None leaves the option's default."""
    option = "--" + key.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, list):
        return [word for entry in value for word in _words(key, entry)]
    if value is True and key == "joint":
        return [option]
    return [f"{option}={json.dumps(value) if not isinstance(value, str) else value}"]


# Testing


def _test(study: Mapping[str, Any], outdir: Path, device: str) -> dict[str, Any]:
    numbers: list[Row] = []
    for name in study["train"]:
        for seed in study["seeds"]:
            model = _cell(outdir, name, seed) / MODEL
            if not model.is_file():
                continue
            embedder = load_embedder(model, device=resolve_device(device))
            for test, place in study["test"].items():
                row = _verify(embedder, place)
                numbers.append({"train": name, "seed": seed, "test": test, **row})
    return {"numbers": numbers}


def _verify(embedder: Embedder, about: Mapping[str, Any]) -> Row:
    """Return error rates on a test set: {"data": path or paths, "modality": name}."""
    vectors, people = _embed(embedder, about["data"], about.get("modality", "rgb"))
    return verification_numbers(vectors, people)


def _embed(embedder: Embedder, data: str | Sequence[str], modality: str) -> tuple[Any, list[str]]:
    """Return embeddings of all images, and the person of each."""
    is_joint = embedder.preprocessing.channels == 4
    sources = [open_faces(Path(path)) for path in ([data] if isinstance(data, str) else data)]
    faces = FaceSet(sources, ("rgb", "nir") if is_joint else (modality,), joint=is_joint)
    vectors = embedder.embed(faces.image(index) for index in range(len(faces)))
    return vectors, [faces.identities[int(label)] for label in faces.labels]


# Diversity


def classical_mds(distances: np.ndarray, dimensions: int = 2) -> tuple[np.ndarray, float]:
    """Return points whose Euclidean distances are as near to the given ones as scaling allows.

    Args:
        distances: [N, N], symmetric, zero on the diagonal.
        dimensions: of the points.
    Returns: [N, dimensions] float64, centred, the first axis the longest, each axis with its
        largest coordinate positive; and the share of the positive eigenvalues that they hold.
    Raises: ValueError for another shape, fewer points than two, or distances that are not finite,
        negative or not symmetric.
    Source: Torgerson 1952, "Multidimensional scaling: I. Theory and method".
    """
    distances = np.asarray(distances, dtype=np.float64)
    count = len(distances)
    if distances.ndim != 2 or distances.shape != (count, count) or count < 2:
        raise ValueError(f"distances must be [N, N], N at least 2, got {distances.shape}")
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise ValueError("distances must be finite and not negative")
    if not np.allclose(distances, distances.T):
        raise ValueError("distances must be symmetric")
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-0.5 * centring @ (distances**2) @ centring)
    order = np.argsort(values)[::-1][:dimensions]
    kept = values[order].clip(0)
    points = vectors[:, order] * np.sqrt(kept)
    largest = points[np.abs(points).argmax(axis=0), np.arange(len(order))]
    total = values.clip(0).sum()
    return points * np.where(largest < 0, -1, 1), float(kept.sum() / total) if total > 0 else 1.0


def cosine_distances(vectors: np.ndarray) -> np.ndarray:
    """Return Euclidean distances of unit rows: [N, E] -> [N, N] float64, sqrt(2 - 2 cosine)."""
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    distances = np.sqrt((2 - 2 * cosines).clip(0))
    np.fill_diagonal(distances, 0)
    return (distances + distances.T) / 2


def _distances(study: Mapping[str, Any], outdir: Path, device: str) -> Row:
    """Return how far apart images of one person are, and draw some people of each set."""
    about = study.get("distances")
    if not about:
        return {}
    embedder = load_embedder(Path(about["recogniser"]), device=resolve_device(device))
    found: Row = {}
    chosen = {}
    for name, place in about["sets"].items():
        vectors, people = _embed(embedder, place, about.get("modality", "rgb"))
        found[name] = intra_class(vectors.numpy(), people)
        chosen[name] = _some_people(vectors.numpy(), people)
    rows = np.concatenate([groups.reshape(-1, groups.shape[2]) for groups in chosen.values()])
    points, share = classical_mds(cosine_distances(rows))
    ends = np.cumsum([0, *(groups.shape[0] * groups.shape[1] for groups in chosen.values())])
    kinds = {
        name: points[start:end].reshape(*groups.shape[:2], 2)
        for (name, groups), start, end in zip(chosen.items(), ends, ends[1:], strict=False)
    }
    text = ", ".join(f"{name} {row['mean']:.3f}" for name, row in found.items())
    title = "Images of some people (classical MDS of embeddings)"
    description = f"Mean distance of two images of one identity: {text}."
    svg = to_svg(plot_scatter(kinds, title=title), description)
    (outdir / "mds.svg").write_text(svg, encoding="utf-8")
    return {"sets": found, "mds_share": share}


def intra_class(vectors: np.ndarray, people: Sequence[str]) -> Row:
    """Return mean and deviation over people of their images' mean distance, 1 - cosine."""
    names = np.asarray(people)
    means = []
    for name in dict.fromkeys(people):
        own = vectors[names == name].astype(np.float64)
        if len(own) > 1:
            cosines = (own @ own.T)[np.triu_indices(len(own), 1)]
            means.append(float(1 - cosines.mean()))
    if not means:
        raise ValueError("distances within people need two images of one person")
    return {"mean": mean(means), "sd": float(np.std(means)), "people": len(means)}


def _some_people(vectors: np.ndarray, people: Sequence[str]) -> np.ndarray:
    """Return [G, S, E] of the first people with enough images."""
    names = np.asarray(people)
    groups = [vectors[names == name] for name in dict.fromkeys(people)]
    groups = [group[:MDS_SAMPLES] for group in groups if len(group) >= MDS_SAMPLES][:MDS_PEOPLE]
    if not groups:
        raise ValueError(f"the plot needs a person with {MDS_SAMPLES} images in each set")
    return np.stack(groups)


# Results


def format_results(results: Mapping[str, Any]) -> str:
    """Return Markdown: a row a training set, mean +- standard deviation over seeds."""
    numbers, study = results["numbers"], results["config"]
    parts = []
    if numbers:
        rows = [_table_row(name, study, numbers) for name in study["train"]]
        parts.append(format_table([row for row in rows if row is not None]))
    sets = results["distances"].get("sets", {})
    if sets:
        rows = [
            {"set": name, "1 - cosine within people": f"{row['mean']:.3f} ± {row['sd']:.3f}"}
            for name, row in sets.items()
        ]
        parts.append(format_table(rows))
    return "\n\n".join(parts) + "\n"


def _table_row(name: str, study: Mapping[str, Any], numbers: Sequence[Row]) -> Row | None:
    own = [row for row in numbers if row["train"] == name]
    if not own:
        return None
    line: Row = {"trained on": name, "seeds": len({row["seed"] for row in own})}
    for test in study["test"]:
        values = [row for row in own if row["test"] == test]
        line[f"{test}: accuracy %"] = _spread([100 * row["accuracy_best"] for row in values])
        line[f"{test}: EER %"] = _spread([100 * row["eer"] for row in values])
        reference = study.get("reference", {}).get(test)
        best = [
            r["accuracy_best"] for r in numbers if r["train"] == reference and r["test"] == test
        ]
        if best:
            gained = (mean(row["accuracy_best"] for row in values) - 0.5) / (mean(best) - 0.5)
            line[f"{test}: of the way"] = f"{100 * gained:.0f} %"
    return line


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


if __name__ == "__main__":
    main()
