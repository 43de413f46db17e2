"""Latents of a phase: a function of seed and place, mixed at one cutoff, conditions of the data."""

import pytest
import torch

from tests.helpers.networks import random_network, small_generator_config
from torch_utils.distributed import World
from torch_utils.seeding import generator_for
from training.latents import draw_latents, mixed_ws

ALONE = World()
LABELS = torch.arange(15.0).reshape(5, 3)


@pytest.fixture(scope="module")
def generator():
    return random_network(small_generator_config(c_dim=3))


def draw(generator, *, seed=0, place=0, batch=6, style_mixing=0.9, world=ALONE):
    return draw_latents(
        generator,
        LABELS,
        batch=batch,
        world=world,
        style_mixing=style_mixing,
        random=generator_for(seed, place),
    )


def test_equal_streams_give_equal_latents(generator):
    first, second, other = draw(generator), draw(generator), draw(generator, seed=1)
    for name in ("z", "z_mix", "c"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert first.cutoff == second.cutoff
    assert not torch.equal(first.z, first.z_mix)


def test_latents_are_normal_and_conditions_are_labels(generator):
    latents = draw(generator, batch=4000)
    for z in (latents.z, latents.z_mix):
        assert z.shape == (4000, 8)
        assert float(z.mean()) == pytest.approx(0, abs=0.03)
        assert float(z.std()) == pytest.approx(1, abs=0.03)
    rows, counts = latents.c.unique(dim=0, return_counts=True)
    assert torch.equal(rows, LABELS)
    assert counts.min() > 4000 / 5 * 0.85


def test_cutoffs_are_uniform_and_mixing_has_its_probability(generator):
    cutoffs = [draw(generator, place=place, batch=1).cutoff for place in range(1500)]
    num_ws = generator.num_ws
    unmixed = cutoffs.count(num_ws)
    assert unmixed == pytest.approx(150, abs=45)
    for layer in range(1, num_ws):
        assert cutoffs.count(layer) == pytest.approx(1350 / (num_ws - 1), rel=0.25)
    assert set(cutoffs) == set(range(1, num_ws + 1))


@pytest.mark.parametrize(("probability", "is_mixed"), [(0.0, False), (1.0, True)])
def test_never_and_always_mixed(generator, probability, is_mixed):
    for place in range(40):
        latents = draw(generator, place=place, batch=1, style_mixing=probability)
        assert (latents.cutoff < generator.num_ws) == is_mixed


def test_processes_share_the_batch_of_one(generator):
    whole = draw(generator)
    first, second = (draw(generator, world=World(rank=rank, size=2)) for rank in (0, 1))
    assert first.cutoff == second.cutoff == whole.cutoff
    for name in ("z", "z_mix", "c"):
        parts = [getattr(first, name), getattr(second, name)]
        assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), getattr(whole, name))


def test_parts_are_slices(generator):
    latents = draw(generator)
    part = latents.part(slice(2, 5))
    assert torch.equal(part.z, latents.z[2:5])
    assert torch.equal(part.z_mix, latents.z_mix[2:5])
    assert torch.equal(part.c, latents.c[2:5])
    assert part.cutoff == latents.cutoff


@torch.no_grad()
def test_mixed_ws_take_the_second_latent_from_the_cutoff_on(generator):
    latents = next(
        latents
        for latents in (draw(generator, place=place) for place in range(99))
        if latents.cutoff == 2
    )
    ws, w = mixed_ws(generator, latents)
    first, second = (generator.map(z, latents.c) for z in (latents.z, latents.z_mix))
    assert torch.equal(ws[:, :2], first[:, :2])
    assert torch.equal(ws[:, 2:], second[:, 2:])
    assert torch.equal(w, first[:, 0])


@torch.no_grad()
def test_unmixed_ws_are_the_first_latent(generator):
    latents = draw(generator, style_mixing=0.0)
    ws, w = mixed_ws(generator, latents)
    assert torch.equal(ws, generator.map(latents.z, latents.c))
    assert torch.equal(ws, w[:, None].expand_as(ws))
