"""Recognisers trained on real and on generated identities, tested on others; with replicates.

benchmarks/study.py says what a study is; a grid of widths and depths is a part of this one, which
also draws mds.svg.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_recognition
from benchmarks.common import format_table
from benchmarks.study import (
    DRAWS,
    Row,
    Study,
    StudyKind,
    cell,
    format_study,
    read_studies,
    study_command,
    summarise,
    train_cell,
)
from biometrics.comparisons import Side, compare
from biometrics.embedding import Embedder, load_embedder
from biometrics.verification import equal_error_rate, error_rates
from data.plots import plot_scatter, to_svg
from metrics.estimates import Floats, multiplicities
from recognition.face_sets import FaceSet
from recognition.face_sources import open_faces
from recognition.verification import verification_numbers
from torch_utils.devices import resolve_device

MODEL = "recogniser.pth"
MDS_IDENTITIES, MDS_SAMPLES = 12, 5


def read_grids(path: Path, words: Iterable[str]) -> list[Study]:
    """Read a study, with its grids as further trainings."""
    studies = read_studies(path, words, ("grid", "distances"))
    return [{**study, "train": {**study["train"], **_grid_trainings(study)}} for study in studies]


def _grid_trainings(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training for each width and depth; all take as many steps as the largest one."""
    grid = study.get("grid")
    if not grid:
        return {}
    options = grid["options"]
    epochs = {**study["base"], **options}["epochs"]
    most = max(grid["identities"]) * max(grid["samples"])
    return {
        f"{grid['name']} {identities} x {samples}": {
            **options,
            "identities": identities,
            "samples": samples,
            "epochs": round(epochs * most / (identities * samples)),
        }
        for identities in grid["identities"]
        for samples in grid["samples"]
    }


# Testing


def _test(studies: Sequence[Study], outdir: Path, device: str) -> dict[str, Any]:
    numbers: list[Row] = []
    drawn: dict[str, dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for study in studies:
        for name in study["train"]:
            model = cell(outdir, name, study["seed"]) / MODEL
            embedder = load_embedder(model, device=resolve_device(device))
            for test, place in study["test"].items():
                row, rates = _verify(embedder, place)
                numbers.append({"train": name, "seed": study["seed"], "test": test, **row})
                drawn[test][name].append(rates)
    distances = _distances(studies[0], outdir, device)
    return {"numbers": numbers, **summarise(studies, drawn), "distances": distances}


def _verify(embedder: Embedder, about: Mapping[str, Any]) -> tuple[Row, Floats]:
    """Return error rates on a test set, {"data": path or paths, "modality": name}.

    The second value holds the EER of each draw of test identities, [DRAWS]; NaN where it has none.
    """
    vectors, identities = _embed(embedder, about["data"], about.get("modality", "rgb"))
    comparisons = compare(Side(vectors=vectors.numpy(), identities=identities))
    drawn = np.full(DRAWS, np.nan)
    for b, draw in enumerate(multiplicities(comparisons.clusters, 0, DRAWS)):
        tally = comparisons.tally(draw)
        if tally.mated.number > 0 and tally.non_mated.number > 0:  # else one identity alone
            drawn[b] = equal_error_rate(error_rates(tally))[0]
    return verification_numbers(vectors, identities), drawn


def _embed(embedder: Embedder, data: str | Sequence[str], modality: str) -> tuple[Any, list[str]]:
    """Return embeddings of all images, and the identity of each."""
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
    """Return how far apart images of one identity are, and draw some identities of each set."""
    about = study.get("distances")
    if not about:
        return {}
    embedder = load_embedder(Path(about["recogniser"]), device=resolve_device(device))
    found: Row = {}
    chosen = {}
    for name, place in about["sets"].items():
        vectors, identities = _embed(embedder, place, about.get("modality", "rgb"))
        found[name] = intra_class(vectors.numpy(), identities)
        chosen[name] = _some_identities(vectors.numpy(), identities)
    rows = np.concatenate([groups.reshape(-1, groups.shape[2]) for groups in chosen.values()])
    points, share = classical_mds(cosine_distances(rows))
    ends = np.cumsum([0, *(groups.shape[0] * groups.shape[1] for groups in chosen.values())])
    kinds = {
        name: points[start:end].reshape(*groups.shape[:2], 2)
        for (name, groups), start, end in zip(chosen.items(), ends, ends[1:], strict=False)
    }
    text = ", ".join(f"{name} {row['mean']:.3f}" for name, row in found.items())
    title = "Images of some identities (classical MDS of embeddings)"
    description = f"Mean distance of two images of one identity: {text}."
    svg = to_svg(plot_scatter(kinds, title=title), description)
    (outdir / "mds.svg").write_text(svg, encoding="utf-8")
    return {"sets": found, "mds_share": share}


def intra_class(vectors: np.ndarray, identities: Sequence[str]) -> Row:
    """Return mean and deviation over identities of their images' mean distance, 1 - cosine."""
    names = np.asarray(identities)
    means = []
    for name in dict.fromkeys(identities):
        own = vectors[names == name].astype(np.float64)
        if len(own) > 1:
            cosines = (own @ own.T)[np.triu_indices(len(own), 1)]
            means.append(float(1 - cosines.mean()))
    if not means:
        raise ValueError("distances within identities need two images of one identity")
    return {"mean": mean(means), "sd": float(np.std(means)), "identities": len(means)}


def _some_identities(vectors: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Return [G, S, E] of the first identities with enough images."""
    names = np.asarray(identities)
    groups = [vectors[names == name] for name in dict.fromkeys(identities)]
    groups = [group[:MDS_SAMPLES] for group in groups if len(group) >= MDS_SAMPLES][:MDS_IDENTITIES]
    if not groups:
        raise ValueError(f"the plot needs an identity with {MDS_SAMPLES} images in each set")
    return np.stack(groups)


# Results


def format_results(results: Mapping[str, Any]) -> str:
    """Return Markdown: training sets, then their differences, then distances within identities."""
    parts = format_study(results, "eer", "EER")
    sets = results["distances"].get("sets", {})
    if sets:
        rows = [
            {"set": name, "1 - cosine within identities": f"{row['mean']:.3f} ± {row['sd']:.3f}"}
            for name, row in sets.items()
        ]
        parts.append(format_table(rows))
    return "\n\n".join(parts) + "\n"


def _train(study: Study, name: str, outdir: Path, device: str) -> None:
    train_cell(study, name, outdir, train_recognition.main, device)


EXAMPLES = """
  python -m benchmarks.recognition_study EXPERIMENTS/recognition_example/mixups.json \\
      --set real=DATASETS/example_32 --set synthetic=new_1 --set synthetic=new_2 --outdir=study
  python -m benchmarks.recognition_study study.json --set real=faces --outdir=study --only=real
"""
KIND = StudyKind(read=read_grids, train=_train, model=MODEL, measure=_test, show=format_results)
main = study_command(KIND, EXAMPLES)

if __name__ == "__main__":
    main()
