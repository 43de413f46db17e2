"""Measures of refined images: a classifier two-sample test, and whether edges stay in place."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.pixels import to_float
from torch_utils.checks import check_shape
from torch_utils.seeding import derive_seed, generator_for

_TEST_BATCH = 100
_TINY = 1e-12

# How well a small classifier tells two kinds of images that it has not seen before


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How the classifier is trained.

    Attributes:
        steps: batches.
        batch: images a batch, half of each kind.
        width: channels of its first layer.
        lr: learning rate of Adam.
        seed: of weights and batches.
    """

    steps: int = 300
    batch: int = 64
    width: int = 16
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.width < 1:
            raise ValueError(
                "steps and width must be at least 1, batch 2, "
                f"got {self.steps}, {self.width}, {self.batch}"
            )


@dataclass(frozen=True, kw_only=True)
class TwoSampleResult:
    """What the classifier can do with images that it was not trained on.

    Attributes:
        accuracy: share of images whose kind it says right, the mean of both kinds; 0.5 is guessing.
        auc: probability that it finds an image of the second kind likelier to be of the second
            kind than one of the first; 0.5 is guessing.
    """

    accuracy: float
    auc: float


def two_sample_test(first: Tensor, second: Tensor, options: ClassifierOptions) -> TwoSampleResult:
    """Train a classifier on the first half of either kind, and test it on the second half.

    Args:
        first: [N, C, R, R] uint8; images of a person stand together, so that the halves share
            none.
        second: [M, C, R, R] uint8, likewise.
        options: how.
    Source: Lopez-Paz and Oquab 2017 (arXiv:1610.06545), classifier two-sample tests.
    Raises: ValueError where there are fewer than 4 images of a kind, or other channels or sizes.
    """
    check_shape("second", second, None, *first.shape[1:])
    if min(len(first), len(second)) < 4:
        raise ValueError(
            f"at least 4 images of each kind are needed, got {len(first)} and {len(second)}"
        )
    kinds = [(images[: len(images) // 2], images[len(images) // 2 :]) for images in (first, second)]
    network = _train([train for train, _ in kinds], options)
    scores = [_score(network, test) for _, test in kinds]
    right = ((scores[0] <= 0).double().mean() + (scores[1] > 0).double().mean()) / 2
    return TwoSampleResult(accuracy=float(right), auc=area_under_curve(scores[0], scores[1]))


def area_under_curve(low: Tensor, high: Tensor) -> float:
    """Return the probability that a score of `high` is above one of `low`; equal ones count half.

    Args:
        low: [N] float.
        high: [M] float.

    >>> area_under_curve(torch.tensor([0., 1.]), torch.tensor([1., 2.]))
    0.875
    """
    difference = high[:, None] - low[None]
    return float((difference > 0).double().mean() + (difference == 0).double().mean() / 2)


def _train(kinds: list[Tensor], options: ClassifierOptions) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(options.seed, "telling"))
        network = _build(kinds[0].shape[1], options.width)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    half = options.batch // 2
    wanted = torch.arange(2).repeat_interleave(half).float()
    network.train()
    for step in range(options.steps):
        random = generator_for(options.seed, "telling", step)
        indices = [torch.randint(len(images), [half], generator=random) for images in kinds]
        x = to_float(torch.cat([images[i] for images, i in zip(kinds, indices, strict=True)]))
        is_mirrored = torch.rand([len(x), 1, 1, 1], generator=random) < 0.5
        logits = network(torch.where(is_mirrored, x.flip(3), x))[:, 0]
        optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(logits, wanted).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _build(channels: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    into = channels
    for factor in (1, 2, 4):
        out = width * factor
        layers += [
            nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        ]
        into = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, 1))


@torch.inference_mode()
def _score(network: nn.Module, images: Tensor) -> Tensor:
    """Return [N] float32, above 0 where the network takes an image for the second kind."""
    return torch.cat([network(to_float(part))[:, 0] for part in images.split(_TEST_BATCH)])


# Whether edges stay where they were, so that labels stay valid


def edge_strength(images: Tensor) -> Tensor:
    """Return how much each pixel differs from its neighbours, over all channels.

    Args:
        images: [N, C, H, W] uint8.
    Returns: [N, H - 2, W - 2] float64, the length of the central differences.
    """
    x = images.double()
    across = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    return (across.square() + down.square()).sum(1).sqrt()


def edge_correlation(before: Tensor, after: Tensor) -> Tensor:
    """Return Pearson's correlation of the edges of images and refined images.

    Args:
        before: [N, C, H, W] uint8.
        after: the same shape.
    Returns: [N] float64 in -1..1; 0 where an image has no edges.
    """
    return _correlation(edge_strength(before).flatten(1), edge_strength(after).flatten(1))


def edge_shift(before: Tensor, after: Tensor, radius: int = 2) -> Tensor:
    """Return by how much the edges as a whole moved.

    The edges are correlated at all shifts of whole pixels; a parabola through the best one and its
    neighbours gives the fraction.

    Args:
        before: [N, C, H, W] uint8.
        after: the same shape.
        radius: largest shift, in pixels.
    Returns: [N, 2] float64, pixels to the right and down.
    """
    old, new = edge_strength(before), edge_strength(after)
    reach = radius + 1
    inner = old[:, reach:-reach, reach:-reach].flatten(1)
    side = 2 * reach + 1
    height, width = old.shape[1] - 2 * reach, old.shape[2] - 2 * reach
    found = [
        _correlation(inner, new[:, down : down + height, right : right + width].flatten(1))
        for down in range(side)
        for right in range(side)
    ]
    surface = torch.stack(found, 1).reshape(-1, side, side)
    best = surface[:, 1:-1, 1:-1].flatten(1).argmax(1)
    down, right = best // (side - 2) + 1, best % (side - 2) + 1
    rows = torch.arange(len(surface))
    centre = surface[rows, down, right]
    across = _vertex(surface[rows, down, right - 1], centre, surface[rows, down, right + 1])
    along = _vertex(surface[rows, down - 1, right], centre, surface[rows, down + 1, right])
    return torch.stack([right - reach + across, down - reach + along], 1)


def _vertex(left: Tensor, centre: Tensor, right: Tensor) -> Tensor:
    """Return the place of the top of a parabola through values at -1, 0 and 1, within +-0.5."""
    bend = left + right - 2 * centre
    place = (left - right) / (2 * bend.clamp(max=-_TINY))
    return place.clamp(-0.5, 0.5)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = F.normalize(a, dim=1, eps=_TINY), F.normalize(b, dim=1, eps=_TINY)
    return (scale[0] * scale[1]).sum(1)
