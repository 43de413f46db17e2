from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from metrics.nearest import References
from metrics.privacy import (
    Group,
    copy_test,
    find_copies,
    membership_auc,
    nearer_training,
    score_privacy,
)

WIDTH = 12


def make_group(count, images, *, seed, prefix, noise=0.6):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 1, WIDTH))
    vectors = vectors + noise * rng.standard_normal((count, images, WIDTH))
    names = [f"{prefix}{i // images}" for i in range(count * images)]
    return Group(vectors=vectors.reshape(-1, WIDTH).astype(np.float32), identities=names)


TRAINING = make_group(40, 3, seed=0, prefix="t")
HELDOUT = make_group(40, 3, seed=1, prefix="h")
STRANGERS = make_group(60, 2, seed=2, prefix="s")
LEVELS = {1e-3: 0.8, 1e-2: 0.7}


def copies(noise=0.05):
    rng = np.random.default_rng(9)
    vectors = TRAINING.vectors[::2] + noise * rng.standard_normal((60, WIDTH)).astype(np.float32)
    return Group(vectors=vectors, identities=[f"s{i}" for i in range(60)])


def test_strangers_are_no_leak():
    covered = []
    for seed in range(100, 145, 3):
        training, heldout, strangers = (
            make_group(30, 3, seed=seed + k, prefix=prefix) for k, prefix in enumerate("ths")
        )
        score = score_privacy(strangers, training, heldout, {})
        assert abs(score.copy_test.c_t) < 5
        for estimate, truth in (
            (score.statistics["mean"].excess, 0),
            (score.copy_test.chance, 0.5),
            (score.nearer_training, 0.5),
            (score.membership_auc, 0.5),
        ):
            covered.append(estimate.low <= truth <= estimate.high)
    assert len(covered) == 60
    assert sum(covered) >= 51


def test_blurred_samples_are_no_leak_where_galleries_are_compared():
    """Samples drawn to the middle are nearer to everybody, members or not."""
    false = {"excess": 0, "nearer": 0}
    for seed in range(200, 220):
        training, heldout, strangers = (
            make_group(30, k, seed=10 * seed + k, prefix=str(k)) for k in (1, 3, 2)
        )
        vectors = strangers.vectors + 1.5 * np.sign(np.arange(WIDTH) % 2 - 0.5).astype(np.float32)
        real = [replace(g, vectors=g.vectors + vectors.mean(axis=0)) for g in (training, heldout)]
        score = score_privacy(
            replace(strangers, vectors=0.2 * vectors + vectors.mean(0)), *real, {}
        )
        false["excess"] += score.statistics["mean"].excess.low > 0
        false["nearer"] += score.nearer_training.low > 0.5
    assert false["excess"] > 15
    assert false["nearer"] <= 3


def nearest_share(samples, training, heldout):
    units = [g.vectors / np.linalg.norm(g.vectors, axis=1)[:, None] for g in (training, heldout)]
    known, others = ((samples.vectors @ unit.T).max(axis=1) for unit in units)
    return float(np.mean(known > others))


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_share_nearer_to_training_of_equal_galleries(noise):
    samples = copies(noise)
    expected = nearest_share(samples, TRAINING, HELDOUT)
    assert nearer_training(samples, TRAINING, HELDOUT).value == pytest.approx(expected)


def test_share_nearer_to_training_takes_as_many_images_of_each_side():
    twice = Group(
        vectors=np.concatenate([TRAINING.vectors, *[HELDOUT.vectors] * 3]),
        identities=[*TRAINING.identities, *(f"{k}{n}" for k in "xyz" for n in HELDOUT.identities)],
    )
    many = make_group(300, 4, seed=5, prefix="m")
    for other in (twice, many):
        score = nearer_training(STRANGERS, TRAINING, other)
        assert score.clusters <= 40
        assert abs(score.value - 0.5) < 0.25


