"""The residual backbones of ArcFace, with the parameter names of the published weights.

Source: Deng et al. 2019 (arXiv:1801.07698), section 3.1: improved residual units without a
bottleneck (Han et al. 2017), and the embedding head batch norm - dropout - linear - batch norm.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_EPS = 1e-5


class ResidualUnit(nn.Module):
    """Batch norm, 3x3, batch norm, PReLU, 3x3 with stride, batch norm; plus the input."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels, eps=_EPS)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=_EPS)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=_EPS)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels, eps=_EPS),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H / stride, W / stride]."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


class IResNet(nn.Module):
    """An improved ResNet of four stages.

    Args:
        blocks: units of each stage.
        channels: of the stem and of each stage.
        in_channels: of the images.
        embedding: width of the result.
        size: width and height of the images, a multiple of 16.
        first_stride: of the first stage; 1 keeps small images large. The others have 2.
        dropout: share of features dropped in training.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int],
        channels: Sequence[int],
        in_channels: int,
        embedding: int,
        size: int,
        first_stride: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0], eps=_EPS)
        self.prelu = nn.PReLU(channels[0])
        for index, count in enumerate(blocks):
            stride = first_stride if index == 0 else 2
            units = [ResidualUnit(channels[index], channels[index + 1], stride)]
            units += [
                ResidualUnit(channels[index + 1], channels[index + 1], 1) for _ in range(count - 1)
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*units))
        side = size // (8 * first_stride)
        self.bn2 = nn.BatchNorm2d(channels[-1], eps=_EPS)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1] * side * side, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=_EPS)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
        nn.init.normal_(self.fc.weight, std=math.sqrt(1 / self.fc.in_features))
        nn.init.zeros_(self.fc.bias)
        # The head's scale is the margin loss's business: only directions of embeddings count.
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, S, S] float32 in -1..1 -> embeddings [N, E] float32, not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
        x = torch.flatten(self.dropout(self.bn2(x)), 1)
        # The head stays in float32 under autocast: embeddings are compared to many digits.
        with torch.autocast(x.device.type, enabled=False):
            return self.features(self.fc(x.float()))
