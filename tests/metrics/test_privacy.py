import numpy as np
import pytest
from scipy import stats

from metrics.nearest import References
from metrics.privacy import Group, copy_test, membership_auc, score_privacy

WIDTH = 12


def people(count, images, *, seed, prefix, noise=0.6):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 1, WIDTH))
    vectors = vectors + noise * rng.standard_normal((count, images, WIDTH))
    names = [f"{prefix}{i // images}" for i in range(count * images)]
    return Group(vectors=vectors.reshape(-1, WIDTH).astype(np.float32), identities=names)


TRAINING = people(40, 3, seed=0, prefix="t")
HELDOUT = people(40, 3, seed=1, prefix="h")
STRANGERS = people(60, 2, seed=2, prefix="s")
LEVELS = {1e-3: 0.8, 1e-2: 0.7}


def copies(noise=0.05):
    rng = np.random.default_rng(9)
    vectors = TRAINING.vectors[::2] + noise * rng.standard_normal((60, WIDTH)).astype(np.float32)
    return Group(vectors=vectors, identities=[f"s{i}" for i in range(60)])


def test_strangers_are_no_leak():
    covered = []
    for seed in range(100, 145, 3):
        training, heldout, strangers = (
            people(30, 3, seed=seed + k, prefix=prefix) for k, prefix in enumerate("ths")
        )
        score = score_privacy(strangers, training, heldout, {})
        assert abs(score.copies.c_t) < 5
        for estimate, truth in (
            (score.statistics["mean"].excess, 0),
            (score.copies.chance, 0.5),
            (score.membership_auc, 0.5),
        ):
            covered.append(estimate.low <= truth <= estimate.high)
    assert len(covered) == 45
    assert sum(covered) >= 38


def test_copies_are_a_leak():
    score = score_privacy(copies(), TRAINING, HELDOUT, LEVELS)
    assert score.statistics["mean"].excess.low > 0.1
    assert score.copies.c_t < -8
    assert score.copies.p_value < 1e-9
    assert score.copies.chance.low > 0.95
    assert score.membership_auc.low > 0.75
    assert score.authentic.value < 0.1
    assert score.authentic_person.value == 0
    strict, loose = sorted(score.above, key=lambda entry: -entry.threshold)
    assert (strict.fmr, loose.fmr) == (1e-3, 1e-2)
    assert strict.samples.value == 1
    assert strict.excess.value == strict.samples.value - strict.heldout.value
    assert (strict.samples.n, strict.heldout.n) == (60, 120)
    assert score.maximum[0] > 0.99 > score.maximum[1]


def test_without_heldout_people_nothing_is_called_a_leak():
    score = score_privacy(copies(), TRAINING, None, LEVELS)
    assert score.copies is None
    assert score.membership_auc is None
    assert score.statistics["mean"].excess is None
    assert score.above[0].heldout is None
    assert len(score.heldout_similarity) == 0


def test_scale_and_order_change_nothing():
    rng = np.random.default_rng(3)
    order = rng.permutation(len(STRANGERS.identities))
    moved = Group(
        vectors=STRANGERS.vectors[order] * rng.uniform(0.2, 5, (len(order), 1)),
        identities=[STRANGERS.identities[i] for i in order],
    )
    a, b = (score_privacy(s, TRAINING, HELDOUT, LEVELS) for s in (STRANGERS, moved))
    assert a.statistics["mean"].samples.value == pytest.approx(b.statistics["mean"].samples.value)
    assert a.copies.c_t == pytest.approx(b.copies.c_t)
    assert a.membership_auc.value == pytest.approx(b.membership_auc.value)


def test_copy_test_agrees_with_scipy():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.1, 1, 50).round(1), rng.normal(0, 1, 70).round(1)
    found = copy_test(a, [f"a{i}" for i in range(50)], b, [f"b{i}" for i in range(70)])
    expected = stats.mannwhitneyu(a, b, alternative="greater", use_continuity=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.chance.value == pytest.approx(expected.statistic / (50 * 70))


def test_membership_auc_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    known = References(copies(0.3).vectors)
    near = [known.nearest(group.vectors).scores for group in (TRAINING, HELDOUT)]
    expected = sklearn.roc_auc_score(np.repeat([1, 0], [120, 120]), np.concatenate(near))
    assert membership_auc(TRAINING, HELDOUT, copies(0.3)).value == pytest.approx(expected)


def test_authenticity_by_hand():
    # Training images at 0 and 30 degrees (one person) and at 90 (another).
    def at(*degrees):
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)

    training = Group(vectors=at(0, 30, 90), identities=["a", "a", "b"])
    samples = Group(vectors=at(2, 14, 50, -80, -95), identities=list("stuvw"))
    score = score_privacy(samples, training, None, {})
    assert score.nearest.indices.tolist() == [0, 0, 1, 0, 0]
    # 0 and 30 have each other 30 degrees away: -80 and -95 are further from 0 than that.
    assert score.authentic.value == pytest.approx(2 / 5)
    # Another person is 90 degrees from 0 and 60 from 30: only -95 is further.
    assert score.authentic_person.value == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((STRANGERS, TRAINING, TRAINING), "40 are both, the first is 't0'"),
        (
            (Group(vectors=np.ones((2, 3)), identities=["a", "b"]), TRAINING, None),
            "Q, 12.*got .2, 3.*different recognisers",
        ),
        (
            (Group(vectors=np.full((2, WIDTH), np.nan), identities=["a", "b"]), TRAINING, None),
            "queries must be finite",
        ),
        (
            (STRANGERS, Group(vectors=np.ones((1, WIDTH)), identities=["a"]), None),
            "at least two training images, got 1",
        ),
    ],
)
def test_groups_that_cannot_be_compared(groups, message):
    with pytest.raises(ValueError, match=message):
        score_privacy(*groups, {})


@pytest.mark.parametrize(("shape", "names"), [((0, 3), []), ((2, 3), ["a"]), ((3,), ["a"] * 3)])
def test_a_group_has_an_embedding_and_a_person_an_image(shape, names):
    with pytest.raises(ValueError, match="N >= 1 and as many identities"):
        Group(vectors=np.ones(shape), identities=names)
