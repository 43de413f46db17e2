"""Classical scaling: exact where the distances are of a plane, and clear errors."""

import numpy as np
import pytest

from benchmarks.mds import classical_mds, cosine_distances


def distances_of(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_points_of_a_plane_come_back():
    points = np.random.default_rng(0).standard_normal([12, 2])
    found, share = classical_mds(distances_of(points))
    np.testing.assert_allclose(distances_of(found), distances_of(points), atol=1e-9)
    assert share == pytest.approx(1)
    assert found.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert found[:, 0].std() >= found[:, 1].std()


def test_more_dimensions_are_projected_on_the_principal_axes():
    points = np.random.default_rng(1).standard_normal([30, 5]) * [4, 3, 0.5, 0.2, 0.1]
    found, share = classical_mds(distances_of(points))
    centred = points - points.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes[:2].T), atol=1e-9)
    assert share == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())


def test_cosine_distances_are_chords():
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    expected = [[0, 2**0.5, 2], [2**0.5, 0, 2**0.5], [2, 2**0.5, 0]]
    np.testing.assert_allclose(cosine_distances(vectors), expected)


@pytest.mark.parametrize(
    ("distances", "reason"),
    [
        (np.zeros([2, 3]), "must be .N, N."),
        (np.zeros([1, 1]), "N at least 2"),
        (np.array([[0, 1], [2, 0]]), "symmetric"),
        (np.array([[0, -1], [-1, 0]]), "not negative"),
        (np.array([[0, np.nan], [np.nan, 0]]), "finite"),
    ],
)
def test_bad_distances(distances, reason):
    with pytest.raises(ValueError, match=reason):
        classical_mds(distances)
