"""Do generated pairs belong together? Generators with and without a joint discriminator.

benchmarks/study.py says what a study is. Cells are runs of train_db_stylegan2.py, which know
themselves whether they are done: with a larger "kimg" they go on. What lacks a snapshot of that
many kimg is left out of the table.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_db_stylegan2
from benchmarks.common import format_table, interleaved_medians
from benchmarks.study import Row, Study, StudyKind, cell, read_studies, study_command, train_cell
from biometrics.comparisons import Side, compare
from biometrics.embedding import load_embedder
from biometrics.verification import score_comparisons
from data.dataset import PairDataset
from data.modalities import JOINT, NIR, RGB
from data.pixels import to_float
from dnnlib import config as configs
from evaluation.extractors import Extractor, build_extractors
from evaluation.features import BLOCK, extract
from evaluation.names import Role
from metrics.alignment import score_alignment
from metrics.distances import frechet_distance
from metrics.statistics import Moments, compute_moments
from networks.sampling import IndexedSampler
from networks.snapshot import load_generator, load_snapshot
from torch_utils.seeding import derive_seed, generator_for
from training.config import TrainingConfig
from training.losses import Embed
from training.state import TrainingState
from training.step import Iteration

VIEWS = (RGB.name, NIR.name, JOINT)
SEPARATE = "two generators"  # RGB of one replicate, NIR of the next, by the same latents
REAL = "real pairs of other identities"
REGRESSOR_STEPS, REGRESSOR_BATCH, REGRESSOR_WIDTH = 600, 32, 32
TIMED_ITERATIONS, TIMED_ROUNDS = 16, 3  # each penalty of the discriminators falls into 16 once

Images = Mapping[str, Tensor]  # modality -> [N, C, R, R] uint8


def read(path: Path, words: Iterable[str]) -> list[Study]:
    """Read a study.

    "samples" are generated from each network, "auditor" is a recogniser; with "residuals" false,
    which saves minutes, no network is trained to expect NIR from RGB.
    """
    return read_studies(path, words, extra_keys=("samples", "auditor", "residuals"))


def train(study: Study, name: str, outdir: Path, device: str) -> None:
    """Train a cell, or go on with it."""
    train_cell(study, name, outdir, train_db_stylegan2.main, device)


def find_network(study: Study, name: str, outdir: Path) -> Path | None:
    """Return the snapshot of a cell at the study's number of images, if it is there."""
    file = f"network-snapshot-{int(study['base']['kimg']):06d}.pkl"
    found = sorted(cell(outdir, name, study["seed"]).glob(f"*/{file}"))
    return found[-1] if found else None


# Measures


