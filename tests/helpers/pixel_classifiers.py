"""The plain definition of the pixel interpreter: full-size features, one classifier at a time."""

import torch
import torch.nn.functional as F
from torch import nn

from interpreter.features import FeatureLayout


def plain_classifier(features, hidden, classes, seed=0):
    """One member, as a plain sequence, with norms that are not the identity."""
    random = torch.Generator().manual_seed(seed)
    first, second = hidden
    layers = nn.Sequential(
        nn.Linear(features, first),
        nn.ReLU(),
        nn.BatchNorm1d(first),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.BatchNorm1d(second),
        nn.Linear(second, classes),
    )
    with torch.no_grad():
        for name, tensor in layers.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=random)
                tensor.copy_(noise.abs() + 0.5 if name.endswith("var") else 0.3 * noise)
    return layers.eval().requires_grad_(False)


def published_state(layers):
    return {f"module.layers.{name}": tensor for name, tensor in layers.state_dict().items()}


def plain_features(maps, resolution):
    """[C, side, side] maps -> [R * R, sum of C] float64, each map upsampled on its own."""
    size = [resolution, resolution]
    full = [
        F.interpolate(m.double()[None], size=size, mode="bilinear", align_corners=False)[0]
        for m in maps
    ]
    return torch.cat(full).flatten(1).t()


def random_maps(layout: FeatureLayout, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn([channels, side, side], generator=random)
        for channels, side in zip(layout.channels, layout.sides, strict=True)
    ]


def small_layout(resolution=32):
    sides = [4 * 2**k for k in range((resolution // 4).bit_length())]
    return FeatureLayout(
        resolution,
        tuple(c for k in range(len(sides)) for c in (6 - k, 5)),
        tuple(side for side in sides for _ in (0, 1)),
    )
