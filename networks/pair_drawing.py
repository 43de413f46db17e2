"""Draws uint8 pairs from latents and conditions, in micro-batches of one size.

Each micro-batch goes through mapping and synthesis as a whole, the last one padded; how many of
them leave the device together changes nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.modalities import MODALITIES
from data.pixels import to_uint8
from networks.drawing import release, split_evenly
from networks.generator import Generator, NoiseMode

_FULL_SIDE = 512
_CUDA_AT_FULL_SIDE = 8
_CUDA_MOST = 64
_CPU = 4


def default_micro_batch(resolution: int, device_type: str) -> int:
    """Return how many samples a device computes together where nobody says otherwise.

    >>> [default_micro_batch(side, "cuda") for side in (32, 256)], default_micro_batch(32, "cpu")
    ([64, 32], 4)
    """
    if device_type != "cuda":
        return _CPU
    most = int(_CUDA_AT_FULL_SIDE * (_FULL_SIDE / resolution) ** 2)
    return max(1, min(_CUDA_MOST, most))


class PairDrawer:
    """A generator with everything that decides its images besides latents and conditions.

    Args:
        generator: on its device, in evaluation mode.
        truncation_psi: 1 leaves w as it is, 0 gives the mean image.
        shared_layers: layers whose w comes from the shared latent, where one is given.
        micro_batch: samples computed together; decides the last bits.
        batch: samples that leave the device together; decides nothing.
    Raises: ValueError for a layer that the network does not have.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        truncation_psi: float,
        shared_layers: tuple[int, ...] = (),
        micro_batch: int,
        batch: int = 64,
    ) -> None:
        if shared_layers and max(shared_layers) >= generator.num_ws:
            raise ValueError(
                f"--mix-layers must be from 0 to {generator.num_ws - 1} here, "
                f"got {max(shared_layers)}"
            )
        self._generator, self._psi, self._shared = generator, truncation_psi, list(shared_layers)
        self.micro_batch, self._batch = micro_batch, batch
        self.z_dim, self.c_dim = generator.config.z_dim, generator.config.c_dim
        self.resolution = generator.config.resolution
        heads = generator.config.heads
        self.modalities = tuple(m.name for m in MODALITIES if m.name in heads)

    def draw(self, z: Tensor, c: Tensor, z_shared: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return [N, C, R, R] uint8 images on the CPU, by modality.

        Args:
            z: [N, z_dim] float32.
            c: [N, c_dim] float32.
            z_shared: [N, z_dim] float32 latents of the shared layers; None for none.
        """
        done: list[dict[str, Tensor]] = []
        waiting: list[dict[str, Tensor]] = []
        for index, count in split_evenly(len(z), self.micro_batch):
            with torch.inference_mode():
                ws = self._map(z[index], c[index])
                if z_shared is not None:
                    ws = ws.clone()
                    ws[:, self._shared] = self._map(z_shared[index], c[index])[:, self._shared]
                images = self._generator.synthesis(ws, NoiseMode.CONST)
            waiting.append({name: to_uint8(images[name][:count]) for name in self.modalities})
            if len(waiting) * self.micro_batch >= self._batch:
                done.append(release(waiting))
                waiting = []
        if waiting:
            done.append(release(waiting))
        return release(done)

    def _map(self, z: Tensor, c: Tensor) -> Tensor:
        device = self._generator.mapping.w_avg.device
        return self._generator.map(z.to(device), c.to(device), self._psi)
