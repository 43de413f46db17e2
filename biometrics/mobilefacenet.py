"""MobileFaceNet, with the parameter names of insightface's published weights.

Source: Chen et al. 2018 (arXiv:1804.07573), with twice the channels as published by insightface.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
    """A small backbone of inverted bottlenecks.

    Args:
        blocks: residual bottlenecks of the three later stages.
        width: channels of the first stages; the later ones have twice as many.
        in_channels: of the images.
        embedding: width of the result.
        size: width and height of the images, a multiple of 16.
    """

    def __init__(
        self, *, blocks: Sequence[int], width: int, in_channels: int, embedding: int, size: int
    ) -> None:
        super().__init__()
        wide = 2 * width

        def residuals(channels: int, count: int) -> _Residual:
            return _Residual(*(_bottleneck(channels, channels, channels, 1) for _ in range(count)))

        self.layers = nn.Sequential(
            _convolution(in_channels, width, 3, stride=2),
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
            _convolution(512, 512, size // 16, groups=512, is_linear=True, padding=0),
            nn.Flatten(),
            nn.Linear(512, embedding, bias=False),
            nn.BatchNorm1d(embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, S, S] float32 in -1..1 -> embeddings [N, E] float32, not normalised."""
        x = self.conv_sep(self.layers(x))
        # The head stays in float32 under autocast: embeddings are compared to many digits.
        with torch.autocast(x.device.type, enabled=False):
            return self.features(x.float())
