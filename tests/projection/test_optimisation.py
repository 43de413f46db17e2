"""Latents that show given images: loss, schedule, and what a result depends on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from networks.sampling import IndexedSampler
from projection.optimisation import (
    LatentStatistics,
    Projector,
    image_loss,
    learning_rate,
    projection_batch,
)
from projection.options import LatentSpace, ProjectionConfig
from tests.helpers.interpreters import small_generator

BATCH = 4


@pytest.fixture(scope="module")
def sampler():
    return IndexedSampler(small_generator(), None, name="net")


@pytest.fixture(scope="module")
def projector(sampler):
    def build(**options):
        statistics = LatentStatistics(torch.zeros(12), 1.0)
        config = ProjectionConfig(**{"steps": 20, "lr": 0.3, **options})
        return Projector(sampler.generator, statistics, config, BATCH)

    return build


@pytest.fixture(scope="module")
def true():
    return torch.randn([3, 1, 12], generator=torch.Generator().manual_seed(0)).expand(-1, 6, -1)


@pytest.fixture(scope="module")
def wanted(sampler, true):
    (images,) = sampler.batches(true)
    return {name: rows.clone() for name, rows in images.items()}


def test_the_rate_goes_up_and_ends_near_zero():
    config = ProjectionConfig(steps=100, lr=2.0)
    rates = np.array([learning_rate(config, step) for step in range(100)])
    assert rates.max() == pytest.approx(2.0)
    assert 0 < rates[0] < rates[3] < 2
    assert 0 < rates[-1] < 0.02
    assert learning_rate(ProjectionConfig(steps=1), 0) > 0


def test_the_loss_is_that_of_pixels_and_edges():
    rng = np.random.default_rng(0)
    found, wanted = (
        {
            m: rng.standard_normal((2, c, 4, 4)).astype(np.float32)
            for m, c in (("rgb", 3), ("nir", 1))
        }
        for _ in range(2)
    )
    expected = np.zeros(2)
    for name in found:
        d = found[name] - wanted[name]
        expected += (d**2).mean((1, 2, 3))
        expected += 0.5 * ((d[:, :, 1:] - d[:, :, :-1]) ** 2).mean((1, 2, 3))
        expected += 0.5 * ((d[..., 1:] - d[..., :-1]) ** 2).mean((1, 2, 3))
    tensors = [{m: torch.from_numpy(x) for m, x in images.items()} for images in (found, wanted)]
    np.testing.assert_allclose(image_loss(*tensors, edge=0.5), expected, rtol=1e-5)
    only = {"nir": tensors[1]["nir"]}
    assert (image_loss(tensors[0], only, edge=0.5) < torch.from_numpy(expected)).all()


@pytest.mark.parametrize("space", LatentSpace)
def test_images_of_the_generator_are_found(sampler, projector, wanted, space):
    one = projector(space=space)
    ws = one.project(wanted, ["a", "b", "c"])
    assert ws.shape == (3, sampler.generator.num_ws, 12)
    assert ws.dtype == torch.float32
    assert bool((ws[:, :1] == ws).all()) == (space is LatentSpace.W)
    errors = []
    for tried in (torch.zeros_like(ws), ws):
        (shown,) = sampler.batches(tried)
        errors.append(image_loss(shown, wanted, one.config.edge))
    assert (errors[1] < 0.5 * errors[0]).all()


def test_an_image_does_not_depend_on_those_beside_it(projector, wanted):
    one = projector()
    together = one.project(wanted, ["a", "b", "c"])
    for row, name in ((0, "a"), (2, "c")):
        alone = one.project({m: rows[row : row + 1] for m, rows in wanted.items()}, [name])
        assert torch.equal(alone[0], together[row])
    alone = one.project({name: rows[:1] for name, rows in wanted.items()}, ["a"])
    other = one.project({name: rows[:1] for name, rows in wanted.items()}, ["other"])
    assert not torch.equal(other, alone)  # it draws other numbers


def test_a_good_start_is_kept(projector, wanted, true):
    far = projector(steps=1, prior=0).project(wanted, ["a", "b", "c"])
    for steps, space in ((0, LatentSpace.W), (1, LatentSpace.W_PLUS)):
        one = projector(steps=steps, prior=0, space=space)
        one.encoder = lambda x: true[[0, 1, 2, 2]] + 0 * x.mean()
        found = one.project(wanted, ["a", "b", "c"])
        assert (found - true).abs().max() < (far - true).abs().max() / 4 * steps + 1e-6


def test_features_are_compared_in_all_modalities(projector, wanted):
    seen = []

    def features(x):
        seen.append(x.shape)
        return x.mean(dim=(2, 3))

    one = projector(steps=1)
    plain = one.project(wanted, ["a", "b", "c"])
    one._features = features
    assert not torch.equal(one.project(wanted, ["a", "b", "c"]), plain)
    assert seen == [(4, 3, 16, 16)] * 4  # of each modality, wanted and found


def test_the_history_ends_with_the_result(projector, wanted):
    history = []
    ws = projector(steps=3).project(wanted, ["a", "b", "c"], history=history)
    assert len(history) == 3
    assert torch.equal(history[-1], ws)


@pytest.mark.parametrize(
    ("device", "resolution", "expected"),
    [("cuda", 32, 64), ("cuda", 256, 16), ("cuda", 512, 4), ("cuda", 1024, 1), ("cuda", 2048, 1),
     ("cpu", 32, 16), ("cpu", 128, 16), ("cpu", 1024, 4)],
)  # fmt: skip
def test_batches_leave_room_for_gradients(device, resolution, expected):
    sampler = SimpleNamespace(device=torch.device(device), resolution=resolution)
    assert projection_batch(sampler) == expected


def test_statistics_are_those_of_the_samples(sampler):
    found = LatentStatistics.of(sampler, 50)
    w = sampler.ws(range(50))[:, 0].numpy()
    np.testing.assert_allclose(found.mean, w.mean(axis=0), rtol=1e-5)
    assert found.deviation == pytest.approx(np.sqrt(w.var(axis=0).mean()), rel=1e-5)
    ws = torch.randn([2, 6, 12])
    torch.testing.assert_close(found.ws(found.coordinates(ws)), ws)
