"""Nearest neighbours against plain loops."""

import numpy as np
import pytest

from metrics.nearest import References


def plain_nearest(queries, references, own=None, theirs=None, is_absolute=False):
    """One pair after the other, in float64."""
    scores, indices = [], []
    for i, q in enumerate(queries.astype(np.float64)):
        best, where = -np.inf, -1
        for j, r in enumerate(references.astype(np.float64)):
            cosine = q @ r / np.linalg.norm(q) / np.linalg.norm(r)
            cosine = abs(cosine) if is_absolute else cosine
            if (own is None or own[i] != theirs[j]) and cosine > best:
                best, where = cosine, j
        scores.append(best)
        indices.append(where)
    return np.array(scores), np.array(indices)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    queries, references = rng.standard_normal((13, 8)), rng.standard_normal((37, 8))
    return queries, references, rng.integers(0, 5, 13), rng.integers(0, 5, 37)


@pytest.mark.parametrize("blocks", [(1, 1), (4, 7), (13, 37), (100, 100)])
@pytest.mark.parametrize("is_absolute", [False, True])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_nearest_is_that_of_a_loop(data, blocks, is_absolute, is_grouped):
    queries, references, own, theirs = data
    known = References(references, theirs, block=blocks[1])
    groups = own if is_grouped else None
    found = known.nearest(queries, groups=groups, is_absolute=is_absolute, block=blocks[0])
    expected = plain_nearest(
        queries, references, groups, theirs if is_grouped else None, is_absolute
    )
    np.testing.assert_allclose(found.scores, expected[0], atol=1e-6)
    np.testing.assert_array_equal(found.indices, expected[1])
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("block", [1, 2, 3, 8])
def test_of_equal_scores_the_lowest_index_is_taken(block):
    row = np.array([0.6, 0.8])
    references = np.stack([-row, row, row, row, -row, row])
    found = References(references, block=block).nearest(row[None])
    assert found.indices.tolist() == [1]


def test_lengths_do_not_matter(data):
    queries, references, *_ = data
    scaled = references * np.linspace(0.01, 100, len(references))[:, None]
    one, other = References(references).nearest(queries), References(scaled).nearest(queries * 7)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_added_references_count_like_given_ones(data):
    queries, references, own, theirs = data
    grown = References(references[:2], theirs[:2], block=5)
    for start in range(2, 37, 5):
        grown.add(references[start : start + 5], theirs[start : start + 5])
    whole = References(references, theirs, block=5)
    assert len(grown) == 37
    assert [grown.group(row) for row in range(37)] == theirs.tolist()
    one, other = (known.nearest(queries, groups=own) for known in (grown, whole))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_nobody_left_is_no_reference():
    found = References(np.eye(2), np.array([3, 3])).nearest(np.eye(2), groups=np.array([3, 4]))
    assert found.scores.tolist() == [-np.inf, 1.0]
    assert found.indices.tolist() == [-1, 1]
    assert len(References(np.eye(2)).nearest(np.empty((0, 2))).scores) == 0
    nobody = References(np.empty((0, 2)))
    assert nobody.nearest(np.eye(2)).indices.tolist() == [-1, -1]
    nobody.add(np.eye(2))
    assert nobody.nearest(np.eye(2)).indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, 3)), "other than zero, row 0 is not"),
        (np.array([[1.0, 0.0], [np.nan, 1.0]]), "row 1 is not"),
        (np.array([[1.0, np.inf]]), "row 0 is not"),
        (np.ones(3), r"must be \[N, E\], got \[3\]"),
    ],
)
def test_bad_vectors_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        References(vectors)
    if vectors.ndim == 2:
        with pytest.raises(ValueError, match=message):
            References(np.eye(vectors.shape[1])).nearest(vectors)


def test_other_shapes_are_refused():
    known = References(np.eye(3))
    with pytest.raises(ValueError, match=r"queries must be \[Q, 3\].*got \[1, 2\]"):
        known.nearest(np.ones((1, 2)))
    with pytest.raises(ValueError, match="need groups of the references"):
        known.nearest(np.eye(3), groups=np.arange(3))
    with pytest.raises(ValueError, match=r"one number a vector \(3\), got \[2\]"):
        References(np.eye(3), np.arange(2))


@pytest.mark.cuda
def test_a_gpu_finds_the_same(data):
    queries, references, own, theirs = data
    found, expected = (
        References(references, theirs, device=device, block=7).nearest(queries, groups=own)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
