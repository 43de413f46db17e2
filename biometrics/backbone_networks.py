"""The backbones of ArcFace, with the parameter names of insightface's published weights.

Source: Deng et al. 2019 (arXiv:1801.07698), section 3.1: improved residual units without a
bottleneck (Han et al. 2017), and the embedding head batch norm - dropout - linear - batch norm.
MobileFaceNet: Chen et al. 2018 (arXiv:1804.07573), with twice the channels as insightface has it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PUBLISHED_SIZE = 112
_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Shape of a backbone.

    Attributes:
        kind: "iresnet" or "mobilefacenet".
        blocks: units of each stage; residual bottlenecks of mobilefacenet's three later ones.
        channels: of stem and stages; one number, of the first stages, for mobilefacenet.
        in_channels: 3 for RGB (or grey, repeated), 1 for grey, 4 for RGB and NIR together.
        embedding: width of the result.
        size: width and height of the images in pixels, a multiple of 16.
        first_stride: of an iresnet's first stage; 1 keeps small images large. The others have 2.
    """

    kind: str
    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    in_channels: int = 3
    embedding: int = 512
    size: int = PUBLISHED_SIZE
    first_stride: int = 2


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
    """An improved ResNet of four stages; dropout is the share of features dropped in training."""

    def __init__(self, config: BackboneConfig, dropout: float = 0.0) -> None:
        super().__init__()
        channels = config.channels
        self.conv1 = nn.Conv2d(config.in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0], eps=_EPS)
        self.prelu = nn.PReLU(channels[0])
        for index, count in enumerate(config.blocks):
            stride = config.first_stride if index == 0 else 2
            units = [ResidualUnit(channels[index], channels[index + 1], stride)]
            units += [
                ResidualUnit(channels[index + 1], channels[index + 1], 1) for _ in range(count - 1)
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*units))
        side = config.size // (8 * config.first_stride)
        self.bn2 = nn.BatchNorm2d(channels[-1], eps=_EPS)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1] * side * side, config.embedding)
        self.features = nn.BatchNorm1d(config.embedding, eps=_EPS)
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


class _Layers(nn.Module):
    """Layers in turn, under the name that published weights give them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Residual(_Layers):
    """Bottlenecks, each added to its input."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def _convolution(
    channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    is_linear: bool = False,
    padding: int | None = None,
) -> _Layers:
    """Return convolution, batch norm and, unless linear, PReLU."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return _Layers(*layers) if is_linear else _Layers(*layers, nn.PReLU(out_channels))


def _bottleneck(channels: int, out_channels: int, inner: int, stride: int) -> _Layers:
    """Return 1x1 to `inner` channels, 3x3 on each of them, linear 1x1 to `out_channels`."""
    return _Layers(
        _convolution(channels, inner),
        _convolution(inner, inner, 3, stride=stride, groups=inner),
        _convolution(inner, out_channels, is_linear=True),
    )


class MobileFaceNet(nn.Module):
    """A small backbone of inverted bottlenecks; its later stages have twice the channels."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        blocks, width, wide = config.blocks, config.channels[0], 2 * config.channels[0]

        def residuals(channels: int, count: int) -> _Residual:
            return _Residual(*(_bottleneck(channels, channels, channels, 1) for _ in range(count)))

        self.layers = nn.Sequential(
            _convolution(config.in_channels, width, 3, stride=2),
            _convolution(width, width, 3, groups=width // 2),
            _bottleneck(width, width, width, 2),
            residuals(width, blocks[0]),
            _bottleneck(width, wide, wide, 2),
            residuals(wide, blocks[1]),
            _bottleneck(wide, wide, 2 * wide, 2),
            residuals(wide, blocks[2]),
        )
        self.conv_sep = _convolution(wide, 512)
        self.features = _Layers(
            _convolution(512, 512, config.size // 16, groups=512, is_linear=True, padding=0),
            nn.Flatten(),
            nn.Linear(512, config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, S, S] float32 in -1..1 -> embeddings [N, E] float32, not normalised."""
        x = self.conv_sep(self.layers(x))
        # The head stays in float32 under autocast: embeddings are compared to many digits.
        with torch.autocast(x.device.type, enabled=False):
            return self.features(x.float())
