"""Path lengths of generators whose steps are known."""

import numpy as np
import pytest
import torch

from evaluation.names import parse_metric
from evaluation.path_length import path_lengths, slerp, trimmed_mean


class LinearGenerator:
    """Images are a linear function of w, w of z; noise is added to both ends of a step alike."""

    z_dim = 6

    def __init__(self, side=16, noise=0.0):
        random = torch.Generator().manual_seed(0)
        self.weight = torch.randn([self.z_dim, side * side], generator=random, dtype=torch.float64)
        self.side, self.noise, self.seen = side, noise, []

    def conditions(self, indices):
        return None

    def map(self, z, c):
        return z.double()

    def synthesize(self, w, indices):
        self.seen.append(w)
        images = (w @ self.weight).reshape(-1, 1, self.side, self.side)
        random = torch.Generator().manual_seed(indices[0])
        images = images + self.noise * torch.randn(images.shape, generator=random)
        return {"rgb": images.expand(-1, 3, -1, -1), "nir": images}


def flat(images):
    return images.flatten(1)


def measure(name, generator, block=0):
    return path_lengths(generator, flat, parse_metric(name), block=block, seed=0)


@pytest.mark.parametrize("name", ["ppl2_wend", "ppl2_wfull", "ppl2_wend_NIR"])
def test_linear_generator_in_w(name):
    """The derivative is (w1 - w0) W, in three equal channels, at 127.5 values a unit."""
    generator = LinearGenerator()
    lengths = measure(name, generator)
    step = (generator.seen[1] - generator.seen[0]) / 1e-4
    expected = 3 * 127.5**2 * (step @ generator.weight).square().sum(dim=1)
    assert lengths.shape == (16,)
    np.testing.assert_allclose(lengths, expected.numpy(), rtol=1e-4)
    # steps lead from one latent to another: squared length 2 on average a dimension
    assert 0.5 < float(step.square().mean()) / 2 < 2


def test_ends_are_latents():
    end, full = LinearGenerator(), LinearGenerator()
    measure("ppl2_wend", end)
    measure("ppl2_wfull", full)
    assert not torch.equal(end.seen[0], full.seen[0])
    direction = (end.seen[1] - end.seen[0]) / 1e-4
    places = ((full.seen[0] - end.seen[0]) * direction).sum(1) / direction.square().sum(1)
    torch.testing.assert_close(
        full.seen[0], end.seen[0] + places[:, None] * direction, rtol=1e-2, atol=2e-3
    )
    assert ((places > 0) & (places < 1)).all()


def test_great_circles_in_z():
    generator = LinearGenerator()
    lengths = measure("ppl2_zend", generator)
    first, second = generator.seen
    torch.testing.assert_close(first.norm(dim=1), torch.ones(16).double(), rtol=1e-6, atol=1e-6)
    angles = (first - second).norm(dim=1) / 1e-4
    assert float(angles.mean()) == pytest.approx(np.pi / 2, abs=0.5)
    assert np.isfinite(lengths).all()


def test_slerp_by_hand():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    half = slerp(a, b, torch.tensor([[0.5]]))
    torch.testing.assert_close(half, torch.tensor([[0.5**0.5, 0.5**0.5]]))
    torch.testing.assert_close(slerp(a, b, torch.zeros(1, 1)), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(slerp(a, b, torch.ones(1, 1)), torch.tensor([[0.0, 1.0]]))


def test_noise_is_the_same_at_both_ends():
    plain = measure("ppl2_wend", LinearGenerator())
    noisy = measure("ppl2_wend", LinearGenerator(noise=5.0))
    np.testing.assert_allclose(noisy, plain, rtol=1e-6)


def test_older_names_see_the_face_region_only():
    generator = LinearGenerator(side=16)
    seen = []

    def look(images):
        seen.append(images)
        return flat(images)

    path_lengths(generator, look, parse_metric("ppl_wend"), block=0, seed=0)
    assert list(seen[0].shape) == [16, 3, 8, 8]
    whole = (generator.seen[0] @ generator.weight).reshape(-1, 16, 16)
    expected = (whole[:, 6:14, 4:12] + 1) * 127.5
    torch.testing.assert_close(seen[0][:, 0], expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("name", "side"), [("ppl2_wend", 256), ("ppl_wend", 128)])
def test_large_images_are_averaged_down(name, side):
    """A crop as well, by as much as the whole image."""
    generator = LinearGenerator(side=512)
    shapes = []

    def look(images):
        shapes.append(list(images.shape))
        return flat(images)

    path_lengths(generator, look, parse_metric(name), block=0, seed=0)
    assert shapes == [[16, 3, side, side]] * 2


def test_blocks_differ_and_repeat():
    one, two = measure("ppl2_wend", LinearGenerator()), measure("ppl2_wend", LinearGenerator(), 1)
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, measure("ppl2_wend", LinearGenerator()))


def test_extremes_are_left_out():
    lengths = np.concatenate([np.full(990, 5.0), np.full(5, 1e9), np.full(5, -1e9)])
    assert trimmed_mean(lengths) == pytest.approx(5.0)
    assert trimmed_mean(np.array([3.0])) == 3.0
    for bad in (np.array([]), np.array([np.nan])):
        with pytest.raises(ValueError, match="finite"):
            trimmed_mean(bad)
