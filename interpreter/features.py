"""Feature maps of a synthesis network: their layout, and the features of single pixels.

A pixel's feature vector is the concatenation of all maps, each upsampled to full size; the maps
are never upsampled as a whole, neither here nor in native.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from networks.config import GeneratorConfig
from torch_utils.checks import check_shape


@dataclass(frozen=True)
class FeatureLayout:
    """Channels and sides of a network's feature maps, in the order of concatenation."""

    resolution: int  # side of the images in pixels
    channels: tuple[int, ...]  # of each map
    sides: tuple[int, ...]  # of each map, in pixels; `resolution` divided by a power of two

    @property
    def total(self) -> int:
        """Length of a pixel's feature vector."""
        return sum(self.channels)

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(side, channels) of neighbouring maps of equal side, taken together."""
        pairs = zip(self.sides, self.channels, strict=True)
        return tuple(
            (side, sum(channels for _, channels in maps))
            for side, maps in groupby(pairs, key=lambda pair: pair[0])
        )


def feature_layout(config: GeneratorConfig) -> FeatureLayout:
    """Return the layout of a generator's feature maps: two for each block, see `Synthesis`."""
    sides = [side for side in config.block_resolutions for _ in range(2)]
    channels = tuple(config.channels_at(side) for side in sides)
    return FeatureLayout(config.resolution, channels, tuple(sides))


def check_maps(maps: Sequence[Tensor], layout: FeatureLayout) -> None:
    """Check that the maps of one image, [C, side, side] each, are as the layout says.

    Raises: ValueError.
    """
    if len(maps) != len(layout.sides):
        raise ValueError(f"features: expected {len(layout.sides)} maps, got {len(maps)}")
    for index, (m, c, side) in enumerate(zip(maps, layout.channels, layout.sides, strict=True)):
        check_shape(f"feature map {index}", m, c, side, side)


def group_maps(maps: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the maps of one image joined by side, [C, side, side] float32, as `layout.groups`."""
    for _, same in groupby(maps, key=lambda m: m.shape[1]):
        yield torch.cat(list(same)).float()


class FeatureTable:
    """The feature maps of some images at their own sizes, from which pixels are gathered.

    Attributes:
        layout: of each image's maps.
        device: where the maps are kept.
    """

    def __init__(
        self, layout: FeatureLayout, images: int, device: torch.device | str = "cpu"
    ) -> None:
        self.layout, self.device = layout, torch.device(device)
        self._tables = [
            torch.empty([images * side * side, channels], device=device)
            for side, channels in layout.groups
        ]

    def put(self, image: int, maps: Sequence[Tensor]) -> None:
        """Store the maps of one image, [C, side, side] float32 each."""
        check_maps(maps, self.layout)
        for table, joined in zip(self._tables, group_maps(maps), strict=True):
            pixels = joined.shape[1] * joined.shape[2]
            rows = table[image * pixels : (image + 1) * pixels]
            rows.copy_(joined.flatten(1).t())

    def gather(self, pixels: Tensor) -> Tensor:
        """Return feature vectors, exactly those of linear upsampling (align_corners=False).

        Args:
            pixels: [B] int64, image * resolution**2 + row * resolution + column.
        Returns: [B, layout.total] float32.
        """
        size = self.layout.resolution
        image, pixel = pixels // size**2, pixels % size**2
        row, column = pixel // size, pixel % size
        parts = []
        for (side, _), table in zip(self.layout.groups, self._tables, strict=True):
            if side == size:
                parts.append(table[pixels])
                continue
            rows, row_weights = _linear_taps(row, side, size)
            columns, column_weights = _linear_taps(column, side, size)
            index = (image[:, None] * side + rows)[:, :, None] * side + columns[:, None, :]
            weights = row_weights[:, :, None] * column_weights[:, None, :]
            parts.append(
                F.embedding_bag(
                    index.flatten(1), table, mode="sum", per_sample_weights=weights.flatten(1)
                )
            )
        return torch.cat(parts, dim=1)


def _linear_taps(position: Tensor, side: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the two source indices and weights of output positions, [B, 2] each."""
    source = ((position.double() + 0.5) * (side / size) - 0.5).clamp_min(0)
    first = source.long()
    fraction = source - first
    index = torch.stack([first, (first + 1).clamp_max(side - 1)], dim=1)
    return index, torch.stack([1 - fraction, fraction], dim=1).float()
