"""Sample grids: pairs side by side, RGB left and NIR right, so that alignment can be seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.dataset import PairDataset
from data.pixels import to_uint8
from dnnlib import files
from torch_utils.seeding import generator_for
from training.generator import Generator

_TARGET_WIDTH_PX, _TARGET_HEIGHT_PX = 1920, 1080


def grid_size(resolution: int, modalities: int) -> tuple[int, int]:
    """Return (columns, rows) of pairs that about fill a screen.

    >>> grid_size(256, 2)
    (4, 4)
    """
    columns = min(max(_TARGET_WIDTH_PX // (resolution * modalities), 4), 12)
    rows = min(max(_TARGET_HEIGHT_PX // resolution, 4), 8)
    return columns, rows


def compose_grid(images: Mapping[str, Tensor], columns: int) -> np.ndarray:
    """Lay out pairs row by row; the modalities of a pair stand side by side.

    Args:
        images: uint8 [N, 1 or 3, R, R] a modality, N a multiple of `columns`.
        columns: pairs a row.
    Returns: [H, W, 3] uint8.
    """
    colored = [x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x for x in images.values()]
    pairs = torch.cat(colored, dim=3)
    n, channels, height, width = pairs.shape
    cells = pairs.reshape(n // columns, columns, channels, height, width)
    grid = cells.permute(0, 3, 1, 4, 2).reshape(n // columns * height, columns * width, channels)
    return grid.cpu().numpy()


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write [H, W, 3] or [H, W] uint8 pixels as PNG, atomically."""
    with files.atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="png")


class SampleGrid:
    """The fixed latents and conditions whose images show how training proceeds.

    Args:
        dataset: whose labels are the conditions; its first pairs fill the grid of reals.
        generator: whose widths the latents have.
        seed: of the latents.
    """

    def __init__(self, dataset: PairDataset, generator: Generator, seed: int) -> None:
        self.columns, rows = grid_size(dataset.resolution, len(dataset.modalities))
        count = self.columns * rows
        self.indices = [index % len(dataset) for index in range(count)]
        random = generator_for(seed, "grid")
        self.z = torch.randn([count, generator.config.z_dim], generator=random)
        self.c = torch.stack([dataset.label(index) for index in self.indices])

    def save_reals(self, path: Path, dataset: PairDataset) -> None:
        """Write real pairs."""
        items = [dataset[index] for index in self.indices]
        images = {m.name: torch.stack([item[m.name] for item in items]) for m in dataset.modalities}
        save_png(path, compose_grid(images, self.columns))

    def save_fakes(self, path: Path, generator: Generator, batch: int) -> None:
        """Write what a generator makes of the fixed latents, with its constant noise."""
        device = generator.mapping.w_avg.device
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(self.z), batch):
            z, c = self.z[start : start + batch], self.c[start : start + batch]
            with torch.no_grad():
                images = generator(z.to(device), c.to(device), noise_mode="const")
            parts.append({name: to_uint8(image) for name, image in images.items()})
        save_png(path, compose_grid(_join(parts), self.columns))


def _join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
