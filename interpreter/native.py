"""Labels whole images without a full-size feature tensor.

The first linear layer W commutes with any linear upsampling up: W up(F) = sum_l up(W_l F_l). Each
level is projected where it is small, and only projections are upsampled, straight to full size.
That is exact, and made cheap by two facts about linear upsampling with align_corners=False: a
level of side R/s is linear between positions s (k + 1/2) - 1/2, so that its values at positions
(s/2) k - 1/2 describe it, and the sum of all coarser levels, without loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.pixels import encode_uncertainty
from interpreter.ensemble import PixelEnsemble
from interpreter.features import FeatureLayout, check_maps, group_maps
from torch_utils.devices import upload

TOP_FRACTION = 0.1  # of an image's pixels, whose mean uncertainty is its score
_MAX_PROJECTION_BYTES = 512 << 20  # of all upsampled projections that are kept at once
_MAX_DIRECT = 4  # levels of a larger factor are summed at nodes before they are upsampled
# Of the first hidden layer of a strip of pixel rows: a cache's worth; a GPU wants large kernels.
_STRIP_BYTES = {"cpu": 6 << 20, "cuda": 256 << 20}


@dataclass(frozen=True)
class Labelling:
    """What the ensemble says about one image."""

    labels: Tensor  # [R, R] uint8, class of each pixel
    divergence: Tensor  # [R, R] float32, Jensen-Shannon uncertainty, >= 0 up to rounding
    score: float  # mean of the largest 10 % of `divergence`

    def uncertainty(self, classes: int) -> np.ndarray:
        """Return the map that is kept on disk: [1, R, R] uint16, MAX_UNCERTAINTY is ln(classes)."""
        return encode_uncertainty(self.divergence.cpu().numpy(), classes)[None]


@dataclass(frozen=True)
class _Members:
    """Some members, folded for evaluation; m members, H1 and H2 hidden widths, K classes."""

    projections: tuple[Tensor, ...]  # for each group of maps [channels, m * H1]
    bias: Tensor  # [m * H1]
    second: tuple[Tensor, Tensor]  # weight [m, H1, H2] and bias [m, 1, H2] behind the first ReLU
    third: tuple[Tensor, Tensor]  # weight [m, K, H2] and bias [m, K, 1] behind the second


@dataclass(frozen=True)
class _Rise:
    """Something small that is upsampled to [R, R, n]."""

    samples: Tensor  # [side, side, n]
    row_weights: Tensor  # [R, side] on the CPU, weights of its rows in each row of the result
    inside: slice  # columns of the result among `full` upsampled ones
    full: int  # width that `samples` are upsampled to


class NativeInterpreter:
    """An ensemble that reads feature maps at their own sizes.

    Attributes:
        layout: of the maps it reads.
        classes: K.
    """

    def __init__(self, ensemble: PixelEnsemble, layout: FeatureLayout) -> None:
        """Fold the ensemble's norms and split its first layer by map.

        Raises: ValueError where the ensemble was trained on other features.
        """
        features, first, _, self.classes = ensemble.widths
        if features != layout.total:
            raise ValueError(
                f"the models read {features} feature channels, but the network gives "
                f"{layout.total}; they belong to another network"
            )
        self.layout = layout
        # Projections that live as long as the image: nodes, and levels that are not full size.
        nodes = layout.resolution // _MAX_DIRECT + 1
        sides = set(layout.sides) - {layout.resolution}
        per_member = (nodes**2 + sum(side * side for side in sides)) * first * 4
        at_once = max(1, min(ensemble.members, _MAX_PROJECTION_BYTES // max(1, per_member)))
        self._parts = [
            _fold(ensemble, layout, slice(start, start + at_once))
            for start in range(0, ensemble.members, at_once)
        ]

    @torch.inference_mode()
    def label(self, maps: Sequence[Tensor]) -> Labelling:
        """Label one image.

        Args:
            maps: [C, side, side] float32 each, as the layout says.
        Raises: ValueError for maps of another layout.
        """
        check_maps(maps, self.layout)
        size = self.layout.resolution
        result = Consensus(size * size, self.classes, maps[0].device)
        for part in self._parts:
            for rows, logits in self._strips(maps, part):
                result.add(logits, slice(rows.start * size, rows.stop * size))
        divergence = result.divergence().view(size, size)
        labels = result.labels().view(size, size)
        return Labelling(labels, divergence, uncertainty_score(divergence))

    @torch.inference_mode()
    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the logits of all members: [M, R * R, K] float32; for small images and tests."""
        check_maps(maps, self.layout)
        parts = [
            torch.cat([logits for _, logits in self._strips(maps, part)], dim=2)
            for part in self._parts
        ]
        return torch.cat(parts).transpose(1, 2)

    def _strips(self, maps: Sequence[Tensor], part: _Members) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows of the image and their logits [m, K, rows * R]."""
        size = self.layout.resolution
        native, rises = _project(group_maps(maps), part, size)
        row_bytes = size * len(part.bias) * 4
        step = max(1, min(size, _STRIP_BYTES[part.bias.device.type] // row_bytes))
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            hidden = _native_rows(native, part.bias, rows, size)
            for rise in rises:
                hidden += _upsampled_rows(rise, rows)
            yield rows, _upper_layers(hidden.relu_(), part)


def _fold(ensemble: PixelEnsemble, layout: FeatureLayout, members: slice) -> _Members:
    """Move each norm into the linear layer behind it: W (a x + b) + c = (W a) x + (W b + c)."""
    first = ensemble.weights[0].detach()[members]
    channels = [channels for _, channels in layout.groups]
    parts = first.flatten(0, 1).t().split(channels)
    folded = []
    for index in (0, 1):
        factor, offset = (entry[members] for entry in ensemble.folded_norm(index))
        weight = ensemble.weights[index + 1].detach()[members].double()
        bias = ensemble.biases[index + 1].detach()[members].double()
        bias = bias + (weight * offset[:, None]).sum(dim=2)
        folded.append(((weight * factor[:, None]).float(), bias.float()))
    (second, second_bias), (third, third_bias) = folded
    return _Members(
        projections=parts,
        bias=ensemble.biases[0].detach()[members].flatten(),
        second=(second.transpose(1, 2).contiguous(), second_bias[:, None]),
        third=(third, third_bias[:, :, None]),
    )


def _project(
    grouped: Iterator[Tensor], part: _Members, size: int
) -> tuple[list[tuple[Tensor, Tensor]], list[_Rise]]:
    """Project all maps that are smaller than the image, R = size.

    Returns: full-size maps [C, R * R] with their weights [C, n], n = m * H1; and what is upsampled
        and added to them.
    """
    native: list[tuple[Tensor, Tensor]] = []
    small: dict[int, Tensor] = {}
    for maps, weight in zip(grouped, part.projections, strict=True):
        side = maps.shape[1]
        if side == size:
            native.append((maps.flatten(1), weight))
            continue
        projected = (maps.flatten(1).t() @ weight).view(side, side, -1)
        small[side] = small[side] + projected if side in small else projected
    direct = [small.pop(side) for side in sorted(small) if side * _MAX_DIRECT >= size]
    rises = [_Rise(x, _row_weights(len(x), size), slice(0, size), size) for x in direct]
    nodes = _sum_at_nodes(small, size)
    if nodes is not None:
        rises.append(_between_nodes(nodes, size))
    return native, rises


def _upper_layers(hidden: Tensor, part: _Members) -> Tensor:
    """hidden: [rows, R, m * H1], after the first ReLU -> logits [m, K, rows * R]."""
    members, width = part.second[0].shape[:2]
    x = hidden.view(-1, members, width).transpose(0, 1)
    x = torch.baddbmm(part.second[1], x, part.second[0]).relu_()
    return torch.baddbmm(part.third[1], part.third[0], x.transpose(1, 2))


def _native_rows(
    native: list[tuple[Tensor, Tensor]], bias: Tensor, rows: slice, size: int
) -> Tensor:
    """Return bias and full-size projections of some rows: [rows, R, m * H1], newly made."""
    pixels = slice(rows.start * size, rows.stop * size)
    hidden = bias.expand(pixels.stop - pixels.start, -1)
    for maps, weight in native:
        hidden = torch.addmm(hidden, maps[:, pixels].t(), weight)
    if not native:
        hidden = hidden.clone()
    return hidden.view(-1, size, len(bias))


def _between_nodes(nodes: Tensor, size: int) -> _Rise:
    """Prepare nodes at positions s k - 1/2 for the map [R, R, n] between them; s is even."""
    spacing = size // (len(nodes) - 1)
    full = spacing * len(nodes)
    inside = slice(spacing // 2, spacing // 2 + size)
    return _Rise(nodes, _row_weights(len(nodes), full)[inside], inside, full)


def _row_weights(side: int, size: int) -> Tensor:
    """Return the matrix [size, side] of linear upsampling in one dimension, on the CPU."""
    identity = torch.eye(side)[None]
    return F.interpolate(identity, size=size, mode="linear", align_corners=False)[0].t()


def _upsampled_rows(rise: _Rise, rows: slice) -> Tensor:
    """Return some rows of the full-size map, [rows, R, n]: first along columns, then along rows."""
    weights = rise.row_weights[rows]
    used = weights.any(dim=0).nonzero()
    low, high = int(used[0]), int(used[-1]) + 1
    source = rise.samples[low:high]
    weights = upload(weights[:, low:high], source.device)
    lines = (weights @ source.flatten(1)).view(len(weights), *source.shape[1:])
    return _resize(lines, len(lines), rise.full)[:, rise.inside]


def _sum_at_nodes(coarse: dict[int, Tensor], size: int) -> Tensor | None:
    """Return the sum of upsampled projections at positions s k - 1/2 of the full-size image.

    Args:
        coarse: [side, side, n] by side, each below size / _MAX_DIRECT.
        size: side of the image, R.
    Returns: [R/s + 1, R/s + 1, n] with s = _MAX_DIRECT, or None where nothing is coarse.
    """
    if not coarse:
        return None
    nodes: Tensor | None = None
    side = min(coarse)
    while side * _MAX_DIRECT < size:
        if nodes is not None:
            nodes = _resize(nodes, 2 * side + 1, 2 * side + 1, align_corners=True)
        if side in coarse:
            own = _at_nodes(coarse[side])
            nodes = own if nodes is None else nodes + own
        side *= 2
    return nodes


def _at_nodes(samples: Tensor) -> Tensor:
    """Return [side, side, n] samples at their pixels' centres and borders: [2 side + 1, ...]."""
    side = len(samples)
    inner = _resize(samples, 2 * side - 1, 2 * side - 1, align_corners=True)
    index = torch.arange(-1, 2 * side, device=samples.device).clamp(0, 2 * side - 2)
    return inner.index_select(0, index).index_select(1, index)


