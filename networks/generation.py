"""Images, style mixing grids and videos from a snapshot, as files."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.conditions import load_conditions
from data.number_files import load_rows
from data.pixels import to_uint8
from data.sheets import Pixels, image_grid, save_image, side_by_side
from dnnlib import files
from networks.generator import NoiseMode
from networks.sampling import (
    Sampler,
    Truncation,
    check_conditions,
    check_layers,
    latents_of_seeds,
    replace_layers,
)
from networks.snapshot import load_generator
from networks.video import check_video, save_video
from torch_utils.devices import resolve_device, use_repeatable_arithmetic
from torch_utils.seeding import derive_seed

# Takes how many samples are done and how many there are; returns what counts further ones.
Progress = Callable[[int, int], Callable[[int], None]]
_DEFAULT_MIX_LAYERS = 7


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """What to draw, from which snapshot, and where to.

    Attributes:
        network: snapshot of ours or a published pickle.
        outdir: folder of the images.
        seeds: one latent each, as in the published tools.
        latents: instead of seeds, a .npy file of [N, z_dim] numbers.
        labels: for a conditional network, a .npy file of [N, c_dim] or [1, c_dim] conditions, or
            identity features (.json), of which each sample draws one.
        class_index: instead of labels, a one-hot condition for all samples.
        truncation: 1 leaves w as it is, 0 gives the mean image.
        truncation_cutoff: number of first layers to truncate; None is all.
        noise_mode: const, random or none.
        mix_seeds: draw a grid: samples are rows, these seeds columns; None draws single images.
        mix_layers: layers that come from the column; None is the first seven.
        video: draw a closed path through the samples to this file; None draws images.
        frames: of the video from one sample to the next.
        fps: frames a second.
        raw: also write images.npz with float32 images, not clipped.
        use_raw_g: draw from G instead of its average G_ema.
        fp32: compute in 32 bits on CUDA too.
        device: auto, cpu or cuda.
        seed: of random noise.
    """

    network: Path
    outdir: Path
    seeds: tuple[int, ...] = ()
    latents: Path | None = None
    labels: Path | None = None
    class_index: int | None = None
    truncation: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: NoiseMode = NoiseMode.CONST
    mix_seeds: tuple[int, ...] | None = None
    mix_layers: tuple[int, ...] | None = None
    video: Path | None = None
    frames: int = 60
    fps: float = 30.0
    raw: bool = False
    use_raw_g: bool = False
    fp32: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.seeds) == (self.latents is not None):
            raise ValueError("one of --seeds and --latents must say what to draw")
        if self.labels is not None and self.class_index is not None:
            raise ValueError("--labels and --class are two ways to say the same; give one")
        if (self.mix_seeds is not None) + (self.video is not None) + self.raw > 1:
            raise ValueError("--mix-seeds, --video and --raw cannot be combined")
        if not math.isfinite(self.truncation):
            raise ValueError(f"--truncation must be a number, got {self.truncation}")
        for name, value in (("frames", self.frames), ("fps", self.fps)):
            if not 0 < value < math.inf:
                raise ValueError(f"--{name} must be above 0, got {value}")
        if self.video is not None:
            check_video(self.video)


@dataclass(frozen=True)
class Samples:
    """Latents with the names of their files.

    Attributes:
        names: N.
        z: [N, z_dim] float32.
        c: [N, c_dim] float32; None for an unconditional network.
    """

    names: tuple[str, ...]
    z: Tensor
    c: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that has been read and checked before the first file is written.

    Attributes:
        options: what was asked for.
        sampler: of the generator on its device.
        samples: what to draw; the rows of a mixing grid.
        columns: of a mixing grid; None for single images and videos.
        mix_layers: layers that come from the column.
    """

    options: GenerationOptions
    sampler: Sampler
    samples: Samples
    columns: Samples | None
    mix_layers: tuple[int, ...]


