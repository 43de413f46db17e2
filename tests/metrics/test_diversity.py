"""Vendi and Inception score: their extremes, and other implementations."""

import numpy as np
import pytest
import torch

from metrics.diversity import inception_score, vendi_score


def draw(count, width, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


class TestVendi:
    def test_identical_samples_are_one(self):
        same = np.repeat(draw(1, 5), 20, axis=0)
        assert vendi_score(same) == pytest.approx(1)

    @pytest.mark.parametrize("copies", [1, 3, 9])
    def test_orthogonal_samples_are_counted(self, copies):
        rows = np.repeat(np.eye(6, dtype=np.float32) * 2, copies, axis=0)
        assert vendi_score(rows) == pytest.approx(6)

    @pytest.mark.parametrize(("count", "width"), [(12, 30), (30, 12)])
    def test_both_matrices_have_the_same_eigenvalues(self, count, width):
        rows = draw(count, width)
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(float)
        values = np.linalg.eigvalsh(unit @ unit.T / count).clip(1e-15)
        expected = np.exp(-(values * np.log(values)).sum())
        assert vendi_score(rows) == pytest.approx(expected, rel=1e-5)

    def test_length_and_order_do_not_matter(self):
        rows = draw(15, 4)
        scaled = (rows * np.linspace(0.1, 9, 15)[:, None])[::-1].astype(np.float32)
        assert vendi_score(scaled) == pytest.approx(vendi_score(rows), rel=1e-6)

    def test_bad_rows(self):
        with pytest.raises(ValueError, match="1 samples are zero"):
            vendi_score(np.array([[0, 0], [1, 0]], np.float32))
        with pytest.raises(ValueError, match="at least 1 samples"):
            vendi_score(draw(0, 3))
        with pytest.raises(ValueError, match="finite"):
            vendi_score(np.full((2, 2), np.nan, np.float32))


class TestInception:
    @pytest.mark.parametrize("classes", [2, 7])
    def test_sure_and_balanced_is_the_number_of_classes(self, classes):
        rows = np.tile(np.eye(classes, dtype=np.float32), (20, 1))
        mean, deviation = inception_score(rows, splits=10)
        assert mean == pytest.approx(classes)
        assert deviation == pytest.approx(0, abs=1e-9)

    def test_equal_rows_are_one(self):
        rows = np.tile(np.float32([[0.2, 0.3, 0.5]]), (30, 1))
        assert inception_score(rows)[0] == pytest.approx(1)

    def test_torch_fidelity_agrees(self):
        isc = pytest.importorskip("torch_fidelity.metric_isc")
        logits = torch.from_numpy(draw(200, 9) * 2)
        expected = isc.isc_features_to_metric(logits, splits=10, shuffle=False)
        mean, deviation = inception_score(logits.softmax(dim=1).numpy())
        assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-6)
        assert deviation == pytest.approx(expected["inception_score_std"], rel=1e-4)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (np.full((20, 3), 0.5, np.float32), r"rows sum to 1.5..1.5"),
            (np.tile(np.float32([[1.5, -0.5]]), (20, 1)), "needs class probabilities"),
            (np.full((9, 2), 0.5, np.float32), "at least 10 samples are needed, got 9"),
            (np.full((20, 2), np.nan, np.float32), "finite"),
        ],
    )
    def test_bad_rows(self, rows, message):
        with pytest.raises(ValueError, match=message):
            inception_score(rows)
