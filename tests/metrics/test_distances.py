"""FID and KID: closed forms, invariances, and other implementations on the same features."""

import numpy as np
import pytest
import scipy.linalg
import torch

from metrics.distances import frechet_distance, kernel_distance, squared_mmd
from metrics.statistics import Moments, compute_moments


def draw(count, width=4, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, width)) + offset).astype(np.float32)


def gaussian(mean, covariance, count=1000):
    return Moments(count, np.asarray(mean, float), np.asarray(covariance, float) * (count - 1))


class TestFrechet:
    def test_one_dimension(self):
        """(mu - mu')^2 + (sigma - sigma')^2."""
        a, b = gaussian([1.0], [[4.0]]), gaussian([4.0], [[9.0]])
        assert frechet_distance(a, b) == pytest.approx(9 + 1, rel=1e-12)

    def test_commuting_covariances(self):
        a, b = gaussian([0, 0], np.diag([1, 16])), gaussian([3, 4], np.diag([25, 4]))
        assert frechet_distance(a, b) == pytest.approx(25 + (1 - 5) ** 2 + (4 - 2) ** 2, rel=1e-12)

    def test_rotated_covariances(self):
        """The root of a matrix that does not commute: against scipy's."""
        rng = np.random.default_rng(0)
        mixing = rng.standard_normal((2, 6, 6))
        first, second = (m @ m.T + np.eye(6) for m in mixing)
        root = scipy.linalg.sqrtm(first @ second).real
        expected = 6 + np.trace(first + second - 2 * root)
        found = frechet_distance(gaussian(np.zeros(6), first), gaussian(np.ones(6), second))
        assert found == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("count", [10, 200])
    def test_of_a_set_and_itself(self, count):
        """10 samples span 9 of 40 dimensions: nothing comes from the other 31."""
        moments = compute_moments(draw(count, width=40))
        assert frechet_distance(moments, moments) <= 1e-9 * np.trace(moments.covariance)

    @pytest.mark.parametrize("count", [10, 200])
    def test_is_symmetric(self, count):
        a, b = compute_moments(draw(count, 30)), compute_moments(draw(300, 30, seed=1, offset=1))
        assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-7)

    def test_fewer_samples_than_dimensions(self):
        """The trace of the root is the nuclear norm of the product of the centred samples."""
        x, y = draw(12, 30).astype(float), draw(9, 30, seed=1).astype(float)
        cx, cy = x - x.mean(0), y - y.mean(0)
        norm = np.linalg.svd(cx @ cy.T, compute_uv=False).sum() / np.sqrt(11 * 8)
        expected = ((x.mean(0) - y.mean(0)) ** 2).sum()
        expected += (cx**2).sum() / 11 + (cy**2).sum() / 8 - 2 * norm
        found = frechet_distance(compute_moments(draw(12, 30)), compute_moments(draw(9, 30, 1)))
        assert found == pytest.approx(expected, rel=1e-6)

    def test_without_any_variance(self):
        same = np.ones((5, 3), np.float32)
        assert frechet_distance(compute_moments(same), compute_moments(same * 3)) == 12

    def test_is_invariant_under_rotation(self):
        rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
        x, y = draw(100, 8), draw(90, 8, seed=1, offset=0.3)
        plain = frechet_distance(compute_moments(x), compute_moments(y))
        turned = [compute_moments((f @ rotation).astype(np.float32)) for f in (x, y)]
        assert frechet_distance(*turned) == pytest.approx(plain, rel=1e-4)

    def test_bad_moments(self):
        with pytest.raises(ValueError, match="one width"):
            frechet_distance(gaussian([0], [[1]]), gaussian([0, 0], np.eye(2)))
        with pytest.raises(ValueError, match="at least 2 samples"):
            frechet_distance(compute_moments(draw(1)), compute_moments(draw(5)))
        with pytest.raises(ValueError, match="finite"):
            frechet_distance(gaussian([0], [[np.nan]]), gaussian([0], [[1]]))

    def test_torch_fidelity_agrees(self):
        fidelity = pytest.importorskip("torch_fidelity.metric_fid")
        x, y = draw(300, 16), draw(400, 16, seed=1, offset=0.2)
        statistics = [fidelity.fid_features_to_statistics(torch.from_numpy(f)) for f in (x, y)]
        expected = fidelity.fid_statistics_to_metric(*statistics, verbose=False)
        found = frechet_distance(compute_moments(x), compute_moments(y))
        assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)


