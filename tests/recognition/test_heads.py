"""Margin losses: closed forms, monotony, gradients; a sample of the identities a step."""

import math

import pytest
import torch

from recognition.heads import MarginHead, PartialHead, add_margin, choose_identities
from recognition.options import HeadConfig, MarginKind


def losses_of(head, embeddings, identities, weights=None):
    """Losses and hits; of one identity an image where there are no weights."""
    if weights is None:
        identities, weights = identities[:, None], torch.ones(len(identities), 1)
    return head(embeddings, identities, weights)


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
    losses, is_right = losses_of(head, embeddings, torch.tensor([0, 2]))
    losses.sum().backward()
    assert is_right.tolist() == [True, False]
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.centres.grad).all()


def test_published_margins():
    assert [HeadConfig(kind=kind).margin for kind in MarginKind] == [0.5, 0.35, 0.0]


def test_lengths_do_not_matter():
    head = MarginHead(4, 3, HeadConfig(scale=10.0))
    x, people = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(losses_of(head, x, people)[0], losses_of(head, x * 7, people)[0])


# A part of the identities a step


CONFIG = HeadConfig(kind=MarginKind.COSFACE, margin=0.1, scale=8.0)
WIDTH, PEOPLE = 4, 10


def step(head, optimizer, embeddings, people, weights=None, seed=0):
    is_present = torch.zeros(PEOPLE, dtype=torch.bool)
    is_present[people.flatten()] = True
    head.begin_step(optimizer, is_present, torch.Generator().manual_seed(seed))
    losses, hits = losses_of(head, embeddings, people, weights)
    optimizer.zero_grad()
    losses.mean().backward()
    optimizer.step()
    head.end_step(optimizer)
    return losses.detach(), hits


def build(rate):
    torch.manual_seed(0)
    head = MarginHead(WIDTH, PEOPLE, CONFIG)
    if rate is not None:
        torch.manual_seed(0)
        head = PartialHead(WIDTH, PEOPLE, CONFIG, rate)
    return head, torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def test_all_people_are_the_whole_loss():
    random = torch.Generator().manual_seed(1)
    whole, partial = build(None), build(1.0)
    for number in range(4):
        x = torch.randn(6, WIDTH, generator=random)
        people = torch.randint(PEOPLE, [6, 2], generator=random)
        weights = torch.tensor([[0.3, 0.7]]).expand(6, 2)
        results = [step(*pair, x, people, weights, seed=number) for pair in (whole, partial)]
        torch.testing.assert_close(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(whole[0].centres.detach(), partial[0].centres)


def test_people_that_are_not_drawn_rest():
    head, optimizer = build(0.5)
    people = torch.tensor([7, 7, 2])
    for number in range(3):
        before = head.centres.clone()
        step(head, optimizer, torch.randn(3, WIDTH), people, seed=number)
        moved = (head.centres != before).any(dim=1)
        assert moved.sum() == 5
        assert moved[[2, 7]].all()
    assert len(head.chosen) == 0
    assert optimizer.state_dict()["state"] == {}


def test_the_loss_is_that_of_the_drawn_people():
    head, optimizer = build(0.4)
    x, people = torch.randn(2, WIDTH), torch.tensor([9, 1])
    centres = head.centres.clone()
    losses, _ = step(head, optimizer, x, people, seed=3)
    is_present = torch.zeros(PEOPLE, dtype=torch.bool)
    is_present[people] = True
    rows = choose_identities(is_present, 0.4, torch.Generator().manual_seed(3))
    naive = MarginHead(WIDTH, len(rows), CONFIG)
    naive.centres.data = centres[rows]
    places = torch.tensor([rows.tolist().index(person) for person in people.tolist()])
    torch.testing.assert_close(losses, losses_of(naive, x, places)[0].detach())


def test_the_draw_is_seeded_fair_and_holds_those_present():
    is_present = torch.zeros(100, dtype=torch.bool)
    is_present[[3, 50]] = True
    counts = torch.zeros(100)
    for seed in range(400):
        rows = choose_identities(is_present, 0.1, torch.Generator().manual_seed(seed))
        assert len(rows) == 10
        assert torch.equal(rows, rows.unique())
        counts[rows] += 1
    assert counts[is_present].tolist() == [400, 400]
    others = counts[~is_present]
    assert others.mean().item() == pytest.approx(400 * 8 / 98)
    assert others.min() > 10
    again = [choose_identities(is_present, 0.1, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*again)


def test_more_people_than_the_rate_allows_are_all_kept():
    rows = choose_identities(torch.ones(6, dtype=torch.bool), 0.1, torch.Generator())
    assert rows.tolist() == list(range(6))
