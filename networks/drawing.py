"""Draws images from a generator, so that a sample does not depend on how many are drawn at once.

Convolutions round differently at other batch sizes. All work is therefore done in micro-batches of
a fixed size, the last one padded; a larger batch only groups them.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from data.pixels import to_uint8
from data.sheets import Pixels
from networks.generator import Generator, NoiseMode
from torch_utils.seeding import generator_for

MICRO_BATCH = 4
_MAX_NUMBERS = 1_000_000
_MAX_SEED = 2**32 - 1


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list with ranges, in the order written.

    Raises: ValueError for anything but whole numbers from 0 to 2**32 - 1, or too many of them.

    >>> parse_numbers("0,3,5-9")
    (0, 3, 5, 6, 7, 8, 9)
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise ValueError(f"numbers must be written like 0,3,5-9, got {text[:80]!r}")
        start, end = int(first), int(last or first)
        if not start <= end <= _MAX_SEED or len(numbers) + end - start >= _MAX_NUMBERS:
            raise ValueError(
                f"a range must rise, end at most at {_MAX_SEED} and give at most {_MAX_NUMBERS}"
                f" numbers, got {part[:80]!r}"
            )
        numbers.extend(range(start, end + 1))
    return tuple(numbers)


def latents_of_seeds(seeds: Sequence[int], z_dim: int) -> Tensor:
    """Return the latents that published tools draw for seeds: [N, z_dim] float32."""
    rows = [np.random.RandomState(seed).standard_normal((1, z_dim)) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).float()


def map_latents(
    generator: Generator,
    z: Tensor,
    c: Tensor | None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> Tensor:
    """Map latents in micro-batches; see `Generator.map`.

    Args:
        generator: on any device.
        z: [N, z_dim] float32.
        c: [N, c_dim] float32; None for an unconditional network.
        truncation_psi: 1 leaves w as it is.
        truncation_cutoff: number of first layers to truncate; None is all.
    Returns: [N, L, w_dim] float32 on the CPU.
    """
    device = generator.mapping.w_avg.device
    parts = []
    with torch.inference_mode():
        for index, count in split_evenly(len(z), MICRO_BATCH):
            part_c = None if c is None else c[index].to(device)
            ws = generator.map(z[index].to(device), part_c, truncation_psi, truncation_cutoff)
            parts.append(ws[:count].cpu())
    return torch.cat(parts)


def draw_images(
    generator: Generator,
    ws: Tensor,
    *,
    noise_mode: NoiseMode,
    noise_keys: Sequence[str],
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> Iterator[dict[str, Tensor]]:
    """Yield the images of `ws`, one sample after the other.

    Args:
        generator: on any device.
        ws: [N, L, w_dim] float32.
        noise_mode: with RANDOM each sample is drawn alone, from its own stream.
        noise_keys: N names; the random noise of a sample depends on `seed` and its name alone.
        seed: of random noise.
        batch: samples that leave the device together, in whole micro-batches.
    Yields: [C, R, R] float32 a modality on the CPU, nominally -1..1, not clipped.
    """
    device = generator.mapping.w_avg.device
    is_random = noise_mode is NoiseMode.RANDOM
    group: list[dict[str, Tensor]] = []
    gathered = 0
    for index, count in split_evenly(len(ws), 1 if is_random else MICRO_BATCH):
        noise = None
        if is_random:
            noise = generator_for(seed, "noise", noise_keys[int(index[0])], device=device)
        with torch.inference_mode():
            images = generator.synthesis(ws[index].to(device), noise_mode, noise)
        group.append({name: image[:count] for name, image in images.items()})
        gathered += count
        if gathered >= batch:
            yield from _rows(release(group))
            group, gathered = [], 0
    if group:
        yield from _rows(release(group))


def mix_styles(rows: Tensor, columns: Tensor, layers: Sequence[int]) -> Tensor:
    """Return all pairs of a row's w, with some layers replaced by a column's.

    Args:
        rows: [R, L, w_dim] float32.
        columns: [C, L, w_dim] float32.
        layers: which layers come from the column.
    Returns: [R * C, L, w_dim] float32, row after row.
    Raises: ValueError for a layer that the network does not have.
    Source: Karras et al. 2019 (arXiv:1812.04948), section 3.1.
    """
    num_ws = rows.shape[1]
    if any(layer >= num_ws for layer in layers):
        raise ValueError(f"layers to mix must be from 0 to {num_ws - 1}, got {max(layers)}")
    chosen = list(layers)
    mixed = rows[:, None].repeat(1, len(columns), 1, 1)
    mixed[:, :, chosen] = columns[None, :, chosen].expand(len(rows), -1, -1, -1)
    return mixed.flatten(0, 1)


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


def to_pixels(images: Mapping[str, Tensor]) -> dict[str, Pixels]:
    """Return images as uint8 0..255 arrays of the same shapes."""
    return {name: to_uint8(image).numpy() for name, image in images.items()}


def split_evenly(total: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """Yield [size] indices, the last sample repeated as padding, and how many of them count."""
    for start in range(0, total, size):
        yield torch.arange(start, start + size).clamp(max=total - 1), min(size, total - start)


def release(group: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join images by modality, and bring them to the CPU."""
    return {name: torch.cat([images[name] for images in group]).cpu() for name in group[0]}


def _rows(together: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for row in range(len(next(iter(together.values())))):
        yield {name: images[row] for name, images in together.items()}
