"""Feature vectors of new people."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from identities.candidates import CandidateSampler
from identities.decisions import Candidate
from identities.identity_sources import (
    FileSource,
    MixupSource,
    RandomSource,
    RepelledSource,
)
from tests.helpers.people import clustered_features


def rows_of(source, count=2000, seed=0):
    return np.stack([source.vector(seed, k, 0)[0] for k in range(count)])


def test_random_directions_have_no_preference():
    rows = rows_of(RandomSource(8))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.mean(0), 0, atol=0.04)  # 5 sigma
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(8) / 8, atol=0.02)


@pytest.mark.parametrize("kind", [None, MixupSource, RepelledSource])
def test_a_vector_is_a_function_of_seed_person_and_try(kind):
    def source():
        return RandomSource(32) if kind is None else kind(clustered_features(9, 3))

    one = source().vector(3, 5, 1)[0]
    np.testing.assert_array_equal(source().vector(3, 5, 1)[0], one)
    for other in ((4, 5, 1), (3, 6, 1), (3, 5, 2), (3, 1, 5)):
        assert not np.array_equal(source().vector(*other)[0], one)


def test_mixtures_lie_between_two_people():
    features = clustered_features(9, 3)
    source = MixupSource(features)
    by_stem = dict(zip(features.stems, features.vectors, strict=True))
    shares = set()
    for person in range(300):
        vector, origin = source.vector(0, person, 0)
        one, other = (by_stem[stem] for stem in origin["mixed"])
        assert origin["mixed"][0].split("_")[0] != origin["mixed"][1].split("_")[0]
        mixed = origin["phi"] * one + (1 - origin["phi"]) * other
        np.testing.assert_allclose(vector, mixed / np.linalg.norm(mixed), atol=1e-6)
        shares.add(round(origin["phi"] * 20, 6))
    assert shares == set(range(1, 20))


@pytest.mark.parametrize("kind", [MixupSource, RepelledSource])
def test_one_person_is_not_enough(kind):
    with pytest.raises(ValueError, match="needs features of at least two identities"):
        kind(clustered_features(1, 5))


def repelled(draws, count=60):
    """Vectors in eight dimensions, of which the identities' means fill five, off the origin."""
    features = clustered_features(40, 3, width=5, seed=2)
    off = np.full((len(features.stems), 3), 0.5, np.float32)
    features = dataclasses.replace(features, vectors=np.hstack([features.vectors, off]))
    source = RepelledSource(features, draws)
    found = [source.vector(0, k, 0) for k in range(count)]
    rows = np.stack([vector for vector, _ in found])
    known = features.vectors / np.linalg.norm(features.vectors, axis=1, keepdims=True)
    nearest = [
        max((known @ row).max(), (rows[:k] @ row).max(initial=-1)) for k, row in enumerate(rows)
    ]
    np.testing.assert_allclose([o["nearest_vector"] for _, o in found], nearest, atol=2e-6)
    return rows, known, np.array(nearest)


def test_repelled_vectors_are_distributed_as_identities_and_far_from_all():
    rows, known, near = repelled(draws=1, count=600)
    means = known.reshape(40, 3, 8).mean(1)
    np.testing.assert_allclose(np.ptp(rows[:, 5:], axis=1), 0, atol=1e-5)  # where none differ
    scale = means[:, 5:].mean() / rows[:, 5:].mean()
    np.testing.assert_allclose(rows.mean(0) * scale, means.mean(0), atol=0.06)
    far = repelled(draws=16)[2]
    assert (1 - far).mean() > 1.5 * (1 - near[:60]).mean()


def test_repelled_vectors_do_not_depend_on_what_was_asked_before():
    features = clustered_features(9, 3)
    one, other = RepelledSource(features), RepelledSource(features)
    one.vector(0, 30, 0)
    for place in ((0, 7, 3), (0, 2, 1), (0, 31, 0)):
        np.testing.assert_array_equal(one.vector(*place)[0], other.vector(*place)[0])


def test_only_the_first_vectors_of_identities_repel():
    features = clustered_features(9, 3)
    one, other = RepelledSource(features), RepelledSource(features)
    for attempt in range(3):
        one.vector(0, 4, attempt)
    vector, origin = one.vector(0, 5, 0)
    np.testing.assert_array_equal(vector, other.vector(0, 5, 0)[0])
    known = [features.vectors, [other.vector(0, k, 0)[0] for k in range(5)]]
    nearest = (np.concatenate(known) @ vector).max()
    assert origin["nearest_vector"] == pytest.approx(nearest, abs=2e-6)