class Judge:
    """Measures of pairs, made from real ones and the same for all that are judged."""

    def __init__(self, study: Study, device: str) -> None:
        self.count, self.auditor = study["samples"], study.get("auditor")
        self.device = "cpu" if device == "auto" else device
        (self.extractor,) = build_extractors("standin", {Role.FEATURES}).values()
        reals, _ = load_pairs(Path(study["base"]["data"]))
        self.moments = compute_view_moments(self.extractor, reals)
        self.regressor = train_regressor(reals) if study.get("residuals", True) else None
        (test,) = study["test"].values()
        self.real = self.measure(*load_pairs(Path(test)))

    def sample(self, network: Path) -> Images:
        """Return samples without truncation, with constant noise; sample i has latent i."""
        generator, _ = load_generator(network, self.device)
        return IndexedSampler(generator, None, name=network.name).sample(range(self.count))

    def measure(self, pairs: Images, identities: Sequence[str]) -> Row:
        """Return the numbers of pairs of these identities."""
        arrays = {name: images.numpy() for name, images in pairs.items()}
        edges = score_alignment(
            lambda i: [images[i] for images in arrays.values()], identities, seed=0
        )
        moments = compute_view_moments(self.extractor, pairs)
        row: Row = {
            "edges": edges.edge_correlation.value,
            "edges of others": edges.edge_correlation_chance.value,
            "excess": edges.edge_correlation_excess.value,
            "excess low": edges.edge_correlation_excess.low,
            "excess high": edges.edge_correlation_excess.high,
            **{f"FD {v}": frechet_distance(self.moments[v], moments[v]) for v in VIEWS},
        }
        if self.regressor is not None:
            row |= self._residuals(self.regressor, pairs, identities)
        if self.auditor is not None:
            row |= self._equal_error_rate(pairs, identities)
        return row

    def _residuals(self, regressor: nn.Module, pairs: Images, identities: Sequence[str]) -> Row:
        predicted = predict(regressor, pairs[RGB.name])
        nir = pairs[NIR.name].float()
        others = nir[others_of(identities)]
        own, chance = ((predicted - shown).abs().mean() for shown in (nir, others))
        return {"residual": float(own), "residual of others": float(chance)}

    def _equal_error_rate(self, pairs: Images, identities: Sequence[str]) -> Row:
        """Return the auditor's EER: the RGB image of an identity's first sample against its NIR."""
        names, first = np.unique(np.asarray(identities), return_index=True)
        embedder = load_embedder(Path(self.auditor), device=self.device)
        sides = [
            Side(vectors=embedder.embed(images[first]).numpy(), identities=names.tolist())
            for images in pairs.values()
        ]
        eer = score_comparisons(compare(*sides)).eer
        return {"EER": eer.value, "EER low": eer.low, "EER high": eer.high}


def compute_view_moments(extractor: Extractor, pairs: Images) -> dict[str, Moments]:
    """Return the moments of each modality's features, and of both side by side."""
    rows = {
        name: np.concatenate([extract(extractor, part) for part in images.split(BLOCK)])
        for name, images in pairs.items()
    }
    rows[JOINT] = np.concatenate(list(rows.values()), axis=1)
    return {view: compute_moments(features) for view, features in rows.items()}


def others_of(identities: Sequence[str]) -> Tensor:
    """Return a row of another identity for each: [N] int64; those of one stand together."""
    return torch.arange(len(identities)).roll(max(Counter(identities).values()))


def load_pairs(root: Path) -> tuple[Images, Sequence[str]]:
    """Return the images of a data set, and whose they are."""
    pairs = PairDataset.open(root)
    items = [pairs[index] for index in range(len(pairs))]
    images = {m.name: torch.stack([item[m.name] for item in items]) for m in pairs.modalities}
    return images, pairs.samples.identities


def train_regressor(pairs: Images) -> nn.Module:
    """Return a small network that predicts the NIR image from the RGB image of real pairs."""
    widths = [RGB.channels, *[REGRESSOR_WIDTH] * 3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "regressor"))
        layers: list[nn.Module] = []
        for into, out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(into, out, 5, padding=2, padding_mode="reflect"), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Conv2d(REGRESSOR_WIDTH, NIR.channels, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, REGRESSOR_STEPS)
    for step in range(REGRESSOR_STEPS):
        random = generator_for(0, "regressor", step)
        index = torch.randint(len(pairs[RGB.name]), [REGRESSOR_BATCH], generator=random)
        rgb, nir = (to_float(pairs[name][index]) for name in (RGB.name, NIR.name))
        optimizer.zero_grad(set_to_none=True)
        F.l1_loss(network(rgb), nir).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def predict(regressor: nn.Module, rgb: Tensor) -> Tensor:
    """Return the expected NIR images, [N, 1, R, R] float32 0..255, of uint8 RGB images."""
    parts = [regressor(to_float(part)) for part in rgb.split(256)]
    return ((torch.cat(parts) + 1) * 127.5).clamp(0, 255)


