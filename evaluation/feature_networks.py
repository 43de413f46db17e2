"""The Inception network of FID in torch-fidelity's form, and a stand-in that needs no file.

Inception is torchvision's blocks with the poolings of the TensorFlow graph of 5 December 2015:
averages leave the padding out, and the last block takes maxima.
"""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception as blocks

from torch_utils.seeding import generator_for

FEATURES, CLASSES = 2048, 1008
_SIDE = 299
STANDIN_SEED = 0
STANDIN_NAME = f"random-conv-seed{STANDIN_SEED}"
_STANDIN_SIDE, _STANDIN_WIDTHS = 64, (3, 32, 64, 96, 128)


class RandomConvolutions(nn.Module):
    """Mean and deviation of the channels behind each of four random convolutions.

    Its numbers order sets that differ much, such as snapshots of one run. They are no FID, and
    cannot be compared with numbers of any other network.

    Attributes:
        hash: SHA-256 of the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        random = generator_for(STANDIN_SEED, STANDIN_NAME)
        digest = hashlib.sha256(f"{STANDIN_NAME} {_STANDIN_SIDE} {_STANDIN_WIDTHS}".encode())
        self.filters = nn.ParameterList()
        for into, out in zip(_STANDIN_WIDTHS[:-1], _STANDIN_WIDTHS[1:], strict=True):
            weight = torch.randn([out, into, 3, 3], generator=random) * math.sqrt(2 / (9 * into))
            self.filters.append(nn.Parameter(weight, requires_grad=False))
            digest.update(weight.numpy().tobytes())
        self.hash = digest.hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, H, W] uint8 or float32 0..255 -> [N, 640] float32."""
        x = images.float() / 127.5 - 1
        side = [_STANDIN_SIDE, _STANDIN_SIDE]
        x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
        found = []
        for number, weight in enumerate(self.filters):
            x = F.leaky_relu(F.conv2d(x, weight, padding=1), 0.2)
            found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            if number < len(self.filters) - 1:
                x = F.avg_pool2d(x, 2)
        return torch.cat(found, dim=1)


class Inception(nn.Module):
    """Inception-v3 as the published FID uses it.

    Source: Szegedy et al. 2015 (arXiv:1512.00567); poolings and sizes: Heusel et al. 2017.
    """

    def __init__(self) -> None:
        super().__init__()
        conv = blocks.BasicConv2d
        self.Conv2d_1a_3x3 = conv(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = conv(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = conv(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = conv(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = conv(80, 192, kernel_size=3)
        self.Mixed_5b = _BlockA(192, pool_features=32)
        self.Mixed_5c = _BlockA(256, pool_features=64)
        self.Mixed_5d = _BlockA(288, pool_features=64)
        self.Mixed_6a = blocks.InceptionB(288)
        self.Mixed_6b = _BlockC(768, channels_7x7=128)
        self.Mixed_6c = _BlockC(768, channels_7x7=160)
        self.Mixed_6d = _BlockC(768, channels_7x7=160)
        self.Mixed_6e = _BlockC(768, channels_7x7=192)
        self.Mixed_7a = blocks.InceptionD(768)
        self.Mixed_7b = _BlockE(1280)
        self.Mixed_7c = _BlockEWithMaximum(2048)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, H, W] uint8 or float32 0..255 -> [N, 2048] float32."""
        x = (resize_like_tensorflow(images.float(), _SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))

    def probabilities(self, images: Tensor) -> Tensor:
        """Return [N, 1008] class probabilities, without the classes' biases as published."""
        return F.linear(self.forward(images), self.fc.weight).softmax(dim=1)


def build_inception(state: Mapping[str, Tensor], where: str) -> Inception:
    """Return the network with torch-fidelity's weights, in evaluation mode.

    Raises: ValueError naming `where` for weights of another network.
    """
    network = Inception()
    try:
        network.load_state_dict(dict(state))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{where}: not the weights of FID's Inception network") from error
    return network.eval().requires_grad_(False)


def resize_like_tensorflow(images: Tensor, side: int) -> Tensor:
    """Resize by the bilinear rule of TensorFlow 1: pixel i of the result lies at i * scale.

    Args:
        images: [N, C, H, W] float32.
        side: of the result.
    Source: tf.image.resize_bilinear with align_corners=False, as the published FID has it.
    """
    for axis in (2, 3):
        size = images.shape[axis]
        place = torch.arange(side, device=images.device, dtype=torch.float32) * (size / side)
        low = place.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        share = (place - low).reshape([-1 if other == axis else 1 for other in range(4)])
        images = torch.lerp(images.index_select(axis, low), images.index_select(axis, high), share)
    return images


class _BlockA(blocks.InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return [self.branch1x1(x), five, double, self.branch_pool(_average(x))]


class _BlockC(blocks.InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = x
        for number in range(1, 6):
            double = getattr(self, f"branch7x7dbl_{number}")(double)
        return [self.branch1x1(x), seven, double, self.branch_pool(_average(x))]


class _BlockE(blocks.InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        three = self.branch3x3_1(x)
        three = torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], dim=1)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], dim=1)
        return [self.branch1x1(x), three, double, self.branch_pool(self._pool(x))]

    def _pool(self, x: Tensor) -> Tensor:
        return _average(x)


class _BlockEWithMaximum(_BlockE):
    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
