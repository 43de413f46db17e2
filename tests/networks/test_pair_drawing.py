"""Pairs drawn in micro-batches."""

import pytest
import torch

from data.pixels import to_uint8
from networks.pair_drawing import PairDrawer, default_micro_batch
from tests.helpers.people import varied_generator


@pytest.fixture(scope="module")
def generator():
    return varied_generator()


def latents(count=7):
    random = torch.Generator().manual_seed(0)
    return [torch.randn([count, size], generator=random) for size in (8, 6, 8)]


def drawer(generator, **options):
    return PairDrawer(generator, **{"truncation_psi": 0.7, "micro_batch": 3, **options})


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("rgb", "nir"))


def test_images_are_those_of_the_generator(generator):
    z, c, _ = latents(3)
    images = drawer(generator).draw(z, c)
    expected = generator.synthesis(generator.map(z, c, 0.7), "const")
    assert list(images) == ["rgb", "nir"]
    for name, image in images.items():
        assert image.dtype == torch.uint8
        assert torch.equal(image, to_uint8(expected[name]))


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_the_batch_does_not_matter(generator, batch):
    z, c, _ = latents()
    assert equal(drawer(generator, batch=batch).draw(z, c), drawer(generator).draw(z, c))


def test_a_sample_does_not_depend_on_what_follows(generator):
    z, c, _ = latents()
    whole, part = drawer(generator).draw(z, c), drawer(generator).draw(z[:4], c[:4])
    for name in whole:
        assert torch.equal(whole[name][:4], part[name])


def test_shared_layers_come_from_the_shared_latent(generator):
    z, c, shared = latents()
    layers = tuple(range(generator.num_ws))
    everything = drawer(generator, shared_layers=layers).draw(z, c, shared)
    assert equal(everything, drawer(generator).draw(shared, c))
    nothing = drawer(generator).draw(z, c, shared)
    assert equal(nothing, drawer(generator).draw(z, c))
    some = drawer(generator, shared_layers=(0, 1)).draw(z, c, shared)
    assert not equal(some, everything)
    assert not equal(some, nothing)
    w, w_shared = generator.map(z[:3], c[:3], 0.7), generator.map(shared[:3], c[:3], 0.7)
    mixed = torch.cat([w_shared[:, :2], w[:, 2:]], dim=1)
    expected = to_uint8(generator.synthesis(mixed, "const")["rgb"])
    assert torch.equal(some["rgb"][:3], expected)


def test_layers_that_are_not_there_are_refused(generator):
    with pytest.raises(ValueError, match="--mix-layers must be from 0 to 5 here, got 6"):
        drawer(generator, shared_layers=(6,))


def test_micro_batches_shrink_with_the_size():
    sizes = [default_micro_batch(side, "cuda") for side in (32, 128, 256, 512, 1024)]
    assert sizes == [64, 64, 32, 8, 2]
    assert default_micro_batch(1024, "cpu") == 4