def time_iterations(
    networks: Mapping[str, Path], device: str, embed: Embed | None = None
) -> dict[str, float]:
    """Return seconds per thousand images of each arm, all of them timed in turn on random pixels.

    Args:
        networks: arm -> a snapshot of it, of which only the options count.
        device: that computes.
        embed: recogniser of an identity loss.
    """
    place = torch.device("cpu" if device == "auto" else device)
    functions, batch = {}, 1
    for name, path in networks.items():
        config = configs.from_dict(TrainingConfig, dict(load_snapshot(path).options))
        config = replace(config, resume=None)
        batch, state = config.batch, TrainingState(config, place)
        labels = torch.zeros([1, config.generator.c_dim])
        iteration = Iteration(config, state, batch_gpu=batch, labels=labels, embed=embed)
        side, random = config.generator.resolution, torch.Generator().manual_seed(0)
        images = {
            modality: torch.randint(
                256, [batch, channels, side, side], generator=random, dtype=torch.uint8
            )
            for modality, channels in config.generator.heads.items()
        }
        images["label"] = labels.expand(batch, -1)
        functions[name] = partial(_iterate, iteration, images)
        iteration.run(images)
    seconds = interleaved_medians(functions, TIMED_ROUNDS, place)
    return {name: s / TIMED_ITERATIONS / batch * 1000 for name, s in seconds.items()}


def _iterate(iteration: Iteration, images: Images) -> None:
    for _ in range(TIMED_ITERATIONS):
        iteration.run(images)


def measure(studies: Sequence[Study], outdir: Path, device: str) -> dict[str, Any]:
    """Return the numbers of all cells that are trained, of real pairs and of mixed generators."""
    judge, numbers = Judge(studies[0], device), []
    separate: dict[int, Images] = {}
    networks: dict[str, Path] = {}
    first = next(iter(studies[0]["train"]))
    for study in studies:
        for name in study["train"]:
            path = find_network(study, name, outdir)
            if path is None:
                click.echo(f"{name}, seed {study['seed']}: not trained yet", err=True)
                continue
            networks.setdefault(name, path)
            pairs = judge.sample(path)
            if name == first:
                separate[study["seed"]] = pairs
            row = judge.measure(pairs, _names(judge.count))
            numbers.append({"train": name, "seed": study["seed"], **row})
    seeds = list(separate)
    for seed, other in zip(seeds, seeds[1:] + seeds[:1], strict=True) if len(seeds) > 1 else ():
        pairs = {RGB.name: separate[seed][RGB.name], NIR.name: separate[other][NIR.name]}
        row = judge.measure(pairs, _names(judge.count))
        numbers.append({"train": SEPARATE, "seed": seed, **row})
    if not numbers:
        raise ValueError(f"--outdir {outdir}: no network of {studies[0]['base']['kimg']} kimg")
    return {
        "numbers": numbers,
        "real": judge.real,
        "seconds_per_kimg": time_iterations(networks, device),
    }


def _names(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def format_results(results: Mapping[str, Any]) -> str:
    """Return a Markdown table of the arms: means over replicates, with their deviation."""
    by_arm: dict[str, list[Row]] = defaultdict(list)
    for row in results["numbers"]:
        by_arm[row["train"]].append(row)
    by_arm[REAL] = [results["real"]]
    seconds = results["seconds_per_kimg"]
    rows = []
    for name, cells in by_arm.items():
        row: Row = {"pairs of": name, "replicates": len(cells) if name != REAL else ""}
        for key in results["real"]:
            if key.endswith((" low", " high")):
                continue
            row[key] = _spread([entry[key] for entry in cells])
            if f"{key} low" in cells[0]:
                low, high = (
                    mean(entry[f"{key} {end}"] for entry in cells) for end in ("low", "high")
                )
                row[key] += f" [{low:.3f}, {high:.3f}]"
        row["s/kimg"] = seconds.get(name, "")
        rows.append(row)
    return format_table(rows) + "\n"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{deviation}"


EXAMPLES = """
  python -m benchmarks.pair_critic EXPERIMENTS/pair_critic/study.json --set kimg=28 \\
      --set real=DATASETS/example_32 --set auditor=auditor/recogniser.pth --outdir=pairs
"""
KIND = StudyKind(read=read, train=train, model="", measure=measure, show=format_results)
main = study_command(KIND, EXAMPLES)

if __name__ == "__main__":
    main()
