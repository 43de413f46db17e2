"""Sample grids: layout against loops, and fixed latents whose images do not depend on batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import PairDataset
from data.pixels import to_uint8
from data.sheets import sample_grid
from tests.helpers.images import write_pairs
from tests.helpers.networks import random_network, small_generator_config
from training import task
from training.task import SampleGrid, grid_size


@pytest.mark.parametrize(
    ("resolution", "modalities", "size"),
    [(1024, 2, (4, 4)), (256, 2, (4, 4)), (128, 2, (7, 8)), (32, 2, (12, 8)), (128, 3, (5, 8))],
)
def test_grid_size(resolution, modalities, size):
    assert grid_size(resolution, modalities) == size


@pytest.fixture
def dataset(tmp_path):
    return PairDataset.open(write_pairs(tmp_path / "pairs", size=16))


@pytest.fixture
def generator():
    return random_network(small_generator_config())


def test_latents_are_a_function_of_the_seed(dataset, generator):
    first, again, other = (SampleGrid(dataset, generator, seed) for seed in (0, 0, 1))
    assert first.z.shape == (12 * 8, 8)
    assert first.c.shape == (12 * 8, 0)
    assert torch.equal(first.z, again.z)
    assert not torch.equal(first.z, other.z)


def test_conditions_are_the_labels_of_the_reals(dataset, generator, monkeypatch):
    labels = torch.arange(8.0).reshape(4, 2)
    monkeypatch.setattr(dataset, "labels", labels)
    grid = SampleGrid(dataset, generator, 0)
    assert torch.equal(grid.c, labels.repeat(24, 1))  # four pairs fill 96 places in turn


def test_reals_are_the_pairs_of_the_data(dataset, generator, tmp_path):
    SampleGrid(dataset, generator, 0).save_reals(tmp_path / "reals.png", dataset)
    pixels = np.asarray(Image.open(tmp_path / "reals.png"))
    assert pixels.shape == (8 * 16, 12 * 2 * 16, 3)
    for column in range(12):
        rgb = pixels[:16, column * 32 : column * 32 + 16]
        nir = pixels[:16, column * 32 + 16 : column * 32 + 32, 0]
        item = dataset[column % 4]
        np.testing.assert_array_equal(rgb, item["rgb"].permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(nir, item["nir"][0].numpy())


def test_fakes_are_the_generators(dataset, generator, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "grid_size", lambda *_: (3, 2))
    grid = SampleGrid(dataset, generator, 0)
    grid.save_fakes(tmp_path / "fakes.png", generator)
    pixels = np.asarray(Image.open(tmp_path / "fakes.png")).astype(int)
    with torch.no_grad():
        images = generator(grid.z, grid.c, noise_mode="const")
    expected = sample_grid({name: to_uint8(image).numpy() for name, image in images.items()}, 3)
    # Convolutions round differently at other batch sizes.
    assert np.abs(pixels - expected.transpose(1, 2, 0)).max() <= 1
