"""Bilinear look-up: against a loop, and its derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops.grid_sample import grid_sample


def operands(dtype=torch.float64, channels=2):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, 4, 5, generator=generator, dtype=dtype)
    grid = torch.rand(2, 3, 6, 2, generator=generator, dtype=dtype) * 2.6 - 1.3
    return images, grid


def lookup_by_loop(image, x, y):
    """Bilinear value of an [H, W] image at (x, y) in -1..1."""
    height, width = image.shape
    x, y = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += image[row, column].item() * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_equals_a_loop():
    images, grid = operands()
    result = grid_sample(images, grid)
    for n, c, i, j in torch.cartesian_prod(*(torch.arange(k) for k in result.shape)).tolist():
        expected = lookup_by_loop(images[n, c], *grid[n, i, j].tolist())
        assert result[n, c, i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_derivative_equals_the_native_one(dtype):
    images, grid = operands(dtype, channels=3)
    images.requires_grad_()
    weights = torch.randn(2, 3, 3, 6, generator=torch.Generator().manual_seed(1), dtype=dtype)
    native = F.grid_sample(images, grid, align_corners=False)
    (expected,) = torch.autograd.grad((native * weights).sum(), images)
    (result,) = torch.autograd.grad((grid_sample(images, grid) * weights).sum(), images)
    assert torch.equal(result, expected)


def test_first_and_second_derivative():
    images, grid = operands()
    images.requires_grad_()

    def run(x):
        return grid_sample(x, grid).square()

    assert torch.autograd.gradcheck(run, images)
    assert torch.autograd.gradgradcheck(run, images)


def test_a_grid_that_wants_gradients_is_refused():
    images, grid = operands()
    with pytest.raises(ValueError, match="grid takes no gradient"):
        grid_sample(images, grid.requires_grad_())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu_with_its_gradient():
    images, grid = operands(torch.float32)
    images = images.requires_grad_()
    results = []
    for device in ("cpu", "cuda"):
        output = grid_sample(images.to(device), grid.to(device))
        (grad,) = torch.autograd.grad(output.square().sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(grad.pow(3).sum(), images)
        results.append((output.detach().cpu(), grad.detach(), second))
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)
