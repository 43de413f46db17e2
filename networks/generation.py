"""Images, style mixing grids and videos from a snapshot, as files."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.numbers import load_rows
from data.pixels import to_uint8
from data.sheets import Pixels, image_grid, save_image, side_by_side
from dnnlib import files
from dnnlib.config import to_dict
from dnnlib.options import Job, Progress
from networks.export import ConversionJob, prepare_conversion
from networks.options import GenerationOptions
from networks.sampling import (
    Sampler,
    Truncation,
    check_conditions,
    check_layers,
    latents_of_seeds,
    load_conditions,
    load_ws,
    replace_layers,
)
from networks.snapshot import load_generator
from networks.video import check_video, save_video
from torch_utils.devices import resolve_repeatable
from torch_utils.seeding import derive_seed

_DEFAULT_MIX_LAYERS = 7


@dataclass(frozen=True)
class Samples:
    """Latents with the names of their files.

    Attributes:
        names: N.
        z: [N, z_dim] float32; or [N, L, w_dim] with `is_w`.
        c: [N, c_dim] float32; None for an unconditional network.
        is_w: the latents are ws.
    """

    names: tuple[str, ...]
    z: Tensor
    c: Tensor | None
    is_w: bool = False

    def ws(self, sampler: Sampler) -> Tensor:
        """Return the ws that a generator is given: [N, L, w_dim] float32."""
        return self.z if self.is_w else sampler.map(self.z, self.c)


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerationJob(Job):
    """Images to be generated, with everything read and checked.

    Attributes:
        options: what was asked for.
        outdir: where the images go.
        sampler: of the generator on its device.
        samples: what to generate; the rows of a mixing grid.
        columns: of a mixing grid; None for single images and videos.
        mix_layers: layers that come from the column.
    """

    options: GenerationOptions
    outdir: Path
    sampler: Sampler
    samples: Samples
    columns: Samples | None
    mix_layers: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """Return the options, the network and the samples' names."""
        return {
            "options": to_dict(self.options),
            "generator": to_dict(self.sampler.generator.config),
            "samples": list(self.samples.names),
        }

    def run(self, progress: Progress) -> str:
        """Generate and write the images."""
        ws, names = self.samples.ws(self.sampler), self.samples.names
        if self.columns is not None:
            paths = self._write_mixing_grid(ws, self.columns, progress)
        elif self.options.video is not None:
            paths = [self._write_video(ws, self.options.video, progress)]
        else:
            cells, paths = self._write_samples(ws, names, progress)
            paths.append(self._write_grid(cells, math.ceil(math.sqrt(len(cells)))))
        return f"wrote {len(paths)} files, the last is {paths[-1]}"

    def _write_samples(
        self, ws: Tensor, names: Sequence[str], progress: Progress, first: int = 0
    ) -> tuple[list[Pixels], list[Path]]:
        """Write the images of samples from number `first` on.

        Returns: every sample's modalities side by side, and the files.
        """
        raw: list[dict[str, Tensor]] = []
        cells, paths = [], []
        for name, images in zip(names, self._generate(ws, names, progress), strict=True):
            pixels = {modality: to_uint8(image).numpy() for modality, image in images.items()}
            cells.append(side_by_side(pixels.values()))
            for modality, image in pixels.items() if len(cells) > first else ():
                paths.append(self.outdir / f"{name}_{modality.upper()}.png")
                save_image(paths[-1], image)
            if self.options.raw:
                raw.append(images)
        if raw:
            paths.append(self.outdir / "images.npz")
            arrays = {m: torch.stack([images[m] for images in raw]).numpy() for m in raw[0]}
            with files.atomic_write(paths[-1]) as file:
                np.savez(file, **arrays)
        return cells, paths

    def _write_grid(self, cells: Sequence[Pixels], columns: int) -> Path:
        save_image(self.outdir / "grid.png", image_grid(cells, columns))
        return self.outdir / "grid.png"

    def _write_mixing_grid(self, ws: Tensor, columns: Samples, progress: Progress) -> list[Path]:
        """Write an image a pair, and a grid with the rows' and columns' own images at its edges."""
        rows, width = self.samples.names, len(columns.names)
        column_ws = columns.ws(self.sampler)
        pairs = [f"mix_{row}-{column}" for row in rows for column in columns.names]
        names, edge = [*rows, *columns.names, *pairs], len(rows) + width
        ws = torch.cat([ws, column_ws, mix_styles(ws, column_ws, self.mix_layers)])
        cells, paths = self._write_samples(ws, names, progress, edge)
        layout = [np.zeros_like(cells[0]), *cells[len(rows) : edge]]
        for row, head in enumerate(cells[: len(rows)]):
            layout += [head, *cells[edge + row * width :][:width]]
        return [*paths, self._write_grid(layout, width + 1)]

    def _write_video(self, ws: Tensor, path: Path, progress: Progress) -> Path:
        ws = interpolate_ws(ws, self.options.frames)
        # One name for all frames: random noise stands still instead of flickering.
        frames = (
            side_by_side(to_uint8(image).numpy() for image in images.values()).transpose(1, 2, 0)
            for images in self._generate(ws, ["video"] * len(ws), progress)
        )
        save_video(path, frames, self.options.fps)
        return path

    def _generate(
        self, ws: Tensor, names: Sequence[str], progress: Progress
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the images [C, R, R] of each sample; random noise follows from its name."""
        advance = progress(0, len(ws))
        for images in self.sampler.images(ws, names):
            yield images
            advance(1)


def prepare(options: GenerationOptions) -> GenerationJob | ConversionJob:
    """Read snapshot, latents and labels.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    if options.convert_to is not None:
        return prepare_conversion(options, options.convert_to)
    assert options.outdir is not None, "checked by the options"
    if options.outdir.exists() and not options.outdir.is_dir():
        raise ValueError(f"--outdir {options.outdir}: is a file, must be a folder")
    if options.video is not None:
        check_video(options.video)
    device = torch.device(resolve_repeatable(options.device))
    generator, snapshot = load_generator(
        options.network, device, use_raw_g=options.use_raw_g, fp32=options.fp32
    )
    z_dim = generator.config.z_dim
    if options.projected_w is not None:
        z = load_ws(options.projected_w, "--projected-w", generator)
        names = tuple(f"proj{index:02d}" for index in range(len(z)))
    elif options.latents is not None:
        z = torch.from_numpy(load_rows(options.latents, "--latents", z_dim)).float()
        names = tuple(f"latent{index:04d}" for index in range(len(z)))
    else:
        z, names = latents_of_seeds(options.seeds, z_dim), _seed_names(options.seeds)
    check_layers(options.mix_layers, generator.num_ws)
    mix_names = _seed_names(options.mix_seeds)
    is_w = options.projected_w is not None
    mapped = mix_names if is_w else (*names, *mix_names)  # what needs conditions
    c = None
    if mapped:
        c = read_conditions(options, generator.config.c_dim, mapped, snapshot.feature_scale)
    columns = None
    if mix_names:
        column_z = latents_of_seeds(options.mix_seeds, z_dim)
        columns = Samples(mix_names, column_z, None if c is None else c[-len(mix_names) :])
    return GenerationJob(
        options=options,
        outdir=options.outdir,
        sampler=Sampler(
            generator,
            truncation=Truncation(psi=options.truncation, cutoff=options.truncation_cutoff),
            noise_mode=options.noise_mode,
            seed=options.seed,
        ),
        samples=Samples(names, z, None if c is None or is_w else c[: len(z)], is_w),
        columns=columns,
        mix_layers=options.mix_layers or tuple(range(min(_DEFAULT_MIX_LAYERS, generator.num_ws))),
    )


def _seed_names(seeds: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"seed{seed:04d}" for seed in seeds)


def read_conditions(
    options: GenerationOptions, c_dim: int, names: Sequence[str], feature_scale: float | None
) -> Tensor | None:
    """Return one condition a sample: [N, c_dim] float32; None for an unconditional network.

    Args:
        options: as the user gave them.
        c_dim: width of the network's condition.
        names: of the samples; which of several identities a sample shows depends on its name alone.
        feature_scale: length of identity features.
    Raises: ValueError for conditions that do not fit the network or the samples.
    """
    rows, path, count = None, options.labels, len(names)
    if options.class_index is not None:
        classes = max(c_dim, 1)
        if not 0 <= options.class_index < classes:
            raise ValueError(f"--class must be from 0 to {classes - 1}, got {options.class_index}")
        rows = torch.eye(classes)[[options.class_index]]
    elif path is not None:
        rows = load_conditions(path, "--labels", feature_scale)
    source = "--labels or --class" if path is None else f"--labels {path}"
    check_conditions(c_dim, rows, f"{options.network}: {source}")
    if rows is None:
        return None
    if path is not None and path.suffix.lower() == ".json":
        return rows[[derive_seed(0, "identity", name) % len(rows) for name in names]]
    if len(rows) not in (1, count):
        raise ValueError(f"{source}: 1 or {count} rows for {count} samples, got {len(rows)}")
    return rows.expand(count, -1)


def mix_styles(rows: Tensor, columns: Tensor, layers: Sequence[int]) -> Tensor:
    """Return all pairs of a row's w, with some layers replaced by a column's.

    Args:
        rows: [R, L, w_dim] float32.
        columns: [C, L, w_dim] float32.
        layers: which layers come from the column.
    Returns: [R * C, L, w_dim] float32, row after row.
    Source: Karras et al. 2019 (arXiv:1812.04948), section 3.1.
    """
    each_row = rows.repeat_interleave(len(columns), dim=0)
    return replace_layers(each_row, columns.repeat(len(rows), 1, 1), layers)


def interpolate_ws(keys: Tensor, frames: int) -> Tensor:
    """Return a closed smooth path through `keys`, `frames` steps from each to the next.

    Args:
        keys: [K, L, w_dim] float32.
        frames: steps a segment; the last segment leads back to the first key.
    Returns: [K * frames, L, w_dim] float32; every `frames`-th is a key.
    """
    from scipy.interpolate import CubicSpline  # noqa: PLC0415  # slow

    closed = torch.cat([keys, keys[:1]]).double().numpy()
    path = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    return torch.from_numpy(path(np.arange(len(keys) * frames) / frames)).float()