def test_copies_are_a_leak():
    score = score_privacy(copies(), TRAINING, HELDOUT, LEVELS)
    assert score.statistics["mean"].excess.low > 0.1
    assert score.copy_test.c_t < -8
    assert score.copy_test.chance.low > 0.95
    assert score.membership_auc.low > 0.75
    assert score.nearer_training.low > 0.75
    assert score.authentic.samples.value < 0.1
    assert score.authentic.heldout.value > 0.3
    assert score.authentic.excess.high < 0
    assert score.authentic_identity.samples.value == 0
    strict, loose = sorted(score.above, key=lambda entry: -entry.threshold)
    assert (strict.fmr, loose.fmr) == (1e-3, 1e-2)
    assert strict.samples.value == 1
    assert strict.excess.value == strict.samples.value - strict.heldout.value
    assert (strict.samples.n, strict.heldout.n) == (60, 120)
    assert score.maximum[0] > 0.99 > score.maximum[1]


def test_without_heldout_people_nothing_is_called_a_leak():
    score = score_privacy(copies(), TRAINING, None, LEVELS)
    assert score.copy_test is None
    assert score.copies.threshold == 0.9995
    assert score.nearer_training is None
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
    assert a.copy_test.c_t == pytest.approx(b.copy_test.c_t)
    assert a.membership_auc.value == pytest.approx(b.membership_auc.value)


def test_copy_test_agrees_with_scipy_where_images_are_independent():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.5, 1, 300).round(1), rng.normal(0, 1, 400).round(1)
    found = copy_test((a, [f"a{i}" for i in range(300)]), (b, [f"b{i}" for i in range(400)]))
    expected = stats.mannwhitneyu(a, b, alternative="greater", use_continuity=False)
    assert found.chance.value == pytest.approx(expected.statistic / (300 * 400))
    assert found.c_t == pytest.approx(stats.norm.ppf(expected.pvalue), rel=0.2)


def test_copy_test_raises_no_alarm_where_identities_decide_and_nobody_is_copied():
    names = {side: [f"{side}{i // 10}" for i in range(200)] for side in "ab"}
    alarms, naive = 0, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        a, b = (np.repeat(rng.normal(size=20), 10) + 0.5 * rng.normal(size=200) for _ in names)
        alarms += copy_test((a, names["a"]), (b, names["b"]), seed=seed).c_t < -3
        naive += stats.mannwhitneyu(a, b, alternative="greater").pvalue < stats.norm.cdf(-3)
    assert alarms <= 2
    assert naive >= 8, "images counted as independent"


def faces(rng, people, images, spread=0.6, width=24):
    """Embeddings of identities: [people * images, width] unit vectors, and their names."""
    centres = np.repeat(rng.normal(size=(people, width)), images, axis=0)
    vectors = centres + spread * rng.normal(size=centres.shape)
    names = [f"p{i // images}" for i in range(len(vectors))]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), names


@pytest.mark.parametrize("samples_per_identity", [4, 12])
def test_sets_without_copies_raise_few_alarms_and_one_copy_is_named(samples_per_identity):
    alarms, found = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        training, _ = faces(rng, 100, 4)
        groups = [faces(rng, 40, 4), faces(rng, 20, samples_per_identity)]
        known = References(training)
        sides = [(known.nearest(vectors).scores.astype(float), names) for vectors, names in groups]
        alarms += bool(find_copies(sides[1], sides[0]).rows)
        planted, row = sides[1][0].copy(), int(rng.integers(len(sides[1][0])))
        planted[row] = 0.999  # a training photograph, compressed
        copies = find_copies((planted, sides[1][1]), sides[0])
        found += copies.rows[:1] == (row,)
        assert copies.threshold != 0.9995, "held-out identities set it"
    assert alarms <= 8  # 5 % wanted; 8 of 60 or fewer has 99 % at that rate
    assert found >= 58


def test_equal_pixels_are_a_copy_where_strangers_come_near_too():
    rng = np.random.default_rng(0)
    near = 1 - 10.0 ** rng.uniform(-7, -2, 40)
    names = [f"h{i}" for i in range(40)]
    copies = find_copies((np.array([0.9, 1 - 1e-7]), ["a", "b"]), (near, names))
    assert copies.rows == (1,)


def test_without_strangers_only_what_is_almost_equal_is_a_copy():
    copies = find_copies((np.array([0.9, 0.9999, 0.99]), ["a", "b", "c"]))
    assert copies.rows == (1,)
    assert copies.threshold == 0.9995


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
    assert score.authentic.samples.value == pytest.approx(2 / 5)
    # Another person is 90 degrees from 0 and 60 from 30: only -95 is further.
    assert score.authentic_identity.samples.value == pytest.approx(1 / 5)


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
