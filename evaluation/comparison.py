"""How alike a recogniser finds two images, or the images of two folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biometrics.embedding import Embedder, embed_samples, load_embedder
from data.modalities import RGB
from data.pixels import decode_image, image_suffixes
from data.sample_index import SampleIndex
from data.samples import open_samples
from dnnlib.options import Job, Progress
from evaluation.faces import Faces, given_thresholds
from evaluation.options import ComparisonOptions
from torch_utils.devices import resolve_repeatable

_MAX_COMPARISONS = 10**8
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonJob(Job):
    """Two images or sets of images, and what a cosine between them means."""

    sides: tuple[Path | SampleIndex, Path | SampleIndex]  # one object twice: with itself
    embedder: Embedder
    thresholds: Mapping[float, float]

    def describe(self) -> dict[str, Any]:
        """Return what is compared, and by what."""
        return {
            "sides": [str(s) if isinstance(s, Path) else s.name for s in self.sides],
            "recogniser": self.embedder.hash,
            "thresholds": {f"{fmr:g}": cosine for fmr, cosine in self.thresholds.items()},
        }

    def run(self, progress: Progress) -> str:
        """Return cosines and how many reach each threshold."""
        is_itself = self.sides[0] is self.sides[1]
        names, first = self._embed(self.sides[0], progress)
        others, second = (names, first) if is_itself else self._embed(self.sides[1], progress)
        cosines = first @ second.T
        is_folder = is_itself and isinstance(self.sides[0], SampleIndex)
        i, j = np.triu_indices(len(names), 1) if is_folder else np.indices(cosines.shape)
        scores, i, j = cosines[i, j].ravel(), i.ravel(), j.ravel()
        if not len(scores):
            raise ValueError("nothing to compare: a folder with itself needs two images")
        if len(scores) == 1:
            lines = [f"cosine {scores[0]:.4f}: {names[i[0]]} and {others[j[0]]}"]
        else:
            low, middle, high = np.quantile(scores, [0.05, 0.5, 0.95])
            lines = [
                f"{len(scores):,} comparisons: mean cosine {scores.mean():.4f}, median "
                f"{middle:.4f}, 5 % below {low:.4f}, 5 % above {high:.4f}; the highest:",
                *(
                    f"  {scores[k]:.4f}  {names[i[k]]} and {others[j[k]]}"
                    for k in np.argsort(-scores, kind="stable")[:_SHOWN]
                ),
            ]
        for fmr, cosine in sorted(self.thresholds.items(), reverse=True):
            reached = int((scores >= cosine).sum())
            verdict = f"{reached:,} of {len(scores):,} reach it"
            if len(scores) == 1:
                verdict = "reached: taken for one identity" if reached else "not reached"
            lines.append(
                f"threshold {cosine:.4f}, which {fmr:g} of comparisons of two identities reach: "
                f"{verdict}"
            )
        if not self.thresholds:
            lines.append(
                "without --thresholds or --threshold of this recogniser a cosine says nothing"
            )
        return "\n".join(lines)

    def _embed(self, side: Path | SampleIndex, progress: Progress) -> tuple[list[str], np.ndarray]:
        """Return names and [N, E] of a side. Raises: ValueError for an image without a face."""
        if isinstance(side, Path):
            image = self.embedder.align(torch.from_numpy(decode_image(side, RGB.channels)))
            if isinstance(image, str):
                raise ValueError(f"{side}: {image}")
            return [side.name], self.embedder.embed_aligned(image[None]).numpy()
        found = embed_samples(
            side,
            RGB.name,
            self.embedder.embed_aligned,
            self.embedder.width,
            align=self.embedder.align,
            progress=progress(0, len(side)),
        ).enrolled()
        return list(found.samples.stems), found.vectors


def prepare(options: ComparisonOptions) -> ComparisonJob:
    """Open both sides, the recogniser and its thresholds.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    first = _open(options.first)
    is_itself = options.first.resolve() == options.second.resolve()
    second = first if is_itself else _open(options.second)
    sizes = [1 if isinstance(side, Path) else len(side) for side in (first, second)]
    if sizes[0] * sizes[1] > _MAX_COMPARISONS:
        raise ValueError(
            f"compare makes at most {_MAX_COMPARISONS:,} comparisons, got {sizes[0]} x {sizes[1]} "
            "images; evaluate.py verification and privacy take large sets"
        )
    embedder = load_embedder(
        options.rec_model,
        device=resolve_repeatable(options.device),
        flip=options.flip,
        align=options.align,
    )
    return ComparisonJob(
        sides=(first, second),
        embedder=embedder,
        thresholds=given_thresholds(options, [Faces(options.rec_model.name, embedder)]),
    )


def _open(path: Path) -> Path | SampleIndex:
    is_image = path.is_file() and path.suffix.lower() in image_suffixes()
    return path if is_image else open_samples(path, is_complete=False)
