import math
import tracemalloc

import numpy as np
import pytest
from scipy import special

from metrics.identity_sets import (
    attribute_entropies,
    class_centres,
    class_diversity,
    class_statistics,
    greedy_set,
    identity_agreement,
    identity_capacity,
    log_cap_share,
)


def on_circle(*degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_uniqueness_and_consistency_by_hand():
    # Centres at 0, 10, 90 degrees; within 20 degrees is one person.
    vectors = on_circle(-1, 1, 9, 11, 60, 120)
    people = ["a", "a", "b", "b", "c", "c"]
    score = class_statistics(vectors, people, math.cos(math.radians(20)))
    assert score.uniqueness.value == pytest.approx(2 / 3)
    assert score.greedy_capacity == 2
    assert score.consistency.value == pytest.approx(4 / 6)  # c's images are 30 degrees away
    assert (score.uniqueness.n, score.consistency.n) == (3, 6)


def test_people_with_one_image_say_nothing_about_consistency():
    score = class_statistics(on_circle(0, 90, 180), ["a", "b", "c"], 0.5)
    assert score.consistency is None
    score = class_statistics(on_circle(0, 90, 91), ["a", "b", "b"], 0.5)
    assert score.consistency.n == 2


def test_greedy_set_against_loops():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((5000, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = []
    for i, vector in enumerate(vectors):
        if not kept or (vectors[kept] @ vector).max() < 0.95:
            kept.append(i)
    assert greedy_set(vectors, 0.95) == kept
    assert len(kept) > 10


def test_scale_and_rotation_change_nothing():
    rng = np.random.default_rng(1)
    vectors, people = rng.standard_normal((40, 5)), [f"p{i % 8}" for i in range(40)]
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    scaled = vectors @ turn * rng.uniform(0.1, 9, (40, 1))
    a, b = (class_statistics(v, people, 0.3) for v in (vectors, scaled))
    assert a == b
    c, d = (identity_capacity(v, people) for v in (vectors, scaled))
    assert c.log10 == pytest.approx(d.log10, abs=1e-4)


def test_diversity_by_hand():
    # a's images at 0, 1, 2 have balls of radius 1, 1, 1 for k = 1: they reach -1..3.
    features = np.array([[0.0], [1.0], [2.0], [10.0], [10.5]])
    real = np.array([[-2.0], [-0.5], [2.5], [3.5], [10.2], [11.0]])
    found = class_diversity(features, ["a"] * 3 + ["b"] * 2, real, k=1)
    assert found.value == pytest.approx((2 / 6 + 2 / 6) / 2)
    assert (found.n, found.clusters) == (2, 2)
    with pytest.raises(ValueError, match="an identity with more than 3 images"):
        class_diversity(features, ["a"] * 3 + ["b"] * 2, real)


def test_diversity_of_many_identities_is_that_of_the_definition(monkeypatch):
    monkeypatch.setattr("metrics.identity_sets._BLOCK", 3)
    rng = np.random.default_rng(2)
    features, real = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(31, 3))
    names = [f"p{i % 9}" for i in range(40)]
    shares = []
    for name in sorted(set(names)):
        own = features[[n == name for n in names]].astype(float)
        if len(own) > 2:
            gaps = np.sort(np.linalg.norm(own[:, None] - own[None], axis=2), axis=1)
            near = np.linalg.norm(real[:, None] - own[None], axis=2) <= gaps[:, 2]
            shares.append(near.any(axis=1).mean())
    assert class_diversity(features, names, real, k=2).value == pytest.approx(np.mean(shares))


def test_diversity_needs_no_matrix_of_all_images():
    rng = np.random.default_rng(3)
    features, real = rng.random([4000, 2], np.float32), rng.random([3000, 2], np.float32)
    tracemalloc.start()
    try:
        class_diversity(features, [str(i // 4) for i in range(4000)], real)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(features) * len(real)  # a byte a pair; distances would take eight


@pytest.mark.parametrize("dimension", [2, 3, 5, 64])
def test_caps_against_integration(dimension):
    grid = np.linspace(0, np.pi, 200_001)
    density = np.sin(grid) ** (dimension - 2)
    heaped = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    for angle in (0.3, 1.0, np.pi / 2, 2.0, 3.0):
        expected = np.interp(angle, grid, heaped / heaped[-1])
        assert math.exp(log_cap_share(angle, dimension)) == pytest.approx(expected, rel=1e-4)


def test_tiny_caps_do_not_underflow():
    # Where both forms can be computed they agree; beyond, ln grows with ln sin.
    direct = math.log(float(special.betainc(255.5, 0.5, math.sin(0.4) ** 2)) / 2)
    assert log_cap_share(0.4, 512) == pytest.approx(direct, rel=1e-12)
    tiny, smaller = log_cap_share(0.02, 512), log_cap_share(0.01, 512)
    assert tiny - smaller == pytest.approx(511 * math.log(2), rel=1e-3)
    assert log_cap_share(math.pi, 512) == 0


def test_capacity_of_a_uniform_sphere():
    # People everywhere on a sphere in R^3 (so that centres fill it) and images in a cap of 0.2.
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4000, 1, 3))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    sides = rng.standard_normal((4000, 2, 3))
    sides -= (sides * centres).sum(2, keepdims=True) * centres
    sides /= np.linalg.norm(sides, axis=2, keepdims=True)
    sides[:, 1] = -sides[:, 0]
    vectors = (np.cos(0.2) * centres + np.sin(0.2) * sides).reshape(-1, 3)
    people = [str(i // 2) for i in range(8000)]
    found = identity_capacity(vectors, people)
    assert found.identity_deg == pytest.approx(math.degrees(0.2), abs=1e-2)
    # 95 % of the sphere over a cap of (1 - cos 0.2) / 2.
    assert 10**found.log10 == pytest.approx(0.95 / ((1 - math.cos(0.2)) / 2), rel=0.03)


def test_capacity_needs_people_and_images():
    with pytest.raises(ValueError, match="got 3 identities, 3 images"):
        identity_capacity(on_circle(0, 50, 90), ["a", "b", "c"])
    with pytest.raises(ValueError, match="got 1 identities, 2 images"):
        identity_capacity(on_circle(0, 50), ["a", "a"])


def test_agreement_by_hand():
    first, second = on_circle(0, 90, 180), on_circle(10, 100, 80)
    found = identity_agreement(first, second, ["a", "b", "c"], math.cos(math.radians(20)))
    expected = [math.cos(math.radians(d)) for d in (10, 10, 100)]
    assert found.similarity.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert found.above.value == found.rank_one.value == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="embeddings of one shape"):
        identity_agreement(first, second[:2], ["a", "b", "c"], 0.5)


def test_entropies():
    attributes = {
        f"{i}": {"split": "train", "hat": i % 2 == 0, "pose": {"yaw": float(i), "flat": 1.0}}
        for i in range(20)
    }
    found = attribute_entropies(attributes, {f"{i}": f"p{i // 2}" for i in range(20)})
    assert [entry.name for entry in found] == ["hat", "pose.yaw"]
    assert found[0].nats.value == pytest.approx(math.log(2))
    assert found[1].nats.value == pytest.approx(math.log(10))
    assert [entry.share_of_uniform for entry in found] == pytest.approx([1, 1])
    assert (found[0].nats.n, found[0].nats.clusters, found[1].kinds) == (20, 10, 10)


def test_attributes_of_hostile_form_are_left_out():
    deep = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    attributes = {
        "0": {"x": float("nan"), "y": [1], "z": None, "w": 1, **deep},
        "1": {"x": 1.0, "w": 2},
    }
    found = attribute_entropies(attributes, {"0": "p", "1": "q"})
    assert [entry.name for entry in found] == ["w"]
    with pytest.raises(ValueError, match="none of the samples has any"):
        attribute_entropies(attributes, {"7": "p"})


def test_one_person_cannot_be_unique():
    with pytest.raises(ValueError, match="at least two identities, got 1"):
        class_statistics(on_circle(0, 5), ["a", "a"], 0.5)


def test_centres_are_unit_means():
    centres = class_centres(on_circle(0, 90, -30) * [[3], [3], [1]], ["b", "b", "a"])
    assert centres == pytest.approx(on_circle(-30, 45), abs=1e-6)
