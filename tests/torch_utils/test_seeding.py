"""Random streams: functions of seed and place alone."""

import itertools

import pytest
import torch

from torch_utils.seeding import derive_seed, generator_for


def test_seeds_are_63_bits_and_fixed_for_ever():
    # From `printf 0/augment/3 | sha256sum`: 8 bytes read as little-endian, halved. A change here
    # would make runs that were begun before continue with other numbers.
    assert derive_seed(0, "augment", 3) == 8384999650745148168
    assert all(0 <= derive_seed(seed, "x") < 1 << 63 for seed in range(1000))


def test_places_are_apart():
    places = itertools.product(range(20), ("noise", "augment", "latents"), range(20))
    seeds = [derive_seed(*place) for place in places]
    assert len(set(seeds)) == 20 * 3 * 20
    assert derive_seed(1, "a", 23) != derive_seed(1, "a", 2, 3) != derive_seed(12, "a", 3)


@pytest.mark.parametrize("change", [(1, "noise", 5), (0, "augment", 5), (0, "noise", 6)])
def test_equal_places_draw_alike_and_others_do_not(change):
    def draw(place):
        return torch.randn(100, generator=generator_for(*place))

    assert torch.equal(draw((0, "noise", 5)), draw((0, "noise", 5)))
    assert not torch.equal(draw((0, "noise", 5)), draw(change))


def test_neighbouring_streams_are_uncorrelated():
    draws = torch.stack([torch.randn(4000, generator=generator_for(0, "x", i)) for i in range(20)])
    correlations = draws.corrcoef() - torch.eye(20)
    assert correlations.abs().max() < 0.08


def test_global_random_numbers_stay_as_they_are():
    before = torch.get_rng_state()
    torch.randn(3, generator=generator_for(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_of_a_device(device):
    generator = generator_for(0, "x", device=device)
    assert generator.device.type == device.type
    assert generator.initial_seed() == derive_seed(0, "x")