def _resize(x: Tensor, height: int, width: int, *, align_corners: bool = False) -> Tensor:
    """Resize [H, W, n] linearly; n is the fastest dimension before and after."""
    # Channels last to PyTorch; a [None] behind the permutation would hide that.
    planes = x[None].permute(0, 3, 1, 2)
    resized = F.interpolate(
        planes, size=[height, width], mode="bilinear", align_corners=align_corners
    )
    return resized[0].permute(1, 2, 0)


# What the members agree on


class Consensus:
    """Sums over the members of an ensemble, from which vote and uncertainty follow."""

    def __init__(self, pixels: int, classes: int, device: torch.device | str = "cpu") -> None:
        self._members = 0
        self._votes = torch.zeros([classes, pixels], dtype=torch.int32, device=device)
        self._probabilities = torch.zeros([classes, pixels], device=device)
        self._entropies = torch.zeros([pixels], device=device)

    def add(self, logits: Tensor, pixels: slice) -> None:
        """Add members at some pixels; a member must be added at all of them.

        Args:
            logits: [m, K, B] float32.
            pixels: the B pixels of the image they belong to.
        """
        probabilities = logits.softmax(dim=1)
        classes = torch.arange(logits.shape[1], device=logits.device)
        is_winner = first_argmax(logits, dim=1)[:, None] == classes[:, None]
        self._votes[:, pixels] += is_winner.sum(dim=0, dtype=torch.int32)
        self._probabilities[:, pixels] += probabilities.sum(dim=0)
        self._entropies[pixels] += _entropy(probabilities, dim=1).sum(dim=0)
        if pixels.start == 0:
            self._members += logits.shape[0]

    def labels(self) -> Tensor:
        """Return the class with most votes, of equal ones the smallest: [P] uint8."""
        return first_argmax(self._votes, dim=0).to(torch.uint8)

    def divergence(self) -> Tensor:
        """Return the Jensen-Shannon divergence of the members: [P] float32, >= 0 up to rounding.

        Entropy of the mean distribution minus the mean of the entropies, natural logarithm.

        Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3; Lin 1991.
        """
        mean = self._probabilities / self._members
        return _entropy(mean, dim=0) - self._entropies / self._members


def uncertainty_score(divergence: Tensor) -> float:
    """Return the mean of the largest 10 % of an uncertainty map.

    Source: Zhang et al. 2021 (arXiv:2104.06490), section 3.3.
    """
    flat = divergence.flatten().double()
    count = max(1, int(len(flat) * TOP_FRACTION))
    return float(flat.topk(count).values.mean())


def first_argmax(values: Tensor, dim: int) -> Tensor:
    """Return the index of the largest entry of a dimension, of equal ones the smallest."""
    if values.device.type == "cuda":  # as PyTorch promises; the loop is faster on the CPU
        return values.argmax(dim=dim)
    best = values.select(dim, 0)
    index = torch.zeros_like(best, dtype=torch.int64)
    for k in range(1, values.shape[dim]):
        entry = values.select(dim, k)
        index = torch.where(entry > best, k, index)
        best = torch.maximum(best, entry)
    return index


def _entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Return the entropy over a dimension; zeros count as float32's epsilon."""
    logarithm = probabilities.clamp_min(torch.finfo(torch.float32).eps).log_()
    return -(probabilities * logarithm).sum(dim=dim)
