"""Sample grids: pairs side by side, RGB left and NIR right, so that alignment can be seen."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from data.dataset import PairDataset
from data.sheets import sample_grid, save_image
from networks.generator import Generator
from networks.sampling import Sampler
from torch_utils.seeding import generator_for

_TARGET_WIDTH_PX, _TARGET_HEIGHT_PX = 1920, 1080


def grid_size(resolution: int, modalities: int) -> tuple[int, int]:
    """Return (columns, rows) of pairs that about fill a screen.

    >>> grid_size(256, 2)
    (4, 4)
    """
    columns = min(max(_TARGET_WIDTH_PX // (resolution * modalities), 4), 12)
    rows = min(max(_TARGET_HEIGHT_PX // resolution, 4), 8)
    return columns, rows


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
        self._save(path, images)

    def save_fakes(self, path: Path, generator: Generator) -> None:
        """Write what a generator makes of the fixed latents, with its constant noise."""
        sampler = Sampler(generator)
        self._save(path, sampler.pixels(sampler.map(self.z, self.c)))

    def _save(self, path: Path, images: Mapping[str, Tensor]) -> None:
        arrays = {name: batch.cpu().numpy() for name, batch in images.items()}
        save_image(path, sample_grid(arrays, self.columns))
