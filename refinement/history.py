"""Refined images of earlier steps, which the discriminator must go on telling apart."""

from typing import Any

import torch
from torch import Tensor


class HistoryBuffer:
    """Keeps up to `capacity` images; once full, new ones take random places.

    Half of the refined images of the discriminator's batch come from here, and afterwards the new
    half is put in.

    Source: Shrivastava et al. 2017 (arXiv:1612.07828), section 3.2.

    Args:
        capacity: images; 0 keeps none, and every image of a batch is new.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self._images is None else len(self._images)

    def share_of(self, batch: int) -> int:
        """Return how many images of a batch come from here: half, or fewer while there are few."""
        return min(batch // 2, len(self))

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Return `count` different images that were kept: [count, C, H, W]."""
        assert self._images is not None, "nothing is kept yet"
        assert count <= len(self), "fewer images are kept"
        return self._images[torch.randperm(len(self), generator=random)[:count]]

    def add(self, images: Tensor, random: torch.Generator) -> None:
        """Keep new images: in free places first, then in place of random earlier ones.

        Args:
            images: [n, C, H, W], of one dtype at all times.
            random: of the places.
        """
        new = images.detach().cpu()[max(len(images) - self.capacity, 0) :]
        old = len(self)
        free = self.capacity - old
        kept = new[:0] if self._images is None else self._images
        self._images = torch.cat([kept, new[:free]])
        rest = new[free:]
        self._images[torch.randperm(old, generator=random)[: len(rest)]] = rest

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        return {"images": self._images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what another buffer kept."""
        images = state["images"]
        self._images = None if images is None else images.cpu()
