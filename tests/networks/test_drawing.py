"""Drawing: samples are functions of latents and names alone; grids are put together right."""

import numpy as np
import pytest
import torch

from data.pixels import to_uint8
from networks import drawing
from networks.config import GeneratorConfig
from networks.generator import Generator, NoiseMode


@pytest.fixture(scope="module")
def generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GeneratorConfig(
            resolution=8, channel_base=64, channel_max=8, z_dim=5, w_dim=6, c_dim=2
        )
        network = Generator(config).eval().requires_grad_(False)
        for name, tensor in network.state_dict().items():
            if name.endswith("noise_strength"):
                tensor.fill_(0.5)
        network.mapping.w_avg.normal_()
    return network


@pytest.fixture(scope="module")
def ws(generator):
    z = drawing.latents_of_seeds(range(7), 5)
    return drawing.map_latents(generator, z, torch.ones(7, 2), 0.7, 3)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", (0,)),
        ("5-5", (5,)),
        (" 3, 1 ", (3, 1)),
        ("0,3,5-9", (0, 3, 5, 6, 7, 8, 9)),
        ("2,2", (2, 2)),
        ("4294967295", (2**32 - 1,)),
    ],
)
def test_parse_numbers(text, numbers):
    assert drawing.parse_numbers(text) == numbers


@pytest.mark.parametrize(
    "text", ["", "a", "1,", "-1", "1-", "3-1", "1.5", "0-4294967295", "4294967296", "²", "1--2"]
)
def test_parse_numbers_refuses(text):
    with pytest.raises(ValueError, match="must"):
        drawing.parse_numbers(text)


def test_latents_are_the_published_ones():
    z = drawing.latents_of_seeds([0, 7], 4)
    assert z.dtype == torch.float32
    # The first normal numbers of NumPy's legacy stream with seed 0.
    expected = [1.764052345967664, 0.4001572083672233, 0.9787379841057392, 2.240893199201458]
    assert torch.equal(z[0], torch.tensor(expected))
    assert torch.equal(z[1:], drawing.latents_of_seeds([7], 4))


def test_map_latents_is_the_generators(generator, ws):
    z = drawing.latents_of_seeds(range(7), 5)
    expected = generator.map(z, torch.ones(7, 2), 0.7, 3)
    torch.testing.assert_close(ws, expected, rtol=0, atol=1e-6)


def draw(generator, ws, mode, batch, keys=None, seed=0):
    keys = keys or [str(index) for index in range(len(ws))]
    images = drawing.draw_images(
        generator, ws, noise_mode=mode, noise_keys=keys, seed=seed, batch=batch
    )
    return list(images)


@pytest.mark.parametrize("mode", NoiseMode)
@pytest.mark.parametrize("batch", [1, 4, 5, 100])
def test_images_do_not_depend_on_the_batch(generator, ws, mode, batch):
    first, second = draw(generator, ws, mode, 16), draw(generator, ws, mode, batch)
    assert len(first) == len(second) == 7
    for one, other in zip(first, second, strict=True):
        assert list(one) == ["rgb", "nir"]
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("mode", [NoiseMode.CONST, NoiseMode.NONE])
def test_images_are_the_generators(generator, ws, mode):
    expected = generator.synthesis(ws, mode)
    for index, images in enumerate(draw(generator, ws, mode, 16)):
        for name, image in images.items():
            torch.testing.assert_close(image, expected[name][index], rtol=0, atol=1e-5)


def test_random_noise_follows_seed_and_name(generator, ws):
    mode = NoiseMode.RANDOM
    both = draw(generator, ws[:2], mode, 1, ["a", "b"])
    (alone,) = draw(generator, ws[1:2], mode, 1, ["b"])
    (renamed,) = draw(generator, ws[1:2], mode, 1, ["c"])
    (reseeded,) = draw(generator, ws[1:2], mode, 1, ["b"], seed=1)
    assert torch.equal(both[1]["nir"], alone["nir"])
    assert not torch.equal(alone["nir"], renamed["nir"])
    assert not torch.equal(alone["nir"], reseeded["nir"])


def test_drawing_leaves_the_global_stream_alone(generator, ws):
    before = torch.random.get_rng_state()
    draw(generator, ws, NoiseMode.RANDOM, 4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_mix_styles_takes_layers_from_columns():
    rows, columns = torch.randn(3, 4, 2), torch.randn(2, 4, 2)
    mixed = drawing.mix_styles(rows, columns, [0, 2])
    for r in range(3):
        for c in range(2):
            for layer in range(4):
                source = columns[c] if layer in (0, 2) else rows[r]
                assert torch.equal(mixed[r * 2 + c, layer], source[layer])


def test_mix_styles_refuses_layers_that_are_not_there():
    with pytest.raises(ValueError, match="0 to 3, got 4"):
        drawing.mix_styles(torch.ones(1, 4, 2), torch.ones(1, 4, 2), [0, 4])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_interpolation_meets_its_keys_and_closes(count):
    keys = torch.randn(count, 3, 2)
    path = drawing.interpolate_ws(keys, 8)
    assert path.shape == (count * 8, 3, 2)
    torch.testing.assert_close(path[::8], keys)
    # The step over the end is as long as the others, up to the path's curvature.
    steps = (path.roll(-1, 0) - path).flatten(1).norm(dim=1)
    assert steps[-1] <= steps.max() + 1e-6
    assert steps[-1] < keys.flatten(1).norm(dim=1).max()


def test_pixels_are_quantised_by_the_one_rule():
    image = torch.linspace(-1.5, 1.5, 48).reshape(3, 4, 4)
    assert np.array_equal(drawing.to_pixels({"rgb": image})["rgb"], to_uint8(image).numpy())
