"""Precision, recall, density, coverage: by hand, naively, and in blocks."""

import numpy as np
import pytest

from metrics import neighbours
from metrics.neighbours import neighbour_scores


def draw(count, width=6, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, width)) + offset).astype(np.float32)


def column(*values):
    return np.array(values, np.float32)[:, None]


def naive_scores(real, fake, k):
    """All distances in float64, one formula a score."""

    def distances(a, b):
        return np.sqrt(((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(-1))

    real_radii = np.sort(distances(real, real), axis=1)[:, k]
    fake_radii = np.sort(distances(fake, fake), axis=1)[:, k]
    between = distances(real, fake)
    inside = between <= real_radii[:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (between <= fake_radii[None]).any(axis=1).mean(),
        "density": inside.sum() / (k * len(fake)),
        "coverage": inside.any(axis=1).mean(),
    }


def test_by_hand():
    """Real 0, 1, 3 with k = 1 have the radii 1, 1, 2; generated 0.5, 9 have 8.5 each."""
    scores = neighbour_scores(column(0, 1, 3), column(0.5, 9), k=1)
    assert scores.precision == 1 / 2  # 0.5 is near 0 and 1; 9 is near none
    assert scores.recall == 1  # everything lies within 8.5 of 0.5
    assert scores.density == 2 / (1 * 2)  # 0.5 lies in two balls (3 is 2.5 away), 9 in none
    assert scores.coverage == 2 / 3  # of 0 and of 1


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [7, 16, 1000])
def test_naive_formulas_agree(monkeypatch, k, block, device):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    real, fake = draw(60), draw(45, seed=1, offset=0.7)
    scores = neighbour_scores(real, fake, k=k, device=device)
    for name, expected in naive_scores(real, fake, k).items():
        assert getattr(scores, name) == pytest.approx(expected), name


def test_of_a_set_and_itself():
    x = draw(50)
    scores = neighbour_scores(x, x, k=3)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    # each sample lies in its own ball and, on average, in k others
    assert scores.density == pytest.approx(4 / 3, rel=1e-6)


def test_far_sets_share_nothing():
    scores = neighbour_scores(draw(30), draw(30, offset=100), k=3)
    assert (scores.precision, scores.recall, scores.density, scores.coverage) == (0, 0, 0, 0)


def test_copies_far_from_the_origin_are_copies():
    """Squares of 1e8 hide differences below 10 in float32, but a copy is at distance zero."""
    real = np.repeat(draw(10, offset=1e4), 4, axis=0)
    scores = neighbour_scores(real, real[:8], k=3)
    assert scores.precision == 1


def test_order_and_shift_do_not_matter():
    real, fake = draw(60), draw(60, seed=1, offset=0.5)
    rng = np.random.default_rng(3)
    plain = neighbour_scores(real, fake, k=3)
    assert neighbour_scores(rng.permutation(real), rng.permutation(fake), k=3) == plain
    assert neighbour_scores(real + 8, fake + 8, k=3) == plain


def test_more_neighbours_include_more():
    real, fake = draw(80), draw(80, seed=1, offset=1)
    found = [neighbour_scores(real, fake, k=k) for k in (1, 2, 4, 8)]
    for fewer, more in zip(found[:-1], found[1:], strict=True):
        assert fewer.precision <= more.precision
        assert fewer.coverage <= more.coverage


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (draw(3), draw(9), "real images: at least 4 samples are needed, got 3"),
        (draw(9), draw(2), "generated images: at least 4 samples"),
        (draw(9), draw(9, width=5), "one extractor"),
        (np.full((9, 6), np.nan, np.float32), draw(9), "finite"),
    ],
)
def test_bad_features_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        neighbour_scores(real, fake, k=3)
