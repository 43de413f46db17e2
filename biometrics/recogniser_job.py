"""Shows what images a recogniser takes, and records what its file does not say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biometrics.embedding import Embedder, build_embedder, embed_samples
from biometrics.input_check import check_samples
from biometrics.options import RecogniserOptions
from biometrics.recogniser_settings import (
    ChannelOrder,
    RecogniserSettings,
    read_settings,
    settings_path,
    write_settings,
)
from biometrics.recognisers import Recogniser, load_recogniser
from data.modalities import RGB
from data.sample_index import SampleIndex
from data.samples import open_samples
from dnnlib.files import check_place
from dnnlib.options import Job, Progress
from metrics.estimates import group_numbers
from metrics.nearest import unit_rows
from torch_utils.devices import resolve_repeatable


@dataclass(frozen=True, kw_only=True, eq=False)
class SettingsJob(Job):
    """A recogniser, and the settings that are written beside it; None for no change."""

    path: Path
    recogniser: Recogniser
    settings: RecogniserSettings | None
    samples: SampleIndex | None
    is_centred: bool
    device: str

    def describe(self) -> dict[str, Any]:
        """Return what the recogniser takes."""
        found = self.recogniser
        return {
            "kind": found.kind,
            "takes": vars(found.takes),
            "width": found.width,
            "is_centred": found.centre is not None,
            "assumed": found.assumed,
            "hash": found.hash,
        }

    def run(self, progress: Progress) -> str:
        """Check the format on images, find their mean embedding, write the settings."""
        found, takes = self.recogniser, self.recogniser.takes
        mean, std = ("/".join(f"{v:g}" for v in numbers) for numbers in (takes.mean, takes.std))
        order = ChannelOrder.GREY if takes.channels == 1 else takes.order
        lines = [
            f"{self.path}: {found.kind}, {found.width} numbers; takes {takes.size}x{takes.size} "
            f"{order}, (x - {mean}) / {std} of pixels 0..255"
        ]
        if found.centre is not None:
            name = read_settings(self.path).centred_on
            lines.append(f"a mean embedding{f' of {name}' if name else ''} is subtracted")
        if found.assumed:
            lines.append(f"not in the file, but assumed: {', '.join(found.assumed)}")
        settings = self.settings
        if settings is not None and not self.is_centred and read_settings(self.path).centre:
            lines.append(
                "the mean embedding that was subtracted is of another format and left out now; "
                "--centre with --data finds that of this one"
            )
        if self.samples is not None:
            embedder = build_embedder(found, device=self.device)
            lines += _check_lines(embedder, self.samples)
            if self.is_centred and settings is not None:
                centre, effect = _find_centre(embedder, self.samples, progress)
                settings = replace(
                    settings,
                    centre=tuple(round(v, 7) for v in centre.tolist()),
                    centred_on=self.samples.name,
                )
                lines.append(f"centred on {self.samples.name}: {effect}")
        if settings is not None:
            lines.append(f"wrote {write_settings(self.path, settings)}")
        return "\n".join(lines)


def prepare(options: RecogniserOptions) -> SettingsJob:
    """Read the recogniser with the settings that are asked for.

    Raises: ValueError, FileNotFoundError naming the option or file that is wrong.
    """
    changes = {
        "size": options.size,
        "order": None if options.order is None else ChannelOrder(options.order),
        "mean": options.mean,
        "std": options.std,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    settings = None
    if given or options.centre:
        # A mean embedding is one of the format that it was measured with.
        before = replace(read_settings(options.rec_model), centre=(), centred_on="")
        settings = replace(before, **given)
        check_place(settings_path(options.rec_model))
    device = resolve_repeatable(options.device)
    return SettingsJob(
        path=options.rec_model,
        recogniser=load_recogniser(options.rec_model, device=device, settings=settings),
        settings=settings,
        samples=None if options.data is None else open_samples(options.data),
        is_centred=options.centre,
        device=device,
    )


def _check_lines(embedder: Embedder, samples: SampleIndex) -> list[str]:
    check = check_samples(embedder, samples, RGB.name)
    if check is None:
        return [f"{samples.name}: too few identities to check the format on"]
    rows = [f"  {cosine:6.3f}  {name}" for name, cosine in check.strangers.items()]
    return [
        f"  {check.mirrored:6.3f}  an image and its mirror image (median cosine; should be high)",
        "images of different identities (median cosine; should be lowest with its own format):",
        *rows,
        f"warning: {check.warning}" if check.warning else "the format looks right",
    ]


def _find_centre(
    embedder: Embedder, samples: SampleIndex, progress: Progress
) -> tuple[Tensor, str]:
    """Return the mean of the identities' mean embeddings, [E] float32, and what it is good for.

    The latter is measured on every second identity with the mean of the others: less their own
    mean, those of any network lie apart.
    """
    found = embed_samples(
        samples, RGB.name, embedder.embed, embedder.width, progress=progress(0, len(samples))
    ).enrolled()
    groups, count = group_numbers(found.samples.identities)
    if count < 2:
        raise ValueError(f"--centre: a mean of at least 2 identities is needed, got {count}")
    sums = np.zeros([count, embedder.width])
    np.add.at(sums, groups, found.vectors)
    means = sums / np.bincount(groups)[:, None]
    others, tried = means[::2], means[1::2]
    if len(tried) < 2:
        effect = "too few identities to measure what that changes"
    else:
        before, after = _mean_cosine(tried), _mean_cosine(tried - others.mean(axis=0))
        effect = (
            f"mean embeddings of different identities have a cosine of {before:.3f} on average, "
            f"{after:.3f} after that (every second identity, centred on the others)"
        )
    return torch.from_numpy(means.mean(axis=0)).float(), effect


def _mean_cosine(rows: np.ndarray) -> float:
    """Return the mean cosine of two different rows."""
    count, total = len(rows), unit_rows(rows).sum(axis=0, dtype=np.float64)
    return float((total @ total - count) / (count * (count - 1)))
