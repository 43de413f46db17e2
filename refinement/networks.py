"""The refiner, which repaints images, and the discriminator, which judges patches of them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from refinement.options import PatchKind, RefinerShape
from torch_utils.checks import check_shape


@dataclass(frozen=True)
class _Layer:
    """A convolution, or with features 0 a maximum over the neighbourhood."""

    kernel: int
    stride: int
    features: int


# Source: Shrivastava et al. 2017 (arXiv:1612.07828), implementation details. The published padding
# is not known; ours keeps ceil(side / stride) places.
_LAYERS = {
    PatchKind.EYES: (_Layer(3, 2, 96), _Layer(3, 2, 64), _Layer(3, 1, 0), _Layer(3, 1, 32)),
    PatchKind.HANDS: (_Layer(7, 4, 96), _Layer(5, 2, 64), _Layer(3, 2, 0), _Layer(3, 2, 32)),
}
_HEAD_FEATURES = 32
_OUTCOMES = 2


@dataclass(frozen=True, kw_only=True)
class RefinerConfig(RefinerShape):
    """Form of a refiner for images of so many channels."""

    channels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), then relu."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv0 = _full_size(width, width, kernel)
        self.conv1 = _full_size(width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, width, H, W] -> the same shape."""
        return (x + self.conv1(self.conv0(x).relu())).relu()


class Refiner(nn.Module):
    """Repaints images at full size; no layer changes the resolution.

    Source: Shrivastava et al. 2017 (arXiv:1612.07828), section 3: a residual network without
    striding or pooling. The path around the whole network is ours.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        width, kernel = config.width, config.kernel
        self.first = _full_size(config.channels, width, kernel)
        self.blocks = nn.Sequential(*(ResidualBlock(width, kernel) for _ in range(config.blocks)))
        self.last = nn.Conv2d(width, config.channels, 1)
        if config.starts_as_identity:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return refined images.

        Args:
            x: [N, C, H, W] float32 in -1..1.
        Returns: the same shape; in -1..1 in the published form, else a little beyond is possible,
            which quantisation clamps.
        """
        check_shape("x", x, None, self.config.channels, None, None)
        change = self.last(self.blocks(self.first(x).relu()))
        return x + change if self.config.starts_as_identity else torch.tanh(change)


class PatchDiscriminator(nn.Module):
    """Says of each patch of an image whether a refiner painted it.

    Source: Shrivastava et al. 2017 (arXiv:1612.07828), section 3.1: local adversarial loss.

    Args:
        channels: of the images.
        kind: list of layers.
        width: factor of the channels of its hidden layers.
    """

    def __init__(self, channels: int, kind: PatchKind = PatchKind.EYES, width: float = 1.0) -> None:
        super().__init__()
        self.channels = into = channels
        layers: list[nn.Module] = []
        for layer in _LAYERS[kind]:
            padding = layer.kernel // 2
            if layer.features == 0:
                layers.append(nn.MaxPool2d(layer.kernel, layer.stride, padding))
                continue
            out = max(1, round(layer.features * width))
            layers += [nn.Conv2d(into, out, layer.kernel, layer.stride, padding), nn.ReLU()]
            into = out
        out = max(1, round(_HEAD_FEATURES * width))
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(into, out, 1), nn.ReLU(), nn.Conv2d(out, _OUTCOMES, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the log-odds that each patch is refined, not real.

        The published softmax over two maps is the sigmoid of their difference.

        Args:
            images: [N, C, H, W] float32 in -1..1.
        Returns: [N, h, w] float32.
        """
        check_shape("images", images, None, self.channels, None, None)
        refined, real = self.layers(images).unbind(1)
        return refined - real


def _full_size(into: int, out: int, kernel: int) -> nn.Conv2d:
    """Return a convolution that keeps the size; edges are repeated, zeros would show as lines."""
    return nn.Conv2d(into, out, kernel, padding=kernel // 2, padding_mode="replicate")
