"""The privacy evaluation, evaluated: how often it is right about copies, and how often wrong."""

import io
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from biometrics.embedding import Embedder, load_embedder
from data.modalities import MODALITIES
from data.sample_index import SampleIndex
from data.samples import open_samples
from dnnlib import cli
from metrics.estimates import wilson
from metrics.privacy import Group, score_privacy
from torch_utils.devices import resolve_device

EPILOG = """\b
Example:
  python prepare_dataset.py example --outdir=DATASETS/strangers --resolution=32 \\
      --identities=500 --samples=5 --seed=99
  python benchmarks/audit_power.py --data=DATASETS/strangers \\
      --rec-model=EXPERIMENTS/demo/auditor/recogniser.pth --json=audit_power.json

\b
The identities of --data, of whom the recogniser must have learnt none, are divided at random into
"training", "held-out" and "samples", for which images of a generator can stand (--samples) that has
seen none of them. None of the samples is a copy: every alarm is false. Then some are replaced by
training images, as they are or after JPEG compression, which the evaluation must name. A share has
its 95 % interval over divisions (Wilson)."""

# Share of the samples that are replaced, at least one where it is not 0; whether by JPEG images.
CASES = {
    "none": (0.0, False),
    "one": (1e-9, False),
    "1 %": (0.01, False),
    "10 %": (0.1, False),
    "one, compressed": (1e-9, True),
}
JPEG_QUALITY = 75


def compress(image: np.ndarray, quality: int = JPEG_QUALITY) -> np.ndarray:
    """Return an image [C, H, W] uint8 after JPEG."""
    plane = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    with io.BytesIO() as file:
        Image.fromarray(plane).save(file, "JPEG", quality=quality)
        decoded = np.array(Image.open(file))
    return decoded.reshape(*image.shape[1:], -1).transpose(2, 0, 1)


def embed(
    samples: SampleIndex, embedder: Embedder, modality: str, *, compressed: bool = False
) -> np.ndarray:
    """Return the embeddings of images of one modality: [N, E] float32."""
    images = (samples.image(modality, index) for index in range(len(samples)))
    changed = map(compress, images) if compressed else images
    return embedder.embed(map(torch.from_numpy, changed)).numpy()


class Pool:
    """Embeddings of identities that are divided again and again.

    Args:
        names: identity of each image.
        vectors: [N, E] of the images as they are.
        compressed: [N, E] of the images after JPEG.
        generated: samples that none of the identities had a part in; None takes identities.
    """

    def __init__(
        self,
        names: np.ndarray,
        vectors: np.ndarray,
        compressed: np.ndarray,
        generated: Group | None = None,
    ) -> None:
        self.names, self.vectors, self.compressed = names, vectors, compressed
        self.generated = generated

    def try_once(
        self, seed: int, shares: tuple[float, float], copies: float, *, compressed: bool
    ) -> dict[str, bool]:
        """Divide the identities, plant copies and evaluate.

        Args:
            seed: of the division.
            shares: of identities that are "training" and "held-out"; the rest are samples.
            copies: share of samples that training images replace, rounded up.
            compressed: whether these are JPEG images.
        Returns: whether each measure raised an alarm, and whether all copies were named.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(np.unique(self.names))
        ends = np.cumsum([round(share * len(order)) for share in shares])
        groups = [np.flatnonzero(np.isin(self.names, part)) for part in np.split(order, ends)]
        known, strangers, others = (
            Group(vectors=self.vectors[rows], identities=self.names[rows].tolist())
            for rows in groups
        )
        samples = self.generated or others
        count = math.ceil(copies * len(samples.vectors))
        planted = rng.choice(len(samples.vectors), count, replace=False)
        vectors = samples.vectors.copy()
        source = self.compressed if compressed else self.vectors
        vectors[planted] = source[rng.choice(groups[0], count, replace=False)]
        score = score_privacy(replace(samples, vectors=vectors), known, strangers, {})
        excess, test = score.statistics["mean"].excess, score.copy_test
        nearer, auc = score.nearer_training, score.membership_auc
        for measured in (excess, test, nearer, auc):
            assert measured is not None, "there are held-out identities"
        named = set(score.copies.rows)
        return {
            "all copies named": set(planted.tolist()) <= named,
            "others named": bool(named - set(planted.tolist())),
            "excess above 0": (excess.low or 0) > 0,
            "C_T below -3": test.c_t < -3,
            "nearer above 0.5": (nearer.low or 0) > 0.5,
            "AUC above 0.5": (auc.low or 0) > 0.5,
        }


def measure(pool: Pool, divisions: int, shares: tuple[float, float]) -> list[dict[str, Any]]:
    """Return a row a case: the share of divisions in which each alarm was raised."""
    rows = []
    for name, (copies, compressed) in CASES.items():
        with click.progressbar(range(divisions), label=name, file=sys.stderr) as seeds:
            found = [pool.try_once(s, shares, copies, compressed=compressed) for s in seeds]
        row: dict[str, Any] = {"copies": name}
        for alarm in found[0]:
            share = wilson(sum(one[alarm] for one in found), divisions)
            row[alarm] = f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
        rows.append(row)
    return rows


@click.command(context_settings=cli.CONTEXT, epilog=EPILOG)
@click.option("--data", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Images of identities that the recogniser has not learnt.")  # fmt: skip
@click.option("--rec-model", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The recogniser that audits.")  # fmt: skip
@click.option("--samples", type=click.Path(path_type=Path), metavar="DIR",
              help="Generated images that stand for samples; else some identities do.")  # fmt: skip
@click.option("--modality", default="rgb", type=click.Choice([m.name for m in MODALITIES]))
@click.option("--divisions", default=200, help="Random divisions of the identities.")
@click.option("--training", default=0.7, help="Share of identities that stand for training ones.")
@click.option("--heldout", default=0.2, help="Share of identities that are held out.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    data: Path,
    rec_model: Path,
    samples: Path | None,
    modality: str,
    divisions: int,
    training: float,
    heldout: float,
    device: str,
    json_path: Path | None,
) -> None:
    """Measure false alarms and found copies of `evaluate.py privacy`."""
    with cli.friendly_errors():
        if training + heldout >= 1:
            raise ValueError(f"--training and --heldout must leave some, got {training}, {heldout}")
        real = open_samples(data)
        embedder = load_embedder(rec_model, device=resolve_device(device))
        found = [embed(real, embedder, modality, compressed=flag) for flag in (False, True)]
        generated = None
        if samples is not None:
            drawn = open_samples(samples)
            vectors = embed(drawn, embedder, modality)
            generated = Group(vectors=vectors, identities=drawn.identities)
        pool = Pool(np.asarray(real.identities), *found, generated)
        rows = measure(pool, divisions, (training, heldout))
    content = {
        "machine": common.describe_machine(torch.device(device)),
        "identities": real.num_identities,
        "images": len(real),
        "divisions": divisions,
        "shares": [training, heldout],
        "rows": rows,
    }
    common.report("The privacy evaluation on known answers", content, json_path)


if __name__ == "__main__":
    main()
