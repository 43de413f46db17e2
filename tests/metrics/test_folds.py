"""The ten-fold protocol, against loops and scikit-learn."""

import numpy as np
import pytest

from metrics.folds import pair_distances, score_folds


def naive_folds(distances, same, far):
    """The protocol as loops over thresholds."""
    accuracies, tars = [], []
    selection = pytest.importorskip(
        "sklearn.model_selection", reason="scikit-learn is not installed"
    )
    for rest, part in selection.KFold(10).split(distances):
        hits = [((distances[rest] < t) == same[rest]).mean() for t in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[int(np.argmax(hits))]
        accuracies.append(((distances[part] < best) == same[part]).mean())
        fine = np.arange(0, 4, 0.001)
        fars = [(distances[rest][~same[rest]] < t).mean() for t in fine]
        threshold = np.interp(far, fars, fine) if max(fars) >= far else 0.0
        tars.append((distances[part][same[part]] < threshold).mean())
    return accuracies, tars


def test_ten_folds_against_loops():
    rng = np.random.default_rng(0)
    same = np.arange(204) % 20 < 10
    distances = np.where(same, rng.normal(0.9, 0.35, 204), rng.normal(1.7, 0.3, 204)).clip(0, 4)
    score = score_folds(distances, same, far=0.05)
    accuracies, tars = naive_folds(distances, same, 0.05)
    assert score.accuracies == pytest.approx(accuracies)
    assert score.tars == pytest.approx(tars)
    assert score.accuracy == pytest.approx((np.mean(accuracies), np.std(accuracies)))
    assert (len(score.thresholds), score.pairs) == (10, 204)


def test_pairs_that_are_told_apart_score_one():
    same = np.arange(40) % 2 == 0
    score = score_folds(np.where(same, 0.5, np.linspace(1.5, 3, 40)), same)
    assert score.accuracy == (1, 0)
    assert score.tar == (1, 0)
    assert score.fars[1:] == (0,) * 9


def test_distances_of_unit_vectors():
    first = np.array([[1.0, 0], [0, 1]])
    assert pair_distances(first, np.array([[-1.0, 0], [0, 1]])).tolist() == [4, 0]


@pytest.mark.parametrize(
    ("distances", "same", "message"),
    [
        (np.zeros(5), [True, False] * 2 + [True], "10 folds need at least 10 pairs, got 5"),
        (np.zeros(20), [True] * 20, "of both kinds, got 20 of 20 same"),
        (np.zeros(20), [True], "20 distances but 1 answers"),
        (np.full(20, np.nan), [True, False] * 10, "20 of 20 are not"),
    ],
)
def test_pairs_that_cannot_be_scored(distances, same, message):
    with pytest.raises(ValueError, match=message):
        score_folds(distances, same)
