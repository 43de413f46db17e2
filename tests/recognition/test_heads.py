"""Margin losses: closed forms, monotony, gradients."""

import math

import pytest
import torch

from recognition.heads import MarginHead, add_margin
from recognition.options import HeadConfig, MarginKind


def config(kind, margin, scale=1.0):
    return HeadConfig(kind=MarginKind(kind), margin=margin, scale=scale)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5, 2.5])
def test_arcface_adds_to_the_angle(angle):
    cosines = torch.tensor([[math.cos(angle), 0.2]], dtype=torch.float64)
    logits = add_margin(cosines, torch.tensor([0]), config("arcface", 0.5, 64.0))
    assert logits[0, 0].item() == pytest.approx(64 * math.cos(angle + 0.5), abs=1e-4)
    assert logits[0, 1].item() == pytest.approx(64 * 0.2)


def test_cosface_takes_from_the_cosine():
    cosines = torch.tensor([[0.9, 0.2, -0.1]])
    logits = add_margin(cosines, torch.tensor([1]), config("cosface", 0.35, 10.0))
    assert logits[0].tolist() == pytest.approx([9.0, -1.5, -1.0])


@pytest.mark.parametrize("kind", ["arcface", "cosface", "softmax"])
def test_logit_falls_with_the_angle_everywhere(kind):
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    logits = add_margin(
        angles.cos()[:, None], torch.zeros(1001, dtype=torch.int64), config(kind, 0.5)
    )
    assert (logits.diff(dim=0) <= 1e-12).all()


def test_without_margin_all_kinds_are_softmax():
    random = torch.Generator().manual_seed(0)
    cosines = torch.rand(5, 7, generator=random, dtype=torch.float64) * 2 - 1
    people = torch.tensor([0, 3, 6, 1, 1])
    expected = add_margin(cosines, people, config("softmax", 0.0, 8.0))
    for kind in ("arcface", "cosface"):
        torch.testing.assert_close(add_margin(cosines, people, config(kind, 0.0, 8.0)), expected)


@pytest.mark.parametrize("kind", ["arcface", "cosface", "softmax"])
def test_gradients(kind):
    random = torch.Generator().manual_seed(1)
    cosines = torch.rand(4, 3, generator=random, dtype=torch.float64) * 1.8 - 0.9
    people = torch.tensor([0, 1, 2, 0])
    assert torch.autograd.gradcheck(
        lambda x: add_margin(x, people, config(kind, 0.3)), cosines.requires_grad_()
    )


def test_gradients_are_finite_on_the_centre():
    head = MarginHead(4, 3, HeadConfig())
    embeddings = head.centres.detach()[[0, 1]].clone().requires_grad_()
    losses, is_right = head(embeddings, torch.tensor([0, 2]))
    losses.sum().backward()
    assert is_right.tolist() == [True, False]
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.centres.grad).all()


def test_published_margins():
    assert [HeadConfig(kind=kind).margin for kind in MarginKind] == [0.5, 0.35, 0.0]


def test_lengths_do_not_matter():
    head = MarginHead(4, 3, HeadConfig(scale=10.0))
    x, people = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(head(x, people)[0], head(x * 7, people)[0])


@pytest.mark.parametrize(("key", "value"), [("margin", -0.1), ("margin", 1.0), ("scale", 0.0)])
def test_bad_settings(key, value):
    with pytest.raises(ValueError, match=f"{key} must be .* got {value}"):
        HeadConfig(**{key: value})
