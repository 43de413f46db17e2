import numpy as np
import pytest

from metrics import NotMeasuredError
from metrics.alignment import score_alignment
from tests.helpers.images import moved, texture


def pairs(shift):
    def load(seed):
        image = texture(seed)
        return np.stack([image] * 3), 200 - 0.7 * moved(image, shift)[None]

    return load


PEOPLE = [f"p{i // 2}" for i in range(12)]


def test_aligned_and_shifted_pairs():
    aligned = score_alignment(pairs((0, 0)), PEOPLE)
    shifted = score_alignment(pairs((0, 3)), PEOPLE)
    assert aligned.residual_px.value < 0.15
    assert aligned.within_one_px.value == 1
    assert shifted.residual_px.value == pytest.approx(3, abs=0.2)
    assert shifted.systematic_px.value == pytest.approx(3, abs=0.2)
    assert shifted.within_one_px.value == 0
    assert shifted.edge_correlation.value < 0.7 < aligned.edge_correlation.value
    assert abs(aligned.edge_correlation_chance.value) < 0.3
    excess = aligned.edge_correlation.value - aligned.edge_correlation_chance.value
    assert aligned.edge_correlation_excess.value == pytest.approx(excess)
    assert aligned.edge_correlation_excess.low > 0.5
    assert (aligned.residual_px.n, aligned.residual_px.clusters) == (12, 6)


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match="at least two pairs, got 1"):
        score_alignment(pairs((0, 0)), ["p"])
    with pytest.raises(NotMeasuredError, match="two images of one size"):
        score_alignment(lambda i: [texture(0, 16), texture(0, 20)], ["a", "b"])
    with pytest.raises(ValueError, match="two pairs of one size"):
        score_alignment(lambda i: [texture(0, 48 - i)] * 2, ["a", "b"])


def test_names_that_tell_no_identities_apart_and_other_sizes_leave_a_measure():
    same, other = pairs((0, 0)), [texture(0, 20)] * 2
    score = score_alignment(lambda i: same(i) if i < 12 else other, ["IMG"] * 13)
    assert score.residual_px.n == score.edge_correlation.n == 13
    assert score.edge_correlation_chance.n == score.edge_correlation_excess.n == 12
    assert score.edge_correlation_excess.value > 0.5


@pytest.mark.parametrize("order", [list(range(12)), [5, 0, 9, 2, 7, 4, 11, 6, 1, 8, 3, 10]])
def test_partners_by_chance_are_other_identities(order):
    """Identities whose pairs are all alike: with a partner of the own one, chance would be 1."""
    people = [i // 2 for i in order]
    score = score_alignment(lambda i: [texture(people[i])] * 2, [f"p{p}" for p in people])
    assert score.edge_correlation.value == pytest.approx(1)
    assert score.edge_correlation_chance.high < 0.3