def naive_mmd(x, y):
    """Sum over all pairs, one by one."""
    m, width = x.shape

    def k(a, b):
        return (float(a @ b) / width + 1) ** 3

    same = sum(k(s[i], s[j]) for s in (x, y) for i in range(m) for j in range(m) if i != j)
    other = sum(k(a, b) for a in x for b in y)
    return same / (m * (m - 1)) - 2 * other / m**2


class TestKernel:
    def test_pairs_one_by_one(self):
        x, y = draw(7).astype(float), draw(7, seed=1, offset=0.5).astype(float)
        assert squared_mmd(x, y) == pytest.approx(naive_mmd(x, y), rel=1e-12)

    def test_by_hand(self):
        """D = 1: k(a, b) = (ab + 1)^3. x = {0, 1}, y = {0, 2}."""
        x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])
        # within x: k(0,1) = 1; within y: k(0,2) = 1; between: 1, 1, 1, 27
        assert squared_mmd(x, y) == pytest.approx(1 + 1 - 2 * (1 + 1 + 1 + 27) / 4)

    def test_mean_of_equal_distributions_is_zero(self):
        """Unbiased: over many draws, the mean is within its own error of zero."""
        values = [
            squared_mmd(draw(20, seed=n).astype(float), draw(20, seed=n + 500).astype(float))
            for n in range(400)
        ]
        assert min(values) < 0 < max(values)
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))

    def test_images_of_one_identity_are_not_compared(self):
        """Two sets of one population are at distance 0 by images of different identities only."""
        names = np.repeat(np.arange(20), 4)
        plain, apart = [], []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            x, y = (
                np.repeat(rng.normal(size=(20, 3)), 4, axis=0) + 0.3 * rng.normal(size=(80, 3))
                for _ in range(2)
            )
            plain.append(squared_mmd(x, y))
            apart.append(squared_mmd(x, y, (names, names)))
        error = np.std(apart) / np.sqrt(len(apart))
        assert abs(np.mean(apart)) < 3 * error
        assert np.mean(plain) > 5 * error
        with pytest.raises(ValueError, match="two identities"):
            squared_mmd(x, y, (names, np.zeros(80)))

    def test_order_does_not_matter_where_all_are_taken(self):
        x, y = draw(50), draw(50, seed=1, offset=0.3)
        shuffled = x[np.random.default_rng(0).permutation(50)]
        plain, other = kernel_distance(x, y, seed=0), kernel_distance(shuffled, y, seed=3)
        assert len(plain) == 1
        assert other.mean() == pytest.approx(plain.mean(), rel=1e-9)

    def test_subsets_scatter_around_the_whole(self):
        x, y = draw(400), draw(300, seed=1, offset=0.4)
        whole = naive_mmd(x[:300].astype(float)[:60], y[:60].astype(float))
        found = kernel_distance(x, y, seed=0, subsets=50, subset_size=60)
        assert found.shape == (50,)
        assert found.std() > 0
        assert abs(found.mean() - whole) < 4 * found.std()
        again = kernel_distance(x, y, seed=0, subsets=50, subset_size=60)
        assert np.array_equal(found, again)

    def test_torchmetrics_agrees(self):
        kid = pytest.importorskip("torchmetrics.image.kid")
        x, y = draw(40, 16), draw(40, 16, seed=1, offset=0.2)
        expected = kid.poly_mmd(torch.from_numpy(x).double(), torch.from_numpy(y).double())
        assert kernel_distance(x, y, seed=0).mean() == pytest.approx(float(expected), rel=1e-9)

    def test_bad_features(self):
        with pytest.raises(ValueError, match="real images: at least 2 samples are needed, got 1"):
            kernel_distance(draw(1), draw(5), seed=0)
        with pytest.raises(ValueError, match="one extractor"):
            kernel_distance(draw(5), draw(5, width=3), seed=0)
