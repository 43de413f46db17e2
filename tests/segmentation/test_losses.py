"""Losses against loops over pixels, and weights against their definitions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data.pixels import IGNORED
from segmentation.losses import certainty, class_weights, dice_loss, weighted_cross_entropy
from segmentation.options import ClassWeighting

K = 3


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn([2, K, 4, 5], generator=random, dtype=torch.float32)
    masks = torch.randint(0, K, [2, 4, 5], generator=random)
    masks[0, 0, :3] = IGNORED
    weights = torch.rand([2, 4, 5], generator=random)
    return logits, masks, weights


def probabilities(logits, n, y, x):
    values = [math.exp(float(v)) for v in logits[n, :, y, x]]
    return [value / sum(values) for value in values]


def places(masks):
    return [tuple(place) for place in (masks != IGNORED).nonzero().tolist()]


def test_cross_entropy_is_the_weighted_mean_over_pixels_that_count(batch):
    logits, masks, weights = batch
    factors = [0.5, 2.0, 1.0]
    total = share = 0.0
    for n, y, x in places(masks):
        k = int(masks[n, y, x])
        weight = float(weights[n, y, x]) * factors[k]
        total -= weight * math.log(probabilities(logits, n, y, x)[k])
        share += weight
    found = weighted_cross_entropy(logits, masks, weights, torch.tensor(factors))
    assert float(found) == pytest.approx(total / share, rel=1e-5)


def test_cross_entropy_with_equal_pixels_is_pytorch_s(batch):
    logits, masks, weights = batch
    factors = torch.tensor([0.5, 2.0, 1.0])
    expected = F.cross_entropy(logits, masks, factors, ignore_index=IGNORED)
    found = weighted_cross_entropy(logits, masks, torch.ones_like(weights), factors)
    torch.testing.assert_close(found, expected)


def test_dice_is_the_mean_over_classes_that_occur(batch):
    logits, masks, weights = batch
    masks = torch.where(masks == 1, 0, masks)
    scores = []
    for k in (0, 2):
        shared = found = wanted = 0.0
        for n, y, x in places(masks):
            weight, p = float(weights[n, y, x]), probabilities(logits, n, y, x)[k]
            is_class = int(masks[n, y, x]) == k
            shared, found, wanted = (
                shared + weight * p * is_class,
                found + weight * p,
                wanted + weight * is_class,
            )
        scores.append(2 * shared / (found + wanted))
    expected = 1 - sum(scores) / 2
    assert float(dice_loss(logits, masks, weights)) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_answer_has_no_loss(batch):
    _, masks, weights = batch
    masks = masks.clamp(max=K - 1)
    logits = F.one_hot(masks, K).movedim(3, 1).float() * 100
    assert float(weighted_cross_entropy(logits, masks, weights, torch.ones(K))) < 1e-6
    assert float(dice_loss(logits, masks, weights)) < 1e-5


def test_where_nothing_counts_the_loss_is_zero_and_so_are_gradients(batch):
    logits, masks, weights = batch
    logits.requires_grad_()
    nothing = torch.full_like(masks, IGNORED)
    loss = weighted_cross_entropy(logits, nothing, weights, torch.ones(K))
    (loss + dice_loss(logits, nothing, weights)).backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_uncertain_pixels_pull_less(batch):
    logits, masks, _ = batch
    logits.requires_grad_()
    weights = torch.ones(masks.shape)
    weights[:, :2] = certainty(torch.ones(2, 2, 5), strength=3.0)
    weighted_cross_entropy(logits, masks.clamp(max=K - 1), weights, torch.ones(K)).backward()
    sizes = logits.grad.abs().sum(dim=1)
    assert sizes[:, :2].mean() < 0.2 * sizes[:, 2:].mean()
    assert torch.equal(certainty(torch.rand(3), 0.0), torch.ones(3))


def test_class_weights_by_their_definitions():
    pixels, present = np.array([60, 30, 10, 0]), np.array([100, 100, 50, 0])
    none = class_weights(ClassWeighting.NONE, pixels, present)
    assert none.tolist() == [1, 1, 1, 0]
    inverse = class_weights(ClassWeighting.INVERSE, pixels, present)
    assert inverse[:3] * pixels[:3] == pytest.approx([100 / 3] * 3)
    median = class_weights(ClassWeighting.MEDIAN, pixels, present)
    assert median[:3] / median[1] == pytest.approx([0.3 / 0.6, 1, 0.3 / 0.2])
    for factors in (none, inverse, median):
        assert (factors * pixels).sum() == pytest.approx(pixels.sum())
        assert factors[3] == 0
