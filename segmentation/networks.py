"""Networks from images to the logits of classes at each pixel."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, deeplabv3_resnet50

from segmentation.options import NetworkConfig, NetworkKind

_NORM_GROUPS = 8


def build_network(config: NetworkConfig) -> nn.Module:
    """Return a network with random weights: [N, C, H, W] float32 -1..1 -> logits [N, K, H, W]."""
    if config.kind is NetworkKind.UNET:
        return UNet(config)
    return DeepLab(config)


def smallest_side(config: NetworkConfig) -> int:
    """Return the fewest pixels that the width and the height may measure."""
    return 2**config.depth if config.kind is NetworkKind.UNET else 16


class UNet(nn.Module):
    """An encoder and a decoder with connections at each size, for images of any size.

    Group normalisation keeps a sample's result free of its batch.
    Source: Ronneberger et al. 2015 (arXiv:1505.04597), with padding, fewer channels, group
    normalisation (Wu & He 2018, arXiv:1803.08494) and bilinear upsampling.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        into = [config.channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(into, widths, strict=True))
        self.up = nn.ModuleList(
            _block(widths[level] + widths[level + 1], widths[level])
            for level in reversed(range(config.depth))
        )
        self.head = nn.Conv2d(config.width, config.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] float32 -1..1 -> logits [N, K, H, W]."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for block, skip in zip(self.up, reversed(kept[:-1]), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(x)


class DeepLab(nn.Module):
    """torchvision's DeepLabV3 without downloaded weights and with any number of channels.

    Source: Chen et al. 2017 (arXiv:1706.05587).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "weights": None,
            "weights_backbone": None,
            "num_classes": config.classes,
            "aux_loss": False,
        }
        if config.kind is NetworkKind.DEEPLABV3_RESNET50:
            self.net = deeplabv3_resnet50(**options)
            self.net.backbone["conv1"] = _with_channels(self.net.backbone["conv1"], config.channels)
        else:
            self.net = deeplabv3_mobilenet_v3_large(**options)
            stem = self.net.backbone["0"]
            stem[0] = _with_channels(stem[0], config.channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] float32 -1..1 -> logits [N, K, H, W]."""
        return self.net(x)["out"]


def _block(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (into, out):
        layers += [
            nn.Conv2d(channels, out, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(out, _NORM_GROUPS), out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _with_channels(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a convolution like `layer` for another number of input channels."""
    if channels == layer.in_channels:
        return layer
    replaced = nn.Conv2d(
        channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    nn.init.kaiming_normal_(replaced.weight, mode="fan_out", nonlinearity="relu")
    return replaced