def test_vectors_of_files(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 4)) * 7
    np.save(tmp_path / "v.npy", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows.tolist()))
    names = dict(zip("abc", rows.tolist(), strict=True))
    (tmp_path / "object.json").write_text(json.dumps(names))
    for name, label in (("v.npy", "1"), ("list.json", "1"), ("object.json", "b")):
        source = FileSource(tmp_path / name, 4)
        assert (len(source), source.tries) == (3, 1)
        vector, origin = source.vector(0, 1, 0)
        np.testing.assert_allclose(vector, rows[1] / np.linalg.norm(rows[1]), atol=1e-6)
        assert origin == {"name": label}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.npy", np.ones((2, 3)), r"shape must be \[N, 4\], got \[2, 3\]"),
        ("v.npy", np.zeros((2, 4)), "other than zero, row 0 is not"),
        ("v.npy", np.array(1.0), "not a .npy file of numbers"),
        ("v.json", '{"a": [1, 2, 3, 4], "b": [1, 2]}', "'b': 2 numbers, but the first has 4"),
        ("v.json", "3", "expected lists of numbers, or an object"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        FileSource(path, 4)
    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--identity-source .*gone\.npy: no such file"):
        FileSource(tmp_path / "gone.npy", 4)


# Latents of candidates


class Recorder:
    """Keeps what a generator was asked to draw."""

    z_dim, c_dim, resolution, modalities = 3, 8, 16, ("rgb",)
    generator = SimpleNamespace(num_ws=4)

    def map(self, z, c):
        self.c = c
        return z[:, None].repeat(1, 4, 1)

    def pixels(self, ws):
        self.ws = ws


CANDIDATES = [Candidate(0, 0, 0), Candidate(0, 1, 0), Candidate(4, 1, 0), Candidate(4, 1, 2)]


def asked(candidates=CANDIDATES, **options):
    recorder = Recorder()
    values = {"seed": 0, "scale": 4.0, **options}
    CandidateSampler(recorder, RandomSource(8), **values).sample(candidates)
    return recorder.ws[:, 1], recorder.c, recorder.ws[:, 0]


def test_candidates_do_not_depend_on_their_neighbours():
    z, c, _ = asked()
    for index, candidate in enumerate(CANDIDATES):
        one = asked([candidate])
        torch.testing.assert_close(one[0][0], z[index], rtol=0, atol=0)
        torch.testing.assert_close(one[1][0], c[index], rtol=0, atol=0)
    assert len({tuple(row.tolist()) for row in z}) == 3  # another vector leaves the latent
    assert len({tuple(row.tolist()) for row in c}) == 3
    torch.testing.assert_close(c.norm(dim=1), torch.full([4], 4.0))


def test_other_seeds_and_scales_change_them():
    z, c, _ = asked()
    other = asked(seed=1)
    assert not (other[0] == z).any()
    assert not (other[1] == c).any()
    torch.testing.assert_close(asked(scale=2.0)[1] * 2, c)


def test_shared_variation_gives_attempts_one_latent():
    z, _, _ = asked(shared_layers=range(4))
    assert torch.equal(z[1], z[2])
    assert not torch.equal(z[0], z[1])
    own, _, mixed = asked(shared_layers=(0,))
    assert torch.equal(mixed, z)
    assert torch.equal(own, asked()[0])


def test_in_the_null_control_no_two_candidates_have_one_condition():
    many = [
        Candidate(i, attempt, vector) for i in (0, 4) for attempt in range(5) for vector in (0, 2)
    ]
    conditions = asked(many, is_null=True)[1]
    assert len({tuple(row.tolist()) for row in conditions}) == 2 * 5
    z, _, _ = asked(many, is_null=True)
    assert torch.equal(z, asked(many)[0])


def test_the_origin_of_a_candidate_is_recorded():
    sampler = CandidateSampler(Recorder(), MixupSource(clustered_features(3, 2)), seed=5, scale=1.0)
    origin = sampler.origin(Candidate(4, 7, 2))
    assert {key: origin[key] for key in ("seed", "vector", "attempt")} == {
        "seed": 5,
        "vector": 2,
        "attempt": 7,
    }
    assert len(origin["mixed"]) == 2
