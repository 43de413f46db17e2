import numpy as np
import pytest
from scipy import ndimage

from metrics.alignment import displacement, edge_correlation, edge_strength, score_alignment


def texture(seed, size=48):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5)
    return 127 + 100 * image / np.abs(image).max()


def moved(image, shift):
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), shift)).real


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (1.3, -2.65), (-0.4, 0.25), (7.5, 0)])
def test_a_known_shift_is_found(shift):
    image = texture(0)
    assert displacement(image, moved(image, shift)) == pytest.approx(shift, abs=0.08)


def test_rectangles_and_odd_sizes():
    image = texture(1, 61)[:, :40]
    assert displacement(image, moved(image, (2, -3))) == pytest.approx((2, -3), abs=0.15)


def test_the_shift_back_is_the_opposite():
    a, b = texture(2), moved(texture(2), (2.2, 1.1))
    there, back = displacement(a, b), displacement(b, a)
    assert there == pytest.approx([-value for value in back], abs=0.051)


def test_constant_images_are_not_displaced():
    assert displacement(np.ones((16, 16)), texture(0, 16)) == (0, 0)
    assert edge_correlation(np.ones((4, 4)), np.eye(4)) == 0


def test_other_contrast_keeps_the_edges():
    image = texture(3)
    assert edge_correlation(edge_strength(image), edge_strength(255 - image)) == pytest.approx(1)
    colours = np.stack([image, image, image])
    assert edge_strength(colours) == pytest.approx(edge_strength(image))


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


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match=r"two images of one size, at least 8 x 8, got \(4, 4\)"):
        displacement(np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match="two images of one size"):
        displacement(texture(0, 16), texture(0, 20))
    with pytest.raises(ValueError, match="at least two pairs, got 1"):
        score_alignment(pairs((0, 0)), ["p"])
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