def prepare(options: GenerationOptions) -> Job:
    """Read snapshot, latents and labels.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    if options.outdir.exists() and not options.outdir.is_dir():
        raise ValueError(f"--outdir {options.outdir}: is a file, must be a folder")
    device = torch.device(resolve_device(options.device))
    if device.type == "cuda":
        use_repeatable_arithmetic()
    generator, snapshot = load_generator(
        options.network, device, use_raw_g=options.use_raw_g, fp32=options.fp32
    )
    z_dim = generator.config.z_dim
    if options.latents is not None:
        z = torch.from_numpy(load_rows(options.latents, "--latents", z_dim)).float()
        names = tuple(f"latent{index:04d}" for index in range(len(z)))
    else:
        z, names = latents_of_seeds(options.seeds, z_dim), _seed_names(options.seeds)
    num_ws, mix_seeds = generator.num_ws, options.mix_seeds or ()
    check_layers(options.mix_layers or (), num_ws)
    c = read_conditions(
        options, generator.config.c_dim, [*names, *_seed_names(mix_seeds)], snapshot.feature_scale
    )
    columns = None
    if mix_seeds:
        column_z = latents_of_seeds(mix_seeds, z_dim)
        columns = Samples(_seed_names(mix_seeds), column_z, None if c is None else c[len(z) :])
    return Job(
        options=options,
        sampler=Sampler(
            generator,
            truncation=Truncation(psi=options.truncation, cutoff=options.truncation_cutoff),
            noise_mode=options.noise_mode,
            seed=options.seed,
        ),
        samples=Samples(names, z, None if c is None else c[: len(z)]),
        columns=columns,
        mix_layers=options.mix_layers or tuple(range(min(_DEFAULT_MIX_LAYERS, num_ws))),
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
        rows = torch.from_numpy(load_conditions(path, "--labels", feature_scale))
    source = "--labels or --class" if path is None else f"--labels {path}"
    check_conditions(c_dim, rows, f"{options.network}: {source}")
    if rows is None:
        return None
    if path is not None and path.suffix.lower() == ".json":
        return rows[[derive_seed(0, "identity", name) % len(rows) for name in names]]
    if len(rows) not in (1, count):
        raise ValueError(f"{source}: 1 or {count} rows for {count} samples, got {len(rows)}")
    return rows.expand(count, -1)


def run(job: Job, progress: Progress) -> list[Path]:
    """Generate and write what the job's options ask for.

    Returns: the files, in the order written.
    """
    ws = job.sampler.map(job.samples.z, job.samples.c)
    if job.columns is not None:
        return _write_mixing_grid(job, ws, job.columns, progress)
    if job.options.video is not None:
        return _write_video(job, ws, job.options.video, progress)
    return _write_images(job, ws, progress)


def _write_images(job: Job, ws: Tensor, progress: Progress) -> list[Path]:
    outdir, names = job.options.outdir, job.samples.names
    raw: list[dict[str, Tensor]] = []
    cells, paths = [], []
    for name, images in zip(names, _generate(job, ws, names, progress), strict=True):
        pixels = {modality: to_uint8(image).numpy() for modality, image in images.items()}
        paths += _save_sample(outdir / name, pixels)
        cells.append(side_by_side(pixels.values()))
        if job.options.raw:
            raw.append(images)
    paths.append(outdir / "grid.png")
    save_image(paths[-1], image_grid(cells, math.ceil(math.sqrt(len(cells)))))
    if raw:
        paths.append(outdir / "images.npz")
        arrays = {name: torch.stack([images[name] for images in raw]).numpy() for name in raw[0]}
        with files.atomic_write(paths[-1]) as file:
            np.savez(file, **arrays)
    return paths


def _write_mixing_grid(job: Job, ws: Tensor, columns: Samples, progress: Progress) -> list[Path]:
    """Write an image a pair, and a grid with the rows' and columns' own images at its edges."""
    rows, width = job.samples.names, len(columns.names)
    column_ws = job.sampler.map(columns.z, columns.c)
    pairs = [f"mix_{row}-{column}" for row in rows for column in columns.names]
    names = [*rows, *columns.names, *pairs]
    ws = torch.cat([ws, column_ws, mix_styles(ws, column_ws, job.mix_layers)])
    cells, paths = [], []
    for name, images in zip(names, _generate(job, ws, names, progress), strict=True):
        pixels = {modality: to_uint8(image).numpy() for modality, image in images.items()}
        cells.append(side_by_side(pixels.values()))
        if len(cells) > len(rows) + width:
            paths += _save_sample(job.options.outdir / name, pixels)
    heads, tops, body = cells[: len(rows)], cells[len(rows) :][:width], cells[len(rows) + width :]
    layout = [np.zeros_like(cells[0]), *tops]
    for row, head in enumerate(heads):
        layout += [head, *body[row * width : (row + 1) * width]]
    paths.append(job.options.outdir / "grid.png")
    save_image(paths[-1], image_grid(layout, width + 1))
    return paths


def _write_video(job: Job, ws: Tensor, path: Path, progress: Progress) -> list[Path]:
    ws = interpolate_ws(ws, job.options.frames)
    # One name for all frames: random noise stands still instead of flickering.
    frames = (
        side_by_side(to_uint8(image).numpy() for image in images.values()).transpose(1, 2, 0)
        for images in _generate(job, ws, ["video"] * len(ws), progress)
    )
    save_video(path, frames, job.options.fps)
    return [path]


def _generate(
    job: Job, ws: Tensor, names: Sequence[str], progress: Progress
) -> Iterator[dict[str, Tensor]]:
    """Yield the images [C, R, R] of each sample; random noise follows from its name."""
    advance = progress(0, len(ws))
    for images in job.sampler.images(ws, names):
        yield images
        advance(1)


def _save_sample(stem: Path, pixels: Mapping[str, Pixels]) -> list[Path]:
    paths = []
    for name, image in pixels.items():
        paths.append(stem.with_name(f"{stem.name}_{name.upper()}.png"))
        save_image(paths[-1], image)
    return paths


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
