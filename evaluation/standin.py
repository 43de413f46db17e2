"""A small network with random weights, for where no published one is at hand.

Its numbers order sets that differ much, such as snapshots of one run. They are no FID, and cannot
be compared with numbers of any other network.
"""

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_utils.seeding import generator_for

SEED = 0
NAME = f"random-conv-seed{SEED}"
_SIDE = 64
_WIDTHS = (3, 32, 64, 96, 128)


class RandomConvolutions(nn.Module):
    """Mean and deviation of the channels behind each of four random convolutions.

    Attributes:
        name, hash, is_reference: see evaluation.extractors.Extractor.
    """

    name = NAME
    is_reference = False

    def __init__(self) -> None:
        super().__init__()
        random = generator_for(SEED, NAME)
        digest = hashlib.sha256(f"{NAME} {_SIDE} {_WIDTHS}".encode())
        self.filters = nn.ParameterList()
        for into, out in zip(_WIDTHS[:-1], _WIDTHS[1:], strict=True):
            weight = torch.randn([out, into, 3, 3], generator=random) * math.sqrt(2 / (9 * into))
            self.filters.append(nn.Parameter(weight, requires_grad=False))
            digest.update(weight.numpy().tobytes())
        self.hash = digest.hexdigest()

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, H, W] uint8 or float32 0..255 -> [N, 640] float32."""
        x = images.to(self.filters[0].device).float() / 127.5 - 1
        x = F.interpolate(x, [_SIDE, _SIDE], mode="bilinear", antialias=True, align_corners=False)
        found = []
        for number, weight in enumerate(self.filters):
            x = F.leaky_relu(F.conv2d(x, weight, padding=1), 0.2)
            found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            if number < len(self.filters) - 1:
                x = F.avg_pool2d(x, 2)
        return torch.cat(found, dim=1)
